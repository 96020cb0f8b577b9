"""Coexistence against lines that are known, histograms, and the study against the ideal gas."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import flows
from dy33lib.flows import diagram, study
from dy33lib.flows.estimators import Difference, jackknife
from dy33lib.particles import Configs, fcc, lj_energy, pair_forces

KEY = jax.random.key(0)

# Coexistence -------------------------------------------------------------------------------------


def line(T):
    return 6.4 + 13.6 * (T - 1.2) + 3.1 * (T - 1.2) ** 2


def test_coexistence_is_where_the_difference_vanishes():
    """The error of the pressure is that of the difference over its slope, here 4 T."""

    def gap(T, P):
        return Difference(float(np.sinh(4 * T * (P - line(T)))), 0.2 * T, float("nan"))

    T = [0.9, 1.2, 1.5]
    found = flows.coexistence(gap, T, lambda T: line(T) - 1, lambda T: line(T) + 0.7, width=1e-4)
    np.testing.assert_allclose(found.T, T)
    np.testing.assert_allclose(found.P, [line(x) for x in T], atol=1e-7)
    np.testing.assert_allclose(found.error, 0.05, rtol=1e-4)
    assert [g.error for g in found.gap] == [0.2 * x for x in T]
    assert max(abs(g.value) for g in found.gap) < 1e-6
    turned = flows.coexistence(
        lambda T, P: Difference(line(T) - P, 0.1, 1.0), T, lambda T: 0.1, lambda T: 20.0
    )
    np.testing.assert_allclose(turned.P, found.P, atol=1e-7)
    np.testing.assert_allclose(turned.error, 0.1, rtol=1e-6)  # positive, whatever the slope


class Phase(NamedTuple):
    """A phase with beta G = (E + a P - b P^2) / T - c ln T."""

    E: float
    a: float
    b: float
    c: float

    def G(self, T, P):
        return (self.E + self.a * P - self.b * P * P) / T - self.c * np.log(T)

    def means(self, T, P):
        """<V> = T dG/dP and <U> = - T^2 dG/dT - P <V>, both by hand."""
        V = self.a - 2 * self.b * P
        return self.E + self.a * P - self.b * P * P + self.c * T - P * V, V


SOLID, LIQUID = Phase(-700.0, 110.0, 0.4, 20.0), Phase(-760.0, 125.0, 0.9, 180.0)


def test_the_slope_is_clapeyrons():
    def gap(T, P):
        return Difference(SOLID.G(T, P) - LIQUID.G(T, P), 0.1, float("nan"))

    T, h = 1.1, 1e-4
    found = flows.coexistence(gap, [T - h, T, T + h], lambda T: 0.1, lambda T: 13.0)
    P = found.P[1]
    slope = flows.clapeyron(SOLID.means(T, P), LIQUID.means(T, P), T, P)
    assert slope == pytest.approx((found.P[2] - found.P[0]) / (2 * h), rel=1e-5)
    assert slope == pytest.approx(flows.clapeyron(LIQUID.means(T, P), SOLID.means(T, P), T, P))
    assert slope > 1


def test_weighted_means():
    rng = np.random.default_rng(0)
    log_w, U, V = rng.normal(size=50), rng.normal(size=50), rng.gamma(5, size=50)
    for shift in (0.0, -1e4):
        found = flows.means(log_w + shift, U, V)
        w = np.exp(log_w)
        assert found == pytest.approx((np.average(U, weights=w), np.average(V, weights=w)))


def test_virial_and_energy_of_a_power_law_fluctuate_as_one():
    """W = n/3 U for r^-n, whatever the volume does; noise in W takes R down to sd / root."""
    rng = np.random.default_rng(0)
    V = 100 + rng.normal(size=4000)
    U = 3 * rng.normal(size=4000) - 50 * (V - 100)
    R, gamma = flows.correlation(U, 4 * U + 7 * (V - 100) + 2, V)
    assert (R, gamma) == (pytest.approx(1.0), pytest.approx(4.0))
    R, gamma = flows.correlation(U, 4 * U + 9 * rng.normal(size=4000), V)
    assert R == pytest.approx(0.8, abs=0.02) and gamma == pytest.approx(4.0, abs=0.2)
    R, gamma = flows.correlation(U, -4 * U, V)
    assert (R, gamma) == (pytest.approx(-1.0), pytest.approx(-4.0))


def test_isomorphs_have_the_pressure_of_scaled_configurations():
    """P = (N T - dU / d ln V) / V, the slope by differences, where (T / T0) = (V0 / V)^gamma."""
    box = fcc((3, 3, 3), 1.0)
    s = box.s[..., None] + 0.01 * jax.random.normal(KEY, (3, 108, 5))
    configs = Configs(s, 4.8 * jnp.ones((3, 5)))
    P, shift = flows.isomorph(configs, 1.2, 5.5, 1.6)
    assert shift == pytest.approx(-np.log(1.6 / 1.2) / 5.5)
    L, h = configs.L * np.exp(shift / 3), 1e-5
    ends = [lj_energy(s, L * np.exp(x / 3)) for x in (-h, h)]
    slope = np.asarray(ends[1] - ends[0]) / (2 * h)
    V = np.prod(np.asarray(L), axis=0)
    assert P == pytest.approx(np.mean((108 * 1.6 - slope) / V), rel=1e-6)
    for T0, gamma, T, message in (
        (0.0, 5.5, 1.6, "T must be positive and finite"),
        (1.2, -5.5, 1.6, "gamma must be positive and finite, got -5.5"),
        (1.2, 5.5, np.inf, "T must be positive and finite"),
    ):
        with pytest.raises(ValueError, match=message):
            flows.isomorph(configs, T0, gamma, T)


def test_isomorphs_of_an_inverse_power_law_are_exact(monkeypatch):
    """r^-n, without a cut-off: R = 1, gamma = n/3, P as T^(1 + 1/gamma), U over T the same.

    All from configurations at several volumes, by forces of pairs and not by numbers at hand.
    """
    n = 9

    def soft(s, L):
        return pair_forces(s, L, lambda r2: (r2 ** (-n / 2), n * r2 ** (-n / 2 - 1)))

    monkeypatch.setattr(diagram, "_forces", soft)
    box = fcc((2, 2, 3), 1.0)
    s = box.s[..., None] + 0.02 * jax.random.normal(KEY, (3, 48, 40))
    edges = 3.6 * jnp.exp(0.02 * jax.random.normal(KEY, (1, 40))) * jnp.array([[1], [1], [1.5]])
    configs = Configs(s, edges)
    U, _, W = soft(s, edges)
    R, gamma = flows.correlation(U, jnp.mean(W, axis=0), jnp.prod(edges, axis=0))
    assert (R, gamma) == (pytest.approx(1.0, abs=1e-12), pytest.approx(n / 3, rel=1e-12))
    here, shift = flows.isomorph(configs, 1.2, gamma, 1.2)
    assert shift == 0.0
    V = np.prod(np.asarray(edges), axis=0)
    assert here == pytest.approx(np.mean((48 * 1.2 + n / 3 * np.asarray(U)) / V), rel=1e-12)
    for T in (0.8, 2.0):
        P, shift = flows.isomorph(configs, 1.2, gamma, T)
        assert P / here == pytest.approx((T / 1.2) ** (1 + 1 / gamma), rel=1e-12)
        there = soft(s, edges * np.exp(shift / 3))[0]
        np.testing.assert_allclose(there / T, U / 1.2, rtol=1e-12)


def test_impossible_lines_are_refused(unchecked):
    def gap(T, P):
        return Difference(P - 5.0, 0.1, 1.0)

    def none(T, P):
        return Difference(float("nan") if P > 5 else -1.0, 0.1, 1.0)

    for function, T, low, high, message in (
        (gap, 1.0, 6.0, 7.0, r"gap must change its sign between low = 6 and high = 7 at T = 1\.0"),
        (gap, 1.0, 7.0, 4.0, r"low must be below high, got 7\.0 and 4\.0 at T = 1\.0"),
        (gap, 1.0, 4.0, 4.0, r"low must be below high, got 4\.0 and 4\.0 at T = 1\.0"),
        (gap, 1.0, -4.0, 7.0, "P must be positive and finite"),
        (gap, -1.0, 4.0, 7.0, "T must be positive and finite, got -1"),
        (none, 1.0, 4.0, 7.0, r"gap must be finite, got \(-1\.0, nan\) at T = 1\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            flows.coexistence(function, [T], lambda T, x=low: x, lambda T, x=high: x)
    for first, T, P, message in (
        ((1.0, 2.0), 1.0, 1.0, "first and second must differ in volume"),
        ((1.0, 3.0), 0.0, 1.0, "T must be positive and finite, got 0"),
        ((1.0, 3.0), 1.0, np.nan, "P must be positive and finite, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            flows.clapeyron(first, (3.0, 2.0), T, P)


# Estimators: histograms, and replicas ------------------------------------------------------------


def histogram(seed=0):
    """Three harmonic wells on a grid of 60 places, and a fourth that is not sampled."""
    x, centres = np.linspace(-3, 5, 60), np.array([0.0, 1.0, 2.0, 1.5])
    u = 1.5 * (x - centres[:, None]) ** 2
    rng, counts = np.random.default_rng(seed), [300, 200, 250]
    p = np.exp(-u) / np.exp(-u).sum(axis=1, keepdims=True)
    seen = np.array([rng.multinomial(n, p[k]) for k, n in enumerate(counts)])
    return u, seen, [*counts, 0]


def test_histograms_are_columns_seen_many_times():
    u, seen, counts = histogram()
    times = seen.sum(axis=0)
    hit = np.flatnonzero(times)
    short = flows.mbar(u[:, hit], counts, times=times[hit])
    place = np.concatenate([np.repeat(np.arange(60), n) for n in seen])
    long = flows.mbar(u[:, place], counts)
    assert times.max() > 20
    np.testing.assert_allclose(short.f, long.f, atol=1e-9)
    np.testing.assert_allclose(short.covariance, long.covariance, atol=1e-9)
    for k in range(4):
        together = np.bincount(place, np.exp(long.log_weights[k]), 60)
        np.testing.assert_allclose(np.exp(short.log_weights[k]), together[hit], rtol=1e-8)
    new = 0.7 * (np.linspace(-3, 5, 60) - 0.6) ** 2
    assert short.at(new[hit]) == pytest.approx(long.at(new[place]), abs=1e-9)
    assert short.at(u[3, hit]) == pytest.approx(short.f[3], abs=1e-9)
    one = flows.mbar(u[:1, hit], [750], times=times[hit])  # a single state, all its own
    np.testing.assert_allclose(np.exp(one.log_weights[0]), times[hit] / 750, rtol=1e-12)


def test_the_beginning_does_not_matter():
    u, seen, counts = histogram(1)
    place = np.concatenate([np.repeat(np.arange(60), n) for n in seen])
    u = u + np.array([[0.0], [40.0], [-30.0], [10.0]])
    plain = flows.mbar(u[:, place], counts)
    for start in (plain.f, plain.f + 7.0, np.array([0.0, 30.0, -20.0, 0.0]), np.zeros(4)):
        again = flows.mbar(u[:, place], counts, start)
        np.testing.assert_allclose(again.f, plain.f, atol=1e-8)
        np.testing.assert_allclose(again.covariance, plain.covariance, atol=1e-8)


def test_errors_of_one_sided_estimates_come_from_leaving_out_replicas():
    log_w = np.random.default_rng(0).normal(size=(30, 12)) - 700.0

    def value(t):
        return -float(np.log(np.mean(np.exp(t + 700.0)))) + 700.0

    found = flows.lfep(log_w)
    assert found.value == pytest.approx(value(log_w), abs=1e-10)
    assert found.error == pytest.approx(jackknife(value, log_w), rel=1e-9)
    log_w[3, 5] = 100.0  # without this replica nothing is known
    assert not flows.lfep(log_w).error < 100


def test_impossible_histograms_are_refused(unchecked):
    u = np.zeros((2, 3))
    for times in ([1, 0, 1], [1, 1], [[1, 1, 1]], [1, -1, 2]):
        with pytest.raises(ValueError, match="times must be positive, one for each column of u_kn"):
            flows.mbar(u, [1, 1], times=times)
    with pytest.raises(ValueError, match="N_k must count the samples of each state of u_kn"):
        flows.mbar(u, [1, 2], times=[1, 1, 2])


# Configurations that ship ------------------------------------------------------------------------


def test_states_begin_with_the_reference_and_follow_the_guess():
    at = study.states()
    assert at.shape == (31, 2) and tuple(at[0]) == (study.T0, study.P0)
    assert len(np.unique(at[1:], axis=0)) == 30 and (at > 0).all()
    assert study.guess(1.2) == pytest.approx(6.4)
    one = study.states((1.1,), (0.5, 1.0))
    np.testing.assert_allclose(one[1:], [(1.1, study.guess(1.1) + dP) for dP in (0.5, 1.0)])
    T, P = study.draw_states(KEY, 4000)
    assert T.shape == P.shape == (4000,)
    away = np.asarray(P - study.guess(T))
    assert T.min() > 0.9 and T.max() < 1.6 and np.abs(away).max() < 2.001
    assert T.mean() == pytest.approx(1.25, abs=0.02) and abs(away.mean()) < 0.1
    assert T.min() < 0.91 and T.max() > 1.59 and away.min() < -1.98 and away.max() > 1.98


@pytest.mark.parametrize("B", [3, 7, 24])
def test_each_replica_is_tested_once(B):
    folds = [study.fold(B, seed) for seed in study.SEEDS]
    for train, test in folds:
        assert len(test) >= B // 3 and not set(train) & set(test)
        assert sorted([*train, *test]) == list(range(B))
    np.testing.assert_array_equal(np.sort(np.concatenate([t for _, t in folds])), np.arange(B))


def test_configurations_come_back_from_what_ships():
    """Within half a step of 1 / 65536, the corner of the box included, in their places."""
    rng = np.random.default_rng(0)
    s = rng.uniform(-2, 2, (4, 3, 5, 6))
    s[0, :, 0, 0] = 1 - 1e-7, -1e-7, 0.0  # rounds to the other side of the box
    L = np.repeat(rng.uniform(4.5, 5.0, (4, 1, 6)), 3, axis=1)
    packed = study.pack(s, L)
    assert packed.s.dtype == np.uint16 and packed.V.dtype == np.float32
    np.testing.assert_array_equal(packed.s[0, :, 0, 0], 0)
    for which in (None, np.array([1, 4])):
        found = study.unpack(packed, which)
        take = np.arange(6) if which is None else which
        assert found.s.dtype == jnp.float32 and found.s.shape == (3, 5, 4 * len(take))
        for frame in range(4):
            for k, b in enumerate(take):
                d = np.asarray(found.s[..., frame * len(take) + k], float) - s[frame, :, :, b]
                assert np.abs(d - np.round(d)).max() < 0.51 / 65536
                edges = np.asarray(found.L)[:, frame * len(take) + k]
                np.testing.assert_allclose(edges, L[frame, :, b], rtol=1e-6)


# Flows that ship ---------------------------------------------------------------------------------


class Swelling(eqx.Module):
    """Volumes by a factor, positions as they are."""

    factor: jax.Array

    def __call__(self, s, L, T, P):
        k = self.factor.astype(L.dtype)
        return s, L * jnp.cbrt(k), jnp.log(k) + jnp.zeros_like(T)


def sparse(F=3, B=7, N=6):
    """Boxes in which nobody meets, packed."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid([0.0, 0.5], [0.0, 0.5], [0.0, 0.5]), 0).reshape(3, 8)[:, :N]
    s = places[None, :, :, None] + 0.05 * rng.random((F, 3, N, B))
    L = np.repeat(rng.uniform(4.6, 5.0, (F, 1, B)), 3, axis=1)
    return study.pack(s, L)


