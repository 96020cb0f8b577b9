"""From liquid to crystal: springs against autodiff, exchanges and profiles against their laws."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import flows
from dy33lib.flows.umbrella import (
    Crossing,
    Held,
    Orders,
    continued,
    cross,
    crossing_gap,
    directions,
    order,
    orders,
    passages,
    profile,
)
from dy33lib.particles import Configs, fcc, lj_energy, lj_forces

KEY = jax.random.key(0)


def nothing(s, L):
    """No potential."""
    return jnp.zeros(s.shape[2], s.dtype), jnp.zeros_like(s), jnp.zeros_like(L)


# The order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [(3, 3, 3), (3, 4, 5)])
def test_the_order_of_the_crystal_is_one(cells):
    s = fcc(cells, 1.0).s[..., None]
    np.testing.assert_allclose(order(s, cells), 1.0, rtol=1e-12)
    shift = jnp.array([0.123, -4.56, 0.789])[:, None, None]
    np.testing.assert_allclose(order(s + shift, cells), 1.0, rtol=1e-12)
    assert float(order(s, (cells[0], cells[1], cells[2] + 1))[0]) < 1e-12  # of another crystal


def test_thermal_displacements_take_away_a_factor_of_debye_and_waller():
    """Gaussian displacements: the mean of Q^2 is 1/N + (1 - 1/N) exp(-k^2 sd^2)."""
    s = fcc((3, 3, 3), 1.0).s[..., None] + 0.02 * jax.random.normal(KEY, (3, 108, 400))
    Q2 = np.asarray(order(s, (3, 3, 3))) ** 2
    expected = 1 / 108 + (1 - 1 / 108) * np.exp(-27 * (2 * np.pi * 0.02) ** 2)
    assert abs(Q2.mean() - expected) < 4 * Q2.std() / np.sqrt(400)


def test_the_order_of_a_gas_goes_as_one_over_the_root():
    """The mean of Q^2 is 1/N, and no translation or permutation changes Q."""
    for N in (4, 32):
        s = jax.random.uniform(KEY, (3, N, 2000))
        Q = order(s, (3, 3, 3))
        Q2 = N * np.asarray(Q) ** 2
        assert abs(Q2.mean() - 1) < 4 * Q2.std() / np.sqrt(2000)
        moved = s[:, ::-1] + jnp.array([0.3, -1.7, 0.9])[:, None, None]
        np.testing.assert_allclose(order(moved, (3, 3, 3)), Q, atol=1e-12)


def test_each_direction_of_a_gas_has_one_over_the_number():
    """N a_k has the mean 1 for each k, and Q^2 is the mean of the four."""
    s = jax.random.uniform(KEY, (3, 32, 2000))
    a = np.asarray(directions(s, (3, 4, 5)))
    assert a.shape == (4, 2000)
    assert (np.abs(32 * a.mean(axis=1) - 1) < 4 * 32 * a.std(axis=1) / np.sqrt(2000)).all()
    np.testing.assert_allclose(np.asarray(order(s, (3, 4, 5))) ** 2, a.mean(axis=0), rtol=1e-12)
    assert np.abs(np.corrcoef(a) - np.eye(4)).max() < 0.1  # four directions, not one of them twice


def test_springs_pull_along_the_slope_of_the_order():
    """Forces of the whole are what autodiff finds, in a box of three edges; the virial is U's.

    Displacements of 0.01 make the four directions unequal, by less than the penalty of 0.01 T that
    is asked for.
    """
    s = fcc((3, 3, 3), 1.0).s[..., None] + 0.01 * jax.random.normal(KEY, (3, 108, 2))
    L = jnp.array([4.8, 4.9, 5.0])[:, None] * jnp.ones((1, 2))
    centre, cells = jnp.array([0.3, 0.8]), (3, 3, 3)
    for potential, even in ((nothing, 0.0), (lj_forces, 0.0), (nothing, 100.0), (lj_forces, 1e4)):
        held = Held(centre, 1.3, 700.0, cells, potential, even)

        def extra(s, even=even):
            a = directions(s, cells)
            apart = jnp.sum((a - jnp.mean(a, axis=0)[None]) ** 2, axis=0)
            return 1.3 * (350.0 * (order(s, cells) - centre) ** 2 + even / 2 * apart)

        U, F, W = held(s, L)
        np.testing.assert_allclose(U, potential(s, L)[0] + extra(s), rtol=1e-12)
        push = jax.grad(lambda s, extra=extra: jnp.sum(extra(s)))(s)
        np.testing.assert_allclose(F, potential(s, L)[1] - push / L[:, None], rtol=1e-9, atol=1e-9)
        assert float(jnp.abs(push).max()) > 1
        np.testing.assert_array_equal(W, potential(s, L)[2])
        Q, V, penalty = held.seen(s, L, U, W)
        np.testing.assert_allclose(Q, order(s, cells))
        np.testing.assert_allclose(V, 4.8 * 4.9 * 5.0)
        springs = 350.0 * np.asarray(order(s, cells) - centre) ** 2
        np.testing.assert_allclose(penalty, extra(s) / 1.3 - springs, atol=1e-9)
        assert (np.asarray(penalty) > 1e-3).all() == (even > 0)


def test_a_twin_fits_into_the_box_and_has_one_direction_only():
    """The crystal mirrored in a close-packed plane: its energy, its volume, one direction of four.

    Q is 1/2, where a half-frozen liquid would be; a disordered crystal with that Q has none of the
    contrast that the penalty is made of, 37.5 times (1 - 0)^2.
    """
    cells = (3, 3, 3)
    s = np.asarray(fcc(cells, 1.0).s)
    np.testing.assert_allclose(directions(jnp.asarray(s)[..., None], cells), 1.0, rtol=1e-12)
    layer = np.round(6 * s.sum(axis=0)).astype(int) // 2  # along [111], a third of an edge apart
    hollow = np.array([1, 1, -2]) / 18  # from the places of a layer to those of the next
    twin = s + (layer % 3) * hollow[:, None]  # each layer where the one after the next would be
    L = jnp.full((3, 1), 4.75)
    a = np.asarray(directions(jnp.asarray(twin)[..., None], cells))[:, 0]
    np.testing.assert_allclose(a, [1, 0, 0, 0], atol=1e-12)
    energies = [lj_energy(jnp.asarray(x)[..., None], L)[0] for x in (s, twin)]
    np.testing.assert_allclose(*energies, rtol=1e-12)
    held = Held(jnp.array([0.5]), 1.0, 1.0, cells, nothing, 100.0)
    Q, _, penalty = held.seen(jnp.asarray(twin)[..., None], L)
    np.testing.assert_allclose([Q[0], penalty[0]], [0.5, 37.5], rtol=1e-9)
    rough = s + 0.04 * np.asarray(jax.random.normal(KEY, s.shape))
    Q, _, penalty = held.seen(jnp.asarray(rough)[..., None], L)
    assert 0.3 < float(Q[0]) < 0.7 and float(penalty[0]) < 4


# Exchanges ---------------------------------------------------------------------------------------


def ordered(Q):
    """Two particles for each order wanted: Q = abs(cos(pi x)) at a distance of x."""
    x = np.arccos(np.asarray(Q)) / np.pi
    s = np.zeros((3, 2, len(x)))
    s[0, 1] = x
    return jnp.asarray(s)


def test_exchanges_are_those_of_metropolis():
    """Two rows of three centres; how often each pair swaps, in 6000 tries, half of them its own.

    Frequencies scatter by 0.006; with the sign of the gain turned, they miss by 0.1 to 0.4, and
    where each replica has a random number of its own, swaps are not mutual.
    """
    centres, k = np.tile([0.2, 0.5, 0.8], 2), 20.0
    Q = np.array([0.35, 0.25, 0.75, 0.3, 0.9, 0.6])
    s, L = ordered(Q), jnp.full((3, 6), 5.0)
    np.testing.assert_allclose(order(s, (1, 1, 1)), Q, rtol=1e-12)
    held = Held(jnp.asarray(centres), 1.0, k, (1, 1, 1), nothing)
    keys = jax.random.split(KEY, 6000)
    origin = np.asarray(jax.jit(jax.vmap(lambda key: held.exchange(s, L, key)))(keys))
    me = np.arange(6)
    np.testing.assert_array_equal(np.take_along_axis(origin, origin, 1), np.tile(me, (6000, 1)))
    assert np.abs(origin - me).max() == 1
    swapped = origin[:, :-1] == me[1:]
    assert not (swapped[:, ::2].any(axis=1) & swapped[:, 1::2].any(axis=1)).any()  # one or other

    def energy(Q):
        return 0.5 * k * np.sum((Q - centres) ** 2)

    rates = []
    for i in range(5):
        other = Q.copy()
        other[[i, i + 1]] = Q[[i + 1, i]]
        rates.append(0.5 * min(1.0, np.exp(energy(Q) - energy(other))))
    assert np.ptp(rates) > 0.3
    assert np.abs(swapped.mean(axis=0) - rates).max() < 4 * np.sqrt(0.25 / 6000)


class Table(NamedTuple):
    """Where configurations go: origins of all frames, and the walkers that they make."""

    origin: np.ndarray
    walker: np.ndarray


def swaps(F, W, R, rng):
    """Neighbours within rows change places at random, and who is where after each frame."""
    here, origins, walkers = np.arange(W * R), [], []
    for _ in range(F):
        come = np.arange(W * R)
        for i in range(int(rng.integers(2)), W * R - 1, 2):
            if (i + 1) % W and rng.random() < 0.6:
                come[[i, i + 1]] = come[[i + 1, i]]
        here = here[come]
        origins.append(come)
        walkers.append(here.reshape(R, W).T)
    return Table(np.array(origins), np.array(walkers))


def crossing(walker):
    F, W, R = walker.shape
    zeros = np.zeros((F, W, R))
    last = Configs(jnp.zeros((3, 2, W * R)), jnp.ones((3, W * R)))
    return Crossing(zeros, zeros, walker, np.linspace(0.1, 0.8, W), last, 0.5, 10)


def test_parts_make_a_whole():
    """Walkers of the second and third part are counted from their beginning, and put together."""
    W, R = 4, 3
    whole = swaps(30, W, R, np.random.default_rng(0))
    parts = []
    for a, b in ((0, 7), (7, 8), (8, 30)):
        here, walkers = np.arange(W * R), []
        for come in whole.origin[a:b]:
            here = here[come]
            walkers.append(here.reshape(R, W).T)
        parts.append(crossing(np.array(walkers))._replace(Q=np.full((b - a, W, R), 0.1 * a)))
    parts[1] = parts[1]._replace(penalty=np.ones((1, W, R)))  # the others have none
    found = continued(parts)
    assert found.penalty is not None
    np.testing.assert_array_equal(found.penalty[:, 0, 0], np.repeat([0.0, 1.0, 0.0], [7, 1, 22]))
    np.testing.assert_array_equal(found.walker, whole.walker)
    assert (np.diff(found.walker[-1], axis=0) != 1).any()
    np.testing.assert_allclose(found.Q[:, 0, 0], np.repeat([0.0, 0.7, 0.8], [7, 1, 22]))
    assert found.evaluations == 30 and found.accepted == 0.5
    assert passages(found) == passages(crossing(whole.walker))


def test_passages_are_counted_from_end_to_end():
    rows = [
        [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0], [2, 0, 1], [2, 0, 1], [0, 2, 1]],
        [[5, 4, 3], [5, 3, 4], [3, 5, 4], [5, 3, 4], [5, 4, 3], [5, 4, 3], [5, 4, 3]],
    ]
    # In the first row 0 arrives on the right, 2 on the left, 1 on the right, each from the other
    # end; that 0 is back on the left is the fourth. In the second row 3 goes from right to left
    # and back; 4 reaches the right, but was never on the left, and 5 never leaves its side.
    walker = np.moveaxis(np.array(rows), 0, 2)
    assert passages(crossing(walker[:, :, :1])) == 4
    assert passages(crossing(walker[:, :, 1:])) == 2
    assert passages(crossing(walker)) == 6
    assert passages(crossing(walker[:2])) == 0


# Profiles ----------------------------------------------------------------------------------------


CENTRES, MIDDLES = np.linspace(0.10, 0.85, 26), (np.arange(500) + 0.5) / 500


def wells(tilt=4.0):
    """A free energy with wells at 0.15 and 0.75, and 10 between."""
    return 10 * (1 - ((MIDDLES - 0.45) / 0.3) ** 2) ** 2 + tilt * MIDDLES


def drawn(rng, times=200, R=4, stiffness=3000.0):
    counts = np.zeros((500, 26, R), int)
    for w, centre in enumerate(CENTRES):
        p = np.exp(-wells() - 0.5 * stiffness * (MIDDLES - centre) ** 2)
        counts[:, w] = rng.multinomial(times, p / p.sum(), size=R).T
    return Orders(counts, MIDDLES, CENTRES, stiffness)


def test_profiles_are_those_that_were_drawn_from():
    """Independent draws of 26 springs; the errors stated are those made, 12 times.

    From four rows the error itself is uncertain by 40 %. Springs of half the stiffness in the
    analysis shift the gap by several errors.
    """
    below = MIDDLES < 0.45
    exact = np.log(np.exp(-wells()[below]).sum() / np.exp(-wells()[~below]).sum())
    assert exact > 2
    found = [crossing_gap(drawn(np.random.default_rng(seed))) for seed in range(12)]
    values, errors = np.array([(f.value, f.error) for f in found]).T
    assert abs(values.mean() - exact) < 3 * values.std(ddof=1) / np.sqrt(12)
    assert 0.6 < values.std(ddof=1) / np.sqrt(np.mean(errors**2)) < 1.6
    assert 0.05 < errors.mean() < 0.3
    seen = drawn(np.random.default_rng(0), times=2000)
    free = profile(seen)
    assert np.isinf(free).any() and np.exp(-free).sum() == pytest.approx(1.0)
    often = seen.counts.sum(axis=(1, 2)) > 300
    expected = wells() + np.log(np.exp(-wells()).sum())
    assert often.sum() > 200 and np.abs(free - expected)[often].max() < 0.5
    one, other = profile(seen, [0, 1]), profile(seen._replace(counts=seen.counts[:, :, :2]))
    np.testing.assert_array_equal(one, other)
    assert np.abs(one[often] - free[often]).max() > 0.01


def test_a_penalty_is_taken_out_bin_by_bin():
    """Where the right well is penalised, the histogram alone is wrong by the penalty.

    Every bin has two kinds of configurations, half and half, of which one costs 3 x Q: what is
    seen less often has to count more. With 26 x 8 x 4,000 draws the gap scatters by 0.04 (7
    seeds); histograms alone are wrong by 0.36.
    """
    rng, R, times = np.random.default_rng(1), 8, 4000
    cost = np.stack([np.zeros(500), 3 * MIDDLES])
    Q, penalty = np.zeros((2, times, 26, R))
    for w, centre in enumerate(CENTRES):
        p = 0.5 * np.exp(-wells() - 1500 * (MIDDLES - centre) ** 2 - cost).reshape(-1)
        pick = rng.choice(1000, (times, R), p=p / p.sum())
        Q[:, w], penalty[:, w] = MIDDLES[pick % 500], cost.reshape(-1)[pick]
    none = crossing(np.zeros((times, 26, R), int))
    seen = orders(none._replace(Q=Q, penalty=penalty, centres=CENTRES))
    assert seen.lift is not None and seen.lift.shape == (500, R)
    below = MIDDLES < 0.45
    exact = np.log(np.exp(-wells()[below]).sum() / np.exp(-wells()[~below]).sum())
    found, blind = crossing_gap(seen), crossing_gap(seen._replace(lift=None))
    assert abs(found.value - exact) < min(0.1, 4 * found.error)
    assert blind.value > exact + 0.25
    free, often = profile(seen), seen.counts.sum(axis=(1, 2)) > 1000
    expected = wells() + np.log(np.exp(-wells()).sum())
    assert np.exp(-free).sum() == pytest.approx(1.0)
    assert often.sum() > 200 and np.abs(free - expected)[often].max() < 0.25
    twins = (np.abs(Q - 0.4) < 0.02) & (rng.random(Q.shape) < 0.5)  # not to be counted
    many = orders(none._replace(Q=Q, penalty=np.where(twins, 12.0, penalty), centres=CENTRES))
    assert abs(crossing_gap(many).value - exact) < min(0.1, 4 * found.error)
    twins = (Q > 0.7) & (rng.random(Q.shape) < 0.5)  # half of the right well: the rest is left
    many = orders(none._replace(Q=Q, penalty=np.where(twins, 12.0, penalty), centres=CENTRES))
    fewer = np.exp(-wells()[~below]) @ np.where(MIDDLES[~below] > 0.7, 0.5, 1.0)
    expected = np.log(np.exp(-wells()[below]).sum() / fewer)
    assert expected > exact + 0.5
    assert abs(crossing_gap(many).value - expected) < min(0.1, 4 * found.error)
    twins = (np.abs(Q - 0.4) < 0.02) & (rng.random(Q.shape) < 0.5)
    counted = orders(
        none._replace(Q=Q, penalty=np.where(twins, 12.0, penalty), centres=CENTRES), twin=20.0
    )
    assert abs(crossing_gap(counted).value - exact) > 0.4
    one = profile(seen, [0, 1])
    other = profile(seen._replace(counts=seen.counts[:, :, :2], lift=seen.lift[:, :2]))
    np.testing.assert_array_equal(one, other)


def test_orders_are_counted_in_their_bins():
    Q = np.array([[[0.0, 0.999], [1.0, 0.301]], [[0.1, 0.55], [0.0999, 0.309]]])
    run = crossing(np.zeros((2, 2, 2), int))._replace(Q=Q)
    seen = orders(run, 100.0, bins=10)
    assert seen.counts.shape == (10, 2, 2) and seen.stiffness == 100.0
    np.testing.assert_array_equal(seen.counts[:, 0, 0], np.bincount([0, 1], minlength=10))
    np.testing.assert_array_equal(seen.counts[:, 0, 1], np.bincount([9, 5], minlength=10))
    np.testing.assert_array_equal(seen.counts[:, 1, 0], np.bincount([9, 0], minlength=10))
    np.testing.assert_array_equal(seen.counts[:, 1, 1], np.bincount([3, 3], minlength=10))
    np.testing.assert_allclose(seen.middles, np.arange(0.05, 1, 0.1))
    assert orders(run).counts.shape == (500, 2, 2) and seen.lift is None
    penalty = np.log([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    lift = orders(run._replace(penalty=penalty), bins=10).lift
    assert lift is not None
    few = orders(run._replace(penalty=penalty), bins=10, twin=np.log(4.5)).lift
    assert few is not None
    np.testing.assert_allclose(few.sum(axis=0), [4.0, 6.0])
    for twin in (0.0, np.nan):
        with pytest.raises(ValueError, match=f"twin must be positive, got {twin}"):
            orders(run, twin=twin)
    np.testing.assert_allclose(lift[:, 0], [8.0, 5.0, *[0.0] * 7, 3.0])
    np.testing.assert_allclose(lift[:, 1], [0.0, 0.0, 0.0, 12.0, 0.0, 6.0, 0.0, 0.0, 0.0, 2.0])


# Runs --------------------------------------------------------------------------------------------


def test_a_gas_between_springs_has_the_orders_of_random_places():
    """Four particles without forces: the profile is that of positions drawn at random.

    Eight keys: within two standard errors, of 0.002, for both numbers.
    """
    W, R = 3, 8
    s = jax.random.uniform(KEY, (3, 4, W * R))
    run = cross(
        Configs(s, jnp.full((3, W * R), 25.0)), 1.0, 0.0003, (1, 1, 1), centres=[0.2, 0.5, 0.8],
        stiffness=40.0, even=4.0, frames=300, every=2, warmup=300, leaps=4, potential=nothing,
        key=KEY,
    )  # fmt: skip
    seen = orders(run, 40.0, bins=100)
    u = np.asarray(order(jax.random.uniform(KEY, (3, 4, 400_000)), (1, 1, 1)))
    tables = [profile(seen, np.delete(np.arange(R), r)) for r in range(R)]
    for law in (lambda Q: Q, lambda Q: Q > 0.7):
        exact = law((np.floor(u * 100) + 0.5) / 100).mean()
        each = np.array([np.exp(-free) @ law(seen.middles) for free in tables])
        error = np.sqrt((R - 1) / R * np.sum((each - each.mean()) ** 2))
        assert abs(np.exp(-profile(seen)) @ law(seen.middles) - exact) < 4 * error
        assert error < 0.006
    np.testing.assert_allclose(run.V.mean(), 5 / 0.0003, rtol=0.1)  # (N + 1) T / P
    assert 0.2 < run.accepted < 0.9 and passages(run) > 10


def test_a_short_run_between_the_phases():
    """Shapes, and that everything is in the order of centres and rows that it should be in."""
    W, R, cells = 4, 2, (3, 3, 3)
    box = fcc(cells, 1.0)
    start = Configs(
        jnp.repeat(box.s[..., None], W * R, axis=2).astype(jnp.float32),
        jnp.repeat(box.L[:, None], W * R, axis=1).astype(jnp.float32),
    )
    centres = np.linspace(0.74, 0.86, W)
    run = cross(start, 1.2, 6.1, cells, centres=centres, frames=8, every=2, warmup=60, key=KEY)
    assert run.Q.shape == run.V.shape == run.walker.shape == (8, W, R)
    assert run.penalty is not None and run.penalty.shape == (8, W, R)
    np.testing.assert_array_equal(
        np.sort(run.walker.reshape(8, -1)), np.tile(np.arange(W * R), (8, 1))
    )
    assert (run.walker != run.walker[:1]).any()
    assert (run.walker // W == np.arange(R)).all()  # nobody leaves its row
    Q = np.asarray(order(run.last.s, cells)).reshape(R, W).T
    np.testing.assert_allclose(run.Q[-1], Q, rtol=1e-6)
    V = np.prod(np.asarray(run.last.L, float), axis=0).reshape(R, W).T
    np.testing.assert_allclose(run.V[-1], V, rtol=1e-5)
    assert (np.diff(run.Q.mean(axis=(0, 2))) > 0).all()  # as their centres
    # springs yield to the slope of the free energy, by 0.03 at most, and eight frames scatter
    assert np.abs(run.Q.mean(axis=(0, 2)) - centres).max() < 0.05
    assert run.evaluations == 8 * (1 + (60 + 8 * 2) * 9 + 8)
    assert 0 < run.accepted < 1


def test_impossible_crossings_are_refused(unchecked):
    start = Configs(jnp.zeros((3, 4, 6)), jnp.full((3, 6), 5.0))
    for changes, T, P, message in (
        ({}, 1.0, 1.0, "start must have rows of 26 replicas, got 6"),
        ({"centres": [0.1, 0.2, 0.3, 0.4]}, 1.0, 1.0, "start must have rows of 4 replicas, got 6"),
        ({}, -1.0, 1.0, "T must be positive and finite, got -1"),
        ({}, 1.0, np.inf, "P must be positive and finite, got inf"),
        ({"centres": [0.1, 0.2], "frames": 0}, 1.0, 1.0, "frames must be at least 1, got 0"),
        ({"stiffness": 0.0}, 1.0, 1.0, "stiffness must be positive and finite, got 0"),
        ({"even": np.nan}, 1.0, 1.0, "even must be at least 0 and finite, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            cross(start, T, P, (1, 1, 1), key=KEY, **changes)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="seen must have two rows or more, got 1"):
        flows.crossing_gap(drawn(np.random.default_rng(0), R=1))
