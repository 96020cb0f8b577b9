"""Chapter 6: Potts energies, exact densities of states, the transition, autoregressive networks."""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import multicanonical as mc
from dy33lib.multicanonical.potts import bonds

KEY = jax.random.key(0)


def all_configurations(L, q):
    return np.array(list(product(range(q), repeat=L * L)), np.int8).reshape(-1, L, L)


# Model -------------------------------------------------------------------------------------------


def test_energies_count_each_bond_once():
    rng = np.random.default_rng(0)
    for L in (3, 4, 5):
        s = rng.integers(3, size=(20, L, L))
        by_hand = [
            -sum(
                int(t[i, j] == t[(i + 1) % L, j]) + int(t[i, j] == t[i, (j + 1) % L])
                for i in range(L)
                for j in range(L)
            )
            for t in s
        ]
        assert mc.potts_energy(s, 3).tolist() == by_hand
        assert mc.potts_energy(jnp.asarray(s), 3).tolist() == by_hand
    assert int(mc.potts_energy(np.zeros((4, 4), int), 2)) == -32
    assert mc.energies(3).tolist() == list(range(-18, 1))


def test_bad_configurations_are_refused(unchecked):
    with pytest.raises(ValueError, match="L must be at least 3, got 2"):
        mc.potts_energy(np.zeros((2, 2), int), 3)
    with pytest.raises(ValueError, match="q must be at least 2, got 1"):
        mc.potts_energy(np.zeros((3, 3), int), 1)
    for colour in (-1, 3):
        with pytest.raises(ValueError, match=f"s must be colours from 0 to 2, got {colour}"):
            mc.potts_energy(np.full((3, 3), colour), 3)


# Exact -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("L", "q"), [(3, 2), (3, 3), (3, 4), (4, 2)])
def test_density_of_states_is_that_of_enumeration(L, q):
    count = np.bincount(bonds(all_configurations(L, q)), minlength=2 * L * L + 1)[::-1]
    found = np.exp(mc.exact_dos(L, q))
    np.testing.assert_array_equal(np.rint(found), count)
    np.testing.assert_allclose(found, count, rtol=1e-12)


def test_density_of_states_of_three_colours_on_sixteen_sites():
    """43 million configurations, in parts: the first row's colours are permuted away."""
    total = np.zeros(33)
    rest = np.array(list(product(range(3), repeat=12)), np.int8).reshape(-1, 3, 4)
    alike = {"aaaa": 3, "aaab": 24, "aabb": 12, "abab": 6, "aabc": 24, "abac": 12}
    for pattern, number in alike.items():
        row = ["abc".index(letter) for letter in pattern]
        first = np.broadcast_to(np.array(row, np.int8), (len(rest), 1, 4))
        s = np.concatenate([first, rest], axis=1)
        total += number * np.bincount(bonds(s), minlength=33)
    assert total.sum() == 3**16
    np.testing.assert_array_equal(np.rint(np.exp(mc.exact_dos(4, 3))), total[::-1])


@pytest.mark.parametrize(("L", "q"), [(3, 5), (4, 20), (4, 100), (5, 20), (5, 200)])
def test_density_of_states_obeys_its_sum_rule_and_counts_the_lowest_levels(L, q):
    """All q^N; q ground states; one site off costs four bonds, in N q (q - 1) ways."""
    ln_g = mc.exact_dos(L, q)
    assert np.logaddexp.reduce(ln_g) == pytest.approx(L * L * np.log(q), abs=1e-11)
    assert ln_g[0] == pytest.approx(np.log(q), abs=1e-13)
    if L > 3:
        assert ln_g[4] == pytest.approx(np.log(L * L * q * (q - 1)), abs=1e-12)
        assert np.isneginf(ln_g[[1, 2, 3, 5]]).all()


def test_baxter_has_the_published_numbers():
    """Borgs and Janke (1992), table 1: correlation lengths and twice the interface tensions."""
    for q, length, twice in ((10, 10.559519, 0.094701), (20, 2.695502, 0.370988)):
        found = mc.baxter(q)
        assert found.correlation_length == pytest.approx(length, abs=1e-6)
        assert 2 * found.interface_tension == pytest.approx(twice, abs=1e-6)
    ten = mc.baxter(10)
    assert ten.beta == pytest.approx(1.426062, abs=1e-6)
    assert (ten.e_disordered, ten.e_ordered) == pytest.approx((-0.968203, -1.664253), abs=1e-6)
    assert ten.latent_heat == pytest.approx(0.696050, abs=2e-6)


