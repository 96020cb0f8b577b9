"""Markov chains: Wang-Landau and multicanonical sampling by single sites, and by whole draws.

The references to measure the network against. A step proposes another colour for one site; it is
compiled, and takes some tens of nanoseconds. With many colours a random one is hardly ever that of
a neighbour, so a part of the proposals takes over a neighbour's colour (with the acceptance that
detailed balance asks for); without it the chain would be a straw man at q = 200.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Int

from dy33lib.multicanonical.potts import check_size

FLAT = 0.8  # a histogram is flat if no visited bin has less than this part of the mean
LOOK = 100  # steps a bin between two looks at the histogram


def _compiled(function: Callable) -> Callable:
    """By numba; without what run-time checks of annotations wrap around it."""
    return numba.njit(cache=True)(inspect.unwrap(function))


class WangLandau(NamedTuple):
    """An estimate by :func:`wang_landau`.

    Attributes:
        ln_g: for each energy from -2N to 0, such that all together are q^N; -inf: never visited.
        increment: of ln g in the last step.
        steps: number of steps until increments fell as 1/t; all of them if they never did.
    """

    ln_g: Float[np.ndarray, " E"]
    increment: float
    steps: int


class Muca(NamedTuple):
    """An estimate by :func:`muca`.

    Attributes:
        ln_g: for each energy from -2N to 0, such that all together are q^N; -inf: never visited.
        error: its standard error from blocks; nan: never visited, inf: by one block only.
        visits: number of steps spent at each energy.
        trips: number of round trips, see :func:`round_trips`.
        accepted: part of the steps that changed a colour.
    """

    ln_g: Float[np.ndarray, " E"]
    error: Float[np.ndarray, " E"]
    visits: Int[np.ndarray, " E"]
    trips: int
    accepted: float


@_compiled
def _propose(s, around, q, neighbour, rng):
    """A site, a new colour, the bonds won, and the ratio of the proposal's probabilities."""
    i = int(rng.random() * len(s))
    old = s[i]
    if rng.random() < neighbour:
        new = s[around[i, int(rng.random() * 4)]]
    else:
        new = int(rng.random() * q)
    has, gets = 0, 0
    for j in around[i]:
        has += s[j] == old
        gets += s[j] == new
    any_colour = 4 * (1 - neighbour) / q
    ratio = (any_colour + neighbour * has) / (any_colour + neighbour * gets)
    return i, new, gets - has, ratio


@_compiled
def _wang_landau(s, around, q, neighbour, rng, steps, flat, look):
    bins, satisfied = 2 * len(s) + 1, 0
    for i in range(len(s)):
        satisfied += (s[i] == s[around[i, 0]]) + (s[i] == s[around[i, 2]])
    ln_g, visits, seen = np.zeros(bins), np.zeros(bins, np.int64), np.zeros(bins, np.bool_)
    seen[satisfied] = True
    known, increment, late = 1, 1.0, steps
    for t in range(1, steps + 1):
        i, new, won, ratio = _propose(s, around, q, neighbour, rng)
        to = satisfied + won
        if not seen[to]:  # a new bin starts at its neighbour's value, or it would hold the chain
            seen[to] = True
            known += 1
            ln_g[to] = ln_g[satisfied]
        if rng.random() < ratio * np.exp(min(ln_g[satisfied] - ln_g[to], 700.0)):
            s[i] = new
            satisfied = to
        ln_g[satisfied] += increment
        if late < steps:
            increment = known / t
            continue
        visits[satisfied] += 1
        if t % (look * known) == 0:
            least, total = t, 0
            for b in range(bins):
                if seen[b]:
                    least = min(least, visits[b])
                    total += visits[b]
            if least * known >= flat * total:
                increment /= 2
                visits[:] = 0
            if increment <= known / t:
                late = t
    return ln_g, seen, increment, late


