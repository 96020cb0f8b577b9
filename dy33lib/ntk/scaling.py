"""Scaling laws: exponents and the width of the transition."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from dy33lib.ntk._checks import check_positive

Values = Sequence[float] | Num[np.ndarray, " n"]


class PowerLaw(NamedTuple):
    """Least-squares line through log y against log x."""

    exponent: float
    stderr: float
    prefactor: float


def power_law_fit(x: Values, y: Values) -> PowerLaw:
    """Exponent of y ~ x^exponent, with the standard error of the straight line on log axes.

    Raises:
        ValueError: for fewer than 3 points, unequal lengths, or values that are not positive.
    """
    x_, y_ = np.asarray(x, float), np.asarray(y, float)
    if x_.shape != y_.shape or x_.ndim != 1 or x_.size < 3:
        raise ValueError(f"need two sequences of at least 3 points, got {x_.shape} and {y_.shape}")
    if not (np.all(x_ > 0) and np.all(y_ > 0)):
        raise ValueError(f"a power law needs positive values, got x={x_}, y={y_}")
    (slope, offset), covariance = np.polyfit(np.log(x_), np.log(y_), 1, cov=True)
    return PowerLaw(float(slope), float(np.sqrt(covariance[0, 0])), float(np.exp(offset)))


class Transition(NamedTuple):
    """A crossing of a threshold and the two widths that bracket it."""

    width: float
    bracket: tuple[float, float]


def transition_width(widths: Values, changes: Values, threshold: float = 1.0) -> Transition:
    """Width at which a falling kernel change crosses the threshold, by log-log interpolation.

    Args:
        widths: increasing, positive.
        changes: relative kernel changes at those widths, positive.
        threshold: the change that marks the transition.

    Raises:
        ValueError: if the widths do not bracket the threshold (it never extrapolates), cross it
            more than once, or are not increasing; or if a value is not positive.
    """
    n, change = np.asarray(widths, float), np.asarray(changes, float)
    check_positive("threshold", threshold)
    if n.shape != change.shape or n.size < 2 or np.any(np.diff(n) <= 0):
        raise ValueError(f"need increasing widths and as many changes, got {n} and {change}")
    if not (np.all(n > 0) and np.all(change > 0)):
        raise ValueError(f"widths and changes must be positive, got {n} and {change}")
    above = change >= threshold
    crossings = np.flatnonzero(above[:-1] & ~above[1:])
    if crossings.size != 1 or np.any(~above[:-1] & above[1:]):
        raise ValueError(
            f"threshold={threshold} is not bracketed once by changes from {change[0]:.3g} "
            f"to {change[-1]:.3g}"
        )
    i = int(crossings[0])
    (x0, x1), (y0, y1) = np.log(n[i : i + 2]), np.log(change[i : i + 2])
    width = float(np.exp(x0 + (np.log(threshold) - y0) * (x1 - x0) / (y1 - y0)))
    return Transition(width, (float(n[i]), float(n[i + 1])))