@pytest.mark.parametrize("q", [50, 200])
def test_small_lattices_approach_baxter(q):
    """With q + 1 phases of equal weight, up to terms that fall exponentially with L."""
    exact, far = mc.baxter(q), []
    for L in (3, 4, 5):
        per_site = (mc.ln_z(mc.exact_dos(L, q), exact.beta) - np.log(q + 1)) / L**2
        far.append(abs(per_site - exact.ln_z))
    assert far[0] > 2 * far[1] > 4 * far[2]
    assert far[2] < 1e-4
    beta = mc.equal_weight_beta(mc.exact_dos(5, q), q, ratio=float(q))
    assert beta == pytest.approx(exact.beta, abs=0.02)


def test_impossible_lattices_are_refused(unchecked):
    with pytest.raises(ValueError, match="L must be at most 6, got 7"):
        mc.exact_dos(7, 3)
    with pytest.raises(ValueError, match="L must be at least 3, got 2"):
        mc.exact_dos(2, 3)
    with pytest.raises(ValueError, match=r"q must be above 4 .*, got 4"):
        mc.baxter(4)


# Canonical ---------------------------------------------------------------------------------------


def test_reweighting_is_the_boltzmann_average():
    s = all_configurations(3, 3)
    E, ln_g = -bonds(s), mc.exact_dos(3, 3)
    weights = np.exp(-0.7 * E)
    p = mc.reweight(ln_g, 0.7)
    assert p.sum() == pytest.approx(1)
    np.testing.assert_allclose(p, np.bincount(E + 18, weights, 19) / weights.sum(), rtol=1e-12)
    mean = (E * weights).sum() / weights.sum()
    heat = 0.7**2 * ((E - mean) ** 2 * weights).sum() / weights.sum() / 9
    assert mc.moments(ln_g, 0.7) == pytest.approx((mean / 9, heat))
    assert mc.ln_z(ln_g, 0.7) == pytest.approx(np.log(weights.sum()))


def two_peaks(L=4, q=100, depth=5.0):
    """A density of states whose canonical law at beta = 2 has two equal peaks of known depth."""
    E = mc.energies(L).astype(float)
    x = (E + 17.6) / 10
    return 2.0 * E - depth * (x**2 - 1) ** 2, E


def test_the_transition_of_a_known_double_peak():
    ln_g, E = two_peaks()
    peaks = np.isin(E, (-28, -8))
    assert mc.equal_height_beta(ln_g, 100) == pytest.approx(2.0, abs=0.01)
    at = mc.reweight(ln_g, mc.equal_height_beta(ln_g, 100))
    assert at[peaks].min() == pytest.approx(at.max(), rel=0.1)
    assert mc.interface_tension(ln_g, 100) == pytest.approx(5.0 / 8, rel=0.02)
    for ratio in (1.0, 100.0):
        at = mc.reweight(ln_g, mc.equal_weight_beta(ln_g, 100, ratio))
        assert at[E < -17.6].sum() / at[E >= -17.6].sum() == pytest.approx(ratio)
    energy, slope = mc.microcanonical_beta(2.0 * E)
    np.testing.assert_allclose(slope, 2.0)
    assert energy.tolist() == (E[1:-1]).tolist()


def test_empty_bins_stay_empty():
    ln_g = mc.exact_dos(4, 20)
    assert (mc.reweight(ln_g, 1.5)[[1, 2, 3, 5]] == 0).all()
    energy, slope = mc.microcanonical_beta(ln_g)
    assert np.isfinite(slope).all()
    assert energy[0] == -27  # -28 and -26 are the lowest pair: -30, -31 and -27 are empty


