"""Particles: the potential against loops and lattice sums, sampling against exact ensembles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import particles as pt

KEY = jax.random.key(0)


def gas(N, B, L, seed=0, kind=jnp.float64):
    """Particles at random, no two of them closer than 0.85."""
    rng = np.random.default_rng(seed)
    s = np.zeros((3, N, B))
    for b in range(B):
        for i in range(N):
            while True:
                trial = rng.random(3)
                d = trial[:, None] - s[:, :i, b]
                d = (d - np.round(d)) * np.asarray(L)[:, None]
                if (np.sum(d * d, axis=0) > 0.85**2).all():
                    break
            s[:, i, b] = trial
    return pt.Configs(
        jnp.asarray(s, kind), jnp.asarray(np.repeat(np.array(L)[:, None], B, axis=1), kind)
    )


def u(r, cutoff=2.2, onset=1.98):
    """The potential of a pair once more, in other words."""
    if r >= cutoff:
        return 0.0
    x = max(0.0, (r - onset) / (cutoff - onset))
    return 4 * (1 / r**12 - 1 / r**6) * (1 - x**3 * (10 - 15 * x + 6 * x * x))


def energy(s, L, *settings):
    """One box, one pair after the other."""
    total = 0.0
    for i in range(s.shape[1]):
        for j in range(i):
            d = (s[:, i] - s[:, j]) - np.round(s[:, i] - s[:, j])
            total += u(float(np.linalg.norm(d * L)), *settings)
    return total


@pytest.mark.parametrize("N", [2, 7, 12])
def test_energies_are_those_of_a_loop_over_pairs(N):
    """An odd and an even number of particles, edges of three lengths, positions outside the box."""
    box = gas(N, 3, (4.5, 4.8, 5.3), seed=N)
    s = box.s + jnp.asarray(np.random.default_rng(1).integers(-2, 3, box.s.shape), box.s.dtype)
    expected = [energy(np.asarray(box.s)[..., b], np.asarray(box.L)[:, b]) for b in range(3)]
    np.testing.assert_allclose(pt.lj_energy(s, box.L), expected, rtol=1e-11)
    expected = [
        energy(np.asarray(box.s)[..., b], np.asarray(box.L)[:, b], 2.0, 1.5) for b in (0, 1)
    ]
    found = pt.lj_energy(box.s[..., :2], box.L[:, :2], 2.0, 1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_forces_and_virials_are_slopes():
    box, h = gas(8, 2, (4.5, 4.7, 4.9)), 1e-6
    U, F, W = pt.lj_forces(*box)
    np.testing.assert_allclose(U, pt.lj_energy(*box), rtol=1e-13)
    np.testing.assert_allclose(jnp.sum(F, axis=1), 0.0, atol=1e-10)
    for i, a in ((0, 0), (5, 2)):
        ends = [pt.lj_energy(box.s.at[a, i].add(sign * h / box.L[a]), box.L) for sign in (1, -1)]
        np.testing.assert_allclose(F[a, i], -(ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-6)
    for a in range(3):
        ends = [pt.lj_energy(box.s, box.L.at[a].multiply(1 + sign * h)) for sign in (1, -1)]
        np.testing.assert_allclose(W[a], -(ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-5)


def test_the_gradient_is_made_of_forces_and_virials():
    box = gas(6, 2, (4.5, 4.7, 4.9))
    _, F, W = pt.lj_forces(*box)
    weights = jnp.array([1.0, -2.0])
    slopes = jax.grad(lambda s, L: weights @ pt.lj_energy(s, L), argnums=(0, 1))(*box)
    np.testing.assert_allclose(slopes[0], -weights[None, None] * F * box.L[:, None], rtol=1e-12)
    np.testing.assert_allclose(slopes[1], -weights[None] * W / box.L, rtol=1e-12)


def test_the_potential_is_smooth_and_ends():
    r = jnp.array([1.0, 2 ** (1 / 6), 1.98, 2.1, 2.2, 3.0])
    energies, push = pt.pair_potential(r * r)
    np.testing.assert_allclose(energies, [u(float(x)) for x in r], atol=1e-14)
    assert energies[0] == 0.0 and abs(energies[1] + 1) < 1e-14 and abs(push[1]) < 1e-12
    assert energies[4] == energies[5] == push[4] == push[5] == 0.0
    for end in (1.98, 2.2):  # third differences would grow like 1/h at a jump of u''
        x = end + 1e-4 * jnp.arange(-2.0, 3.0)
        second = jnp.diff(pt.pair_potential(x * x)[0], 2) / 1e-8
        assert float(jnp.ptp(second)) < 0.05


@pytest.mark.parametrize("density", [1.0, 108 / 107.09])
def test_the_crystal_has_its_lattice_sum(density):
    """Shells of the fcc lattice: 12, 6, 24, 12 neighbours at 1, 2, 3, 4 times half a^2."""
    cubic = pt.fcc((3, 3, 3), density)
    edge = (4 / density) ** (1 / 3)
    shells = zip((12, 6, 24, 12), (1, 2, 3, 4), strict=True)
    per_particle = sum(n * u(edge * np.sqrt(k / 2)) / 2 for n, k in shells)
    U, F, W = pt.lj_forces(cubic.s[..., None], cubic.L[:, None])
    assert cubic.s.shape == (3, 108) and float(U[0]) / 108 == pytest.approx(per_particle, rel=1e-12)
    assert float(jnp.prod(cubic.L)) == pytest.approx(108 / density)
    np.testing.assert_allclose(F, 0.0, atol=1e-9)
    np.testing.assert_allclose(W, float(W[0, 0]), rtol=1e-9)
    long = pt.fcc((3, 3, 5), density)
    assert long.s.shape == (3, 180)
    U = pt.lj_energy(long.s[..., None], long.L[:, None])
    assert float(U[0]) / 180 == pytest.approx(per_particle, rel=1e-12)


# Sampling ----------------------------------------------------------------------------------------


def nothing(s, L):
    """No potential."""
    return jnp.zeros(s.shape[2], s.dtype), jnp.zeros_like(s), jnp.zeros_like(L)


def test_the_ideal_gas_has_its_volumes():
    """P V / T is gamma distributed with N + 1 degrees; errors from 200 independent replicas."""
    N, B = 5, 200
    start = gas(N, 1, (4.5, 4.5, 4.5))
    start = pt.Configs(jnp.repeat(start.s, B, axis=2), jnp.repeat(start.L, B, axis=1))
    T, P = jnp.full(B, 1.3), jnp.full(B, 0.02)
    found = pt.sample_npt(
        start, T, P, 100, every=2, warmup=200, leaps=2, stretch=0.5, smallest=0.1,
        potential=nothing, key=KEY,
    )  # fmt: skip
    x = np.prod(np.asarray(found.L), axis=1) * 0.02 / 1.3
    for values, exact in ((x, N + 1), (x * x, (N + 1) * (N + 2)), (np.log(x), 1.7061176684318)):
        each = values.mean(axis=0)  # 1.706...: the digamma function at 6
        assert abs(each.mean() - exact) < 4 * each.std(ddof=1) / np.sqrt(B)
    assert (np.asarray(found.accepted[0]) == 1.0).all()
    assert found.evaluations == 1 + 400 * 3


def springs(s, L):
    """Each particle on a spring at the origin; not periodic."""
    r = s * L[:, None]
    return 0.5 * jnp.sum(r * r, axis=(0, 1)), -r, -jnp.sum(r * r, axis=1)


def test_springs_share_their_energy_with_long_steps_too():
    """3 N T / 2, however many trajectories are refused; the volume is kept as good as fixed."""
    N, B, T = 4, 400, 2.0
    start = pt.Configs(0.28 * jax.random.normal(KEY, (3, N, B)), jnp.full((3, B), 5.0))
    found = pt.sample_npt(
        start, jnp.full(B, T), jnp.ones(B), 100, every=3, warmup=0, leaps=3, step=1.1,
        stretch=1e-9, smallest=0.1, potential=springs, key=KEY,
    )  # fmt: skip
    assert 0.4 < float(found.accepted[0].mean()) < 0.9
    each = np.asarray(found.U)[10:].mean(axis=0)
    assert abs(each.mean() - 1.5 * N * T) < 4 * each.std(ddof=1) / np.sqrt(B)
    assert each.std(ddof=1) / np.sqrt(B) < 0.1


def test_a_pair_at_constant_pressure_is_right():
    """Two particles, T = 1.4, P = 0.028: their partition function is a quadrature."""
    r = (np.arange(400_000) + 0.5) * 2.2 / 400_000
    w = 4 * np.pi * r * r * (2.2 / 400_000)
    boltzmann = np.exp(-np.array(pt.pair_potential(jnp.asarray(r * r))[0]) / 1.4)
    excess = np.sum(w * (boltzmann - 1))
    inside = np.sum(w * boltzmann * np.array(pt.pair_potential(jnp.asarray(r * r))[0]))
    V = np.linspace(4.4**3, 1600.0, 200_001)
    p = V * (V + excess) * np.exp(-0.02 * V)
    volume, U = np.sum(V * p) / np.sum(p), np.sum(V * inside * np.exp(-0.02 * V)) / np.sum(p)
    B = 400
    start = gas(2, 1, (5.5, 5.5, 5.5))
    start = pt.Configs(jnp.repeat(start.s, B, axis=2), jnp.repeat(start.L, B, axis=1))
    T, P = jnp.full(B, 1.4), jnp.full(B, 0.028)
    with pytest.raises(ValueError, match=r"P drove a box to edges below smallest = 4\.4"):
        pt.sample_npt(
            start, T, P, 200, every=5, warmup=300, leaps=8, step=0.1, stretch=0.5, key=KEY
        )
    (_, L, energies, _), _, _, accepted, *_ = pt._run(  # with a wall, as in the quadrature
        start, T, P, jnp.full(B, 0.5), jnp.full(B, 0.8), pt.lj_forces, KEY,
        (300, 5, 300, 8, 4.4, pt.everything, None, False),
    )  # fmt: skip
    assert 0.6 < float(accepted[0].mean()) < 0.95  # else a wrong rule would not show
    for values, exact in ((np.prod(np.asarray(L), axis=1), volume), (np.asarray(energies), U)):
        each = values.mean(axis=0)
        assert abs(each.mean() - exact) < 4 * each.std(ddof=1) / np.sqrt(B)
        assert each.std(ddof=1) / np.sqrt(B) < 0.05 * abs(exact)


def test_the_crystal_obeys_the_virial_theorem():
    """The mean pressure of configurations is P; energies as they were sampled before."""
    B = 16
    cubic = pt.fcc((3, 3, 3), 108 / 107.1)
    start = pt.Configs(
        jnp.repeat(cubic.s[..., None], B, axis=2).astype(jnp.float32),
        jnp.repeat(cubic.L[:, None], B, axis=1).astype(jnp.float32),
    )
    T, P = jnp.full(B, 1.2), jnp.full(B, 6.1)
    found = pt.sample_npt(start, T, P, 40, every=3, warmup=150, key=KEY)
    V = np.prod(np.asarray(found.L, float), axis=1)
    pressure = (108 * 1.2 + np.asarray(found.W, float).mean(axis=1)) / V
    for values, exact in ((pressure, 6.1), (V, 107.089)):
        each = values.mean(axis=0)
        assert abs(each.mean() - exact) < 4 * each.std(ddof=1) / np.sqrt(B)
    assert 0.7 < float(found.accepted[0].mean()) < 0.9
    assert 0.4 < float(found.accepted[1].mean()) < 0.6
    assert found.s.shape == (40, 3, 108, B) and found.s.dtype == jnp.float32
    again = pt.lj_forces(found.s[-1], found.L[-1])
    np.testing.assert_allclose(found.U[-1], again[0], rtol=1e-5)
    np.testing.assert_allclose(found.W[-1], again[2], rtol=1e-3)


def test_impossible_boxes_are_refused(unchecked):
    box = gas(4, 2, (4.5, 4.6, 4.7))
    for s, L, message in (
        (box.s[:2], box.L, "s must be 3 x N x B, L 3 x B, got"),
        (box.s, box.L[:, :1], "s must be 3 x N x B, L 3 x B, got"),
        (box.s.at[0, 0, 0].set(jnp.nan), box.L, "s must be finite"),
        (box.s, -box.L, "L must be positive and finite"),
        (box.s, 0.9 * box.L, "L must exceed twice the cutoff 2.2, got 4.05"),
    ):
        with pytest.raises(ValueError, match=message):
            pt.lj_energy(s, L)
        with pytest.raises(ValueError, match=message):
            pt.lj_forces(s, L)
    for function in (pt.lj_energy, pt.lj_forces):
        with pytest.raises(ValueError, match="onset must lie between 0 and the cutoff"):
            function(*box, 2.0, 2.1)
    with pytest.raises(ValueError, match="cells must be three positive numbers"):
        pt.fcc((3, 0, 3), 1.0)
    with pytest.raises(ValueError, match="density must be positive and finite, got -1"):
        pt.fcc((3, 3, 3), -1.0)


def test_impossible_runs_are_refused(unchecked):
    box, one = gas(4, 2, (4.5, 4.6, 4.7)), jnp.ones(2)
    for T, P, changes, message in (
        (-one, one, {}, "T must be positive and finite"),
        (one, one.at[0].set(jnp.nan), {}, "P must be positive and finite"),
        (one[:1], one, {}, "T must be positive and finite for each replica"),
        (one, one, {"every": 0}, "every must be at least 1, got 0"),
        (one, one, {"leaps": 0}, "leaps must be at least 1, got 0"),
        (one, one, {"step": 0.0}, "step must be positive and finite, got 0.0"),
        (one, one, {"stretch": np.inf}, "stretch must be positive and finite, got inf"),
        (one, one, {"warmup": -1}, "warmup must not be negative, got -1"),
        (one, one, {"smallest": 4.5}, "L must exceed twice the cutoff 2.25, got 4.5"),
        (one, one, {"step": 0.5, "warmup": 0}, "step = 0.5 left a replica with 0"),
    ):
        settings: dict = {"every": 2, "warmup": 2, "smallest": 0.1} | changes
        with pytest.raises(ValueError, match=message):
            pt.sample_npt(box, T, P, 20, key=KEY, **settings)
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        pt.sample_npt(box, one, one, 0, key=KEY)
