"""Chapter 6: Potts energies, exact densities of states, the transition, autoregressive networks."""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import multicanonical as mc
from dy33lib.multicanonical import study
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


def test_baxter_keeps_its_numbers():
    """Values of the formulas, kept against accidents; the next test is the independent one.

    It sees energies and ln Z, not correlation length and interface tension.
    """
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


def shaken(decoder, seed=1, strength=1.0):
    """A new network draws evenly; this one does not."""
    keys = jax.random.split(jax.random.key(seed))
    weights = dict(decoder.weights)
    for k, name in zip(keys, ("out", "coupling"), strict=True):
        weights[name] = strength * jax.random.normal(k, weights[name].shape, jnp.float32)
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


# Windows and estimates ---------------------------------------------------------------------------


def test_the_encoder_adds_up_to_one_and_names_the_nearest_window():
    windows = mc.energy_windows(4, 20)
    r = np.exp(mc.log_encoder(windows, 4))
    assert r.shape == (33, 30)
    np.testing.assert_allclose(r.sum(axis=1), 1)
    nearest = np.abs(mc.energies(4)[:, None] - windows.centres).argmin(axis=1)
    inside = mc.energies(4) < -4
    assert np.abs(r.argmax(axis=1) - nearest)[inside].max() <= 3


def test_windows_with_gaps_are_refused(unchecked):
    with pytest.raises(ValueError, match="centres must cover the energies from -32 to -1, but"):
        mc.energy_windows(4, 20, number=4)
    for width in (0.0, np.nan):
        with pytest.raises(ValueError, match=f"width must be positive and finite, got {width}"):
            mc.energy_windows(4, 20, width=width)


