r"""Neurons that see several classes of inputs, and networks of one hidden layer of them.

A neuron adds up each class of its inputs by itself: a feed-forward field r from the image or the
layer below, a context c from the labels, a lateral field l from the other neurons of its layer.
It answers 1 with probability

.. math:: \theta = \sigma\!\left(r\,[g_0 + g_c\,\sigma(2rc) + g_l\,\sigma(2rl)]\right),
    \qquad \sigma(x) = 1 / (1 + e^{-x}):

the first field drives, the others change the gain and never the sign (Schneider et al. 2025).
Answers are handed on as +1 and -1. Arrays of neurons are (neurons, samples).
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from dy33lib.pid.samples import bin_fixed, bin_normalised

N_BINS = 20
# Gains of a neuron with one, two and three classes of inputs, as the authors have them.
_GAINS = {1: (1.0,), 2: (0.9, 0.2), 3: (0.8, 0.1, 0.1)}


class InfomorphicLayer(eqx.Module):
    """Neurons with one to three classes of inputs, the first of which drives.

    Attributes:
        weights: one matrix for each class.
        biases: one vector for each class.
        connected: for each class, which weights are there; None where all are.
        limit: the bins of the fields lie between -limit and limit; None for bins that follow the
            largest field of each neuron in a batch.
    """

    weights: tuple[Float[Array, "K _"], ...]
    biases: tuple[Float[Array, " K"], ...]
    connected: tuple[Bool[Array, "K _"] | None, ...]
    limit: float | None = eqx.field(static=True)

    def __init__(
        self,
        inputs: tuple[int, ...],
        neurons: int,
        *,
        connected: tuple[Bool[Array, "K _"] | None, ...] | None = None,
        limit: float | None = None,
        key: Key[Array, ""],
    ):
        """Draw weights and biases uniformly between ±1/√(number of inputs).

        Args:
            inputs: number of inputs of each class.
            neurons: how many.
            connected: for each class, which weights are there; all if left out.
            limit: of the bins.
            key: random key.

        Raises:
            ValueError: if there are no neurons, no or more than three classes, or a class is
                empty.
        """
        if neurons < 1 or len(inputs) not in _GAINS or min(inputs) < 1:
            raise ValueError(
                f"need neurons and 1 to 3 classes of inputs, got {neurons} neurons, {inputs}"
            )
        self.connected = connected or (None,) * len(inputs)
        weights, biases = _draw(key, inputs, neurons)
        self.weights = tuple(
            w if there is None else jnp.where(there, w, 0)
            for w, there in zip(weights, self.connected, strict=True)
        )
        self.biases = biases
        self.limit = limit

    def fields(self, inputs: tuple[Float[Array, "_ B"], ...]) -> Float[Array, "n K B"]:
        """The summed inputs of each class, before anything happens to them."""
        masked = [
            w if there is None else jnp.where(there, w, 0)
            for w, there in zip(self.weights, self.connected, strict=True)
        ]
        parts = zip(masked, self.biases, inputs, strict=True)
        return jnp.stack([w @ x + b[:, None] for w, b, x in parts])

    def theta(self, fields: Float[Array, "n K B"]) -> Float[Array, "K B"]:
        """Probability of the answer 1."""
        return jax.nn.sigmoid(drive(fields))

    def bins(self, fields: Float[Array, "n K B"]) -> Int[Array, "n K B"]:
        """The bins of the fields, from 0 to 19."""
        if self.limit is None:
            return bin_normalised(fields, N_BINS)
        return bin_fixed(fields, -self.limit, self.limit, N_BINS)


def drive(fields: Float[Array, "n K B"]) -> Float[Array, "K B"]:
    """The feed-forward field times its gain: the log-odds of the answer 1."""
    base, *gains = _GAINS[len(fields)]
    r = fields[0]
    return r * (
        base + sum(g * jax.nn.sigmoid(2 * r * x) for g, x in zip(gains, fields[1:], strict=True))
    )


class InfomorphicNet(eqx.Module):
    """One hidden layer of neurons, and an output neuron for each class.

    Attributes:
        hidden: the hidden layer, an :class:`.InfomorphicLayer`; None without hidden neurons.
        output: the output layer, driven by the answers of the hidden one.
        inverted: output neurons that answer -1 to their class. What a neuron tells does not depend
            on which of its answers is called 1, so training may end at either.
        sources: what the hidden neurons see besides the image: "context" (the label, while they
            learn), "lateral" (the others' answers a moment before), or both.
        deterministic: hidden neurons answer with the sign of their field, not with a random draw.
    """

    hidden: Any
    output: InfomorphicLayer
    inverted: Bool[Array, " k"]
    sources: tuple[str, ...] = eqx.field(static=True)
    deterministic: bool = eqx.field(static=True)

    def __init__(
        self,
        pixels: int,
        neurons: int,
        classes: int = 10,
        *,
        sources: tuple[str, ...] = ("context", "lateral"),
        laterals: int | None = None,
        deterministic: bool = False,
        key: Key[Array, ""],
    ):
        """Draw a network.

        Args:
            pixels: of an image.
            neurons: in the hidden layer; 0 for output neurons that see the image itself.
            classes: number of output neurons.
            sources: ("context", "lateral"), or one of them.
            laterals: how many others a hidden neuron listens to, drawn at random; all if left out.
            deterministic: whether hidden neurons answer with the sign of their field.
            key: random key.

        Raises:
            ValueError: if sources are others than these, there are fewer than two classes, or
                laterals is not between 1 and neurons - 1.
        """
        if sources not in (("context", "lateral"), ("context",), ("lateral",)):
            raise ValueError(f"sources must be context, lateral or both, got {sources}")
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        if neurons < 0 or pixels < 1:
            raise ValueError(f"need pixels and no negative neurons, got {pixels} and {neurons}")
        if laterals is not None and not 1 <= laterals < neurons:
            raise ValueError(f"laterals must be 1 to {neurons - 1}, got {laterals}")
        hidden, output, others = jax.random.split(key, 3)
        inputs: list[int] = [pixels]
        connected: list[Any] = [None]
        for source in sources:
            inputs.append(classes if source == "context" else neurons)
            connected.append(None if source == "context" else _others(neurons, laterals, others))
        limit = 20.0 if len(sources) == 2 else None
        self.hidden = (
            InfomorphicLayer(
                tuple(inputs), neurons, connected=tuple(connected), limit=limit, key=hidden
            )
            if neurons
            else None
        )
        self.output = InfomorphicLayer((neurons or pixels,), classes, key=output)
        self.inverted = jnp.zeros(classes, bool)
        self.sources, self.deterministic = sources, deterministic


class Pass(NamedTuple):
    """What one look at some images leaves behind.

    Attributes:
        hidden: fields of the hidden neurons (classes, neurons, samples); None without any.
        answers: of the hidden neurons, +1 or -1; the pixels without any.
        output: fields of the output neurons.
    """

    hidden: Any
    answers: Float[Array, "K B"]
    output: Float[Array, "1 k B"]


def forward(
    net: InfomorphicNet,
    images: Float[Array, "B d"],
    context: Float[Array, "B k"],
    key: Key[Array, ""],
    *,
    straight_through: bool = False,
) -> Pass:
    """Show images to a network.

    Hidden neurons with lateral inputs answer twice: first when the others have been silent (0),
    then to the first answers of the others.

    Args:
        net: the network.
        images: one a row.
        context: one-hot labels while the network learns; zeros when it is asked.
        key: for the answers.
        straight_through: let derivatives pass through the answers as if these were 2θ - 1, which
            backpropagation needs; otherwise nothing is differentiated through them.
    """
    if net.hidden is None:
        return Pass(None, images.T, net.output.fields((images.T,)))
    layer, neurons = net.hidden, len(net.hidden.biases[0])
    given = {"context": context.T, "lateral": jnp.zeros((neurons, len(images)), images.dtype)}

    def look(key: Key[Array, ""]) -> tuple[Float[Array, "n K B"], Float[Array, "K B"]]:
        fields = layer.fields((images.T, *(given[source] for source in net.sources)))
        theta = layer.theta(fields)
        if net.deterministic:
            threshold = jnp.asarray(0.5, theta.dtype)
        else:
            threshold = jax.random.uniform(key, theta.shape, theta.dtype)
        answers = jax.lax.stop_gradient(jnp.where(theta > threshold, 1, -1).astype(theta.dtype))
        if straight_through:
            answers = answers + 2 * (theta - jax.lax.stop_gradient(theta))
        return fields, answers

    first, second = jax.random.split(key)
    if "lateral" in net.sources:
        given["lateral"] = look(first)[1]
    fields, answers = look(second)
    return Pass(fields, answers, net.output.fields((answers,)))


@partial(jax.jit, static_argnums=(1, 2))
def _draw(
    key: Key[Array, ""], inputs: tuple[int, ...], neurons: int
) -> tuple[tuple[Float[Array, "K _"], ...], tuple[Float[Array, " K"], ...]]:
    """Weights and biases; compiled as one, since each draw of a new shape costs half a second."""

    def draw(key: Key[Array, ""], shape: tuple[int, ...], fan_in: int) -> Float[Array, "..."]:
        return jax.random.uniform(key, shape, jnp.float32, -1, 1) / np.float32(fan_in) ** 0.5

    keys = jax.random.split(key, (len(inputs), 2))
    both = [(draw(k[0], (neurons, d), d), draw(k[1], (neurons,), d))
            for k, d in zip(keys, inputs, strict=True)]  # fmt: skip
    return tuple(w for w, _ in both), tuple(b for _, b in both)


def _others(neurons: int, laterals: int | None, key: Key[Array, ""]) -> Bool[Array, "K K"]:
    """Which other neurons each one listens to; none listens to itself."""
    if laterals is None:
        return ~jnp.eye(neurons, dtype=bool)
    chance = jax.random.uniform(key, (neurons, neurons)).at[jnp.diag_indices(neurons)].set(2.0)
    rank = jnp.argsort(jnp.argsort(chance, axis=1), axis=1)
    return rank < laterals
