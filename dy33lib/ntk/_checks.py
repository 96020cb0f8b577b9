"""Checks of arguments that the files of this package share."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num


def check_positive(name: str, value: float) -> None:
    """Raise unless the value is positive; NaN is not."""
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def check_inputs(
    X: Array | np.ndarray, features: int, dtype: Any, name: str = "X"
) -> Float[Array, "m d"]:
    """A batch of inputs (samples, features) in the precision of the computation."""
    if X.ndim != 2 or X.shape[1] != features:
        raise ValueError(f"expected {name} of shape (samples, {features}), got {X.shape}")
    if X.shape[0] == 0:
        raise ValueError(f"expected at least one input, got {name} of shape {X.shape}")
    return jnp.asarray(X, dtype)


def as_kernel(K: Num[Array | np.ndarray, "m m"], name: str = "K") -> Float[np.ndarray, "m m"]:
    """A float64 copy of a kernel, checked to be finite and symmetric with a positive trace."""
    matrix = np.asarray(K, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"{name} holds values that are not finite")
    skew = float(np.max(np.abs(matrix - matrix.T)) / max(np.max(np.abs(matrix)), 1e-300))
    if skew > 1e-5:
        raise ValueError(f"{name} must be symmetric, its relative asymmetry is {skew:.1e}")
    if not np.trace(matrix) > 0:
        raise ValueError(f"{name} must have a positive trace, got {np.trace(matrix):.3g}")
    return (matrix + matrix.T) / 2


def root(n: int) -> float:
    """Square root as a Python float, which takes on the precision of the arrays around it."""
    return float(np.sqrt(n))
