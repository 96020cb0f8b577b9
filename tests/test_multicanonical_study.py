"""Chapter 6: the shipped densities of states and networks, and parts of them made again."""

import jax
import numpy as np
import pytest

from dy33lib import multicanonical as mc
from dy33lib.datasets import load_shipped
from dy33lib.multicanonical import study

ARMS = ("canonical", "multicanonical", "windows")


@pytest.fixture(scope="module")
def exact():
    return {name: values for name, values in load_shipped("multicanonical_exact").items()}


@pytest.mark.parametrize("q", [20, 100, 200])
def test_shipped_exact_densities_obey_their_laws(exact, q):
    ln_g = exact[f"6-{q}"]
    assert len(ln_g) == 73 and np.isfinite(ln_g).sum() == 69
    assert np.logaddexp.reduce(ln_g) == pytest.approx(36 * np.log(q), abs=1e-11)
    assert ln_g[0] == pytest.approx(np.log(q), abs=1e-12)
    assert ln_g[4] == pytest.approx(np.log(36.0 * q * (q - 1)), abs=1e-12)
    # two neighbours of one colour: 72 pairs; nothing else costs six bonds
    assert ln_g[6] == pytest.approx(np.log(72.0 * q * (q - 1)), abs=1e-12)


def test_shipped_exact_densities_are_those_of_a_random_walk(exact):
    """Wang-Landau, 20 million steps: off by 0.01 to 0.03."""
    there = np.isfinite(exact["6-20"])
    found = mc.wang_landau(6, 20, 20_000_000, rng=np.random.default_rng(1))
    assert np.sqrt(np.mean((found.ln_g[there] - exact["6-20"][there]) ** 2)) < 0.08


def test_shipped_study_is_complete():
    stored = load_shipped("multicanonical_study")
    for lattice in ("5-200", "5-20", "4-100"):
        for arm in ARMS:
            for steps in (200, 400, 800):
                name = f"race/{lattice} {arm} {steps}"
                L = int(lattice[0])
                assert stored[f"{name}/ln_g"].shape == (5, 2 * L * L + 1)
                assert (stored[f"{name}/hits"].sum(axis=1) == 24_000).all()
                assert (stored[f"{name}/colours"] > 0).tolist() == (
                    stored[f"{name}/hits"][:, 0] > 0
                ).tolist()
    more = [f"race/5-200 {arm}" for arm in ("blind 400", "straight 200", "straight 800")]
    more += [f"plain/5-20 {arm} {steps}" for arm in ARMS for steps in (200, 400, 800)]
    more += ["fresh/6-20 windows 330"]
    more += [f"fresh/8-200 {arm} 600" for arm in ARMS]
    for part, q in (("growth", 20), ("growth", 200), ("growth-multicanonical", 200)):
        more += [f"{part}/{q}/{L}/{when}" for L in (6, 8, 10) for when in ("before", "after")]
    for name in more:
        assert (stored[f"{name}/hits"].sum(axis=1) == 24_000).all()


@pytest.mark.parametrize("q", [20, 200])
def test_shipped_networks_draw_what_was_stored(q):
    """The same key gives the same draws, but for a few where rounding decides."""
    stored = load_shipped("multicanonical_study")
    network = study.shipped(6, q)
    key = jax.random.split(jax.random.key(10), 3)[2]
    E, ln_p, window, colours = study.draw(network, study.DRAWS, key=key)
    found = mc.estimate_dos(E, ln_p, 6, network.windows, window, rng=np.random.default_rng(0))
    name = f"growth/{q}/6/after"
    assert abs(colours - stored[f"{name}/colours"][0]) <= 3
    assert np.abs(found.hits - stored[f"{name}/hits"][0]).sum() < 240
    there = found.hits > 30
    far = found.ln_g[there] - stored[f"{name}/ln_g"][0][there]
    assert np.sqrt(np.mean(far**2)) < 0.02


def test_the_largest_network_knows_its_lattice():
    """2,400 draws: nearly all 197 energies, ln Z where both phases matter to 0.3."""
    network = study.shipped(10, 200)
    E, ln_p, window, _ = study.draw(network, 2400, key=jax.random.key(5), block=1200)
    found = mc.estimate_dos(E, ln_p, 10, network.windows, window, rng=np.random.default_rng(0))
    chains = load_shipped("multicanonical_study")["reference/10-200/ln_g"].astype(float)
    assert (found.hits > 0).sum() > 185
    beta = mc.finite_size_beta(10, 200)
    assert mc.ln_z(found.ln_g, beta) == pytest.approx(mc.ln_z(chains.mean(axis=0), beta), abs=0.3)


@pytest.mark.parametrize("q", [20, 200])
def test_shipped_chains_agree_with_another(q):
    """8 x 8 sites; one chain of 30 million steps has errors of 0.04 to 0.1."""
    chains = load_shipped("multicanonical_study")[f"reference/8-{q}/ln_g"].astype(float)
    mean = chains.mean(axis=0)
    there = np.isfinite(mean)
    again = mc.muca(mean, q, 30_000_000, rng=np.random.default_rng(77))
    assert np.sqrt(np.mean((again.ln_g[there] - mean[there]) ** 2)) < 0.25


def test_a_run_of_the_race_is_as_good_again():
    """Trainings are chaotic: other processors end elsewhere, but as well. Stored: 0.1 to 0.2."""
    exact = mc.exact_dos(5, 20)
    run = study.run(5, 20, "windows", 200, seed=10)
    found = study.score(run.dos, run.colours, exact, 20, mc.equal_weight_beta(exact, 20))
    assert found.bins >= 46 and found.colours == 20
    assert found.low < 0.25 and abs(found.ln_z) < 0.05


def test_a_multicanonical_run_is_as_good_again():
    """Stored, for five seeds: all 47 energies, 180 to 198 colours, 0.07 to 0.09."""
    exact = mc.exact_dos(5, 200)
    run = study.run(5, 200, "multicanonical", 200, seed=10)
    found = study.score(run.dos, run.colours, exact, 200, mc.equal_weight_beta(exact, 200))
    assert found.bins == 47 and found.colours > 150
    assert found.rms < 0.2 and abs(found.ln_z) < 0.1


def test_networks_that_are_not_shipped(unchecked):
    with pytest.raises(ValueError, match="no network is shipped for L = 7, q = 20"):
        study.shipped(7, 20)