def drawn(decoder, windows, draws, seed):
    """Energies, probabilities and windows of draws."""
    window = np.repeat(np.arange(len(windows.centres)), draws // len(windows.centres))
    z = jnp.asarray(windows.centres[window], jnp.float32)
    _, E, ln_p = mc.sample(decoder, z, key=jax.random.key(seed))
    return np.asarray(E, float), np.asarray(ln_p, float), window


@pytest.mark.parametrize("windowed", [True, False])
def test_estimates_are_unbiased_and_know_their_error(windowed):
    """Forty estimates by an untrained network, whose draws do depend on z.

    In the bins that each of them hits often, means are within 4 standard errors, and the scatter
    is the stated error to 40 % (the chance scatter of a standard deviation of 40 is 11 %).
    """
    decoder = shaken(mc.Decoder(3, 3, 16, key=KEY), strength=0.05)
    windows = mc.energy_windows(3, 3, 10)
    exact, found = mc.exact_dos(3, 3), []
    for seed in range(40):
        one = windows if windowed else windows._replace(centres=windows.centres[4:5])
        E, ln_p, window = drawn(decoder, one, 4000, seed)
        rng = np.random.default_rng(seed)
        chosen = (windows, window) if windowed else (None, None)
        found.append(mc.estimate_dos(E, ln_p, 3, *chosen, rng=rng, resamples=100))
    often = np.min([d.hits for d in found], axis=0) > 40
    assert often.sum() >= 5
    relative = np.exp(np.array([d.ln_g for d in found])[:, often] - exact[often]) - 1
    z = relative.mean(axis=0) / (relative.std(axis=0, ddof=1) / np.sqrt(40))
    assert np.abs(z).max() < 4
    stated = np.mean([d.error[often] for d in found], axis=0)
    np.testing.assert_allclose(relative.std(axis=0, ddof=1), stated, rtol=0.4)


def test_empty_bins_are_said_to_be_empty():
    E, ln_p = np.array([-18.0, -18.0, -4.0]), np.full(3, -9 * np.log(3))
    found = mc.estimate_dos(E, ln_p, 3, rng=np.random.default_rng(0))
    assert found.hits.tolist() == [2, *[0] * 13, 1, *[0] * 4]
    assert found.ln_g[0] == pytest.approx(np.log(2 / 3 * 3**9))
    assert np.isneginf(found.ln_g[found.hits == 0]).all()
    assert np.isnan(found.error[found.hits == 0]).all()
    assert np.isinf(found.error[14]) and np.isfinite(found.error[0])
    assert found.ess[[0, 14, 3]].tolist() == [2, 1, 0]


def test_bad_draws_are_refused(unchecked):
    rng, windows = np.random.default_rng(0), mc.energy_windows(3, 3, 10)
    one = np.zeros(1)
    for E, ln_p, message in (
        (np.zeros(2), one, "E and ln_p must be equally many, got 2 and 1"),
        (np.zeros(0), np.zeros(0), "E and ln_p must be equally many, got 0 and 0"),
        (one - 19, one, "E must be whole numbers from -18 to 0"),
        (one - 0.5, one, "E must be whole numbers from -18 to 0"),
        (one, one + np.nan, "ln_p must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            mc.estimate_dos(E, ln_p, 3, rng=rng)
    for window in (None, np.zeros(20, int)):
        with pytest.raises(ValueError, match="window must name each of the 10 windows equally"):
            mc.estimate_dos(np.zeros(20), np.zeros(20), 3, windows, window, rng=rng)


# Training ----------------------------------------------------------------------------------------


def test_canonical_training_finds_the_free_energy():
    """<ln p + beta E> is never below -ln Z on average, and a trained network comes close."""
    beta, exact = 1.0, mc.exact_dos(3, 5)
    found = mc.train(mc.Decoder(3, 5, 16, key=KEY), "canonical", 200, batch=120, beta=beta, key=KEY)
    z, window = found.latent(4000)
    _, E, ln_p = mc.sample(found.decoder, z, key=jax.random.key(9))
    gap = np.asarray(ln_p + beta * E) + mc.ln_z(exact, beta)
    assert window is None
    assert -4 * gap.std() / np.sqrt(4000) < gap.mean() < 0.02  # 0.0007 to 0.0013 in four runs
    assert found.loss.shape == found.energy.shape == (200,)
    assert found.energy[-20:].mean() / 9 == pytest.approx(mc.moments(exact, beta)[0], abs=0.1)


@pytest.mark.parametrize("target", ["multicanonical", "windows"])
def test_flat_training_visits_all_energies(target):
    """4 x 4 sites, 20 colours: from the ground state to energy 0, in 200 steps of 120 draws."""
    windows = mc.energy_windows(4, 20, 20) if target == "windows" else None
    beta = None if windows else 1.57
    found = mc.train(
        mc.Decoder(4, 20, key=KEY), target, 200, batch=120, beta=beta, windows=windows, key=KEY
    )
    z, window = found.latent(8000)
    _, E, ln_p = mc.sample(found.decoder, z, key=jax.random.key(9))
    E, ln_p = np.asarray(E, float), np.asarray(ln_p, float)
    dos = mc.estimate_dos(E, ln_p, 4, windows, window, rng=np.random.default_rng(0))
    exact = mc.exact_dos(4, 20)
    there = np.isfinite(exact) & (mc.energies(4) <= -2)
    assert (dos.hits[there] > 0).all()
    assert (
        np.sqrt(np.mean((dos.ln_g[there] - exact[there]) ** 2)) < 0.25
    )  # 0.06 to 0.11 in eight runs
    assert mc.ln_z(dos.ln_g, 1.57) == pytest.approx(mc.ln_z(exact, 1.57), abs=0.1)


def test_training_leaves_its_start_alone():
    start = mc.Decoder(3, 4, 8, key=KEY)
    before = {name: np.array(w) for name, w in start.weights.items()}
    mc.train(start, "canonical", 10, batch=8, beta=1.0, key=KEY)
    for name, w in start.weights.items():
        np.testing.assert_array_equal(w, before[name])


def test_impossible_trainings_are_refused(unchecked):
    decoder, windows = mc.Decoder(3, 4, 8, key=KEY), mc.energy_windows(3, 4, 10)
    broken = eqx.tree_at(lambda d: d.weights["out"], decoder, jnp.full((8, 1), jnp.nan))
    for d, target, steps, changes, message in (
        (decoder, "best", 10, {"beta": 1.0}, "target must be one of"),
        (decoder, "canonical", 10, {}, "target 'canonical' needs windows or beta"),
        (decoder, "windows", 10, {"beta": 1.0}, "target 'windows' needs windows or beta"),
        (decoder, "canonical", 15, {"beta": 1.0}, "steps must be a multiple of 10, got 15"),
        (decoder, "canonical", 10, {"beta": -1.0}, "beta must be positive and finite, got -1"),
        (decoder, "canonical", 10, {"beta": 1.0, "rate": np.inf}, "rate must be positive and"),
        (decoder, "windows", 10, {"windows": windows, "batch": 10}, "batch must be a multiple"),
        (broken, "canonical", 10, {"beta": 1.0}, "decoder must have finite weights"),
        (
            decoder,
            "windows",
            10,
            {"windows": windows._replace(centres=windows.centres[:5])},
            "centres must cover",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            mc.train(d, target, steps, key=KEY, **changes)  # pyright: ignore[reportArgumentType]
    found = mc.train(decoder, "windows", 10, batch=20, windows=windows, key=KEY)
    with pytest.raises(ValueError, match="draws must be a multiple of the 10 windows, got 15"):
        found.latent(15)


# Chains ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neighbour", [0.0, 0.5, 0.9])
def test_wang_landau_finds_the_exact_density_of_states(neighbour):
    """Two million steps, any proposals: errors of 0.016 to 0.05 in nine runs.

    Taking over a neighbour's colour without the ratio of proposals is wrong by more than 0.5.
    """
    exact = mc.exact_dos(4, 5)
    found = mc.wang_landau(4, 5, 2_000_000, neighbour=neighbour, rng=np.random.default_rng(1))
    there = np.isfinite(exact)
    assert (np.isfinite(found.ln_g) == there).all()
    assert np.sqrt(np.mean((found.ln_g[there] - exact[there]) ** 2)) < 0.1
    assert np.logaddexp.reduce(found.ln_g) == pytest.approx(16 * np.log(5))
    assert found.steps < 2_000_000
    assert found.increment == pytest.approx(there.sum() / 2_000_000)


def test_wang_landau_that_never_gets_flat_says_so():
    found = mc.wang_landau(4, 20, 5_000, rng=np.random.default_rng(1))
    assert found.steps == 5_000 and found.increment == 1.0


@pytest.mark.parametrize("neighbour", [0.0, 0.5])
def test_multicanonical_chains_correct_their_weights_and_know_their_error(neighbour):
    """Weights that are wrong by up to 0.5; eight chains, 29 bins each.

    Errors of 0.04 to 0.23, with neighbours' colours 0.03 to 0.09. Within two stated errors: 59 %
    to 100 % of the bins, which are strongly correlated.
    """
    exact = mc.exact_dos(4, 20)
    there = np.isfinite(exact)
    guess = exact + 0.5 * np.sin(np.arange(33.0))
    inside = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found = mc.muca(guess, 20, 1_000_000, neighbour=neighbour, rng=rng)
        far = found.ln_g[there] - exact[there]
        assert np.sqrt(np.mean(far**2)) < (0.35 if neighbour == 0 else 0.15)
        assert (found.visits[~there] == 0).all() and found.visits.sum() == 1_000_000
        assert (15 if neighbour == 0 else 100) < found.trips < 1000  # 42 to 50, 270 to 302
        assert 0.2 < found.accepted < 0.6
        inside.append(np.mean(np.abs(far) < 2 * found.error[there]))
    assert np.mean(inside) > 0.85


def test_multicanonical_chains_stay_out_of_empty_bins():
    guess = mc.exact_dos(3, 4)
    guess[-1] = -np.inf
    found = mc.muca(guess, 4, 50_000, rng=np.random.default_rng(0))
    assert found.visits[-1] == 0 and np.isneginf(found.ln_g[-1]) and np.isnan(found.error[-1])
    assert (found.visits[np.isfinite(guess)] > 0).all()


def test_flat_weights_visit_energies_as_often_as_there_are_states():
    """With weight one everywhere all configurations are alike, of which g are enumerated."""
    exact = mc.exact_dos(3, 3)
    found = mc.muca(np.zeros(19), 3, 400_000, rng=np.random.default_rng(0))
    common = np.exp(exact) > 100
    share = np.exp(exact - 9 * np.log(3))
    np.testing.assert_allclose(found.visits[common] / 400_000, share[common], rtol=0.1)


def test_independent_draws_in_a_chain_have_the_weights_asked_for():
    """Three states, drawn as 1 : 1 : 2, wanted as 4 : 1 : 1. Scatter of a share: 0.003."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(3, p=[0.25, 0.25, 0.5], size=100_000)
    ln_w = np.log(np.array([16.0, 4.0, 2.0]))[drawn]
    held = mc.independence_chain(ln_w, rng)
    share = np.bincount(drawn[held]) / len(held)
    np.testing.assert_allclose(share, [4 / 6, 1 / 6, 1 / 6], atol=0.012)
    assert (np.diff(held) >= 0).all() and held[0] == 0


def test_round_trips_need_both_ends():
    """4 x 4, q = 5: from -32 to -6 or above, and back."""
    E = np.array([-20.0, -32, -10, -32, -7, -6, -2, -31, -5, -32, -20, -6])
    assert mc.round_trips(E, 4, 5) == 2
    assert mc.round_trips(E[:5], 4, 5) == 0
    assert mc.round_trips(E, 4, 5, (-20, -10)) == 4
    chain = mc.muca(mc.exact_dos(4, 20), 20, 200_000, ends=(-24, -8), rng=np.random.default_rng(0))
    assert 100 < chain.trips < 500  # 133; some 50 from end to end


def test_impossible_chains_are_refused(unchecked):
    rng, guess = np.random.default_rng(0), mc.exact_dos(3, 4)
    for L, q, steps, neighbour, message in (
        (2, 3, 10, 0.5, "L must be at least 3, got 2"),
        (3, 1, 10, 0.5, "q must be at least 2, got 1"),
        (3, 3, 0, 0.5, "steps must be at least 1, got 0"),
        (3, 3, 10, 1.0, r"neighbour must be at least 0 and below 1, got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            mc.wang_landau(L, q, steps, neighbour=neighbour, rng=rng)
    with pytest.raises(ValueError, match=r"ln_g must have 2 L\^2 \+ 1 entries, got 7"):
        mc.muca(np.zeros(7), 3, 100, rng=rng)
    for bad in (np.where(guess > 9, np.nan, guess), np.where(guess < 2, -np.inf, guess)):
        with pytest.raises(ValueError, match="ln_g must be numbers or -inf, and finite for the"):
            mc.muca(bad, 4, 100, rng=rng)
    with pytest.raises(ValueError, match="blocks must be from 2 to the 100 steps, got 1"):
        mc.muca(guess, 4, 100, blocks=1, rng=rng)
    for ends in ((-4, -9), (-19, -2), (-9, 1)):
        with pytest.raises(ValueError, match="ends must be two energies, the lower first, got"):
            mc.round_trips(np.zeros(3), 3, 4, ends)
    for weights in (np.zeros(0), np.array([0.0, np.nan])):
        with pytest.raises(ValueError, match="ln_w must be finite numbers, at least one"):
            mc.independence_chain(weights, rng)


def test_the_transition_of_finite_lattices_from_the_infinite_one(unchecked):
    """Off by 0.003, 0.002 and 0.0004 where q = 100 or 200, by 0.011 where q = 20."""
    for L, q, within in ((4, 100, 0.004), (5, 100, 0.002), (5, 200, 0.001), (5, 20, 0.02)):
        exact = mc.equal_weight_beta(mc.exact_dos(L, q), q)
        assert mc.finite_size_beta(L, q) == pytest.approx(exact, abs=within)
    with pytest.raises(ValueError, match="q must be above 4"):
        mc.finite_size_beta(4, 3)


# Study -------------------------------------------------------------------------------------------


def test_scores_of_a_perfect_and_of_a_collapsed_estimate():
    exact = mc.exact_dos(4, 20)
    there, size = np.isfinite(exact), len(exact)
    hits = np.where(there, 10, 0)
    perfect = mc.DensityOfStates(exact, np.full(size, 0.1), hits.astype(float), hits)
    beta = mc.equal_weight_beta(exact, 20)
    found = study.score(perfect, 20, exact, 20, beta)
    assert (found.bins, found.colours, found.inside, found.ess) == (29, 20, 1.0, 1.0)
    errors = (found.rms, found.seen, found.low, found.gap, found.ground, found.ln_z, found.norm)
    np.testing.assert_allclose(errors, 0.0, atol=1e-12)
    shifted = perfect._replace(ln_g=np.where(mc.energies(4) == -32, exact + 1.0, exact))
    found = study.score(shifted, 20, exact, 20, beta)
    assert found.ground == pytest.approx(1.0) and found.rms == pytest.approx(np.sqrt(1 / 29))
    assert found.gap == pytest.approx(0.0, abs=1e-12)
    ordered = mc.energies(4) < -16 * (1 + 1 / np.sqrt(20))
    lost = perfect._replace(
        ln_g=np.where(ordered, -np.inf, exact + 0.3), hits=np.where(ordered, 0, hits)
    )
    found = study.score(lost, 0, exact, 20, beta)
    assert np.isinf([found.rms, found.low, found.gap]).all() and found.ground == -np.inf
    assert found.seen == pytest.approx(0.3) and found.inside == 0
    assert found.ln_z == pytest.approx(0.3 + np.log(0.5))  # half of the weight is gone
    assert study.ordered_weight(exact, 20, beta) == pytest.approx(0.5)


def test_a_run_of_the_study_is_its_parts():
    windows = mc.energy_windows(3, 5, 10)
    found = study.run(
        3, 5, "windows", 20, seed=3, windows=windows, batch=40, draws=400, hidden=8, block=200
    )
    assert found.E.shape == found.ln_p.shape == (400,)
    assert found.window is not None and np.bincount(found.window).tolist() == [40] * 10
    again = mc.estimate_dos(
        found.E, found.ln_p, 3, windows, found.window, rng=np.random.default_rng(3), resamples=100
    )
    np.testing.assert_array_equal(found.dos.ln_g, again.ln_g)
    assert found.dos.hits.sum() == 400
    assert (found.colours > 0) == (found.dos.hits[0] > 0)
    assert found.colours <= found.dos.hits[0]
    with pytest.raises(ValueError, match="draws must be a multiple of 200, got 300"):
        study.draw(found.trained, 300, key=KEY, block=200)


def test_larger_networks_start_from_smaller_ones(unchecked):
    """What a site sees keeps its weights, counted from the nearer end of its row."""
    small = shaken(mc.Decoder(4, 9, 8, key=KEY))
    large = mc.enlarge(small, 6)
    assert (large.L, large.q) == (6, 9)
    rows, new = np.asarray(small.weights["colours"]), np.asarray(large.weights["colours"])
    source = [0, 1, 2, 2, 2, 3]
    np.testing.assert_array_equal(new[:6], rows[source])
    np.testing.assert_array_equal(new[6:12], rows[[4 + i for i in source]])
    np.testing.assert_array_equal(new[12], rows[8])
    places = np.asarray(small.weights["place"]).reshape(4, 4, -1)
    np.testing.assert_array_equal(
        np.asarray(large.weights["place"]).reshape(6, 6, -1), places[source][:, source]
    )
    for name in ("shared", "second", "pooled", "out", "coupling", "bias"):
        np.testing.assert_array_equal(large.weights[name], small.weights[name])
    with pytest.raises(ValueError, match="L must be larger than 4, got 4"):
        mc.enlarge(small, 4)
    with pytest.raises(ValueError, match="decoder must be symmetric"):
        mc.enlarge(mc.Decoder(4, 9, 8, symmetric=False, key=KEY), 6)


def test_weights_that_do_not_fit_are_refused(unchecked):
    decoder = mc.Decoder(3, 4, 8, key=KEY)
    again = decoder.with_weights({name: np.asarray(w) for name, w in decoder.weights.items()})
    np.testing.assert_array_equal(again.weights["second"], decoder.weights["second"])
    with pytest.raises(ValueError, match="weights must have the shapes"):
        decoder.with_weights({"out": decoder.weights["out"]})
    with pytest.raises(ValueError, match="weights must be finite, but \\['out'\\] are not"):
        decoder.with_weights(decoder.weights | {"out": jnp.full((8, 1), jnp.nan)})


def test_a_warm_training_keeps_what_is_known():
    """Ten steps at rate zero, nearly: a trained network draws as before, a new training forgets."""
    windows = mc.energy_windows(3, 5, 10)
    first = mc.train(
        mc.Decoder(3, 5, 16, key=KEY), "windows", 150, batch=80, windows=windows, key=KEY
    )
    found = mc.train(
        first.decoder, "windows", 10, batch=80, windows=windows, rate=1e-9, warm=True, key=KEY
    )
    assert abs(found.energy.mean() - first.energy[-20:].mean()) < 0.5
    there = np.isfinite(mc.exact_dos(3, 5))
    far = (found.guess - mc.exact_dos(3, 5))[there]
    assert np.ptp(far) < 1.5  # the guess comes from 960 draws before the first step


def test_a_warm_training_is_at_its_temperature_from_the_start():
    """Loss -ln Z to 0.02 in the first step; at infinite temperature it would be -9 ln 5 = -14.5."""
    first = mc.train(mc.Decoder(3, 5, 16, key=KEY), "canonical", 200, batch=120, beta=1.0, key=KEY)
    found = mc.train(
        first.decoder, "canonical", 10, batch=2000, beta=1.0, rate=1e-9, warm=True, key=KEY
    )
    exact = -mc.ln_z(mc.exact_dos(3, 5), 1.0)
    assert exact < -15
    assert found.loss[0] == pytest.approx(exact, abs=0.1)


def test_a_warm_training_has_flat_weights_from_the_start():
    """The first and the last steps have the same loss; with beta E at first they would differ."""
    first = mc.train(
        mc.Decoder(3, 5, 16, key=KEY), "multicanonical", 150, batch=120, beta=1.0, key=KEY
    )
    found = mc.train(
        first.decoder, "multicanonical", 40, batch=400, beta=1.0, rate=1e-9, warm=True, key=KEY
    )
    assert abs(found.loss[:10].mean() - found.loss[-10:].mean()) < 1.0


def test_energies_without_draws_are_continued():
    """4 x 4 sites, 100 colours, 20 steps: no draw is ordered. Flat, or at 1.5 beta at most."""
    decoder, beta = mc.Decoder(4, 100, 16, key=KEY), 1.0
    flat, line = (
        mc.train(decoder, "multicanonical", 20, batch=60, beta=beta, straight=straight, key=KEY)
        for straight in (False, True)
    )
    assert flat.energy.min() > -12
    np.testing.assert_array_equal(flat.guess[:10], flat.guess[0])
    slopes = np.diff(line.guess[:10])
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-9)
    assert 0.5 < slopes[0] <= 1.5 * beta
    assert line.guess[0] < flat.guess[0] - 5


class Enough(Exception):
    """Ends a run where its training would begin."""


def told(monkeypatch, target, **settings) -> dict:
    """What a run of the study asks of its training."""
    found = {}

    def watch(*_, **named):
        found.update(named)
        raise Enough

    monkeypatch.setattr(study, "train", watch)
    with pytest.raises(Enough):
        study.run(3, 20, target, 10, seed=0, hidden=8, **settings)
    return found


def test_runs_of_the_study_train_as_told(monkeypatch):
    for target in ("canonical", "multicanonical", "windows"):
        for symmetric, rate in ((True, 2.4e-2), (False, 2.4e-2 if target == "windows" else 1.2e-2)):
            found = told(monkeypatch, target, symmetric=symmetric)
            assert found["rate"] == rate and not found["straight"] and not found["warm"]
            assert (found["windows"] is None) == (target != "windows")
            expected = None if target == "windows" else mc.finite_size_beta(3, 20)
            assert found["beta"] == expected
    start = mc.Decoder(3, 20, 8, key=KEY)
    found = told(
        monkeypatch, "multicanonical", rate=1e-3, beta=0.5, straight=True, start=start, batch=60
    )
    assert (found["rate"], found["beta"], found["batch"]) == (1e-3, 0.5, 60)
    assert found["straight"] and found["warm"]