def test_each_configuration_is_mapped_by_the_flow_that_has_not_seen_it():
    """Three flows that can be told by their volumes; replica b is left to flow b mod 3."""
    packed, at = sparse(), np.array([[1.2, 6.1], [1.0, 3.0]])
    made = [Swelling(jnp.array(factor)) for factor in (1.1, 1.2, 1.3)]
    found = study.pooled(made, packed, (1.2, 6.1), at)
    assert found.V.shape == (2, 21) and found.N == 6
    factor = np.tile([1.1, 1.2, 1.3, 1.1, 1.2, 1.3, 1.1], 3)
    configs = study.unpack(packed)
    V0 = np.prod(np.asarray(configs.L, float), axis=0)
    np.testing.assert_allclose(found.V, np.tile(V0 * factor, (2, 1)), rtol=1e-5)
    np.testing.assert_allclose(found.log_det, np.tile(np.log(factor), (2, 1)), rtol=1e-5)
    U0 = np.asarray(lj_energy(*configs), float)
    edges = configs.L * jnp.asarray(np.cbrt(factor), jnp.float32)[None]
    U = np.asarray(lj_energy(configs.s, edges), float)
    assert np.abs(U - U0).max() > 0.01
    np.testing.assert_allclose(found.U, np.tile(U, (2, 1)), atol=1e-4)
    plain = study.pooled(None, packed, (1.2, 6.1), at)
    np.testing.assert_allclose(plain.V, np.tile(V0, (2, 1)), rtol=1e-6)
    np.testing.assert_allclose(plain.U, np.tile(U0, (2, 1)), atol=1e-4)


