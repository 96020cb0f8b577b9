"""Training: the optimiser against its own law, flows against the ideal gas and the chain."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import flows
from dy33lib.particles import Configs, pair_potential

KEY = jax.random.key(0)


# The optimiser -----------------------------------------------------------------------------------


def test_a_bowl_has_its_bottom():
    """Noise in the loss averages out as the rate falls; what is no number of a flow stays."""
    target = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}

    def loss(flow, data, key):
        noise = 0.1 * jax.random.normal(key, (2,))
        return jnp.sum((flow["a"] - data["a"] + noise) ** 2) + (flow["b"] - data["b"]) ** 2

    flow = {"a": jnp.zeros(2), "b": jnp.array(0.0), "n": jnp.array(7), "name": "bowl"}
    found = flows.minimise(flow, loss, target, steps=600, rate=0.1, key=KEY)
    np.testing.assert_allclose(found.flow["a"], target["a"], atol=0.03)
    assert float(found.flow["b"]) == pytest.approx(3.0, abs=1e-3)
    assert int(found.flow["n"]) == 7 and found.flow["name"] == "bowl"
    assert found.losses.shape == (600,) and found.losses[0] > 13 and found.losses[-1] < 0.2
    np.testing.assert_array_equal(flow["a"], 0.0)


def test_steps_fall_along_a_cosine():
    """Adam's steps along a constant slope are the rate, whose sum is (steps + 1) / 2 of it."""
    for longest in (100.0, 1e-3):  # Adam does not feel a common factor
        found = flows.minimise(
            {"x": jnp.array(0.0)}, lambda flow, *_: 5 * flow["x"], None, steps=40, rate=0.02,
            longest=longest, key=KEY,
        )  # fmt: skip
        assert float(found.flow["x"]) == pytest.approx(-0.02 * 41 / 2, rel=1e-4)


def test_long_gradients_are_clipped():
    """A slope of 1000 at the beginning would hold Adam up for all later steps, at -0.1 or so."""

    def loss(flow, *_):
        return flow["x"] * jnp.where(flow["x"] > -0.05, 1000.0, 1.0)

    ends = [
        float(
            flows.minimise(
                {"x": jnp.array(0.0)}, loss, None, steps=200, rate=0.01, longest=longest, key=KEY
            ).flow["x"]
        )
        for longest in (1.0, 1e6)
    ]
    assert ends[0] == pytest.approx(-0.01 * 201 / 2, rel=1e-3)
    assert abs(ends[1]) < 0.3 * abs(ends[0])


# The ideal gas -----------------------------------------------------------------------------------

N, START = 200, (1.2, 2.0)


def nothing(s, L):
    """No energy."""
    return jnp.zeros_like(L[0])


def volumes(n, seed, T=START[0], P=START[1]):
    """Configurations of the ideal gas, whose positions do not matter."""
    V = np.random.default_rng(seed).gamma(N + 1, T / P, n)
    V = np.maximum(V, 86.0)  # train wants boxes for the cut-off; four standard deviations below
    return Configs(jnp.zeros((3, N, n)), jnp.asarray(np.cbrt(V) * np.ones((3, 1))))


def states(key, n):
    k1, k2 = jax.random.split(key)
    return jax.random.uniform(k1, (n,), minval=0.9, maxval=1.5), jax.random.uniform(
        k2, (n,), minval=1.2, maxval=3.0
    )


SETTINGS: dict = {"steps": 600, "batch": 32, "energy": nothing}