@_compiled
def _muca(s, satisfied, around, q, neighbour, rng, ln_w, steps, goal, high, low):
    """Visits, round trips, where the next one leads, bonds at the end, and accepted steps."""
    visits, trips, accepted = np.zeros(len(ln_w), np.int64), 0, 0
    for _ in range(steps):
        i, new, won, ratio = _propose(s, around, q, neighbour, rng)
        if rng.random() < ratio * np.exp(min(ln_w[satisfied + won] - ln_w[satisfied], 700.0)):
            accepted += new != s[i]
            s[i] = new
            satisfied += won
        visits[satisfied] += 1
        if goal == 0 and satisfied >= high:
            goal = 1
        elif goal == 1 and satisfied <= low:
            goal = 0
            trips += 1
    return visits, trips, goal, satisfied, accepted


def _neighbours(L: int) -> Int[np.ndarray, "N 4"]:
    site = np.arange(L * L).reshape(L, L)
    around = [np.roll(site, step, axis) for axis in (0, 1) for step in (1, -1)]
    return np.stack(around, axis=-1).reshape(L * L, 4)


def _normalised(ln_g: Float[np.ndarray, " E"], L: int, q: int) -> Float[np.ndarray, " E"]:
    return ln_g - np.logaddexp.reduce(ln_g) + L * L * np.log(q)


