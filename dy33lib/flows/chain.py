"""A flow in one dimension, for the chain of Takahashi, whose free energy is an integral.

All gaps are alike and independent, so that the map of one of them is the whole flow.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dy33lib.flows.coupling import circular_spline
from dy33lib.flows.exact import check_state
from dy33lib.flows.layers import Condition
from dy33lib.flows.training import Trained, minimise
from dy33lib.particles import pair_potential

SHORTEST, LONGEST = 0.6, 60.0  # gaps; beyond, the chain has weights below exp(-60 P / T)


def chain_gaps(T: float, P: float, shape: tuple[int, ...], key: Array) -> Float[Array, "..."]:
    """Independent gaps of the chain, by the inverse of their distribution.

    Args:
        T: temperature.
        P: pressure, a force in one dimension.
        shape: how many.
        key: for the random numbers.

    Raises:
        ValueError: if T or P is not positive and finite.
    """
    check_state(T, P)
    r = np.geomspace(SHORTEST, LONGEST, 40_001)
    density = np.exp(-(np.asarray(pair_potential(r * r)[0]) + P * r) / T)
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(r))])
    return jnp.interp(
        jax.random.uniform(key, shape), jnp.asarray(total / total[-1]), jnp.asarray(r)
    )


class ChainFlow(eqx.Module):
    """A monotone map of gaps, the identity at the reference: a spline of their logarithm.

    Attributes:
        condition: gives the parameters of :func:`~dy33lib.flows.coupling.circular_spline`.
    """

    condition: Condition

    def __init__(self, T0: float, P0: float, *, bins: int = 16, width: int = 32, key: Array):
        """Make a flow next to the identity.

        Args:
            T0: temperature of the reference.
            P0: its pressure.
            bins: of the spline.
            width: of the network of the condition.
            key: for its weights.

        Raises:
            ValueError: as in :class:`~dy33lib.flows.layers.Condition`, or if bins are below 2.
        """
        if bins < 2:
            raise ValueError(f"bins must be at least 2, got {bins}")
        self.condition = Condition(3 * bins, T0, P0, width=width, key=key)

    def __call__(
        self, r: Float[Array, " B"], T: Float[Array, " B"], P: Float[Array, " B"]
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Gaps mapped to T and P, and the logarithm of the slope."""
        span = float(np.log(LONGEST / SHORTEST))
        y, slope = circular_spline(
            jnp.log(r / SHORTEST) / span, self.condition(T, P).T.astype(r.dtype)
        )
        moved = SHORTEST * jnp.exp(span * y)
        return moved, slope + jnp.log(moved / r)


def chain_log_weights(
    flow: ChainFlow | None, r: Float[Array, " B"], start: tuple[float, float], T, P
) -> Float[Array, " B"]:
    """Logarithm of the weight of single gaps at T and P; their mean is exp(-(G - G0) / N).

    Args:
        flow: the map; None for none.
        r: gaps of the reference.
        start: temperature and pressure of the reference.
        T: temperature wanted of each.
        P: pressure wanted.
    """
    before = (pair_potential(r * r)[0] + start[1] * r) / start[0]
    slope = jnp.zeros_like(r)
    if flow is not None:
        r, slope = flow(r, T, P)
    return before - (pair_potential(r * r)[0] + P * r) / T + slope


class _Loss(NamedTuple):
    start: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    batch: int

    def __call__(self, flow, r, key):
        k1, k2 = jax.random.split(key)
        which = jax.random.randint(k1, (self.batch,), 0, len(r))
        u = jax.random.uniform(k2, (2, self.batch))
        T, P = (a + (b - a) * x for a, b, x in zip(self.low, self.high, u, strict=True))
        return -jnp.mean(chain_log_weights(flow, r[which], self.start, T, P))


def train_chain(
    flow: ChainFlow, r: Float[Array, " n"], start: tuple[float, float], *,
    low: tuple[float, float], high: tuple[float, float], steps: int = 2000, batch: int = 512,
    rate: float = 1e-2, key: Array,
) -> Trained:  # fmt: skip
    """Train as :func:`~dy33lib.flows.training.train` does, over a rectangle of states.

    Args:
        flow: to begin with.
        r: gaps of the reference.
        start: its temperature and pressure.
        low: lowest temperature and pressure.
        high: highest.
        steps: of the optimiser.
        batch: gaps of each step.
        rate: of learning, at first.
        key: for the random numbers.

    Raises:
        ValueError: as in :func:`~dy33lib.flows.training.minimise`; if a state is not positive, or
            the batch below 1.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    for state in (start, low, high):
        check_state(*state)
    return minimise(flow, _Loss(start, low, high, batch), r, steps=steps, rate=rate, key=key)
