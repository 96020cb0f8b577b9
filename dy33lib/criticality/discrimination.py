r"""Chains of inputs that a reader can tell apart, and what they say about the network.

From no input upwards: the first input is the one that is confused with none at all with probability
eps, the second the one that is confused with the first with that probability, and so on, as long as
it can be told from an infinite input; from an infinite input downwards likewise. The number of
discriminable inputs is the mean of the two counts, the dynamic range is
:math:`10\log_{10}(h_{\rm down,1}/h_{\rm up,1})` decibels (definitions of the talk's paper).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize_scalar
from scipy.special import erfcinv, ndtri

from dy33lib.criticality.moments import invert_activity, mean_activity, moments
from dy33lib.criticality.outputs import (
    FEW,
    Shape,
    check_shape,
    count_nodes,
    is_narrow,
    law,
    normal,
    output_grid,
    overlap_error,
)
from dy33lib.criticality.parameters import Params, check_lam, check_T

EDGE = 1e-6  # of the highest activity: inputs that are certainly confused with a reference
Law = Callable[[float], Float[np.ndarray, " G"]]


class Range(NamedTuple):
    """What a reader can tell apart.

    Attributes:
        decibel: dynamic range; NaN if one of the chains is empty.
        number: of discriminable inputs, the mean of both chains.
    """

    decibel: float
    number: float


class Sweep(NamedTuple):
    """Ranges for several integration times and coupling strengths.

    Attributes:
        lams: coupling strengths.
        Ts: integration times.
        decibel: dynamic ranges, one row per time.
        number: of discriminable inputs, likewise.
    """

    lams: Float[np.ndarray, " L"]
    Ts: Float[np.ndarray, " T"]
    decibel: Float[np.ndarray, "T L"]
    number: Float[np.ndarray, "T L"]


class Optimum(NamedTuple):
    """The best coupling strength for one integration time.

    Attributes:
        lam: where the maximum is; for counts, which are constant over intervals, the lower end.
        value: dynamic range in decibel, or count.
        low: lower end of the couplings that are as good: within 0.1 dB, or of the same count.
        high: upper end.
    """

    lam: float
    value: float
    low: float
    high: float


def output_law(lam: float, T: float, params: Params, shape: Shape = "shifted") -> Law:
    """The law of the output as a function of the input rate alone, arguments being checked."""
    check_lam(lam)
    check_T(T)
    grid = output_grid(params)

    def of_rate(h: float) -> Float[np.ndarray, " G"]:
        m = moments(lam, h, T, params, np)
        nodes = FEW if is_narrow(m, params.sigma) else count_nodes(params)
        return law(m, grid, params.sigma, shape=shape, nodes=nodes)

    return of_rate


def reference(activity: float, params: Params) -> Float[np.ndarray, " G"]:
    """Law of the output at a constant activity: the two ends of the range, in the talk's paper."""
    return normal(output_grid(params), activity, params.sigma)


def discriminable_inputs(
    lam: float,
    T: float,
    params: Params | None = None,
    side: Literal["left", "right"] = "left",
    *,
    shape: Shape = "shifted",
    at_most: int | None = None,
) -> Float[np.ndarray, " m"]:
    """The chain of inputs from no input upwards ("left") or from an infinite one downwards.

    Args:
        lam: coupling strength.
        T: integration time, in steps.
        params: network and reader.
        side: where the chain begins.
        shape: as in :func:`.output_pmf`.
        at_most: stop after so many.

    Raises:
        ValueError: as in :func:`.output_pmf`; if the side is unknown, or `at_most` is not
            positive; if the network is so small that at infinite input it fluctuates more than
            the reference allows.
    """
    params = params or Params()
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', got {side!r}")
    if at_most is not None and at_most < 1:
        raise ValueError(f"at_most must be at least 1, got {at_most}")
    law_of = output_law(lam, T, params, shape)
    highest = float(mean_activity(lam, np.inf, params.mu))
    if overlap_error(reference(highest, params), law_of(np.inf)) < params.eps:
        raise ValueError(
            "n must be larger: the output at infinite input is not confused with its reference, "
            f"got {params} at lam = {lam}"
        )
    return _chain(lam, params, side, law_of, at_most)