def test_training_finds_the_map_of_the_ideal_gas():
    """The map is known: volumes by T P_0 / (T_0 P). On volumes that the training did not see.

    Two keys gave effective shares of 0.990 to 1.000, after half the steps 0.85 to 1.00, and free
    energies within 0.007; without the map the share is 0.003.
    """
    configs, other = volumes(400, 0), volumes(400, 1)
    flow = flows.ConditionalFlow(configs, *START, terms=0, key=KEY)
    found = flows.train(flow, configs, START, states, key=KEY, **SETTINGS)
    assert found.losses.shape == (600,)
    for T, P in ((1.0, 2.5), (1.4, 1.5), (1.2, 2.7)):
        at = jnp.full(400, T), jnp.full(400, P)
        before, after = (
            flows.lfep(np.asarray(flows.log_weights(f, *other, START, *at, nothing)))
            for f in (flow, found.flow)
        )
        assert before.ess < 0.1 and after.ess > 0.98
        exact = flows.ideal_gas_gibbs(N, T, P) - flows.ideal_gas_gibbs(N, *START)
        assert after.value == pytest.approx(exact, abs=0.02)
        V = jnp.prod(found.flow(*other, *at)[1], axis=0)
        np.testing.assert_allclose(V, jnp.prod(other.L, axis=0) * T * 2.0 / 1.2 / P, rtol=0.02)
    one = jnp.ones(400)
    ln_w = flows.log_weights(found.flow, *other, START, 1.2 * one, 2.0 * one, nothing)
    np.testing.assert_allclose(ln_w, 0.0, atol=1e-9)  # the identity, still


def test_training_changes_nothing_but_the_network_it_returns():
    configs = volumes(400, 0)
    s, L = np.array(configs.s), np.array(configs.L)
    flow = flows.ConditionalFlow(configs, *START, terms=0, key=KEY)
    kept = [np.array(x) for x in jax.tree.leaves(eqx.filter(flow, eqx.is_array))]
    found = flows.train(flow, configs, START, states, key=KEY, **SETTINGS)
    np.testing.assert_array_equal(configs.s, s)
    np.testing.assert_array_equal(configs.L, L)
    for after, before in zip(jax.tree.leaves(eqx.filter(flow, eqx.is_array)), kept, strict=True):
        np.testing.assert_array_equal(after, before)
    assert float(found.flow.middle) == float(flow.middle)
    assert float(flow.middle) == pytest.approx(np.log(np.prod(L, axis=0)).mean(), rel=1e-6)
    new, old = (f.condition.network.layers[-1].weight for f in (found.flow, flow))
    assert float(jnp.abs(new - old).max()) > 0.01
    again = flows.train(flow, configs, START, states, key=KEY, **SETTINGS)
    np.testing.assert_array_equal(again.losses, found.losses)
    np.testing.assert_array_equal(again.flow.condition.network.layers[-1].weight, new)
    swollen = Configs(configs.s, configs.L.at[:, 300:].mul(1.02))  # the last ones count, too
    other = flows.train(flow, swollen, START, states, key=KEY, **SETTINGS)
    assert float(jnp.abs(other.losses - found.losses).max()) > 1e-3
    other = flows.train(flow, configs, START, states, key=jax.random.key(1), **SETTINGS)
    assert float(jnp.abs(other.losses - found.losses).max()) > 1e-3


# Weights -----------------------------------------------------------------------------------------


def bumps(s, L):
    """Some energy that depends on all there is."""
    return jnp.sum(jnp.cos(2 * jnp.pi * s) * L[:, None], axis=(0, 1)) / 50


def test_weights_at_other_states_than_the_map_aimed_at():
    """By hand, from energies and volumes after the map."""
    rng = np.random.default_rng(0)
    s, L = jnp.asarray(rng.random((3, 64, 5))), jnp.asarray(4.8 + 0.1 * rng.random((1, 5)))
    L = L * jnp.ones((3, 1))
    flow = flows.ConditionalFlow(Configs(s, L), 1.2, 6.1, terms=0, key=KEY)
    T, P = jnp.array([0.9, 1.0, 1.1, 1.3, 1.5]), jnp.array([2.0, 5.0, 6.0, 8.0, 11.0])
    found = flows.mapped(flow, s, L, (1.2, 6.1), T, P, bumps)
    np.testing.assert_allclose(
        found.log_weights(T, P), flows.log_weights(flow, s, L, (1.2, 6.1), T, P, bumps), rtol=1e-13
    )
    moved, edges, log_det = flow(s, L, T, P)
    assert float(jnp.abs(edges / L - 1).max()) > 1e-4
    for at in ((1.25, 6.6), (T + 0.1, P - 0.2)):
        V0, V = jnp.prod(L, axis=0), jnp.prod(edges, axis=0)
        before = (bumps(s, L) + 6.1 * V0) / 1.2 - 64 * jnp.log(V0)
        after = (bumps(moved, edges) + at[1] * V) / at[0] - 64 * jnp.log(V)
        np.testing.assert_allclose(found.log_weights(*at), before - after + log_det, rtol=1e-11)
    back = flows.log_weights_back(flow, moved, edges, (1.2, 6.1), T, P, bumps)
    np.testing.assert_allclose(back, -found.log_weights(T, P), atol=1e-9)
    plain = flows.mapped(None, s, L, (1.2, 6.1), T, P, bumps).log_weights(1.3, 7.0)
    expected = (bumps(s, L) + 6.1 * V0) / 1.2 - (bumps(s, L) + 7.0 * V0) / 1.3
    np.testing.assert_allclose(plain, expected, rtol=1e-11)


