"""Bias-free networks with an adjustable kink, their losses, and their weights as one vector."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray


def leaky_relu(h: Float[Array, "..."], slope: Float[Array, ""]) -> Float[Array, "..."]:
    """The leaky ReLU: linear at slope 1, the ReLU at slope 0."""
    return jnp.where(h > 0, h, slope * h)


def _check(sizes: Sequence[int], name: str, least: int, slope: float) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in sizes)
    if len(sizes) < least or min(sizes) < 1:
        raise ValueError(f"{name} must be at least {least} positive numbers, got {sizes}")
    check_slope(slope)
    return sizes


def check_slope(slope: float) -> None:
    """Raise unless the slope is that of a network between ReLU and linear; NaN is not."""
    if not 0 <= slope <= 1:
        raise ValueError(f"slope must be between 0 (ReLU) and 1 (linear), got {slope}")


def _draw(
    key: PRNGKeyArray, shapes: Sequence[tuple[int, ...]], slope: float
) -> tuple[Float[Array, "..."], ...]:
    """Normal weights such that signals keep their size (He et al. 2015, eq. 15)."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    # Blocks of one length: a draw of each shape by itself would be compiled anew each time.
    block, draws = 2**14, []
    for number in range(-(-sum(sizes) // block)):
        part = jax.random.normal(jax.random.fold_in(key, number), (block,), float)
        draws.append(np.asarray(part))
    parts = np.split(np.concatenate(draws)[: sum(sizes)], np.cumsum(sizes)[:-1])
    return tuple(
        jnp.asarray(part.reshape(shape) * np.sqrt(2 / (1 + slope**2) / np.prod(shape[1:])))
        for part, shape in zip(parts, shapes, strict=True)
    )


class DenseNet(eqx.Module):
    r"""Fully connected network without biases, :math:`f(x) = W_L\,\phi(\dots\phi(W_1 x))`.

    Args:
        widths: numbers of units, inputs first and outputs last; at least one hidden layer.
        slope: of the leaky ReLU :math:`\phi` at negative arguments, from 0 (ReLU) to 1 (linear).
        key: random key of the weights.

    Raises:
        ValueError: if there is no hidden layer, a width is not positive, or the slope is not
            between 0 and 1.
    """

    weights: tuple[Float[Array, "..."], ...]
    slope: Float[Array, ""]  # an array, so that a sweep over slopes compiles once

    def __init__(self, widths: Sequence[int], *, slope: float = 1.0, key: PRNGKeyArray):
        widths = _check(widths, "widths", 3, slope)
        self.weights = _draw(key, list(((out, into) for into, out in pairwise(widths))), slope)
        self.slope = jnp.asarray(slope, float)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of units, inputs first."""
        return (self.weights[0].shape[1], *(w.shape[0] for w in self.weights))

    @property
    def inputs(self) -> int:
        """Length of an input."""
        return self.widths[0]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " k"]:
        """The outputs for one input."""
        for w in self.weights[:-1]:
            x = leaky_relu(w @ x, self.slope)
        return self.weights[-1] @ x


class ConvNet(eqx.Module):
    r"""Convolutions of 3 x 3 with stride 2, leaky ReLUs between them, and a dense head; no biases.

    Args:
        channels: of the image and of each convolution; at least one convolution.
        image: height and width of the image, padded by one pixel of zeros before a convolution.
        classes: number of outputs.
        slope: of the leaky ReLU at negative arguments, from 0 (ReLU) to 1 (linear).
        key: random key of the weights.

    Raises:
        ValueError: if there is no convolution, a number is not positive, or the slope is not
            between 0 and 1.
    """

    weights: tuple[Float[Array, "..."], ...]
    slope: Float[Array, ""]
    image: tuple[int, int] = eqx.field(static=True)

    def __init__(
        self,
        channels: Sequence[int],
        *,
        image: tuple[int, int] = (8, 8),
        classes: int = 10,
        slope: float = 1.0,
        key: PRNGKeyArray,
    ):
        channels = _check(channels, "channels", 2, slope)
        _check((*image, classes), "image and classes", 3, slope)
        shapes = [(out, into, 3, 3) for into, out in pairwise(channels)]
        height, width = image
        for _ in shapes:  # a stride of 2 leaves half of the pixels, rounded up
            height, width = (height + 1) // 2, (width + 1) // 2
        # The head's weights keep channels and pixels apart: symmetries mix channels only.
        self.weights = _draw(key, [*shapes, (classes, channels[-1], height * width)], slope)
        self.slope = jnp.asarray(slope, float)
        self.image = (int(image[0]), int(image[1]))

    @property
    def inputs(self) -> int:
        """Length of an input, a flattened image with the channel first."""
        return self.weights[0].shape[1] * self.image[0] * self.image[1]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " k"]:
        """The outputs for one flattened image."""
        x = x.reshape(1, -1, *self.image)
        for w in self.weights[:-1]:
            x = jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)))
            x = leaky_relu(x, self.slope)
        return jnp.einsum("kcp,cp->k", self.weights[-1], x.reshape(x.shape[1], -1))


Net = DenseNet | ConvNet
N = TypeVar("N", bound=DenseNet | ConvNet)


def parameters(model: Net) -> Float[Array, " P"]:
    """All weights as one vector; the slope is not among them."""
    return ravel_pytree(model.weights)[0]


def with_parameters(model: N, vector: Float[Array, " P"]) -> N:
    """The network with other weights.

    Raises:
        ValueError: if the length does not fit.
    """
    flat, unravel = ravel_pytree(model.weights)
    if vector.shape != flat.shape:
        raise ValueError(f"vector must have shape {flat.shape}, got {vector.shape}")
    return eqx.tree_at(lambda net: net.weights, model, unravel(vector))


def with_slope(model: N, slope: float) -> N:
    """The network with another slope and the same weights.

    Raises:
        ValueError: if the slope is not between 0 and 1.
    """
    check_slope(slope)
    return eqx.tree_at(lambda net: net.slope, model, jnp.asarray(slope, model.slope.dtype))


@eqx.filter_jit
def outputs(model: Net, X: Float[Array, "n d"]) -> Float[Array, "n k"]:
    """The outputs for many inputs."""
    return jax.vmap(model)(X)


def _outputs(model: Net, X: Array, Y: Array, ridge: float | Array) -> Float[Array, "n k"]:
    k = model.weights[-1].shape[0]
    if X.ndim != 2 or X.shape[1] != model.inputs or len(X) == 0:
        raise ValueError(f"X must have shape (samples, {model.inputs}), got {X.shape}")
    if Y.shape != (len(X), k):
        raise ValueError(f"Y must have shape ({len(X)}, {k}), got {Y.shape}")
    if isinstance(ridge, float | int) and not ridge >= 0:
        raise ValueError(f"ridge must not be negative, got {ridge}")
    return jax.vmap(model)(jnp.asarray(X))


def mse_loss(
    model: Net, X: Float[Array, "n d"], Y: Float[Array, "n k"], ridge: float | Array = 0.0
) -> Float[Array, ""]:
    r""":math:`\frac{1}{2n}\sum_a |f(x_a) - y_a|^2 + \frac\lambda2 |\theta|^2`, with ridge λ.

    Raises:
        ValueError: if the shapes do not fit or the ridge is negative.
    """
    residual = _outputs(model, X, Y, ridge) - Y
    return jnp.sum(residual**2) / (2 * len(X)) + ridge * _half_square(model)


def cross_entropy_loss(
    model: Net, X: Float[Array, "n d"], Y: Float[Array, "n k"], ridge: float | Array = 0.0
) -> Float[Array, ""]:
    r"""Mean cross-entropy of the softmax of the outputs to rows Y of probabilities, plus ridge.

    Raises:
        ValueError: if the shapes do not fit or the ridge is negative.
    """
    logs = jax.nn.log_softmax(_outputs(model, X, Y, ridge))
    return -jnp.sum(logs * Y) / len(X) + ridge * _half_square(model)


def _half_square(model: Net) -> Float[Array, ""]:
    first, *others = (jnp.sum(w**2) for w in model.weights)
    return sum(others, first) / 2