def _chain(
    lam: float, params: Params, side: str, law_of: Law, at_most: int | None = None
) -> Float[np.ndarray, " m"]:
    """The chain for any law of the output as a function of the rate."""
    highest = float(mean_activity(lam, np.inf, params.mu))
    wanted = ndtri(params.eps)

    def rate(a: float) -> float:
        p = a * (1 - lam) / (params.mu * (1 - lam * a))
        return -math.log1p(-p)

    def next_activity(near: np.ndarray, start: float, end: float, guess: float) -> float | None:
        """Where the confusion with `near` has fallen to eps.

        Between normal laws of one width the probit of the confusion is linear in the activity, and
        zero at the start: two or three steps along secants suffice.
        """

        def excess(a: float) -> float:
            confusion = overlap_error(near, law_of(rate(a)))
            return float(ndtri(max(confusion, 1e-300))) - wanted

        last, above, a = start, -wanted, guess
        for _ in range(8):
            here = excess(a)
            slope = (here - above) / (a - last)
            if here == above or not 0 < (a - here / slope - start) / (end - start) < 1:
                break
            last, above, a = a, here, a - here / slope
            if abs(a - last) < 1e-4 * abs(a - start):  # then the next step would be far smaller
                return a
        if excess(end) > 0:
            return None
        return float(brentq(excess, start, end, xtol=1e-6 * abs(end - start)))  # pyright: ignore

    # From an activity that is confused with the near reference to one that lies at the far one.
    start, end = EDGE * highest, (1 - EDGE) * highest
    near, far = reference(0.0, params), reference(highest, params)
    if side == "right":
        start, end, near, far = end, start, far, near
    step = 2 * abs(wanted) * params.sigma * math.copysign(1, end - start)
    chain = []
    while at_most is None or len(chain) < at_most:
        guess = start + step if (end - start - step) * step > 0 else (start + end) / 2
        found = next_activity(near, start, end, guess)
        if found is None:
            break
        near = law_of(rate(found))
        if overlap_error(near, far) >= params.eps:
            break
        chain.append(rate(found))
        start, step = found, found - start
    return np.array(chain)


def limit_infinite(lam: float, params: Params | None = None) -> Range:
    r"""Dynamic range and count for infinite integration time, in closed form.

    Only the noise of the output is left. Two activities are confused with probability eps if they
    are :math:`d = 2\sqrt2\,\sigma\,{\rm erfc}^{-1}(2\epsilon)` apart, so that the range is
    :math:`10\log_{10}[h(a_\infty - d)/h(d)]` and the count :math:`\lceil a_\infty/d\rceil - 2`,
    with the activity :math:`a_\infty` of an infinite input.

    Raises:
        ValueError: if lam is not in [0, 1).
    """
    params = params or Params()
    highest = float(mean_activity(lam, np.inf, params.mu))
    d = 2 * np.sqrt(2) * params.sigma * float(erfcinv(2 * params.eps))
    count = max(float(np.ceil(highest / d)) - 2, 0.0)
    if not count:
        return Range(float("nan"), 0.0)
    up, down = (float(invert_activity(a, lam, params.mu)) for a in (d, highest - d))
    return Range(float(10 * np.log10(down / up)), count)


def dynamic_range(
    lam: float, T: float, params: Params | None = None, *, shape: Shape = "shifted"
) -> Range:
    """Dynamic range and number of discriminable inputs.

    Args:
        lam: coupling strength.
        T: integration time in steps; for infinity, :func:`.limit_infinite`.
        params: network and reader.
        shape: as in :func:`.output_pmf`.

    Raises:
        ValueError: as in :func:`.output_pmf`.
    """
    check_T(T)
    check_shape(shape)
    if np.isinf(T):
        return limit_infinite(lam, params)
    left, right = (
        discriminable_inputs(lam, T, params, side, shape=shape) for side in ("left", "right")
    )
    return Range(_decibel(left, right), (len(left) + len(right)) / 2)


def range_of_law(lam: float, law_of: Law, params: Params | None = None) -> float:
    """Dynamic range in decibel for any law of the output.

    Args:
        lam: coupling strength.
        law_of: law on :func:`.output_grid` as a function of the rate.
        params: network and reader.

    Raises:
        ValueError: if lam is not in [0, 1), or as in :func:`.discriminable_inputs`.
    """
    check_lam(lam)
    params = params or Params()
    return _decibel(*(_chain(lam, params, side, law_of, 1) for side in ("left", "right")))


