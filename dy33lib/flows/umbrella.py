"""Solid and liquid joined directly, through all states between: no oscillators, no ideal gas.

The order of the crystal is Q, from about 0 in the liquid to about 1 in the crystal. Springs hold
replicas at values of Q between; they exchange their configurations (Sugita et al. 2000), and
`mbar` takes the springs out again. What is left is the density of Q at constant pressure, and the
two phases are its two peaks. This uses none of the formulas of `absolute`.

Q is the mean over four directions, and a twin, the same crystal mirrored in one of its close-packed
planes, has the full order along one of them and none along the others. It fits into the box as well
and has the Q of a half-frozen liquid: runs between the phases end in it. A penalty on unequal
directions makes twins rare. They are not counted, and what the penalty does to all others is taken
out exactly.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dy33lib.flows.estimators import Difference, log_sum, mbar
from dy33lib.flows.exact import check_state
from dy33lib.particles import Configs, lj_forces, simulate


def _waves(cells: tuple[int, int, int]) -> np.ndarray:
    """Four of the shortest reciprocal vectors of the fcc crystal, over 2 pi / L; 4 x 3."""
    signs = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    return signs * np.array(cells)


def directions(s: Float[Array, "3 N B"], cells: tuple[int, int, int]) -> Float[Array, "4 B"]:
    """abs(rho_k)^2 over N^2, along each of four reciprocal vectors k.

    Args:
        s: positions over the edges.
        cells: number of cubic cells along each edge, of the crystal that is asked for.
    """
    phase = 2 * jnp.pi * jnp.einsum("kd,dnb->knb", jnp.asarray(_waves(cells), s.dtype), s)
    C, S = jnp.sum(jnp.cos(phase), axis=1), jnp.sum(jnp.sin(phase), axis=1)
    return (C * C + S * S) / s.shape[1] ** 2


def order(s: Float[Array, "3 N B"], cells: tuple[int, int, int]) -> Float[Array, " B"]:
    """Q = the root of the mean of abs(rho_k)^2 over N^2, over four reciprocal vectors k.

    Args:
        s: positions over the edges.
        cells: number of cubic cells along each edge, of the crystal that is asked for.
    """
    return jnp.sqrt(jnp.mean(directions(s, cells), axis=0))


class Held(eqx.Module):
    """A potential with a spring on the order, and a penalty on unequal directions.

    U + T stiffness / 2 (Q - centre)^2 + T even / 2 times the sum of (a_k - their mean)^2, with a_k
    from :func:`directions`.

    Attributes:
        centre: of the spring, for each replica.
        T: temperature.
        stiffness: of the spring, over k_B T.
        cells: see :func:`order`.
        potential: energies, forces, virials by s and L.
        even: strength of the penalty, over k_B T.
    """

    centre: Float[Array, " B"]
    T: float = eqx.field(static=True)
    stiffness: float = eqx.field(static=True)
    cells: tuple[int, int, int] = eqx.field(static=True)
    potential: Callable = eqx.field(static=True)
    even: float = eqx.field(static=True, default=0.0)

    def __call__(self, s, L):
        """Energies, forces and virials, those of spring and penalty included."""
        U, F, W = self.potential(s, L)
        waves = 2 * jnp.pi * jnp.asarray(_waves(self.cells), s.dtype)
        phase = jnp.einsum("kd,dnb->knb", waves, s)
        c, d = jnp.cos(phase), jnp.sin(phase)
        C, S, N = jnp.sum(c, axis=1), jnp.sum(d, axis=1), s.shape[1]
        a = (C * C + S * S) / N**2
        apart, Q = a - jnp.mean(a, axis=0)[None], jnp.sqrt(jnp.mean(a, axis=0))
        stretch = Q - self.centre
        held = 0.5 * self.stiffness * stretch**2 + 0.5 * self.even * jnp.sum(apart**2, axis=0)
        by_a = (self.stiffness * stretch / (2 * len(waves) * Q))[None] + self.even * apart
        by_phase = (2 / N**2 * by_a)[:, None] * (S[:, None] * c - C[:, None] * d)
        push = -self.T * jnp.einsum("kd,knb->dnb", waves, by_phase)
        return U + self.T * held, F + push / L[:, None], W

    def seen(self, s, L, *_):
        """Order, volume, and the penalty over k_B T."""
        a = directions(s, self.cells)
        mean = jnp.mean(a, axis=0)
        penalty = 0.5 * self.even * jnp.sum((a - mean[None]) ** 2, axis=0)
        return jnp.sqrt(mean), jnp.prod(L, axis=0), penalty

    def exchange(self, s, L, key):
        """Neighbours in the row of centres swap configurations as Metropolis has it."""
        k1, k2 = jax.random.split(key)
        Q, B = order(s, self.cells), self.centre.shape[0]
        odd = jax.random.bernoulli(k1).astype(int)
        me = jnp.arange(B)
        partner = jnp.where((me + odd) % 2 == 0, me + 1, me - 1)
        partner = jnp.where((partner < 0) | (partner >= B), me, partner)
        x = self.centre
        gain = -self.stiffness * (x - x[partner]) * (Q - Q[partner])  # of both, over k_B T
        u = jnp.log(jax.random.uniform(k2, (B,), s.dtype))
        # A pair shares the number of its lower member. Rows of centres lie end to end: at their
        # ends the centres jump, and a swap there is as right as any, and will not happen.
        take = u[jnp.minimum(me, partner)] < gain
        return jnp.where(take, partner, me)


class Crossing(NamedTuple):
    """A run between the phases; frames x centres x rows.

    Attributes:
        Q: orders.
        V: volumes.
        walker: which configuration, by its place at the start, is at a centre.
        centres: of the springs.
        last: the configurations at the end, to go on from.
        accepted: part of the exchanges between neighbours that were accepted.
        evaluations: of forces, of all replicas together.
        penalty: on unequal directions, over k_B T; None for none.
    """

    Q: Float[np.ndarray, "F W R"]
    V: Float[np.ndarray, "F W R"]
    walker: np.ndarray
    centres: Float[np.ndarray, " W"]
    last: Configs
    accepted: float
    evaluations: int
    penalty: Float[np.ndarray, "F W R"] | None = None


def cross(
    start: Configs, T: float, P: float, cells: tuple[int, int, int], *, centres=None,
    stiffness: float = 3000.0, even: float = 100.0, frames: int = 2000, every: int = 3,
    warmup: int = 400, leaps: int = 8, potential: Callable = lj_forces, key: Array,
) -> Crossing:  # fmt: skip
    """Sample between liquid and crystal at constant pressure, with exchanges along the row.

    Args:
        start: a configuration for each centre and row, rows one after the other: the replicas of a
            row are in the order of its centres.
        T: temperature.
        P: pressure.
        cells: see :func:`order`.
        centres: of the springs; 26 from 0.10 to 0.85 unless given.
        stiffness: of the springs, over k_B T.
        even: strength of the penalty on unequal directions, see :class:`Held`.
        frames: how often to exchange and look.
        every: sweeps between.
        warmup: sweeps before.
        leaps: steps of a trajectory.
        potential: energies, forces, virials by s and L.
        key: for the random numbers.

    Raises:
        ValueError: as in :func:`~dy33lib.particles.simulate`; if replicas are not in rows, the
            stiffness is not positive, or the penalty negative.
    """
    check_state(T, P)
    if not 0 < stiffness < np.inf:
        raise ValueError(f"stiffness must be positive and finite, got {stiffness}")
    if not 0 <= even < np.inf:
        raise ValueError(f"even must be at least 0 and finite, got {even}")
    row = np.linspace(0.10, 0.85, 26) if centres is None else np.asarray(centres, float)
    B, W = start.L.shape[1], len(row)
    if B % W:
        raise ValueError(f"start must have rows of {W} replicas, got {B}")
    kind = start.s.dtype
    centre = jnp.asarray(np.tile(row, B // W), kind)
    held = Held(centre, T, stiffness, cells, potential, even)
    run = simulate(
        start, jnp.full(B, T, kind), jnp.full(B, P, kind), frames, every=every, warmup=warmup,
        leaps=leaps, potential=held, observe=held.seen, exchange=held.exchange, key=key,
    )  # fmt: skip
    origin = np.asarray(run.origin)
    walker, here = np.empty_like(origin), np.arange(B)
    for frame, come in enumerate(origin):
        here = here[come]
        walker[frame] = here
    Q, V, penalty = (
        np.asarray(v, float).reshape(frames, B // W, W).swapaxes(1, 2) for v in run.seen
    )
    swaps = 2 * np.mean(origin[:, :-1] == np.arange(1, B)) * (B - 1) / (B - B // W)
    walker = walker.reshape(frames, B // W, W).swapaxes(1, 2)
    return Crossing(Q, V, walker, row, run.last, float(swaps), run.evaluations * B, penalty)


def continued(parts: Sequence[Crossing]) -> Crossing:
    """One run made of parts, each of which began where the one before had ended.

    Args:
        parts: in their order.
    """
    _, W, R = parts[0].walker.shape
    walkers, here = [], np.arange(W * R)
    for part in parts:
        flat = here[part.walker.swapaxes(1, 2).reshape(-1, W * R)]
        walkers.append(flat.reshape(-1, R, W).swapaxes(1, 2))
        here = flat[-1]
    return Crossing(
        np.concatenate([p.Q for p in parts]), np.concatenate([p.V for p in parts]),
        np.concatenate(walkers), parts[0].centres, parts[-1].last,
        float(np.mean([p.accepted for p in parts])), sum(p.evaluations for p in parts),
        np.concatenate([np.zeros_like(p.Q) if p.penalty is None else p.penalty for p in parts]),
    )  # fmt: skip


def passages(run: Crossing) -> int:
    """How often a configuration went from one end of its row to the other."""
    count, W = 0, len(run.centres)
    for r in range(run.walker.shape[2]):
        last: dict[int, int] = {}
        for frame in run.walker[:, :, r]:
            for end in (0, W - 1):
                walker = int(frame[end])
                count += last.get(walker, end) != end
                last[walker] = end
    return count


class Orders(NamedTuple):
    """Histograms of the order, all that the free energies need of a run.

    Attributes:
        counts: bins x centres x rows.
        middles: of the bins.
        centres: of the springs.
        stiffness: of the springs, over k_B T.
        lift: sums of exp(penalty) over what is in each bin, twins left out, bins x rows; None
            without a penalty.
    """

    counts: Int[np.ndarray, "bins W R"]
    middles: Float[np.ndarray, " bins"]
    centres: Float[np.ndarray, " W"]
    stiffness: float
    lift: Float[np.ndarray, "bins R"] | None = None


def orders(run: Crossing, stiffness: float = 3000.0, bins: int = 500, twin: float = 5.0) -> Orders:
    """Histograms of the orders from 0 to 1.

    With a penalty, twins can be told from the rest: those are below 3 k_B T, or 4, if its strength
    is 100, and twins about 13.

    Args:
        run: from :func:`cross` or :func:`continued`.
        stiffness: of the springs, over k_B T.
        bins: between 0 and 1; springs should not change much over one.
        twin: penalty, over k_B T, from which on a configuration is a twin and does not count.

    Raises:
        ValueError: if `twin` is not positive.
    """
    if not twin > 0:
        raise ValueError(f"twin must be positive, got {twin}")
    place = np.minimum((run.Q * bins).astype(int), bins - 1)
    _, W, R = run.Q.shape
    counts = [[np.bincount(place[:, w, r], minlength=bins) for r in range(R)] for w in range(W)]
    middles = (np.arange(bins) + 0.5) / bins
    lift = None
    if run.penalty is not None:
        lift = np.zeros((bins, R))
        rows = np.broadcast_to(np.arange(R), place.shape)
        weight = np.exp(np.minimum(run.penalty, twin))
        np.add.at(lift, (place, rows), np.where(run.penalty < twin, weight, 0.0))
    return Orders(np.moveaxis(np.array(counts), -1, 0), middles, run.centres, stiffness, lift)


def profile(seen: Orders, rows=None) -> Float[np.ndarray, " bins"]:
    """Minus the logarithm of the probability of each bin without springs; inf if never seen.

    At a given Q the springs are the same for all, so the penalty is taken out bin by bin, by the
    mean of exp(penalty), which is 0 for twins: the probability is that among all but twins.

    Args:
        seen: histograms.
        rows: which to take; all unless given.
    """
    counts = seen.counts if rows is None else seen.counts[:, :, rows]
    by_centre = counts.sum(axis=2)
    times = by_centre.sum(axis=1)
    hit = times > 0
    springs = 0.5 * seen.stiffness * (seen.middles[hit] - seen.centres[:, None]) ** 2
    # The last state, without a spring, was not sampled.
    table = np.concatenate([springs, np.zeros_like(springs[:1])])
    found = mbar(table, np.append(by_centre.sum(axis=0), 0), times=times[hit])
    free = np.full(len(times), np.inf)
    free[hit] = -found.log_weights[-1]
    if seen.lift is not None:
        lift = seen.lift if rows is None else seen.lift[:, rows]
        with np.errstate(divide="ignore"):  # a bin of twins alone
            free[hit] -= np.log(lift.sum(axis=1)[hit] / times[hit])
        free[hit] += log_sum(-free[hit])
    return free


def crossing_gap(seen: Orders) -> Difference:
    """Free energy of the crystal less that of the liquid, over k_B T, at the state of the run.

    The phases are divided at the top of the barrier, where hardly anything is. Rows are independent
    but for their beginnings, and leaving out one at a time gives the error.

    Args:
        seen: histograms of two or more rows.

    Raises:
        ValueError: if there are fewer than two rows.
    """
    R = seen.counts.shape[2]
    if R < 2:
        raise ValueError(f"seen must have two rows or more, got {R}")
    free = profile(seen)
    inner = np.isfinite(free) & (seen.middles > 0.2) & (seen.middles < 0.7)
    top = seen.middles[inner][np.argmax(free[inner])]

    def gap(rows) -> float:
        free = profile(seen, rows)
        return float(log_sum(-free[seen.middles < top]) - log_sum(-free[seen.middles >= top]))

    without = np.array([gap(np.delete(np.arange(R), r)) for r in range(R)])
    error = np.sqrt((R - 1) / R * np.sum((without - without.mean()) ** 2))
    return Difference(gap(None), float(error), float("nan"))
