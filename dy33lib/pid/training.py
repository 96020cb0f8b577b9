"""Training in which every neuron pursues its own goal, and nothing is sent back between layers."""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from dy33lib.pid.goals import OUTPUT, Goal
from dy33lib.pid.networks import N_BINS, InfomorphicNet, Pass, forward
from dy33lib.pid.samples import goal, pid_from_samples


class Rates(NamedTuple):
    """Step sizes and weight decays of Adam, those of the authors unless said otherwise.

    The decay is added to the gradient before Adam sees it, as PyTorch does.
    """

    hidden: float = 2e-3
    hidden_decay: float = 3.5e-4
    output: float = 3e-3
    output_decay: float = 1.5e-4


PUBLISHED_RATES = Rates()
ADAM = optax.scale_by_adam()


class History(NamedTuple):
    """What was recorded E times during training.

    Attributes:
        epochs: trained when it was recorded.
        hidden: mean over the hidden neurons of their atoms and residual entropy on all training
            images, in bits; zeros without hidden neurons.
        output: the same of the output neurons.
        accuracy: share of the monitored images that are recognised; which output neurons are
            inverted is judged on these images, too.
    """

    epochs: Int[np.ndarray, " E"]
    hidden: Float[np.ndarray, "E A1"]
    output: Float[np.ndarray, "E 5"]
    accuracy: Float[np.ndarray, " E"]


class Trained(NamedTuple):
    """A trained network and how it came about."""

    net: InfomorphicNet
    history: History


