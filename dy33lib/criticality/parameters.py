"""The parameters of the network and its reader, and checks that the files of this package share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

Real = float | int | np.ndarray | Array


class Params(eqx.Module):
    """A network and its reader; the defaults are those of the talk.

    Attributes:
        n: number of units.
        k: mean number of inputs of a unit, for networks that are built.
        mu: share of units that receive the input.
        nu: share of units that are read, the same of those with and without input.
        sigma: standard deviation of the noise of the output.
        eps: tolerated probability of taking one of two inputs for the other.
    """

    n: int = 10_000
    k: int = 100
    mu: float = 0.2
    nu: float = 1.0
    sigma: float = 0.01
    eps: float = 0.1

    def __check_init__(self):
        for name in ("n", "k"):
            value = getattr(self, name)
            if not value >= 1 or value != int(value):
                raise ValueError(f"{name} must be an integer of at least 1, got {value}")
        for name in ("mu", "nu"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if not 0 < self.sigma < float("inf"):
            raise ValueError(f"sigma must be positive and finite, got {self.sigma}")
        if not 0 < self.eps < 0.5:
            raise ValueError(f"eps must be in (0, 0.5), got {self.eps}")


def as_array(name: str, value: Real) -> Float[Array, "..."]:
    """A value in double precision.

    Raises:
        ValueError: if double precision is switched off: near the critical point 1 - lambda is
            lost in single precision.
    """
    if not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{name} is needed in double precision: jax.config.update('jax_enable_x64', True)"
        )
    return jnp.asarray(value, jnp.float64)


def check(name: str, value: Any, good: Any, condition: str) -> None:
    """Raise where concrete values do not meet a condition; within transformations nothing is known.

    Args:
        name: the argument.
        value: what was given.
        good: whether it is right, for each element.
        condition: what it has to be, in words.
    """
    if isinstance(good, Tracer) or np.all(good):
        return
    wrong = np.asarray(value)[~np.asarray(good)] if np.ndim(value) else value
    raise ValueError(f"{name} must be {condition}, got {np.ravel(wrong)[0]}")


def check_lam(lam: Real) -> Float[Array, "..."]:
    """The coupling strength, in [0, 1)."""
    array = as_array("lam", lam)
    check("lam", lam, (array >= 0) & (array < 1), "in [0, 1)")
    return array


def check_h(h: Real) -> Float[Array, "..."]:
    """The input rate, not negative; infinity is allowed."""
    array = as_array("h", h)
    check("h", h, array >= 0, "at least 0")
    return array


def check_T(T: Real) -> Float[Array, "..."]:
    """The integration time, positive; infinity is allowed."""
    array = as_array("T", T)
    check("T", T, array > 0, "positive")
    return array


def check_mu(mu: Real) -> Float[Array, "..."]:
    """The share of units with input, in (0, 1]."""
    array = as_array("mu", mu)
    check("mu", mu, (array > 0) & (array <= 1), "in (0, 1]")
    return array
