"""The published coupling flow: splines against autodiff, the whole map against its Jacobian."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import flows
from dy33lib.flows.coupling import CouplingFlow, circular_spline
from dy33lib.flows.training import train
from dy33lib.particles import Configs

KEY = jax.random.key(0)
T0, P0 = 1.2, 0.02

# Splines -----------------------------------------------------------------------------------------


def spline(bins=5, size=2.0, seed=0, kind=jnp.float64):
    """Parameters of a spline whose slopes go over two decades."""
    return size * jax.random.normal(jax.random.key(seed), (3 * bins,), kind)


def at(parameters, x, inverse=False):
    everywhere = jnp.broadcast_to(parameters, (*x.shape, *parameters.shape))
    return circular_spline(x, everywhere, inverse)


@pytest.mark.parametrize("bins, seed", [(2, 0), (5, 1), (16, 2)])
def test_splines_rise_with_the_slope_that_autodiff_finds(bins, seed):
    parameters = spline(bins, seed=seed)
    x = jnp.linspace(0, 1, 2002)[1:-1]
    y, ln_slope = at(parameters, x)
    assert float(jnp.abs(y - x).max()) > 0.03 and float(jnp.ptp(ln_slope)) > 1
    assert (jnp.diff(y) > 0).all() and 0 < y[0] and y[-1] < 1
    slope = jax.vmap(jax.grad(lambda x: circular_spline(x, parameters)[0]))(x)
    np.testing.assert_allclose(ln_slope, jnp.log(slope), atol=1e-9)


def test_splines_are_those_of_a_circle():
    """Value and slope at both ends, and nowhere a jump: of slopes at the knots, too."""
    parameters = spline(size=0.7)
    y, ln_slope = at(parameters, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(y, [0.0, 1.0], atol=1e-15)
    assert float(ln_slope[0]) == pytest.approx(float(ln_slope[1]), abs=1e-12)
    assert abs(float(ln_slope[0])) > 0.1
    x = jnp.linspace(0, 1, 100_001)
    y, ln_slope = at(parameters, x)
    assert 0.1 < float(jnp.ptp(ln_slope)) < 5
    assert float(jnp.abs(jnp.diff(ln_slope)).max()) < 4e-3
    np.testing.assert_allclose(y[1:] - y[:-1], 1e-5 * jnp.exp(ln_slope[1:]), rtol=4e-3)


@pytest.mark.parametrize("kind, close", [(jnp.float64, 1e-12), (jnp.float32, 1e-5)])
def test_splines_there_and_back(kind, close):
    """Slopes reach 45 and multiply roundings: 1.2e-6 was the most in single precision."""
    for seed in range(5):
        parameters = spline(16, size=1.0, seed=seed, kind=kind)
        x = jnp.linspace(0, 1, 1001, dtype=kind)
        back, ln_back = at(parameters, x, inverse=True)
        there, ln_there = at(parameters, back)
        assert there.dtype == kind
        np.testing.assert_allclose(there, x, atol=close)
        np.testing.assert_allclose(ln_there, -ln_back, atol=1e3 * close)


def test_splines_without_parameters_are_the_identity():
    x = jnp.linspace(0, 1, 101)
    for inverse in (False, True):
        y, ln_slope = at(jnp.zeros(12), x, inverse)
        np.testing.assert_allclose(y, x, atol=1e-14)
        np.testing.assert_allclose(ln_slope, 0.0, atol=1e-13)


def test_slopes_of_the_way_back_are_finite():
    """The branch that is not taken divides by nothing."""
    x = jnp.array([0.0, 0.2, 0.4, 1.0])
    for size in (0.0, 2.0):
        slopes = jax.grad(lambda p: jnp.sum(at(p, x, inverse=True)[0]))(spline(size=size))
        assert jnp.isfinite(slopes).all()


# The map -----------------------------------------------------------------------------------------


def start(N=5, B=3, seed=0, kind=jnp.float64):
    """Any positions, some of them in other images, in boxes of one shape that are not cubes."""
    rng = np.random.default_rng(seed)
    L = np.array([1.0, 1.1, 1.3])[:, None] * rng.uniform(0.9, 1.2, B)
    return Configs(jnp.asarray(rng.uniform(-1, 2, (3, N, B)), kind), jnp.asarray(L, kind))


def flow_of(N=5, strong=True, seed=0, **settings):
    """A flow whose weights, if strong, make splines far from the identity."""
    chosen = dict(rounds=2, width=8, bins=4, frequencies=2) | settings
    made = CouplingFlow(start(N), T0, P0, T_max=2.0, P_max=0.04, key=jax.random.key(seed), **chosen)
    return scaled(made, 100.0, (0.3, -0.15)) if strong else made


def scaled(flow, splines, box=(0.0, 0.0)):
    """With other last weights of the splines, and constants a and b of the map of the box."""

    def last(flow):
        networks = [c.spline for c in flow.couplings]
        return [w for n in networks for w in (n.layers[-1].weight, n.layers[-1].bias)]

    def of_box(flow):
        return [flow.box.layers[-1].weight, flow.box.layers[-1].bias]

    flow = eqx.tree_at(last, flow, [splines * w for w in last(flow)])
    old = of_box(flow)
    return eqx.tree_at(of_box, flow, [0 * old[0], jnp.asarray(box, old[1].dtype)])


def states(B=3):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.uniform(0.8, 1.6, B)), jnp.asarray(rng.uniform(0.01, 0.03, B))


@pytest.mark.parametrize("N, seed", [(4, 0), (5, 1), (5, 2)])
def test_the_map_has_the_jacobian_that_autodiff_finds(N, seed):
    """Of positions over the edges and volume, at constant shape of the box."""
    flow = flow_of(N, seed=seed, blocks=2, heads=2)
    s, L = start(N, 1, seed)
    T, P = states(1)
    shape = L / jnp.cbrt(jnp.prod(L, axis=0))[None]

    def move(y):
        s, L, _ = flow(y[:-1].reshape(3, N, 1), shape * jnp.cbrt(y[-1]), T, P)
        return jnp.concatenate([s.reshape(-1), jnp.prod(L, axis=0)])

    y = jnp.concatenate([s.reshape(-1), jnp.prod(L, axis=0)])
    moved, edges, log_det = flow(s, L, T, P)
    expected = jnp.linalg.slogdet(jax.jacfwd(move)(y))[1]
    assert float(jnp.abs(moved - s).max()) > 0.1 and abs(float(log_det[0])) > 0.3
    assert abs(float(edges[0, 0] / L[0, 0]) - 1) > 0.05
    np.testing.assert_allclose(log_det[0], expected, atol=1e-8)


def test_volumes_alone_have_their_jacobian():
    """Splines that do nothing: the map of volumes against its slope in V."""
    flow = scaled(flow_of(strong=False), 0.0, (0.3, -0.15))
    s, L = start()
    T, P = states()

    def volume(V):
        edges = L * jnp.cbrt(V / jnp.prod(L, axis=0))[None]
        return jnp.prod(flow(s, edges, T, P)[1], axis=0)

    V = jnp.prod(L, axis=0)
    slope = jax.jvp(volume, (V,), (jnp.ones(3),))[1]  # replicas are independent
    _, edges, log_det = flow(s, L, T, P)
    assert float(jnp.abs(edges / L - 1).min()) > 0.05
    np.testing.assert_allclose(log_det, jnp.log(slope), atol=1e-10)
    np.testing.assert_allclose(edges / L, (edges / L)[:1] * jnp.ones((3, 1)), rtol=1e-12)


def test_there_and_back():
    flow, (s, L), (T, P) = flow_of(), start(), states()
    moved, edges, log_det = flow(s, L, T, P)
    back = flow.inverse(moved, edges, T, P)
    assert float(jnp.abs(moved - s).max()) > 0.1
    np.testing.assert_allclose(back[0], s, atol=1e-9)
    np.testing.assert_allclose(back[1], L, rtol=1e-12)
    np.testing.assert_allclose(back[2], -log_det, atol=1e-7)


def test_single_precision_and_replicas_by_themselves():
    flow, (s, L), (T, P) = flow_of(), start(), states()
    exact = flow(s, L, T, P)
    single = flow(*(v.astype(jnp.float32) for v in (s, L, T, P)))
    assert all(v.dtype == jnp.float32 for v in single)
    np.testing.assert_allclose(single[0], exact[0], atol=2e-4)  # steep splines
    np.testing.assert_allclose(single[2], exact[2], atol=2e-3)
    one = flow(s[..., 1:2], L[:, 1:2], T[1:2], P[1:2])
    np.testing.assert_allclose(one[0][..., 0], exact[0][..., 1], atol=1e-10)
    np.testing.assert_allclose(one[2][0], exact[2][1], atol=1e-10)


def test_the_map_commutes_with_the_symmetries():
    flow, (s, L), (T, P) = flow_of(), start(), states()
    there, edges, log_det = flow(s, L, T, P)
    np.testing.assert_array_equal(there[:, 0], s[:, 0])
    order = jnp.array([0, 3, 1, 4, 2])
    away = jnp.array([0.3, -1.7, 0.9])[:, None, None]
    image = jnp.zeros_like(s).at[:, 3].set(jnp.array([[1.0], [-2.0], [0.0]]))
    for begin, expected in (
        (s[:, order], there[:, order]),
        (s + away, there + away),
        (s + image, there + image),
    ):
        found = flow(begin, L, T, P)
        np.testing.assert_allclose(found[0], expected, atol=1e-10)
        np.testing.assert_allclose(found[1], edges, rtol=1e-12)
        np.testing.assert_allclose(found[2], log_det, atol=1e-9)


def test_all_particles_are_told_of_each_other_and_of_the_state():
    """One coordinate of one particle moves all the others; so do temperature and pressure."""
    flow, (s, L), (T, P) = flow_of(), start(), states()
    there = flow(s, L, T, P)[0]
    nudged = flow(s.at[0, 2].add(1e-3), L, T, P)[0]
    others = jnp.array([1, 3, 4])
    assert float(jnp.abs(nudged - there)[:, others].min()) > 1e-9
    for other in ((1.01 * L, T, P), (L, 1.01 * T, P), (L, T, 1.01 * P)):
        assert float(jnp.abs(flow(s, *other)[0] - there)[:, 1:].min()) > 1e-9


def test_without_last_weights_the_map_is_the_identity():
    flow, (s, L), (T, P) = flow_of(strong=False), start(), states()
    begun = flow(s, L, T, P)
    assert 0 < float(jnp.abs(begun[0] - s).max()) < 0.01
    assert 0 < float(jnp.abs(begun[1] / L - 1).max()) < 0.01
    still = scaled(flow, 0.0)
    there = still(s, L, T, P)
    np.testing.assert_allclose(there[0], s, atol=1e-13)
    np.testing.assert_allclose(there[1], L, rtol=1e-13)
    np.testing.assert_allclose(there[2], 0.0, atol=1e-11)


# Weights -----------------------------------------------------------------------------------------


def nothing(s, L):
    return jnp.zeros_like(L[0])


def gas(N, B, seed):
    rng = np.random.default_rng(seed)
    edge = np.cbrt(rng.gamma(N + 1, T0 / P0, B))  # (s, V) of the ideal gas: exp(-P V / T) V^N
    s = jnp.asarray(rng.random((3, N, B)))
    return Configs(s, jnp.asarray(edge)[None] * jnp.ones((3, 1)))


def small():
    return CouplingFlow(
        gas(8, 500, 0), T0, P0, width=8, bins=4, frequencies=2, T_max=2.0, P_max=0.04, key=KEY
    )


def test_weights_of_the_ideal_gas_have_the_exact_mean():
    """Any map will do if its Jacobian is right.

    Weights scatter by 0.77. The right code gave |z| up to 2.0 on 11 seeds; without the factor of
    the volumes z is -20, with the opposite sign of the splines' slopes 74.
    """
    T, P, B = 1.3, 0.019, 20_000
    flow = scaled(small(), 12.0, (0.08, -0.03))
    gain = flows.ideal_gas_gibbs(8, T, P) - flows.ideal_gas_gibbs(8, T0, P0)
    log_w = flows.log_weights(
        flow, *gas(8, B, 1), (T0, P0), jnp.full(B, T), jnp.full(B, P), nothing
    )
    w = np.exp(np.asarray(log_w) + gain)
    z = (w.mean() - 1) / w.std() * np.sqrt(B)
    assert w.std() > 0.3
    assert abs(z) < 4, z


def test_the_ideal_gas_is_learned():
    """Effective draws rise from 8 to 91 of a hundred; the error of the difference is 0.005."""
    T, P, B = 1.5, 0.015, 4000

    def target(key, n):
        return jnp.full(n, T), jnp.full(n, P)

    flow = small()
    found = train(
        flow, gas(8, 512, 2), (T0, P0), target, steps=100, batch=64, rate=3e-3,
        energy=nothing, key=KEY,
    )  # fmt: skip
    gain = flows.ideal_gas_gibbs(8, T, P) - flows.ideal_gas_gibbs(8, T0, P0)
    before, after = (
        np.asarray(
            flows.log_weights(f, *gas(8, B, 3), (T0, P0), jnp.full(B, T), jnp.full(B, P), nothing)
        )
        for f in (flow, found.flow)
    )
    assert flows.ess(before) < 0.2 and flows.ess(after) > 0.8
    assert flows.lfep(after).value == pytest.approx(gain, abs=0.03)


def test_impossible_flows_are_refused(unchecked):
    ready = start()
    cases: list[tuple[Configs, float, float, dict, str]] = [
        (ready, -1.0, 2.0, {}, "T must be positive and finite, got -1"),
        (ready, 1.2, np.inf, {}, "P must be positive and finite, got inf"),
        (ready, 1.2, 2.0, {"T_max": 0.0}, "T must be positive and finite, got 0"),
        (ready, 1.2, 2.0, {"P_max": -3.0}, "P must be positive and finite, got -3"),
        (ready, 1.2, 2.0, {"rounds": 0}, "rounds must be at least 1, got 0"),
        (ready, 1.2, 2.0, {"blocks": 0}, "blocks must be at least 1, got 0"),
        (ready, 1.2, 2.0, {"width": 0}, "width must be at least 1, got 0"),
        (ready, 1.2, 2.0, {"heads": 0}, "heads must be at least 1, got 0"),
        (ready, 1.2, 2.0, {"heads": 3}, "heads must divide the width 32, got 3"),
        (ready, 1.2, 2.0, {"frequencies": 0}, "frequencies must be at least 1, got 0"),
        (ready, 1.2, 2.0, {"bins": 1}, "bins must be from 2 to 1000, got 1"),
        (ready, 1.2, 2.0, {"bins": 1001}, "bins must be from 2 to 1000, got 1001"),
        (start(3), 1.2, 2.0, {}, "particles must be at least 4, got 3"),
        (
            Configs(ready.s, ready.L.at[0, 0].mul(1.1)),
            1.2, 2.0, {}, "reference must have boxes of one shape",
        ),
    ]  # fmt: skip
    for reference, T, P, changes, message in cases:
        with pytest.raises(ValueError, match=message):
            CouplingFlow(reference, T, P, key=KEY, **changes)
    flow, (s, L), (T, P) = flow_of(), ready, states()
    for way in (flow, flow.inverse):
        with pytest.raises(ValueError, match="T must be positive and finite"):
            way(s, L, -T, P)
        with pytest.raises(ValueError, match="P must be positive and finite"):
            way(s, L, T, P * np.nan)
        with pytest.raises(ValueError, match="s must have 5 particles, got 4"):
            way(s[:, :4], L, T, P)
    for M in (3, 7):
        with pytest.raises(ValueError, match=f"parameters must be 3 K, .* got {M}"):
            circular_spline(jnp.zeros(2), jnp.zeros((2, M)))