def layer_goals(
    net: InfomorphicNet,
    look: Pass,
    labels: Float[Array, "B k"],
    gamma: Float[Array, " A1"],
    gamma_output: Float[Array, "5"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What the hidden and the output neurons reach of their goals, summed over neurons, in bits.

    The context of an output neuron is its own bit of the one-hot label.
    """
    hidden = jnp.zeros((), gamma.dtype)
    if net.hidden is not None:
        hidden = goal(net.hidden.bins(look.hidden), net.hidden.theta(look.hidden), gamma, N_BINS)
    output = goal(
        _output_bins(net, look, labels), net.output.theta(look.output), gamma_output, N_BINS
    )
    return hidden, output


def neuron_atoms(
    net: InfomorphicNet, look: Pass, labels: Float[Array, "B k"]
) -> tuple[Any, Float[Array, "k 5"]]:
    """Atoms and residual entropy of every hidden (None without any) and output neuron, in bits."""
    hidden = None
    if net.hidden is not None:
        hidden = pid_from_samples(
            net.hidden.bins(look.hidden), net.hidden.theta(look.hidden), N_BINS
        )
    theta = net.output.theta(look.output)
    return hidden, pid_from_samples(_output_bins(net, look, labels), theta, N_BINS)


def _output_bins(net: InfomorphicNet, look: Pass, labels: Array) -> Int[Array, "2 k B"]:
    field = net.output.bins(look.output)
    return jnp.concatenate([field, labels.T[None].astype(field.dtype)])


def train(
    net: InfomorphicNet,
    images: Float[Array, "N d"],
    labels: Int[Array, " N"],
    *,
    aim: Goal,
    output_aim: Goal = OUTPUT,
    rates: Rates = PUBLISHED_RATES,
    epochs: int,
    batch: int,
    every: int = 1,
    monitor: tuple[Float[Array, "M d"], Int[Array, " M"]],
    key: Key[Array, ""],
) -> Trained:
    """Train a network by local goals.

    In every step the images and labels of a batch are shown, every neuron estimates its atoms on
    the batch, and its weights climb its goal by Adam. Each epoch draws its batches anew; images
    that do not fill a batch are left out of that epoch.

    Args:
        net: the network, as drawn.
        images: one a row.
        labels: classes, from 0.
        aim: goal of the hidden neurons.
        output_aim: goal of the output neurons.
        rates: step sizes and weight decays.
        epochs: how often all images are shown.
        batch: images in a step.
        every: epochs between records.
        monitor: images and labels on which accuracy is recorded; nothing is learned from them.
        key: for batches and answers.

    Returns:
        The network, with its inverted output neurons found out on the training images, and the
        history.

    Raises:
        ValueError: if the goal is for other sources than the network has, images or labels do not
            fit the network or each other, or epochs are not a multiple of `every`.
    """
    if net.hidden is not None and aim.sources != net.sources:
        raise ValueError(f"the goal is for neurons that see {aim.sources}, not {net.sources}")
    for pixels, classes in ((images, labels), monitor):
        check_images(net, pixels, classes)
    if every < 1 or epochs < every or epochs % every:
        raise ValueError(f"epochs must be a multiple of every, got {epochs} and {every}")
    if not 1 <= batch <= len(images):
        raise ValueError(f"batch must be 1 to {len(images)}, got {batch}")
    gammas = tuple(jnp.asarray(g.gamma, jnp.float32) for g in (aim, output_aim))
    speeds = jnp.asarray(rates, jnp.float32)
    targets = one_hot(labels, net)
    state = ADAM.init(eqx.filter(net, eqx.is_inexact_array))
    records = []
    for _ in range(epochs // every):
        net, state, key = _epochs(
            net, state, images, targets, gammas, speeds, key, epochs=every, batch=batch
        )
        # Records have random numbers of their own, so that looking does not change what is learned.
        first, second = jax.random.split(jax.random.fold_in(key, 1))
        hidden, *others = _record(net, images, targets, monitor, first, second)
        records.append((jnp.zeros_like(gammas[0]) if hidden is None else hidden, *others))
    when = np.arange(every, epochs + 1, every)
    history = History(when, *(np.array(values) for values in zip(*records, strict=True)))
    return Trained(_inverted(net, images, key), history)


def one_hot(labels: Int[Array, " N"], net: InfomorphicNet) -> Float[Array, "N k"]:
    """Labels as rows of zeros and a one."""
    return jax.nn.one_hot(labels, len(net.inverted), dtype=jnp.float32)


def predict(
    net: InfomorphicNet, images: Float[Array, "N d"], key: Key[Array, ""]
) -> Int[Array, " N"]:
    """The class whose output neuron answers most surely; the context is zero.

    Raises:
        ValueError: if the images do not have as many pixels as the network.
    """
    check_images(net, images, None)
    return _predict(net, images, key)


def evaluate(
    net: InfomorphicNet, images: Float[Array, "N d"], labels: Int[Array, " N"], key: Key[Array, ""]
) -> float:
    """Share of the images that are recognised.

    Raises:
        ValueError: as in :func:`.predict`, or if there are not as many labels as images.
    """
    check_images(net, images, labels)
    return float(jnp.mean(_predict(net, images, key) == labels))


def check_images(net: InfomorphicNet, images: Array, labels: Array | None) -> None:
    """Raise a ValueError if images or labels do not fit the network."""
    first = net.output if net.hidden is None else net.hidden
    pixels, classes = first.weights[0].shape[1], len(net.inverted)
    if images.ndim != 2 or images.shape[1] != pixels:
        raise ValueError(f"images must be rows of {pixels} pixels, got shape {images.shape}")
    if labels is None:
        return
    if labels.shape != images.shape[:1]:
        raise ValueError(f"need a label for each of {len(images)} images, got {labels.shape}")
    if not isinstance(labels, Tracer) and not bool(jnp.all((labels >= 0) & (labels < classes))):
        raise ValueError(
            f"labels must be 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}"
        )


_forward = eqx.filter_jit(forward)


@eqx.filter_jit
def _predict(net: InfomorphicNet, images: Array, key: Array) -> Int[Array, " N"]:
    context = jnp.zeros((len(images), len(net.inverted)), images.dtype)
    drive = forward(net, images, context, key).output[0]
    return jnp.argmax(jnp.where(net.inverted[:, None], -drive, drive), axis=0)


@eqx.filter_jit
def _inverted(net: InfomorphicNet, images: Array, key: Array) -> InfomorphicNet:
    """The network with those output neurons marked that answer 1 to more than half of the images.

    A neuron that knows its class answers the same to the nine tenths that are not of it.
    """
    context = jnp.zeros((len(images), len(net.inverted)), images.dtype)
    theta = net.output.theta(forward(net, images, context, key).output)
    return eqx.tree_at(lambda n: n.inverted, net, theta.mean(axis=1) >= 0.5)


@eqx.filter_jit
def _epochs(net, state, images, targets, gammas, rates, key, *, epochs, batch):
    """Train for some epochs; the state is that of Adam."""
    trainable, fixed = eqx.partition(net, eqx.is_inexact_array)
    steps = len(images) // batch

    def by_layer(function, *trees):
        """A function of the place in `rates` and of weights, applied to all weights."""
        layers = [
            jax.tree.map(partial(function, first), *(layer(t) for t in trees))
            for first, layer in ((0, lambda t: t.hidden), (2, lambda t: t.output))
        ]
        return eqx.tree_at(
            lambda t: (t.hidden, t.output), trees[0], layers, is_leaf=lambda x: x is None
        )

    def loss(trainable, x, y, key):
        net = eqx.combine(trainable, fixed)
        hidden, output = layer_goals(net, forward(net, x, y, key), y, *gammas)
        return -(hidden + output)

    def step(carry, chosen):
        trainable, state, key = carry
        key, now = jax.random.split(key)
        slopes = jax.grad(loss)(trainable, images[chosen], targets[chosen], now)
        slopes = by_layer(lambda i, g, w: g + rates[i + 1] * w, slopes, trainable)
        with jax.numpy_dtype_promotion("standard"):  # optax takes a float to an integer power
            moves, state = ADAM.update(slopes, state)
        return (by_layer(lambda i, w, m: w - rates[i] * m, trainable, moves), state, key), None

    def epoch(carry, _):
        trainable, state, key = carry
        key, now = jax.random.split(key)
        order = jax.random.permutation(now, len(images))[: steps * batch]
        return jax.lax.scan(step, (trainable, state, key), order.reshape(steps, batch))

    (trainable, state, key), _ = jax.lax.scan(epoch, (trainable, state, key), None, length=epochs)
    return eqx.combine(trainable, fixed), state, key


def _record(net, images, targets, monitor, first, second):
    """Mean atoms of hidden (None without any) and output neurons, and accuracy on other images."""
    hidden, output = neuron_atoms(net, _forward(net, images, targets, first), targets)
    hidden = None if hidden is None else hidden.mean(axis=0)
    # Inversion is judged by the monitored images here, which saves showing all others again.
    turned = _inverted(net, monitor[0], second)
    right = jnp.mean(_predict(turned, monitor[0], second) == monitor[1])
    return hidden, output.mean(axis=0), right
