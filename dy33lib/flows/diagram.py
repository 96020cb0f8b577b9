"""From free energies to the line where two phases coexist, and its slope."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from dy33lib.flows.estimators import Difference, log_sum
from dy33lib.flows.exact import check_state


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