def test_sweeps_have_the_weights_of_their_states():
    """By hand, from energies and volumes after a map that swells by a fifth."""
    packed, at, swell = sparse(), np.array([[1.2, 6.1], [1.0, 3.0]]), 1.2
    configs = study.unpack(packed)
    found = study.sweep(Swelling(jnp.array(swell)), configs, (1.2, 6.1), at)
    ln_w = study.log_weights_at(found, at)
    assert ln_w.shape == (2, 21) and found.N == 6
    V0, U0 = np.prod(np.asarray(configs.L, float), axis=0), np.asarray(lj_energy(*configs))
    U = np.asarray(lj_energy(configs.s, configs.L * np.float32(np.cbrt(swell))), float)
    before = (U0 + 6.1 * V0) / 1.2 - 6 * np.log(V0)
    for k, (T, P) in enumerate(at):
        after = (U + P * V0 * swell) / T - 6 * np.log(V0 * swell)
        np.testing.assert_allclose(ln_w[k], before - after + np.log(swell), atol=2e-3)


def test_flows_that_ship_are_those_that_were_trained():
    rng = np.random.default_rng(0)
    s, L = jnp.asarray(rng.random((3, 64, 4)), jnp.float32), jnp.full((3, 4), 4.7, jnp.float32)
    configs, start = Configs(s, L), (1.2, 6.1)
    made = flows.ConditionalFlow(configs, *start, terms=3, key=jax.random.key(5))
    leaves = jax.tree.leaves(eqx.filter(made, eqx.is_inexact_array))
    archive = {f"networks/test-3-0/{i}": np.asarray(x) for i, x in enumerate(leaves)}
    found = study.shipped(archive, "test-3-0", configs, start, 3)
    at = jnp.full(4, 1.4, jnp.float32), jnp.full(4, 9.0, jnp.float32)
    for ours, theirs in zip(found.condition(*at), made.condition(*at), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert float(found.middle) == float(made.middle) and found.shape == made.shape
    assert float(jnp.abs(found.condition(*at)).max()) > 1e-4
    with pytest.raises(ValueError, match="name must be that of a flow that ships, got 'nobody'"):
        study.shipped(archive, "nobody", configs, start, 3)


# The grid ----------------------------------------------------------------------------------------

N = 20


def archive(phase, F=12, B=6, seed=0):
    """The ideal gas at all states: no energy, and P V / T with N + 1 degrees."""
    rng, at = np.random.default_rng(seed), study.states()
    V = rng.gamma(N + 1, size=(F, len(at), B)) * (at[:, 0] / at[:, 1])[:, None]
    order = "low" if phase == "solid" else "high"
    stayed = np.full((len(at), B), 0.8 if phase == "solid" else 0.2)
    return {
        f"grid/{phase}/U": np.zeros_like(V), f"grid/{phase}/V": V, f"grid/{phase}/{order}": stayed,
        f"grid/{phase}/drop": np.full((len(at), B), 0.6),
    }  # fmt: skip


def exact(T, P):
    return flows.ideal_gas_gibbs(N, T, P) - flows.ideal_gas_gibbs(N, study.T0, study.P0)


def test_the_grid_of_the_ideal_gas():
    """Differences over stated errors, at three states and with ten seeds.

    With six replicas Student's law has 1.3; over sixty seeds it was 1.4, over tens of them 1.0 to
    1.6, and their means -0.7 to 0.3.
    """
    at, z = [(1.0, 4.0), (1.3, 8.5), (1.55, 9.0)], []
    for seed in range(10):
        found = study.grid(archive("liquid", F=6, seed=seed), "liquid")
        assert len(found.without) == 6 and (found.kept == 6).all()
        these = [found.at(T, P) for T, P in at]
        z.append([(d.value - exact(*x)) / d.error for d, x in zip(these, at, strict=True)])
        assert all(0.01 < d.error < 0.3 for d in these)
    assert abs(np.mean(z)) < 1.0 and 0.7 < np.std(z) < 2.0
    found = study.grid(archive("solid", F=40), "solid")
    assert found.at(study.T0, study.P0).value == pytest.approx(0.0, abs=1e-9)
    for T, P in at:
        U, V = found.means(T, P)
        assert U == 0.0 and V == pytest.approx((N + 1) * T / P, rel=0.01)


def test_who_freezes_falls():
    """Two replicas of a state fall by three deviations, one of them in the last fifth only.

    Fifths of eight independent frames scatter by 0.35, and the lowest of five lies at 0.4; that
    two of sixteen are odd moves the median and its deviation by 0.1 or so.
    """
    rng = np.random.default_rng(0)
    U = -600 + 13 * rng.normal(size=(40, 3, 16))
    U[32:, 1, 4] -= 39
    U[:, 1, 9] -= 39
    found = study.drop(U)
    assert found.shape == (3, 16)
    np.testing.assert_allclose(found[1, [4, 9]], 3.2, atol=0.8)
    found[1, [4, 9]] = 0.4
    assert found.max() < 1.2 and found.min() > -0.3 and found.mean() == pytest.approx(0.4, abs=0.1)
    with pytest.raises(ValueError, match="U must have a multiple of five frames, got 12"):
        study.drop(U[:12])
    with pytest.raises(ValueError, match="U must have energies that differ, in every state"):
        study.drop(np.zeros((5, 1, 2)))


@pytest.mark.parametrize("phase", ["solid", "liquid"])
def test_what_has_left_its_phase_is_left_out(phase):
    """Volumes of melted and frozen replicas are made useless: they would be seen."""
    data = archive(phase)
    left, V = (0.1 if phase == "solid" else 0.9), data[f"grid/{phase}/V"]
    order = data[f"grid/{phase}/{'low' if phase == 'solid' else 'high'}"]
    order[11, :3], order[30, 1:6] = left, left
    if phase == "solid":
        order[7, 2] = left
        data["grid/solid/drop"][8] = 3.0  # crystals may fall
    else:
        data["grid/liquid/drop"][7, 2] = 1.9  # frozen, but askew
    V[:, 7, 2], V[:, 11, :3], V[:, 30, 1:6] = 1e3, 1e3, 1e3
    found = study.grid(data, phase)
    kept = np.full(31, 6)
    kept[7] = 5
    np.testing.assert_array_equal(found.kept[[7, 30]], [5, 0])
    np.testing.assert_array_equal(np.delete(found.kept, [7, 11, 30]), 6)
    assert found.kept[11] == 0  # half of them, and who knows of the others
    assert found.all[2].max() < 1e3 and len(found.all[2]) == 12 * found.kept.sum()
    assert [len(v) for _, _, v in found.without] == [
        12 * (found.kept.sum() - 29 + (r == 2)) for r in range(6)
    ]
    for T, P in ((1.0, 4.0), (1.3, 8.5)):
        d = found.at(T, P)
        assert abs(d.value - exact(T, P)) < 4 * d.error < 0.8


def test_impossible_studies_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"phase must be one of \('solid', 'liquid'\), got 'gas'"):
        study.begin("gas", 2, key=KEY)
    with pytest.raises(ValueError, match="T must be positive and finite, got -1"):
        study.reference("solid", 2, 1, state=(-1.0, 1.0), key=KEY)
    configs = study.unpack(sparse())
    small, here = Configs(configs.s, 0.5 * configs.L), np.array([[1.0, 1.0]])
    for given, start, at, message in (
        (small, (1.2, 6.1), here, "L must exceed twice the cutoff"),
        (configs, (1.2, -6.1), here, "P must be positive and finite, got -6"),
        (configs, (1.2, 6.1), -here, "T must be positive and finite"),
    ):
        with pytest.raises(ValueError, match=message):
            study.sweep(None, given, start, at)
