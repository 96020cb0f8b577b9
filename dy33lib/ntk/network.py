"""The multilayer perceptron and its activations."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dy33lib.ntk._checks import check_positive, root


class Activation(NamedTuple):
    """An activation, its slope, and their Gaussian averages.

    `moments(q11, q12, q22)` returns (E[phi(u) phi(v)], E[phi'(u) phi'(v)]) for centred Gaussian
    (u, v) with covariance ((q11, q12), (q12, q22)). Gains are such that E[phi(u)^2] = 1 at unit
    variance: signals keep their size from layer to layer.
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    moments: Callable[[Array, Array, Array], tuple[Array, Array]]


def _relu_moments(q11: Array, q12: Array, q22: Array) -> tuple[Array, Array]:
    # Cho and Saul (2009), arc-cosine kernels of degree 1 and 0, times the gain 2.
    size = jnp.sqrt(q11 * q22)
    cosine = jnp.clip(q12 / size, -1.0, 1.0)  # rounding alone can leave [-1, 1]
    angle = jnp.arccos(cosine)
    slopes = (jnp.pi - angle) / jnp.pi
    return size * (jnp.sqrt(1 - cosine**2) / jnp.pi + slopes * cosine), slopes


def _erf_moments(q11: Array, q12: Array, q22: Array) -> tuple[Array, Array]:
    # Williams (1997), eq. 11, times the squared gain.
    sine = 2 * q12 / jnp.sqrt((1 + 2 * q11) * (1 + 2 * q22))
    slopes = 4 / jnp.sqrt((1 + 2 * q11) * (1 + 2 * q22) - 4 * q12**2)
    return _ERF_GAIN**2 * 2 / jnp.pi * jnp.arcsin(sine), _ERF_GAIN**2 / jnp.pi * slopes


_RELU_GAIN = float(np.sqrt(2))
_ERF_GAIN = float(1 / np.sqrt(2 / np.pi * np.arcsin(2 / 3)))

ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda h: h, jnp.ones_like, lambda q11, q12, q22: (q12, q12**0)),
    "relu": Activation(
        lambda h: _RELU_GAIN * jax.nn.relu(h),
        lambda h: _RELU_GAIN * (h > 0).astype(h.dtype),
        _relu_moments,
    ),
    "erf": Activation(
        lambda h: _ERF_GAIN * jax.lax.erf(h),
        lambda h: (_ERF_GAIN * 2 / float(np.sqrt(np.pi))) * jnp.exp(-(h**2)),
        _erf_moments,
    ),
}


class MLP(eqx.Module):
    r"""Bias-free perceptron with standard normal weights and output scale :math:`1/\gamma`.

    Args:
        widths: numbers of units, input first and output last; at least one hidden layer.
        gamma: inverse output scale, positive.
        activation: "relu", "erf" or "linear".
        antisymmetric: draw one half of each hidden layer and let the other half start as its
            copy with the opposite sign at the output (one hidden layer, even width): the network
            is then exactly 0 at the start, and so is every odd term in the expansion of its
            kernel in the distance that the weights move.
        dtype: of the weights and the computation.
        key: random key of the weights.

    Raises:
        ValueError: if a width is below 1, there is no hidden layer, gamma is not positive, the
            activation is unknown, or `antisymmetric` meets another shape.
    """

    weights: tuple[Float[Array, "..."], ...]
    gamma: Float[Array, ""]  # an array, so that a sweep over gamma compiles once
    activation: str = eqx.field(static=True)

    def __init__(
        self,
        widths: Sequence[int],
        *,
        gamma: float = 1.0,
        activation: str = "relu",
        antisymmetric: bool = False,
        dtype: Any = jnp.float32,
        key: PRNGKeyArray,
    ):
        widths = tuple(int(n) for n in widths)
        if len(widths) < 3 or min(widths) < 1:
            raise ValueError(f"widths must be (inputs, hidden, ..., outputs), all >= 1: {widths}")
        check_positive("gamma", gamma)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}")
        if antisymmetric and (len(widths) != 3 or widths[1] % 2):
            raise ValueError(f"antisymmetric needs one hidden layer of even width, got {widths}")
        if antisymmetric:
            half = widths[1] // 2
            w, a = _normal_matrices(key, [(half, widths[0]), (widths[2], half)], dtype)
            self.weights = (jnp.concatenate([w, w]), jnp.concatenate([a, -a], axis=1))
        else:
            shapes = list(zip(widths[1:], widths[:-1], strict=True))
            self.weights = tuple(_normal_matrices(key, shapes, dtype))
        self.gamma = jnp.asarray(gamma, dtype)
        self.activation = activation

    @property
    def in_size(self) -> int:
        """Number of inputs."""
        return self.weights[0].shape[1]

    @property
    def dtype(self) -> Any:
        """Precision of the weights."""
        return self.gamma.dtype

    @property
    def out_size(self) -> int:
        """Number of outputs."""
        return self.weights[-1].shape[0]

    def features(self, x: Float[Array, " d"]) -> list[Float[Array, " n"]]:
        """Preactivations of each hidden layer for one input of shape (d,)."""
        if x.shape != (self.in_size,):
            raise ValueError(f"expected x of shape ({self.in_size},), got {x.shape}")
        phi = ACTIVATIONS[self.activation].value
        hidden = [self.weights[0] @ x / root(x.size)]
        for w in self.weights[1:-1]:
            hidden.append(w @ phi(hidden[-1]) / root(w.shape[1]))
        return hidden

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " k"]:
        """Output of shape (k,) for one input of shape (d,)."""
        last = self.weights[-1]
        phi = ACTIVATIONS[self.activation].value
        return last @ phi(self.features(x)[-1]) / (root(last.shape[1]) * self.gamma)


def _normal_matrices(
    key: PRNGKeyArray, shapes: list[tuple[int, int]], dtype: Any, block: int = 2**14
) -> list[Float[Array, "rows columns"]]:
    """Standard normal matrices, cut from blocks of one length.

    A draw of each shape by itself would be compiled anew for each width, for longer than a narrow
    network takes to train.
    """
    sizes = [rows * columns for rows, columns in shapes]
    blocks = [
        np.asarray(jax.random.normal(jax.random.fold_in(key, number), (block,), dtype))
        for number in range(-(-sum(sizes) // block))
    ]
    parts = np.split(np.concatenate(blocks)[: sum(sizes)], np.cumsum(sizes)[:-1])
    return [jnp.asarray(part.reshape(s)) for part, s in zip(parts, shapes, strict=True)]