# The chain ---------------------------------------------------------------------------------------


def chain_weight(T, P):
    r = np.linspace(0.6, 60.0, 2_000_001)
    w = np.exp(-(np.asarray(pair_potential(r * r)[0]) + P * r) / T)
    return r, w / w.sum()


@pytest.mark.parametrize("T, P", [(1.0, 1.0), (0.7, 2.5)])
def test_gaps_have_their_law(T, P):
    r, w = chain_weight(T, P)
    found = np.asarray(flows.chain_gaps(T, P, (100_000,), KEY))
    for power in (1, 2, -6):
        values, exact = found**power, w @ r**power
        assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(100_000)
    for at in (1.1, 1.5, 2.1):
        assert abs((found < at).mean() - w[r < at].sum()) < 4 * np.sqrt(0.25 / 100_000)
    assert flows.chain_gaps(T, P, (3, 2), KEY).shape == (3, 2)


def test_the_flow_of_the_chain_has_the_slope_that_autodiff_finds():
    flow = flows.ChainFlow(1.0, 1.0, bins=8, key=KEY)
    flow = jax.tree.map(lambda w: w.astype(jnp.float64) if eqx.is_inexact_array(w) else w, flow)
    last = flow.condition.network.layers[-1].weight
    flow = eqx.tree_at(lambda f: f.condition.network.layers[-1].weight, flow, 300 * last)
    r = jnp.geomspace(0.8, 20.0, 40)
    T, P = jnp.full(40, 1.3), jnp.full(40, 2.0)
    moved, ln_slope = flow(r, T, P)
    assert (jnp.diff(moved) > 0).all() and float(jnp.abs(moved / r - 1).max()) > 0.01
    slope = jax.vmap(jax.grad(lambda r: flow(r[None], T[:1], P[:1])[0][0]))(r)
    np.testing.assert_allclose(ln_slope, jnp.log(slope), atol=1e-9)
    same, nothing = flow(r, jnp.ones(40), jnp.ones(40))
    np.testing.assert_allclose(same, r, rtol=1e-12)
    np.testing.assert_allclose(nothing, 0.0, atol=1e-12)
    ln_w = flows.chain_log_weights(flow, r, (1.0, 1.0), T, P)
    u = np.asarray(pair_potential(r * r)[0]), np.asarray(pair_potential(moved * moved)[0])
    expected = (u[0] + np.asarray(r)) / 1.0 - (u[1] + 2.0 * np.asarray(moved)) / 1.3
    np.testing.assert_allclose(ln_w, expected + np.asarray(ln_slope), rtol=1e-9, atol=1e-9)
    plain = flows.chain_log_weights(None, r, (1.0, 1.0), 1.3, 2.0)
    np.testing.assert_allclose(plain, (u[0] + r) - (u[0] + 2.0 * r) / 1.3, rtol=1e-9, atol=1e-9)