def _ends(L: int, q: int, ends: tuple[int, int] | None) -> tuple[int, int]:
    low, high = (-2 * L * L, -(2 * L * L // q)) if ends is None else ends
    if not -2 * L * L <= low < high <= 0:
        raise ValueError(f"ends must be two energies, the lower first, got {(low, high)}")
    return low, high


def _check(L: int, q: int, steps: int, neighbour: float) -> None:
    check_size(L, q)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0 <= neighbour < 1:
        raise ValueError(f"neighbour must be at least 0 and below 1, got {neighbour}")


def wang_landau(
    L: int, q: int, steps: int, *, neighbour: float = 0.5, rng: np.random.Generator
) -> WangLandau:
    """Estimate ln g(E) by Wang and Landau's random walk in energy.

    ln g of the present energy grows by an increment at each step, and moves are accepted with
    g(old)/g(new). The increment is halved when the histogram of visited bins is flat, and falls as
    (number of bins)/t once it is below that (Belardinelli and Pereyra 2007, Phys. Rev. E 75,
    046701), without which the error would stop to fall.

    Args:
        L: sites along an edge.
        q: number of colours.
        steps: each one a proposal for one site.
        neighbour: part of the proposals that take over a neighbour's colour.
        rng: for all of it.

    Raises:
        ValueError: if L is below 3, q below 2, there are no steps, or the part is not in [0, 1).
    """
    _check(L, q, steps, neighbour)
    s = rng.integers(q, size=L * L)
    ln_g, seen, increment, late = _wang_landau(
        s, _neighbours(L), q, float(neighbour), rng, steps, FLAT, LOOK
    )
    ln_g = _normalised(np.where(seen, ln_g, -np.inf)[::-1], L, q)
    return WangLandau(ln_g, float(increment), int(late))


def muca(
    ln_g: Float[np.ndarray, " E"], q: int, steps: int,
    *, neighbour: float = 0.5, blocks: int = 20, ends: tuple[int, int] | None = None,
    rng: np.random.Generator,
) -> Muca:  # fmt: skip
    """Estimate ln g(E) by a chain with the fixed weights 1/g(E) of an earlier estimate.

    Every energy is visited alike as far as the earlier estimate is right, and the histogram
    corrects it (Berg and Neuhaus 1992). Empty bins have no weight and are never entered.

    Args:
        ln_g: the earlier estimate.
        q: number of colours.
        steps: each one a proposal for one site; a tenth more come before, unrecorded.
        neighbour: part of the proposals that take over a neighbour's colour.
        blocks: number of parts of the run that the error comes from (jackknife).
        ends: of a round trip, see :func:`round_trips`.
        rng: for all of it.

    Raises:
        ValueError: if the number of entries belongs to no lattice of L >= 3; an entry is nan or
            +inf; the ground state, where the chain starts, is empty; or as in :func:`wang_landau`;
            or there are not at least two blocks, with steps in each.
    """
    L = round(np.sqrt((len(ln_g) - 1) / 2))
    if len(ln_g) != 2 * L * L + 1:
        raise ValueError(f"ln_g must have 2 L^2 + 1 entries, got {len(ln_g)}")
    _check(L, q, steps, neighbour)
    if np.isnan(ln_g).any() or (ln_g == np.inf).any() or not np.isfinite(ln_g[0]):
        raise ValueError("ln_g must be numbers or -inf, and finite for the ground state")
    if not 2 <= blocks <= steps:
        raise ValueError(f"blocks must be from 2 to the {steps} steps, got {blocks}")
    low, high = _ends(L, q, ends)
    ln_w, around = -np.asarray(ln_g, float)[::-1], _neighbours(L)
    ln_w[~np.isfinite(ln_w)] = -np.inf
    s, satisfied, goal, trips, accepted = np.full(L * L, rng.integers(q)), 2 * L * L, 1, 0, 0
    visits = np.zeros((blocks, 2 * L * L + 1), np.int64)
    for block in range(-1, blocks):
        part = steps // 10 if block < 0 else steps // blocks
        seen, again, goal, satisfied, moved = _muca(
            s, satisfied, around, q, float(neighbour), rng, ln_w, part, goal,
            -low, -high,
        )  # fmt: skip
        if block >= 0:
            visits[block], trips, accepted = seen[::-1], trips + again, accepted + moved
    total = visits.sum(axis=0)
    with np.errstate(divide="ignore"):  # of no visits
        counted = np.log(np.vstack([total, total - visits]))
    all_but = np.array([
        _normalised(np.where(np.isfinite(row), row + ln_g, -np.inf), L, q) for row in counted
    ])  # fmt: skip
    with np.errstate(invalid="ignore"):
        far = all_but[1:] - all_but[1:].mean(axis=0)
        error = np.sqrt((blocks - 1) / blocks * (far**2).sum(axis=0))
    error = np.where(total == 0, np.nan, np.where((visits > 0).sum(axis=0) == 1, np.inf, error))
    return Muca(all_but[0], error, total, int(trips), accepted / (blocks * (steps // blocks)))


def independence_chain(
    ln_w: Float[np.ndarray, " n"], rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Metropolis chain whose proposals are independent draws: the draw held at each step.

    The next draw is accepted with the ratio of the weights, target over probability of the draw
    (Nicoli et al. 2020). The target is the multicanonical one if ln_w = -ln p(s) - ln g(E).

    Args:
        ln_w: logarithms of the draws' weights.
        rng: to accept or not.

    Raises:
        ValueError: if there are no weights, or one is not finite.
    """
    if len(ln_w) == 0 or not np.isfinite(ln_w).all():
        raise ValueError(f"ln_w must be finite numbers, at least one, got {len(ln_w)}")
    chance, held, at = np.log(rng.random(len(ln_w))), 0, np.zeros(len(ln_w), int)
    for n in range(1, len(ln_w)):
        held = n if chance[n] < ln_w[n] - ln_w[held] else held
        at[n] = held
    return at


def round_trips(
    E: Float[np.ndarray, " n"], L: int, q: int, ends: tuple[int, int] | None = None
) -> int:
    """How often a chain went from one end to the other, with the way back in between.

    Args:
        E: energies along the chain.
        L: sites along an edge.
        q: number of colours.
        ends: the trip goes from energies at most the first to energies at least the second; from
            the ground state to -2N/q, the mean at infinite temperature, if left out.

    Raises:
        ValueError: if L is below 3, q below 2, or the ends are not in this order.
    """
    check_size(L, q)
    low, high = _ends(L, q, ends)
    below, above = np.less_equal(E, low), np.greater_equal(E, high)
    at = below[below | above]
    return int((at[:-1] & ~at[1:]).sum())
