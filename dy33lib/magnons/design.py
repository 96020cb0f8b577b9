"""Where to count next: Fisher information, the best possible design, choices on the way."""

from functools import partial
from itertools import permutations
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dy33lib.magnons.counts import Rows, check_index, intensity, rates
from dy33lib.magnons.kalman import Map
from dy33lib.magnons.layer import finite

Rule = Literal["couplings", "spectrum"]


class Travel(NamedTuple):
    """What a measurement costs in time. Motors move at once; the slowest sets the pace.

    Attributes:
        counting: time at a point (min).
        h: time to move by one reciprocal lattice unit along a* (min).
        k: the same along b*.
        E: time to change the energy by 1 meV (min).
    """

    counting: float = 1.0
    h: float = 0.0
    k: float = 0.0
    E: float = 0.0

    def minutes(self, start: Float[Array, " 3"], points: Float[Array, "C 3"]) -> Float[Array, " C"]:
        """Time until the count at each point is done (min)."""
        speeds = jnp.stack([jnp.asarray(v, float) for v in (self.h, self.k, self.E)])
        return self.counting + jnp.max(jnp.abs(points - start[None]) * speeds[None], axis=1)

    def order(
        self, start: Float[np.ndarray, " 3"], points: Float[np.ndarray, "b 3"]
    ) -> Int[np.ndarray, " b"]:
        """In which order points are visited soonest; above seven, always the nearest next."""
        stops = np.concatenate([start[None], points])
        moves = np.abs(stops[:, None] - stops[None]) * (self.h, self.k, self.E)
        way = moves.max(axis=2)
        if len(points) <= 7:
            tours = np.array(list(permutations(range(1, len(stops)))))
            legs = np.concatenate([np.zeros((len(tours), 1), int), tours], axis=1)
            return tours[way[legs[:, :-1], legs[:, 1:]].sum(axis=1).argmin()] - 1
        tour, left = [0], set(range(1, len(stops)))
        while left:
            tour.append(min(left, key=lambda i: (way[tour[-1], i], i)))
            left.remove(tour[-1])
        return np.array(tour[1:]) - 1


class Optimum(NamedTuple):
    """A design that no other beats.

    Attributes:
        weights: share of the counts at each point; they add up to 1.
        variance: sum of the couplings' variances for one count (meV^2); N counts divide it by N.
        sd: standard deviation of each coupling for one count (meV).
        gap: how far the equivalence theorem is from being met: 0.01 means that no design is better
            by more than about 1 %.
    """

    weights: Float[Array, " C"]
    variance: Float[Array, ""]
    sd: Float[Array, " n"]
    gap: Float[Array, ""]


def _scores(theta: Float[Array, " d"], rows: Rows) -> Float[Array, "N d"]:
    """Gradients of the intensities over the root of their noise: the rows of the information."""
    slope = jax.jacfwd(rates)(theta, rows)
    return slope / jnp.sqrt(rates(theta, rows))[:, None]


def fisher(
    theta: Float[Array, " d"], rows: Rows, counts_per_point: Float[Array, " N"] | None = None
) -> Float[Array, "d d"]:
    """Information about theta in counts at some points, one each unless told otherwise.

    The sum of (grad I)(grad I)'/I, for Poisson counts of mean I.

    Args:
        theta: couplings (meV), log A, log b.
        rows: the points.
        counts_per_point: how often each is measured; need not be whole.

    Raises:
        ValueError: as in :func:`.intensity`; or if a number of counts is negative or not finite.
    """
    intensity(theta, rows)
    score = _scores(theta, rows)
    if counts_per_point is None:
        return score.T @ score
    finite("counts_per_point", counts_per_point)
    if not bool((counts_per_point >= 0).all()):
        raise ValueError(f"counts_per_point must be at least 0, got {counts_per_point.min()}")
    return (score * counts_per_point[:, None]).T @ score


@partial(jax.jit, static_argnames="steps")
def _multiplicative(score: Float[Array, "C d"], steps: int):
    """Weights by the multiplicative algorithm, the sum of variances, and each, and the gap."""
    C, d = score.shape

    def variances(w):
        inverse = jnp.linalg.inv((score * w[:, None]).T @ score)
        use = score @ inverse[:, : d - 2]
        return inverse, (use**2).sum(axis=1)

    def step(_, w):
        w = w * jnp.sqrt(variances(w)[1])
        return w / w.sum()

    w = jax.lax.fori_loop(0, steps, step, jnp.full(C, 1 / C))
    inverse, gains = variances(w)
    each = jnp.diag(inverse)[: d - 2]
    return w, each.sum(), jnp.sqrt(each), gains.max() / each.sum() - 1


def a_optimal(theta: Float[Array, " d"], rows: Rows, steps: int = 2000) -> Optimum:
    """The design with the smallest sum of the couplings' variances, if theta were known.

    No choice of points, however clever, leads to a smaller sum in the limit of many counts
    (Cramer-Rao); it is the yardstick of all strategies. Weights are multiplied by the root of
    their gains until none is above average (Silvey, Titterington and Torsney 1978).

    Args:
        theta: couplings (meV), log A, log b.
        rows: the candidates.
        steps: of the algorithm.

    Raises:
        ValueError: as in :func:`.intensity`; or if the candidates do not determine the couplings.
    """
    intensity(theta, rows)
    found = Optimum(*_multiplicative(_scores(theta, rows), steps))
    if not bool(jnp.isfinite(found.variance) & (found.variance > 0)):
        raise ValueError("rows do not determine all couplings")
    return found


