"""From free energies to the line where two phases coexist, its slope, and isomorphs beside it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from dy33lib.flows.estimators import Difference, log_sum
from dy33lib.flows.exact import check_state
from dy33lib.particles import Configs, lj_forces


class Line(NamedTuple):
    """A line of coexistence.

    Attributes:
        T: temperatures.
        P: pressures at which both phases have the same Gibbs free energy.
        error: standard errors of P.
        gap: free energies of one phase less the other at P, and their errors, over k_B T.
    """

    T: Float[np.ndarray, " K"]
    P: Float[np.ndarray, " K"]
    error: Float[np.ndarray, " K"]
    gap: list[Difference]


def coexistence(
    gap: Callable[[float, float], Difference],
    temperatures: Sequence[float],
    low: Callable[[float], float],
    high: Callable[[float], float],
    *,
    width: float = 0.05,
) -> Line:
    """Pressures at which a difference of free energies vanishes.

    The error of the pressure is that of the difference, over its slope in the pressure.

    Args:
        gap: the free energy of one phase less that of the other, over k_B T, by T and P.
        temperatures: at which to look.
        low: lowest pressure that is considered, by temperature.
        high: highest.
        width: half the interval of pressures from which the slope is taken.

    Raises:
        ValueError: if the difference has the same sign at both ends of a bracket, if a bracket is
            none, or a difference is not finite. Nothing is extrapolated.
    """
    P, error, gaps = [], [], []
    for T in temperatures:
        a, b = low(T), high(T)
        check_state(T, np.array([a, b]))
        if not a < b:
            raise ValueError(f"low must be below high, got {a} and {b} at T = {T}")

        def value(p: float, T=T) -> float:
            return gap(T, p).value

        ends = value(a), value(b)
        if not np.isfinite(ends).all():
            raise ValueError(f"gap must be finite, got {ends} at T = {T}, P = {a} and {b}")
        if ends[0] * ends[1] > 0:
            raise ValueError(
                f"gap must change its sign between low = {a:.4g} and high = {b:.4g} at T = {T}, "
                f"got {ends[0]:.4g} and {ends[1]:.4g}"
            )
        root = float(brentq(value, a, b, xtol=1e-8))  # pyright: ignore[reportArgumentType]
        slope = (value(root + width) - value(root - width)) / (2 * width)
        gaps.append(gap(T, root))
        P.append(root)
        error.append(gaps[-1].error / abs(slope))
    return Line(np.asarray(temperatures, float), np.array(P), np.array(error), gaps)


def clapeyron(first: tuple[float, float], second: tuple[float, float], T: float, P: float) -> float:
    """Slope dP/dT of coexistence, (enthalpy of one phase less the other) / (T x that of volumes).

    Args:
        first: mean energy and volume of one phase at T and P.
        second: of the other.
        T: temperature.
        P: pressure.

    Raises:
        ValueError: if T or P is not positive and finite, or the phases have the same volume.
    """
    check_state(T, P)
    U, V = first[0] - second[0], first[1] - second[1]
    if V == 0:
        raise ValueError(f"first and second must differ in volume, got {first} and {second}")
    return (U + P * V) / (T * V)


def means(log_w, U, V) -> tuple[float, float]:
    """Mean energy and volume from weighted configurations.

    Args:
        log_w: logarithms of their weights, up to a constant.
        U: energies.
        V: volumes.
    """
    share = np.exp(np.asarray(log_w, float) - log_sum(log_w))
    return float(np.sum(share * np.asarray(U))), float(np.sum(share * np.asarray(V)))


# Isomorphs ---------------------------------------------------------------------------------------


_forces = jax.jit(lj_forces)


def correlation(U, W, V) -> tuple[float, float]:
    """How closely virial and energy fluctuate together at constant volume, and their ratio.

    R = <dW dU> / sqrt(<dW^2> <dU^2>) and gamma = <dW dU> / <dU^2> (Gnan et al. 2009, eqs. 1 and 5).
    From configurations at constant pressure: what volume explains of both is taken out first.

    Args:
        U: energies.
        W: virials, means over the three directions.
        V: volumes.
    """
    u, w, v = (np.asarray(x, float).reshape(-1) for x in (U, W, V))
    u, w, v = u - u.mean(), w - w.mean(), v - v.mean()
    u, w = u - v * (u @ v) / (v @ v), w - v * (w @ v) / (v @ v)
    return float(u @ w / np.sqrt((u @ u) * (w @ w))), float(u @ w / (u @ u))


def isomorph(configs: Configs, T0: float, gamma: float, T: float) -> tuple[float, float]:
    """Pressure and shift of ln V on the isomorph through a state, from its configurations.

    Where (T/T0) = (V0/V)^gamma, scaled configurations have the same Boltzmann weights.

    Args:
        configs: of a state at T0.
        T0: its temperature.
        gamma: from :func:`correlation`.
        T: temperature of the other state.

    Raises:
        ValueError: if T0, T or gamma is not positive and finite.
    """
    check_state(np.array([T0, T]), 1.0)
    if not 0 < gamma < np.inf:
        raise ValueError(f"gamma must be positive and finite, got {gamma}")
    shift = -np.log(T / T0) / gamma
    L = configs.L * np.exp(shift / 3).astype(configs.L.dtype)
    W = np.asarray(_forces(configs.s, L)[2], float).mean(axis=0)
    V = np.prod(np.asarray(L, float), axis=0)
    return float(np.mean((configs.s.shape[1] * T + W) / V)), float(shift)
