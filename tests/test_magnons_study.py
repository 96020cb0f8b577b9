"""Chapter 11: the bench of the study, and a part of the shipped campaigns again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import magnons as mg
from dy33lib.datasets import load_shipped
from dy33lib.magnons import study


@pytest.fixture(scope="module")
def setup():
    return study.bench()


def test_bench_has_what_the_chapter_says(setup):
    assert setup.rows.points.shape == (61 * 52, 3)
    assert setup.three.free.tolist() == [True] * 3 + [False] * 4
    assert bool(setup.seven.free.all())
    np.testing.assert_array_equal(setup.three.mean, setup.seven.mean)
    lines = np.asarray(setup.expected) - study.BACKGROUND
    assert 40 < lines.max() < 60
    assert np.median(lines) < 0.01


def test_prior_does_not_sit_on_the_truth(setup):
    distance = np.abs((setup.theta - setup.seven.mean) / setup.seven.sd)
    assert distance[:7].max() > 1.2
    assert distance.max() < 3
    other = study.bench(shift=1.0, width=2.0)
    np.testing.assert_allclose(other.seven.mean[:3] - setup.seven.mean[:3], 1.0)
    np.testing.assert_allclose(other.seven.sd[:7], 2 * setup.seven.sd[:7])


def test_samples_that_are_not_in_the_model(setup):
    np.testing.assert_allclose(study.with_j8(setup, 0.0), setup.expected, rtol=1e-12)
    assert float(jnp.abs(study.with_j8(setup, 0.3) - setup.expected).max()) > 5
    extra = np.asarray(study.with_flat_mode(setup, 20.0, 10.0) - setup.expected)
    energies = np.asarray(setup.rows.points[:, 2])
    np.testing.assert_allclose(extra[energies == 20.0], 10.0)
    assert extra[np.abs(energies - 20) > 6].max() < 1e-6


def test_samples_from_the_prior_are_stable(setup):
    for seed in range(5):
        theta = study.prior_truth(setup, rng=np.random.default_rng(seed))
        mg.bands(theta[:7], setup.rows.points[:, :2])  # raises if soft


def test_bad_couplings_are_refused(unchecked):
    with pytest.raises(ValueError, match="couplings must be seven numbers, got 3"):
        study.bench((-1.0, -1.0, -1.0))
    with pytest.raises(ValueError, match="theta makes a mode soft"):
        study.bench((-1.0, -1.0, 4.0, 0.0, 0.0, 0.0, 0.0))


def test_shipped_campaign_is_found_again(setup):
    """Particles are chaotic: another processor may choose other points after some batches.

    The first batch is the same, the number of points similar (54 to 60 over ten seeds), and both
    posteriors agree within their widths.
    """
    stored = load_shipped("magnons_study")
    beam = mg.Beam(setup.expected, key=jax.random.key(300))
    found = mg.run_campaign(
        beam,
        setup.rows,
        [setup.three, setup.seven],
        150,
        setup.settings(),
        key=jax.random.key(5300),
    )
    assert found.reached(study.TARGET, 2) == pytest.approx(stored["race/full/reached"][0], abs=24)
    last = found.batches[-1]
    distance = (last.mean - stored["race/full/mean"][0]) / np.hypot(
        last.sd, stored["race/full/sd"][0]
    )
    assert np.abs(distance[:7]).max() < 4
    assert np.abs((last.mean - np.asarray(setup.theta)) / last.sd)[:7].max() < 4


def test_shipped_arms_have_all_their_seeds():
    stored = load_shipped("magnons_study")
    arms = {name.rsplit("/", 1)[0] for name in stored}
    assert stored["margin/again/log_evidence"].shape == (10, 20)
    arms.remove("margin/again")
    for part in ("race", "missing", "null", "prior", "travel", "tune"):
        assert any(arm.startswith(part + "/") for arm in arms)
    for arm in arms:
        assert len({len(stored[f"{arm}/{what}"]) for what in ("reached", "alarms", "mean")}) == 1
    assert len(stored["race/full/reached"]) == 10
    assert all(stored[f"{arm}/converged"].min() == 1 for arm in arms)