def test_a_trained_chain_has_its_integral():
    """On gaps that the training did not see, where energies alone reach half as far.

    Four keys: effective shares of 0.95 to 0.996, without the map 0.2 to 0.6, and differences of up
    to 2 standard errors.
    """
    start = (1.0, 1.0)
    r, other = (flows.chain_gaps(*start, (4000,), jax.random.key(k)) for k in (1, 2))
    flow = flows.ChainFlow(*start, key=KEY)
    found = flows.train_chain(
        flow, r, start, low=(0.7, 0.5), high=(1.5, 3.0), steps=400, batch=256, key=KEY
    )
    for T, P in ((0.8, 2.8), (1.4, 0.7), (1.0, 1.0)):
        at = jnp.full(4000, T), jnp.full(4000, P)
        plain, ours = (
            flows.lfep(np.asarray(flows.chain_log_weights(f, other, start, *at)))
            for f in (None, found.flow)
        )
        exact = flows.takahashi_gibbs(1, T, P) - flows.takahashi_gibbs(1, *start)
        assert abs(ours.value - exact) < 4 * ours.error + 1e-6
        assert ours.ess > 0.93 and ours.error < 0.006
        assert (T, P) == start or plain.ess < ours.ess - 0.1


# Bad input ---------------------------------------------------------------------------------------


def test_impossible_trainings_are_refused(unchecked):
    flow, data = {"x": jnp.array(1.0)}, None
    good: dict = {"steps": 3, "rate": 0.1, "key": KEY}

    def bowl(flow, data, key):
        return flow["x"] ** 2

    changed: list[tuple[dict, str]] = [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"rate": 0.0}, r"rate must be positive and finite, got 0\.0"),
        ({"rate": np.nan}, "rate must be positive and finite, got nan"),
        ({"longest": -1.0}, "longest must be positive and finite, got -1"),
        ({"longest": np.inf}, "longest must be positive and finite, got inf"),
        ({"rate": 1e200}, r"rate = 1e\+200 made the loss diverge at step 1"),
    ]
    for changes, message in changed:
        with pytest.raises(ValueError, match=message):
            flows.minimise(flow, bowl, data, **(good | changes))
    configs = volumes(4, 0)
    made = flows.ConditionalFlow(configs, *START, terms=0, key=KEY)
    small = Configs(configs.s, 0.5 * configs.L)
    chain, r = flows.ChainFlow(1.0, 1.0, key=KEY), jnp.ones(4)
    sides: dict = {"low": (0.9, 0.5), "high": (1.1, 1.5), "key": KEY}
    cases: list[tuple[Callable, tuple, dict, str]] = [
        (flows.train, (made, configs, START, states), {"batch": 0}, "batch must be at least 1"),
        (flows.train, (made, configs, START, states), {"steps": 0}, "steps must be at least 1"),
        (flows.train, (made, configs, (-1.0, 1.0), states), {}, "T must be positive and finite"),
        (flows.train, (made, small, START, states), {}, "L must exceed twice the cutoff"),
        (flows.train_chain, (chain, r, (1.0, 1.0)), sides | {"batch": 0}, "batch must be at le"),
        (flows.train_chain, (chain, r, (1.0, 0.0)), sides, "P must be positive and finite, got 0"),
        (
            flows.train_chain,
            (chain, r, (1.0, 1.0)),
            sides | {"low": (-1.0, 1.0)},
            "T must be positive and finite, got -1",
        ),
        (flows.train_chain, (chain, r, (1.0, 1.0)), sides | {"rate": -1.0}, "rate must be posit"),
        (flows.chain_gaps, (-1.0, 1.0, (3,), KEY), {}, "T must be positive and finite, got -1"),
        (flows.chain_gaps, (1.0, np.inf, (3,), KEY), {}, "P must be positive and finite, got inf"),
        (flows.ChainFlow, (1.0, 1.0), {"bins": 1}, "bins must be at least 2, got 1"),
        (flows.ChainFlow, (0.0, 1.0), {}, "T must be positive and finite, got 0"),
        (flows.ChainFlow, (1.0, 1.0), {"width": 0}, "size and width must be at least 1"),
    ]
    for function, arguments, settings, message in cases:
        with pytest.raises(ValueError, match=message):
            function(
                *arguments, **({} if function is flows.chain_gaps else {"key": KEY}) | settings
            )