def test_bad_densities_are_refused(unchecked):
    good = mc.exact_dos(3, 5)
    with pytest.raises(ValueError, match=r"ln_g must have 2 L\^2 \+ 1 entries, got 7"):
        mc.reweight(np.zeros(7), 1.0)
    for bad in (np.full(19, -np.inf), np.where(good > 3, np.nan, good)):
        with pytest.raises(ValueError, match="ln_g must be numbers or -inf"):
            mc.reweight(bad, 1.0)
    with pytest.raises(ValueError, match="beta must be finite, got nan"):
        mc.reweight(good, np.nan)
    with pytest.raises(ValueError, match="ln_g has no ordered states"):
        mc.equal_height_beta(np.where(mc.energies(3) < -12, -np.inf, 0.0), 5)
    with pytest.raises(ValueError, match="ratio must be positive and finite, got 0"):
        mc.equal_weight_beta(good, 5, 0.0)
    with pytest.raises(ValueError, match="width must be between 1 and 18, got 0"):
        mc.microcanonical_beta(good, 0)


# Network -----------------------------------------------------------------------------------------


def shaken(decoder, seed=1):
    """A new network draws evenly; this one does not."""
    keys = jax.random.split(jax.random.key(seed))
    weights = dict(decoder.weights)
    for k, name in zip(keys, ("out", "coupling"), strict=True):
        weights[name] = jax.random.normal(k, weights[name].shape, jnp.float32)
    return eqx.tree_at(lambda d: d.weights, decoder, weights)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("q", [2, 3])
def test_probabilities_of_all_configurations_add_up_to_one(q, symmetric):
    """And 20,000 draws have these frequencies: chi squared per degree of freedom 1 +- 0.01-0.06."""
    decoder = shaken(mc.Decoder(3, q, 16, symmetric=symmetric, key=KEY))
    s = jnp.asarray(all_configurations(3, q).astype(int))
    p = np.exp(mc.log_prob(decoder, s, jnp.full(len(s), -7.0, jnp.float32)))
    assert p.sum() == pytest.approx(1, abs=1e-5)
    drawn, _, _ = mc.sample(decoder, jnp.full(20_000, -7.0, jnp.float32), key=KEY)
    code = np.asarray(drawn).reshape(-1, 9) @ q ** np.arange(9)[::-1]
    expected = 20_000 * p
    often = expected > 1
    chi = ((np.bincount(code, minlength=q**9) - expected) ** 2 / expected)[often].sum()
    assert chi / often.sum() == pytest.approx(1, abs=6 * np.sqrt(2 / often.sum()))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("L", "q"), [(3, 3), (4, 100), (5, 20)])
def test_draws_know_their_probability_and_energy(L, q, symmetric):
    decoder = shaken(mc.Decoder(L, q, 32, symmetric=symmetric, key=KEY))
    z = jnp.linspace(-2.0 * L * L, 0.0, 100).astype(jnp.float32)
    s, E, log_p = mc.sample(decoder, z, key=KEY)
    np.testing.assert_allclose(log_p, mc.log_prob(decoder, s, z), rtol=1e-5)
    np.testing.assert_array_equal(E, mc.potts_energy(s, q))


def test_a_new_network_draws_evenly():
    decoder = mc.Decoder(4, 30, key=KEY)
    z = jnp.zeros(500, jnp.float32)
    s, _, log_p = mc.sample(decoder, z, key=KEY)
    np.testing.assert_allclose(log_p, -16 * np.log(30), rtol=1e-6)
    counts = np.bincount(np.asarray(s).ravel(), minlength=30)
    assert ((counts - 8000 / 30) ** 2 / (8000 / 30)).sum() < 60  # 29 +- 8


def test_only_the_symmetric_network_is_blind_to_names():
    s, z = jax.random.randint(KEY, (50, 4, 4), 0, 6), jnp.zeros(50, jnp.float32)
    other = jnp.asarray(np.random.default_rng(1).permutation(6))[s]
    for symmetric in (True, False):
        decoder = shaken(mc.Decoder(4, 6, symmetric=symmetric, key=KEY))
        far = jnp.abs(mc.log_prob(decoder, s, z) - mc.log_prob(decoder, other, z)).max()
        assert (float(far) < 1e-4) == symmetric


def test_impossible_networks_are_refused(unchecked):
    for arguments, message in (
        ((2, 3), "L must be at least 3, got 2"),
        ((3, 1), "q must be at least 2, got 1"),
        ((3, 3, 0), "hidden must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            mc.Decoder(*arguments, key=KEY)