def _decibel(left: np.ndarray, right: np.ndarray) -> float:
    return float(10 * np.log10(right[0] / left[0])) if len(left) and len(right) else float("nan")


def sweep(
    lams: Sequence[float] | Float[np.ndarray, " L"],
    Ts: Sequence[float] | Float[np.ndarray, " T"],
    params: Params | None = None,
    *,
    shape: Shape = "shifted",
    track: Callable[..., Iterable] = lambda items, total, what: items,
) -> Sweep:
    """Dynamic ranges and counts for all pairs of integration times and coupling strengths.

    Args:
        lams: coupling strengths.
        Ts: integration times, in steps.
        params: network and reader.
        shape: as in :func:`.output_pmf`.
        track: passes the pairs on and may show progress, as `dy33lib.progress.progress` does.

    Raises:
        ValueError: as in :func:`.output_pmf`.
    """
    lams, Ts = np.asarray(lams, np.float64), np.asarray(Ts, np.float64)
    pairs = [(float(T), float(lam)) for T in Ts for lam in lams]
    found = [
        dynamic_range(lam, T, params, shape=shape)
        for T, lam in track(pairs, len(pairs), "pairs of time and coupling")
    ]
    table = np.array(found).reshape(len(Ts), len(lams), 2)
    return Sweep(lams, Ts, table[..., 0], table[..., 1])


def optimal_lambda(
    T: float,
    params: Params | None = None,
    which: Literal["range", "count"] = "range",
    *,
    shape: Shape = "shifted",
) -> Optimum:
    """The coupling strength that is best for a reader with integration time T.

    The maximum over 1 - lambda from 1 to 1e-8 (for the count, 1e-5), by a scan of its logarithm and
    a refinement of the best part by bounded minimisation (range) or bisection of the ends (count).

    Args:
        T: integration time, in steps.
        params: network and reader.
        which: what is to be largest.
        shape: as in :func:`.output_pmf`.

    Raises:
        ValueError: if T is not positive and finite (for infinite T the range grows up to lambda =
            1), if `which` is unknown, if nothing can be told apart at any coupling, or if the
            optimum lies beyond the scan.
    """
    params = params or Params()
    if which not in ("range", "count"):
        raise ValueError(f"which must be 'range' or 'count', got {which!r}")
    if not 0 < T < np.inf:
        raise ValueError(f"T must be positive and finite, got {T}")

    def value(x: float) -> float:
        """At 1 - lambda = 10^-x."""
        lam = float(-np.expm1(-x * np.log(10)))
        if which == "count":
            return dynamic_range(lam, T, params, shape=shape).number
        found = range_of_law(lam, output_law(lam, T, params, shape), params)
        return found if np.isfinite(found) else -np.inf

    grid = np.linspace(0, 8, 17) if which == "range" else np.linspace(0, 5, 41)
    close = 0.02 if which == "range" else 1e-3  # of the ends, in decades of 1 - lambda
    values = [value(x) for x in grid]
    best = int(np.argmax(values))
    top, x = values[best], float(grid[best])
    if not top > (0 if which == "count" else -np.inf):
        raise ValueError(f"no two inputs can be told apart with {params}")
    if best == len(grid) - 1:
        raise ValueError(f"n or T is too large: the optimum is closer to 1 than 10^-{x:g}")
    if which == "range":
        bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        found: Any = minimize_scalar(
            lambda x: -value(x), bounds=bounds, method="bounded", options={"xatol": 1e-4}
        )
        top, x = -float(found.fun), float(found.x)
    level = top if which == "count" else top - 0.1
    good = [i for i, v in enumerate(values) if v >= level]

    def end(within: float, beyond: int) -> float:
        """The last good point between a good one and the grid's next, if there is one."""
        if not 0 <= beyond < len(grid):
            return within
        bad = float(grid[beyond])
        while abs(bad - within) > close:
            middle = (bad + within) / 2
            bad, within = (bad, middle) if value(middle) >= level else (middle, within)
        return within

    low = end(float(grid[good[0]]) if good else x, good[0] - 1 if good else best - 1)
    high = end(float(grid[good[-1]]) if good else x, good[-1] + 1 if good else best + 1)
    x = low if which == "count" else x
    lams = [float(-np.expm1(-v * np.log(10))) for v in (x, low, high)]
    return Optimum(lams[0], float(top), lams[1], lams[2])