def disagreement(
    spectrum: Map, predicted: Float[Array, " C"], caution: float = 0.0
) -> Float[Array, " C"]:
    """How strongly map and model may disagree at each candidate, in units of the counting noise.

    (abs(m - I) + caution sqrt(P)) / sqrt(I), with the map's mean m and variance P, and the model's
    I: large where counts contradict the model, and where nothing has been counted though little
    noise would hide a signal.

    Args:
        spectrum: from :func:`.gp_map`.
        predicted: mean intensity of the model (counts).
        caution: how much of the map's standard deviation is added; 0 trusts the map where nothing
            was measured, 1 explores.
    """
    spread = jnp.sqrt(jnp.maximum(spectrum.var, 0.0))
    return (jnp.abs(spectrum.mean - predicted) + caution * spread) / jnp.sqrt(predicted)


@jax.jit
def predict(theta: Float[Array, "M d"], rows: Rows) -> Float[Array, "M C"]:
    """Intensities of all particles at all candidates."""
    return jax.vmap(rates, (0, None))(theta, rows)


class _Request(NamedTuple):
    """Points to be chosen: their number is a matter of shape, which of them are set is not."""

    forced: Int[Array, " b"]  # -1: choose
    start: Float[Array, " 3"]
    spectrum: Bool[Array, ""]  # the rule


@jax.jit
def _greedy(theta, predicted, points, free, request, travel):
    n, M = theta.shape[1] - 2, theta.shape[0]
    noise = predicted.mean(axis=0)
    asked = jnp.where(free[None], theta[:, :n], 0.0)
    J, I = asked - asked.mean(axis=0, keepdims=True), predicted - noise[None]  # noqa: E741

    # The ensemble's covariance after each choice, as `kalman_downdate` would make it, without a
    # pass through all particles and candidates: one row for each point, as in the map.
    def choose(carry, place):
        cross, variance, rows, near = carry
        number, forced = place
        gain = (cross**2).sum(axis=0) / (variance + noise)
        gain = jnp.where(request.spectrum, 0.5 * jnp.log1p(variance / noise), gain)
        best = jnp.argmax(gain / near)
        index = jnp.where(forced < 0, best, forced)
        row = I[:, index] @ I / M - rows[:, index] @ rows
        total = variance[index] + noise[index]
        cross = cross - jnp.outer(cross[:, index], row) / total
        rows = rows.at[number].set(row / jnp.sqrt(total))
        near = jnp.minimum(near, travel.minutes(points[index], points))
        return (cross, variance - row**2 / total, rows, near), index

    b = len(request.forced)
    near = travel.minutes(request.start, points)
    start = J.T @ I / M, (I**2).mean(axis=0), jnp.zeros((b, len(noise))), near
    return jax.lax.scan(choose, start, (jnp.arange(b), request.forced))[1]


def select(
    theta: Float[Array, "M d"],
    rows: Rows,
    batch: int,
    *,
    rule: Rule = "couplings",
    predicted: Float[Array, "M C"] | None = None,
    free: Bool[Array, " n"] | None = None,
    forced: tuple[int, ...] = (),
    travel: Travel | None = None,
    start: Float[Array, " 3"] | None = None,
) -> Int[Array, " b"]:
    """The next points to measure: each promises the largest drop of the couplings' variances.

    For a candidate with the intensities I_m of the particles the expected drop of the sum of
    variances is sum_j cov(J_j, I)^2 / (var(I) + mean(I)), the gain of a Kalman filter with Poisson
    noise. After each choice the covariance is that of the downdated ensemble
    (:func:`.kalman_downdate`), so that the next point of the batch does not ask
    the same question again.

    Args:
        theta: particles, of equal weight.
        rows: the candidates.
        batch: how many points.
        rule: "couplings" is the gain above; "spectrum" is that of information about anything,
            ln(1 + var(I) / mean(I)) / 2, a control that asks where the model is least certain.
        predicted: intensities of the particles, if at hand.
        free: which couplings count; by default all.
        forced: points that have to be in the batch, for the adversary; first unless there is
            `travel`.
        travel: if given, the drop per minute counts, from the nearest of `start` and the points
            chosen before, and the batch is put into the order that takes least time.
        start: where the spectrometer stands (h, k, E); by default at the first candidate.

    Raises:
        ValueError: if the batch is not positive or larger than the number of candidates; if more
            points are forced than it has, or one is not a candidate; if theta is not finite; if
            there is no such rule; if a time of travel is negative or not finite, or that of
            counting not positive.
    """
    C = rows.points.shape[0]
    if not 1 <= batch <= C:
        raise ValueError(f"batch must be between 1 and the {C} candidates, got {batch}")
    if len(forced) > batch:
        raise ValueError(f"forced must be at most {batch} points, got {len(forced)}")
    check_index(np.asarray(forced, int), C)
    finite("theta", theta)
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {get_args(Rule)}, got {rule!r}")
    predicted = predict(theta, rows) if predicted is None else predicted
    free = jnp.ones(theta.shape[1] - 2, bool) if free is None else free
    request = _Request(
        jnp.asarray((*forced, *[-1] * (batch - len(forced)))),
        rows.points[0] if start is None else start,
        jnp.asarray(rule == "spectrum"),
    )
    pace = Travel() if travel is None else travel
    if not (np.isfinite(pace).all() and pace.counting > 0 and min(pace) >= 0):
        raise ValueError(f"travel must be positive for counting, at least 0 for moves, got {pace}")
    chosen = _greedy(theta, predicted, rows.points, free, request, pace)
    if travel is None:
        return chosen
    order = travel.order(np.asarray(request.start), np.asarray(rows.points[chosen]))
    return chosen[jnp.asarray(order)]
