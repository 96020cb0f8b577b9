"""What the local goals are held against: backpropagation, and rules that learn less or nothing."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from dy33lib.pid.networks import InfomorphicNet, forward
from dy33lib.pid.training import check_images, one_hot


def train_backprop(
    net: InfomorphicNet,
    images: Float[Array, "N d"],
    labels: Int[Array, " N"],
    *,
    rate: float,
    decay: float = 0.0,
    epochs: int,
    batch: int,
    key: Key[Array, ""],
) -> InfomorphicNet:
    """Train the same network by backpropagation of the cross-entropy of a softmax.

    Neurons, fields and random answers are those of :func:`~dy33lib.pid.training.train`;
    derivatives pass straight through the answers (Bengio, Léonard and Courville 2013,
    arXiv:1308.3432). The context is zero from the beginning, since a network that sees the label
    in training learns to read it.

    Args:
        net: the network, as drawn.
        images: one a row.
        labels: classes, from 0.
        rate: step size of Adam.
        decay: of the weights, added to the gradient before Adam sees it.
        epochs: how often all images are shown.
        batch: images in a step.
        key: for batches and answers.

    Raises:
        ValueError: if images or labels do not fit the network or each other.
    """
    check_images(net, images, labels)
    if not 1 <= batch <= len(images):
        raise ValueError(f"batch must be 1 to {len(images)}, got {batch}")
    rates = jnp.asarray([rate, decay], jnp.float32)
    return _train_backprop(net, images, labels, rates, key, epochs=epochs, batch=batch)


@eqx.filter_jit
def _train_backprop(net, images, labels, rates, key, *, epochs, batch):
    trainable, fixed = eqx.partition(net, eqx.is_inexact_array)
    steps = len(images) // batch
    optimiser = optax.chain(
        optax.add_decayed_weights(rates[1]),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(rates[0]),
    )

    def loss(trainable, x, y, key):
        look = forward(
            eqx.combine(trainable, fixed), x, jnp.zeros_like(y), key, straight_through=True
        )
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(look.output[0], axis=0) * y.T, axis=0))

    def step(carry, chosen):
        trainable, state, key = carry
        key, now = jax.random.split(key)
        slopes = jax.grad(loss)(trainable, images[chosen], targets[chosen], now)
        with jax.numpy_dtype_promotion("standard"):  # optax takes a float to an integer power
            change, state = optimiser.update(slopes, state, trainable)
        return (eqx.apply_updates(trainable, change), state, key), None

    def epoch(carry, _):
        trainable, state, key = carry
        key, now = jax.random.split(key)
        order = jax.random.permutation(now, len(images))[: steps * batch]
        return jax.lax.scan(step, (trainable, state, key), order.reshape(steps, batch))

    targets = one_hot(labels, net)
    carry = (trainable, optimiser.init(trainable), key)
    carry, _ = jax.lax.scan(epoch, carry, None, length=epochs)
    return eqx.combine(carry[0], fixed)


def sign_features(net: InfomorphicNet, images: Float[Array, "N d"]) -> Float[Array, "N K"]:
    """Signs of the feed-forward fields of the hidden neurons, as +1 and -1, one image a row.

    What a readout sees of neurons that answer without chance. A random draw instead would be mostly
    noise in an untrained network, whose fields are small.

    Raises:
        ValueError: if the network has no hidden neurons, or the images do not fit.
    """
    if net.hidden is None:
        raise ValueError("the network has no hidden neurons")
    check_images(net, images, None)
    fields = net.hidden.weights[0] @ images.T + net.hidden.biases[0][:, None]
    return jnp.where(fields > 0, 1, -1).astype(images.dtype).T


def hebbian_weights(
    images: Float[Array, "N d"],
    neurons: int,
    *,
    rate: float,
    temperature: float,
    epochs: int,
    batch: int,
    key: Key[Array, ""],
) -> Float[Array, "K d"]:
    r"""Weights learned by a Hebbian rule with soft competition and no labels.

    Neuron k has the activity :math:`u_k = w_k \cdot x` for an image x scaled to length one, and
    takes part with the share :math:`y_k`, a softmax of u over the temperature. The rule

    .. math:: \Delta w_k = \eta\, y_k\, (x - u_k w_k)

    uses what meets at the synapse only, and drives weights to length one (Moraitis et al. 2022,
    arXiv:2107.05747). That each neuron averages its changes over its own share is ours: otherwise
    neurons that seldom take part hardly learn.

    Args:
        images: one a row.
        neurons: how many.
        rate: step size η, falling linearly to zero.
        temperature: of the softmax.
        epochs: how often all images are shown.
        batch: images whose changes are averaged in a step.
        key: for weights and batches.

    Raises:
        ValueError: if the temperature is not positive, or the batch not between one image and all.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if not 1 <= batch <= len(images):
        raise ValueError(f"batch must be 1 to {len(images)}, got {batch}")
    unit = images / jnp.linalg.norm(images, axis=1, keepdims=True)
    first, key = jax.random.split(key)
    weights = jax.random.normal(first, (neurons, images.shape[1]), images.dtype)
    settings = jnp.asarray([rate, temperature], images.dtype)
    return _hebbian(
        unit,
        weights / jnp.linalg.norm(weights, axis=1, keepdims=True),
        settings,
        key,
        epochs,
        batch,
    )


@eqx.filter_jit
def _hebbian(unit, weights, settings, key, epochs, batch):
    steps = len(unit) // batch
    rate, temperature = settings

    def step(weights, now):
        chosen, left = now
        x = unit[chosen]
        u = x @ weights.T
        y = jax.nn.softmax(u / temperature, axis=1)
        change = y.T @ x - jnp.sum(y * u, axis=0)[:, None] * weights
        return weights + rate * left * change / jnp.maximum(y.sum(axis=0), 1e-3)[:, None], None

    orders = jax.vmap(lambda k: jax.random.permutation(k, len(unit))[: steps * batch])(
        jax.random.split(key, epochs)
    )
    chosen = orders.reshape(epochs * steps, batch)
    left = 1 - jnp.arange(epochs * steps, dtype=unit.dtype) / (epochs * steps)
    return jax.lax.scan(step, weights, (chosen, left))[0]
