"""Chapter 11: spin waves, counts, particles, Kalman filters, choices, campaigns."""

from itertools import pairwise, permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import logsumexp

from dy33lib import magnons as mg
from dy33lib.magnons import campaign as campaign_module
from dy33lib.magnons.counts import rates

J = jnp.array([-1.9, -3.4, -1.7, -0.1, -0.1, 0.35, -0.3])
THETA = jnp.array([*J, np.log(20.0), np.log(2.0)])
POINTS, LENGTH = mg.candidate_grid(21, (2.0, 50.0, 17))
ROWS = mg.measurement_rows(POINTS)
GUARD = ROWS.take(jnp.arange(0, len(POINTS), 17))
MEAN = jnp.array([-2.0, -2.0, -2.0, 0, 0, 0, 0, np.log(15.0), np.log(3.0)])
FULL = mg.Model(MEAN, jnp.array([1.0, 1, 1, 0.3, 0.3, 0.3, 0.3, 0.5, 0.5]), GUARD)
THREE = mg.Model(MEAN, jnp.array([1.0, 1, 1, 0, 0, 0, 0, 0.5, 0.5]), GUARD)
KEY = jax.random.key(0)


def some(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# Layer -------------------------------------------------------------------------------------------


def bond_sum(couplings, hk, spin, gap):
    """Energies from all sites within reach, without shells, lattice sums or closed forms."""
    reach = {
        (0, 2, 0): 0, (0, 1, 1): 1, (0, 0, 2): 2, (0, 3, 1): 3, (0, 2, 2): 4, (0, 4, 0): 5,
        (0, 1, 3): 6, (0, 4, 2): 7,
    }  # fmt: skip  # |2u|, |2v| of the bond
    matrix = np.zeros((2, 2), complex)
    for A, m, n, B in product((0, 1), range(-3, 4), range(-3, 4), (0, 1)):
        bond = np.array([m, n]) + 0.5 * (B - A)
        shell = reach.get((0, *np.abs(np.rint(2 * bond)).astype(int)))
        if shell is not None and shell < len(couplings):
            wave = np.exp(2j * np.pi * (hk @ bond))
            matrix[A, B] += spin * couplings[shell] * wave
            matrix[A, A] -= spin * couplings[shell]
    return np.linalg.eigvalsh(matrix) + gap


def test_bands_are_the_eigenvalues_of_the_explicit_bond_sum():
    """2,000 wave vectors, random couplings of eight shells; a wrong phase misses by meV."""
    rng = some(0)
    hk = rng.uniform(-2, 2, (2000, 2))
    for layer in (mg.Layer(), mg.Layer(spin=2.0, gap=0.3)):
        strong = -rng.uniform(0.5, 3, 8)
        ours = np.asarray(mg.bands(jnp.asarray(strong), jnp.asarray(hk), layer))
        exact = [bond_sum(strong, q, layer.spin, layer.gap) for q in hk]
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_closed_forms(seed):
    J1, J2, J3, J4, J5, _, J7 = couplings = -some(seed).uniform(0.1, 3, 7)
    S, layer = 1.5, mg.Layer(gap=0.0)
    X, Y, corner, zero = (
        mg.bands(jnp.asarray(couplings), jnp.array(q), layer)
        for q in ([0.5, 0], [0, 0.5], [0.5, 0.5], [0.0, 0])
    )
    assert X == pytest.approx(np.full(2, -S * (4 * J1 + 4 * J2 + 4 * J4 + 8 * J5 + 4 * J7)))
    assert Y == pytest.approx(np.full(2, -S * (4 * J2 + 4 * J3 + 4 * J4 + 8 * J5 + 4 * J7)))
    assert corner == pytest.approx(np.full(2, -S * (4 * J1 + 4 * J2 + 4 * J3 + 4 * J4 + 4 * J7)))
    assert zero == pytest.approx(np.array([0, -8 * S * (J2 + J4 + J7)]))


def test_modes_meet_at_the_zone_boundary():
    t = some(1).uniform(-2, 2, 100)
    for hk in (np.stack([np.full(100, 0.5), t], 1), np.stack([t, np.full(100, 1.5)], 1)):
        lower, upper = np.asarray(mg.bands(J, jnp.asarray(hk))).T
        np.testing.assert_allclose(lower, upper, atol=1e-12)


def test_bands_and_intensities_agree_with_pyspinw():
    """Its numbers ship, with the script that made them."""
    from dy33lib.datasets import load_shipped

    stored = load_shipped("magnons_reference")
    couplings, Q = jnp.asarray(stored["J"]), stored["Q"]
    layer = mg.Layer(gap=0.0)
    ours = mg.bands(couplings, jnp.asarray(Q[:, :2]), layer)
    np.testing.assert_allclose(ours, stored["energies"], rtol=0, atol=1e-9)
    for q, theirs in zip(Q[::10], stored["intensities"][::10], strict=True):
        strength = mg.weights(couplings, jnp.asarray(q[:2]), float(q[2]), layer)
        np.testing.assert_allclose(strength, theirs, rtol=1e-6)


def test_shells_are_the_neighbours_of_the_centred_cell():
    assert [len(shell.bonds) for shell in mg.SHELLS] == [2, 4, 2, 4, 4, 2, 4, 4]
    assert [shell.same for shell in mg.SHELLS] == [
        True,
        False,
        True,
        False,
        True,
        True,
        False,
        True,
    ]


def test_bad_layers_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"J makes a mode soft: its lowest energy is -\d"):
        mg.bands(jnp.array([-1.0, -1.0, 2.0]), jnp.array([[0.0, 0.5]]))
    with pytest.raises(ValueError, match="J must be finite, got nan"):
        mg.bands(jnp.array([jnp.nan]), jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="hk must be finite, got inf"):
        mg.bands(J, jnp.array([[jnp.inf, 0]]))
    with pytest.raises(ValueError, match="J must have 1 to 8 couplings, got 9"):
        mg.bands(-jnp.ones(9), jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="L must be finite and not zero, got 0"):
        mg.weights(J, jnp.ones((1, 2)), 0.0)
    for name, make in (
        ("spin", lambda: mg.Layer(spin=0.0)),
        ("gap", lambda: mg.Layer(gap=-1.0)),
        ("dz", lambda: mg.Layer(dz=np.nan)),
        ("lattice", lambda: mg.Layer(lattice=(1.0, -1.0, 1.0))),
    ):
        with pytest.raises(ValueError, match=f"{name} must be"):
            make()


# Counts ------------------------------------------------------------------------------------------


def test_intensity_is_the_sum_over_modes_written_out():
    """With energies from :func:`bands`, weights from :func:`weights` and the Bose factor."""
    instrument = mg.Spectrometer(sigma=1.3, temperature=60.0)
    rows = mg.measurement_rows(POINTS, 7, instrument)
    E = np.asarray(POINTS[:, 2])
    energies = np.asarray(mg.bands(J, POINTS[:, :2], instrument.layer))
    strength = np.asarray(mg.weights(J, POINTS[:, :2], instrument.L, instrument.layer)) / 0.75
    lines = strength * np.exp(-((E[:, None] - energies) ** 2) / (2 * 1.3**2))
    bose = 1 / (1 - np.exp(-E / (0.08617333 * 60)))
    expected = 20 * bose * lines.sum(axis=1) + 2
    np.testing.assert_allclose(mg.intensity(THETA, rows), expected, rtol=1e-12)


def test_one_mode_disappears_where_sites_interfere():
    """At L = 1/dz the counter-phase mode is dark: only the in-phase line is left."""
    rows = mg.measurement_rows(POINTS, 7, mg.Spectrometer(L=1 / 0.257))
    assert float(jnp.abs(rows.counter).max()) < 1e-12
    assert float(rows.in_phase.min()) > 1.9


def test_counts_are_poisson():
    """20,000 draws: the mean scatters by 0.016, the variance by 0.05 around 5."""
    counts = mg.simulate_counts(jnp.full(20_000, 5.0), key=KEY)
    assert float(counts.mean()) == pytest.approx(5, abs=0.08)
    assert float(counts.var()) == pytest.approx(5, abs=0.25)


def test_likelihood_is_that_of_scipy():
    counts = mg.simulate_counts(mg.intensity(THETA, ROWS), key=KEY)
    exact = stats.poisson.logpmf(np.asarray(counts), np.asarray(mg.intensity(THETA, ROWS))).sum()
    assert float(mg.loglik(THETA, ROWS, counts)) == pytest.approx(exact, rel=1e-12)


def test_grid_walks_along_the_path():
    points, length = mg.candidate_grid()
    assert points.shape == (61 * 52, 3)
    assert length[-1] == pytest.approx(2 + np.sqrt(0.5))
    steps = np.linalg.norm(np.diff(np.asarray(points[::52, :2]), axis=0), axis=1)
    assert steps.max() <= length[1] + 1e-12  # shorter only where the path turns


def test_bad_points_and_counts_are_refused(unchecked):
    good = jnp.ones((3, 3))
    for wrong in (good.at[1, 2].set(-1.0), good.at[1, 2].set(0.0)):
        with pytest.raises(ValueError, match="points must have energies above 0"):
            mg.measurement_rows(wrong)
    with pytest.raises(ValueError, match="points must be finite"):
        mg.measurement_rows(good.at[0, 0].set(jnp.nan))
    rows = mg.measurement_rows(good)
    for wrong, shown in ((-1.0, "-1"), (0.5, "0.5")):
        with pytest.raises(ValueError, match=f"counts must be whole numbers.*{shown}"):
            mg.loglik(THETA, rows, jnp.array([1.0, wrong, 2.0]))
        with pytest.raises(ValueError, match=f"counts must be whole numbers.*{shown}"):
            mg.gp_map(POINTS, np.array([1]), np.array([wrong]))
        with pytest.raises(ValueError, match=f"counts must be whole numbers.*{shown}"):
            mg.pack(ROWS, np.array([1]), np.array([wrong]), 8)
    with pytest.raises(ValueError, match="counts must be finite"):
        mg.loglik(THETA, rows, jnp.array([1.0, jnp.nan, 2.0]))
    with pytest.raises(ValueError, match="theta must have 7 couplings and two numbers, got 5"):
        mg.intensity(THETA[2:7], rows)
    with pytest.raises(ValueError, match="theta must be finite"):
        mg.intensity(THETA.at[0].set(jnp.nan), rows)
    with pytest.raises(ValueError, match="theta makes a mode soft"):
        mg.intensity(THETA.at[2].set(9.0), ROWS)
    with pytest.raises(ValueError, match="expected must be at least 0, got -1"):
        mg.simulate_counts(jnp.array([-1.0]), key=KEY)
    with pytest.raises(ValueError, match="sigma must be positive"):
        mg.Spectrometer(sigma=0.0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        mg.Spectrometer(temperature=0.0)
    with pytest.raises(ValueError, match="index must name one of 357 candidates, got 357"):
        mg.pack(ROWS, np.array([357]), np.array([1.0]), 8)
    with pytest.raises(ValueError, match="at most 8, got 9 for 9 points"):
        mg.pack(ROWS, np.zeros(9, int), np.ones(9), 8)


# Particles ---------------------------------------------------------------------------------------


def two_unknowns():
    """J1 and J2 free, all else frozen: the posterior can be integrated on a grid."""
    sd = np.zeros(9)
    sd[:2] = 1.0
    return mg.Model(jnp.asarray(THETA).at[:2].set(jnp.array([-2.5, -3.0])), jnp.asarray(sd), GUARD)


def test_particles_agree_with_quadrature():
    """Posterior and evidence, in two steps of 20 counts, one before the other.

    2,000 particles: means scatter by sd/40, deviations by 2 to 3 %, the evidence by about 0.1.
    """
    model, rng = two_unknowns(), some(3)
    index = rng.choice(np.flatnonzero(np.asarray(rates(THETA, ROWS)) > 5), 40)
    counts = rng.poisson(np.asarray(rates(THETA, ROWS))[index]).astype(float)
    data = mg.pack(ROWS, index, counts, 48)
    half = mg.pack(ROWS, index[:20], counts[:20], 48)
    cloud = mg.sample_prior(model, 2000, key=KEY)
    cloud = mg.smc_update(cloud, half, jnp.zeros(48), model, key=jax.random.key(1))
    cloud = mg.smc_update(cloud, data, half.weight, model, key=jax.random.key(2))
    assert bool(cloud.converged)
    x, y = np.linspace(-2.6, -1.2, 701), np.linspace(-4.1, -2.7, 701)
    grid = jnp.asarray(np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2))

    def logs(pair):
        theta = THETA.at[:2].set(pair)
        each = mg.loglik(theta, data.rows.take(jnp.arange(40)), jnp.asarray(counts))
        return each - 0.5 * jnp.sum((pair - model.mean[:2]) ** 2) - jnp.log(2 * jnp.pi)

    values = np.asarray(jax.lax.map(jax.jit(logs), grid, batch_size=20_000))
    cell = (x[1] - x[0]) * (y[1] - y[0])
    evidence = logsumexp(values) + np.log(cell)
    weight = np.exp(values - logsumexp(values))
    mean = weight @ np.asarray(grid)
    sd = np.sqrt(weight @ (np.asarray(grid) - mean) ** 2)
    found = np.asarray(cloud.theta[:, :2])
    assert np.abs(found.mean(axis=0) - mean) / sd == pytest.approx(0, abs=0.12)
    assert found.std(axis=0) / sd == pytest.approx(1, abs=0.1)
    stable = 1.0  # the prior hardly reaches soft modes; it is not normalised for them
    assert float(cloud.log_evidence) == pytest.approx(evidence * stable, abs=0.4)


def test_without_new_data_particles_keep_to_the_prior():
    """Moves alone: means within 5 standard errors, variances within 5 (a factor of 2 is 20)."""
    cloud = mg.sample_prior(FULL, 2048, key=KEY)
    nothing = mg.pack(ROWS, np.zeros(0, int), np.zeros(0), 4)
    for key in jax.random.split(KEY, 5):
        cloud = mg.smc_update(cloud, nothing, nothing.weight, FULL, key=key)
    fresh = np.asarray(mg.sample_prior(FULL, 40_000, key=jax.random.key(1)).z)
    found, error = np.asarray(cloud.z), fresh.std(axis=0) / np.sqrt(2048)
    assert (np.abs(found.mean(axis=0) - fresh.mean(axis=0)) < 5 * error).all()
    np.testing.assert_allclose(found.var(axis=0), fresh.var(axis=0), rtol=5 * np.sqrt(2 / 2048))
    assert float(cloud.log_evidence) == pytest.approx(0)


def test_frozen_parameters_stay():
    cloud = mg.sample_prior(THREE, 64, key=KEY)
    data = mg.pack(ROWS, np.arange(10), np.ones(10), 16)
    cloud = mg.smc_update(cloud, data, jnp.zeros(16), THREE, key=KEY)
    np.testing.assert_array_equal(cloud.theta[:, 3:7], 0.0)
    assert THREE.free.tolist() == [True] * 3 + [False] * 4


def test_prior_particles_are_stable_normal_draws():
    cloud = mg.sample_prior(FULL, 400, key=KEY)
    lowest = [float((r := GUARD).gap[0] + (r.same @ t[:7] - jnp.abs(r.other @ t[:7])).min())
              for t in cloud.theta]  # fmt: skip
    assert min(lowest) >= 0
    assert float(cloud.theta[:, 7].std()) == pytest.approx(0.5, abs=0.06)


def test_bad_priors_are_refused(unchecked):
    with pytest.raises(ValueError, match="size must be even and at least 4, got 5"):
        mg.sample_prior(FULL, 5, key=KEY)
    with pytest.raises(ValueError, match="sd must be at least 0"):
        mg.sample_prior(FULL._replace(sd=-FULL.sd), 8, key=KEY)
    with pytest.raises(ValueError, match="mean must be finite"):
        mg.sample_prior(FULL._replace(mean=FULL.mean.at[0].set(jnp.nan)), 8, key=KEY)
    with pytest.raises(ValueError, match="hardly any stable"):
        mg.sample_prior(FULL._replace(mean=-5 * FULL.mean), 8, key=KEY)


# Kalman ------------------------------------------------------------------------------------------


def batch_posterior(points, index, counts, kernel, noise):
    """The Gaussian process by one solve with all data."""

    def cov(a, b):
        q = ((a[:, None, :2] - b[None, :, :2]) ** 2).sum(-1) / kernel.length_q**2
        E = (a[:, None, 2] - b[None, :, 2]) ** 2 / kernel.length_E**2
        return kernel.sd**2 * np.exp(-0.5 * (q + E))

    here = points[index]
    K = cov(here, here) + np.diag(noise)
    across = cov(points, here)
    mean = kernel.mean + across @ np.linalg.solve(K, counts - kernel.mean)
    return mean, kernel.sd**2 - np.einsum("ij,ji->i", across, np.linalg.solve(K, across.T))


def test_kalman_map_is_the_batch_posterior_in_any_order():
    rng, points = some(4), np.asarray(POINTS)
    index = rng.integers(len(points), size=60)
    index[30:40] = index[:10]  # repeated points
    counts = rng.poisson(6, 60).astype(float)
    kernel = mg.Kernel(length_q=0.2, length_E=4.0)
    ours = mg.gp_map(POINTS, index, counts, kernel)
    mean, var = batch_posterior(points, index, counts, kernel, counts + 1)
    np.testing.assert_allclose(ours.mean, mean, atol=1e-10)
    np.testing.assert_allclose(ours.var, var, atol=1e-10)
    order = rng.permutation(60)
    other = mg.gp_map(POINTS, index[order], counts[order], kernel)
    np.testing.assert_allclose(other.mean, ours.mean, atol=1e-10)
    np.testing.assert_allclose(other.var, ours.var, atol=1e-10)


def test_map_without_data_near_is_the_prior():
    far = mg.gp_map(POINTS, np.array([0]), np.array([30.0]), mg.Kernel(mean=4.0))
    assert float(far.mean[-1]) == pytest.approx(4.0)
    assert float(far.mean[0]) == pytest.approx(4 + 26 * 49 / (49 + 31))


def test_downdate_is_the_kalman_covariance():
    """For any columns, in any order."""
    rng = some(5)
    ensemble = jnp.asarray(rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)))
    P = np.cov(ensemble, rowvar=False, bias=True)
    noise, results = [0.3, 2.0, 1.0], []
    for column, R in zip((1, 4, 5), noise, strict=True):
        P = P - np.outer(P[:, column], P[column]) / (P[column, column] + R)
    for order in permutations(range(3)):
        after = ensemble
        for i in order:
            after = mg.kalman_downdate(after, (1, 4, 5)[i], noise[i])
        results.append(np.cov(after, rowvar=False, bias=True))
        np.testing.assert_allclose(results[-1], P, atol=1e-10)
        np.testing.assert_allclose(after.mean(axis=0), ensemble.mean(axis=0), atol=1e-12)


def test_prior_kernel_finds_the_lengths_of_a_known_process():
    """500 surfaces with correlation lengths of 0.2 and 4 meV: found within about 2 %."""
    steps = np.arange(21) * float(LENGTH[1]), np.arange(17) * 3.0
    factors = [
        np.linalg.cholesky(np.exp(-0.5 * (x[:, None] - x) ** 2 / scale**2) + 1e-9 * np.eye(len(x)))
        for x, scale in zip(steps, (0.2, 4.0), strict=True)
    ]
    noise = some(10).normal(size=(500, 21, 17))
    surfaces = 6 + 3 * np.einsum("qa,nab,eb->nqe", factors[0], noise, factors[1])
    kernel = mg.prior_kernel(
        FULL, ROWS, 17, lambda _: jnp.asarray(surfaces.reshape(500, -1)), key=KEY, draws=500
    )
    assert kernel.mean == pytest.approx(6, abs=0.15)
    assert kernel.sd == pytest.approx(3, rel=0.05)
    assert kernel.length_q == pytest.approx(0.2, rel=0.08)
    assert kernel.length_E == pytest.approx(4.0, rel=0.08)


def test_bad_kalman_input_is_refused(unchecked):
    with pytest.raises(ValueError, match="index must name one of 357 candidates, got -1"):
        mg.gp_map(POINTS, np.array([-1]), np.array([1.0]))
    with pytest.raises(ValueError, match="noise must be positive and finite, got 0"):
        mg.gp_map(POINTS, np.array([1]), np.array([1.0]), noise=np.array([0.0]))
    with pytest.raises(ValueError, match="noise must be positive, got 0"):
        mg.kalman_downdate(jnp.ones((4, 2)), 0, 0.0)
    with pytest.raises(ValueError, match="index must name one of 2 candidates, got 2"):
        mg.kalman_downdate(jnp.ones((4, 2)), 2, 1.0)
    for kernel in (mg.Kernel(sd=0.0), mg.Kernel(length_E=-1.0), mg.Kernel(mean=np.nan)):
        with pytest.raises(ValueError, match=r"kernel must be finite.*, got Kernel"):
            mg.gp_map(POINTS, np.array([1]), np.array([1.0]), kernel)
    with pytest.raises(ValueError, match="energies must divide the 357 candidates"):
        mg.prior_kernel(FULL, ROWS, 10, key=KEY)


# Design ------------------------------------------------------------------------------------------


def test_information_is_the_covariance_of_the_score():
    """And of the curvature: -E[d2 log p] at the truth, by automatic differentiation."""
    rows = ROWS.take(jnp.arange(0, 357, 9))
    expected = mg.intensity(THETA, rows)
    curvature = jax.hessian(lambda t: jnp.sum(rates(t, rows) - expected * jnp.log(rates(t, rows))))
    np.testing.assert_allclose(mg.fisher(THETA, rows), curvature(THETA), rtol=1e-9, atol=1e-9)
    twice = mg.fisher(THETA, rows, jnp.full(len(expected), 2.0))
    np.testing.assert_allclose(twice, 2 * mg.fisher(THETA, rows))


def test_optimal_design_meets_the_equivalence_theorem():
    best = mg.a_optimal(THETA, ROWS, 20_000)
    assert 0 <= float(best.gap) < 2e-3
    assert float(best.weights.sum()) == pytest.approx(1)
    assert int((best.weights > 1e-3).sum()) <= 45  # 9 (9 + 1) / 2 points suffice (Caratheodory)
    inverse = np.linalg.inv(mg.fisher(THETA, ROWS, best.weights))
    assert np.trace(inverse[:7, :7]) == pytest.approx(float(best.variance))
    np.testing.assert_allclose(best.sd, np.sqrt(np.diag(inverse)[:7]))


def test_optimal_design_agrees_with_a_general_optimiser():
    rows = ROWS.take(jnp.asarray(some(6).choice(357, 40, replace=False)))
    score = np.asarray(jax.jacfwd(rates)(THETA, rows) / jnp.sqrt(rates(THETA, rows))[:, None])

    def variance(logits):
        w = np.exp(logits - logsumexp(logits))
        return np.log(np.trace(np.linalg.inv((score * w[:, None]).T @ score)[:7, :7]))

    found = minimize(variance, np.zeros(40), method="BFGS", options={"maxiter": 2000})
    assert np.log(float(mg.a_optimal(THETA, rows, 20_000).variance)) <= found.fun + 1e-3


def test_selection_takes_the_largest_drop_of_variance():
    """Against the covariance of all particles and candidates, conditioned by hand."""
    cloud = mg.sample_prior(FULL, 200, key=KEY)
    predicted = np.asarray(mg.predict(cloud.theta, ROWS))
    all_of_it = np.concatenate([cloud.theta[:, :7], predicted], axis=1)
    noise, points, start = predicted.mean(axis=0), np.asarray(POINTS), np.asarray(POINTS[100])
    for travel in (None, mg.Travel(counting=5.0, h=40.0, k=40.0, E=0.4)):
        joint, stops, chosen = np.cov(all_of_it, rowvar=False, bias=True), [start], []
        for _ in range(6):
            gain = (joint[:7, 7:] ** 2).sum(axis=0) / (np.diag(joint)[7:] + noise)
            if travel is not None:
                moves = np.abs(points[:, None] - np.array(stops)) * (40.0, 40.0, 0.4)
                gain /= 5.0 + moves.max(axis=2).min(axis=1)
            best = int(gain.argmax())
            column = joint[:, 7 + best].copy()
            joint -= np.outer(column, column) / (column[7 + best] + noise[best])
            chosen.append(best)
            stops.append(points[best])
        found = mg.select(cloud.theta, ROWS, 6, travel=travel, start=POINTS[100]).tolist()
        assert sorted(found) == sorted(chosen)
        assert travel is not None or found == chosen
    forced = mg.select(cloud.theta, ROWS, 3, forced=(5,)).tolist()
    assert forced[0] == 5 and len(forced) == 3


def test_the_control_rule_asks_where_the_model_is_least_certain():
    """Against the covariance of all intensities, conditioned by hand."""
    cloud = mg.sample_prior(FULL, 200, key=KEY)
    predicted = np.asarray(mg.predict(cloud.theta, ROWS))
    joint, noise, chosen = np.cov(predicted, rowvar=False, bias=True), predicted.mean(axis=0), []
    for _ in range(3):
        best = int((np.diag(joint) / noise).argmax())
        joint = joint - np.outer(joint[best], joint[best]) / (joint[best, best] + noise[best])
        chosen.append(best)
    assert mg.select(cloud.theta, ROWS, 3, rule="spectrum").tolist() == chosen
    assert mg.select(cloud.theta, ROWS, 3).tolist() != chosen


def test_selection_counts_minutes():
    """Where moving costs far more than counting, the spectrometer stays close."""
    cloud = mg.sample_prior(FULL, 200, key=KEY)
    start = POINTS[100]
    free = mg.select(cloud.theta, ROWS, 5, start=start)
    slow = mg.Travel(counting=1.0, h=1e4, k=1e4, E=1e3)
    near = mg.select(cloud.theta, ROWS, 5, travel=slow, start=start)

    def way(chosen, travel):
        stops = jnp.concatenate([start[None], POINTS[jnp.asarray(chosen)]])
        return sum(float(travel.minutes(a, b[None])[0]) for a, b in pairwise(stops))

    assert way(near, slow) < way(free, slow) / 10
    cheap = mg.Travel(counting=5.0, h=1.0, k=1.0, E=0.1)
    for start in POINTS[jnp.array([0, 100, 200, 300])]:
        found = mg.select(cloud.theta, ROWS, 5, travel=cheap, start=start).tolist()
        quickest = min(way(p, cheap) for p in permutations(found))
        assert way(found, cheap) == pytest.approx(quickest)
    assert float(slow.minutes(start, start[None])[0]) == 1.0
    assert mg.Travel(2.0, h=3.0, k=1.0, E=0.1).minutes(
        jnp.zeros(3), jnp.array([[1.0, 2.0, 40.0]])
    ).tolist() == [6.0]


def test_many_points_are_visited_by_the_nearest():
    """Nine points on a line, from 3.2: each next one is the nearest that is left."""
    line = np.zeros((9, 3))
    line[:, 0] = np.arange(9)
    order = mg.Travel(h=1.0).order(np.array([3.2, 0, 0]), line)
    assert order.tolist() == [3, 2, 1, 0, 4, 5, 6, 7, 8]


def test_frozen_couplings_do_not_count():
    """If only J1 is asked for, the first point is the one with the largest gain for J1."""
    cloud = mg.sample_prior(FULL, 200, key=KEY)
    predicted = np.asarray(mg.predict(cloud.theta, ROWS))
    J1, deviation = np.asarray(cloud.theta[:, 0]), predicted - predicted.mean(axis=0)
    gain = ((J1 - J1.mean()) @ deviation) ** 2 / (deviation.var(axis=0) + predicted.mean(axis=0))
    only = jnp.array([True, *[False] * 6])
    assert int(mg.select(cloud.theta, ROWS, 1, free=only)[0]) == int(gain.argmax())


def test_adversary_goes_where_counts_contradict_the_model():
    model = jnp.full(len(POINTS), 4.0)
    spectrum = mg.gp_map(POINTS, np.array([200]), np.array([30.0]), mg.Kernel(4.0, 3.0, 0.1, 3.0))
    assert int(jnp.argmax(mg.disagreement(spectrum, model))) == 200
    quiet = mg.gp_map(POINTS, np.array([200]), np.array([4.0]), mg.Kernel(4.0, 3.0, 0.1, 3.0))
    assert int(jnp.argmin(mg.disagreement(quiet, model, caution=1.0))) == 200
    assert float(mg.disagreement(quiet, model, caution=1.0)[0]) == pytest.approx(1.5)


def test_bad_requests_are_refused(unchecked):
    theta = mg.sample_prior(FULL, 8, key=KEY).theta
    for batch in (0, 358):
        with pytest.raises(ValueError, match=f"batch must be between 1 and the 357.*got {batch}"):
            mg.select(theta, ROWS, batch)
    with pytest.raises(ValueError, match="forced must be at most 1 points, got 2"):
        mg.select(theta, ROWS, 1, forced=(1, 2))
    with pytest.raises(ValueError, match="index must name one of 357 candidates, got 400"):
        mg.select(theta, ROWS, 1, forced=(400,))
    with pytest.raises(ValueError, match=r"rule must be one of .*, got 'best'"):
        mg.select(theta, ROWS, 1, rule="best")  # pyright: ignore[reportArgumentType]
    for travel in (mg.Travel(counting=0.0), mg.Travel(h=-1.0), mg.Travel(E=np.inf)):
        with pytest.raises(ValueError, match=r"travel must be positive.*, got Travel"):
            mg.select(theta, ROWS, 1, travel=travel)
    with pytest.raises(ValueError, match="theta must be finite"):
        mg.select(theta.at[0, 0].set(jnp.nan), ROWS, 1)
    with pytest.raises(ValueError, match="counts_per_point must be at least 0"):
        mg.fisher(THETA, ROWS, jnp.full(357, -1.0))
    with pytest.raises(ValueError, match="rows do not determine all couplings"):
        mg.a_optimal(THETA, ROWS.take(jnp.zeros(3, int)))


# Campaign ----------------------------------------------------------------------------------------


def test_bet_is_fair_if_the_model_is_true():
    """The mean of p1/p0 over all counts, drawn from p0, is 1; for two counts of one batch, too."""
    rng = some(7)
    predicted = rng.gamma(30, 0.2, size=(50, 2))
    mean, var = np.array([5.0, 0.1]), np.array([40.0, 3.0])
    grid = np.array(list(product(range(120), repeat=2)), float)
    assert mg.map_odds(grid[700], mean, var, predicted)[1] != 0
    p0 = np.exp(stats.poisson.logpmf(grid[:, None, :], predicted).sum(axis=2)).mean(axis=1)
    odds = np.array([mg.map_odds(n, mean, var, predicted) for n in grid[::1]])
    assert p0.sum() == pytest.approx(1, abs=1e-6)
    assert p0 @ np.exp(odds.sum(axis=1)) == pytest.approx(1, abs=1e-6)
    capital = np.array([mg.Gambler().bet(row).log_capital for row in odds])
    assert p0 @ np.exp(capital) == pytest.approx(1, abs=1e-6)


def test_no_bet_where_hardly_any_particle_is_left():
    """A count of 40, which one particle in a hundred expects, leaves nothing to predict with."""
    predicted = np.full((100, 2), 3.0)
    predicted[0] = 40.0
    odds = mg.map_odds(np.array([40.0, 3.0]), np.full(2, 5.0), np.full(2, 9.0), predicted)
    assert odds[1] == 0 != odds[0]
    same = mg.map_odds(np.array([3.0, 3.0]), np.full(2, 5.0), np.full(2, 9.0), predicted)
    assert same[1] != 0


def test_gamblers_seldom_win_against_the_truth():
    """Of 2,000 sequences of 60 counts at most 5 % reach 20 (Ville); if it is wrong, most do."""
    rng = some(8)
    won = {}
    for name, rate in (("true", 4.0), ("wrong", 8.0)):
        counts = rng.poisson(rate, (2000, 60)).astype(float)
        p1 = stats.nbinom.logpmf(counts, 3, 3 / (3 + 8.0))
        odds = p1 - stats.poisson.logpmf(counts, 4.0)
        shares = np.array([0.02, 0.1, 0.5])[:, None, None]
        capital = np.cumsum(np.log1p(-shares + shares * np.exp(odds)), axis=2)
        capital = logsumexp(capital, axis=0) - np.log(3)
        one = mg.Gambler().bet(odds[0])
        assert one.log_capital == pytest.approx(capital[0, -1])
        won[name] = (capital.max(axis=1) >= np.log(20)).mean()
    assert won["true"] <= 0.05
    assert won["wrong"] > 0.9


def test_beam_gives_everyone_the_same_counts():
    expected = mg.intensity(THETA, ROWS)
    one, two = (mg.Beam(expected, key=KEY) for _ in range(2))
    first = one.count(np.array([3, 9, 3]))
    assert two.count(np.array([9])) == first[1]
    assert two.count(np.array([3, 3])).tolist() == [first[0], first[2]]
    many = mg.Beam(jnp.full(2, 7.0), key=KEY).count(np.zeros(4000, int))
    assert many.mean() == pytest.approx(7, abs=0.2)
    assert many.var() == pytest.approx(7, abs=0.8)


SMALL = mg.Settings(particles=256, size=96)


@pytest.fixture(scope="module")
def campaign():
    beam = mg.Beam(mg.intensity(THETA, ROWS), key=jax.random.key(5))
    return mg.run_campaign(beam, ROWS, [THREE, FULL], 96, SMALL, key=KEY)


def test_campaign_grows_and_finds_the_couplings(campaign):
    last = campaign.batches[-1]
    assert len(campaign.alarms) == 1 and not campaign.lost
    assert campaign.reached(0.02, 2) == len(campaign.visited) <= 96
    assert last.sd[:7].max() < 0.02
    assert np.abs((last.mean - np.asarray(THETA)) / last.sd).max() < 4
    assert all(b.converged for b in campaign.batches)
    assert campaign.points[-1] == len(campaign.counts)
    assert [b.model for b in campaign.batches] == sorted(b.model for b in campaign.batches)


def test_campaign_map_is_that_of_its_counts(campaign):
    again = mg.gp_map(POINTS, campaign.visited, campaign.counts)
    np.testing.assert_allclose(campaign.spectrum.mean, again.mean, atol=1e-9)


def test_campaign_repeats():
    runs = [
        mg.run_campaign(
            mg.Beam(mg.intensity(THETA, ROWS), key=KEY), ROWS, [FULL], 18, SMALL, key=KEY
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].visited, runs[1].visited)
    np.testing.assert_array_equal(runs[0].particles.theta, runs[1].particles.theta)
    assert runs[0].reached(1e-9, 1) == float("inf")


def test_something_missing_is_noticed():
    """A sample with J8 = -0.5 meV. The campaign ends with the verdict."""
    rows = mg.measurement_rows(POINTS, 8)
    truth = jnp.array([*J, -0.5, np.log(20.0), np.log(2.0)])
    beam = mg.Beam(mg.intensity(truth, rows), key=KEY)
    settings = SMALL._replace(stop=False)
    found = mg.run_campaign(beam, ROWS, [FULL], 96, settings, key=KEY)
    assert len(found.alarms) == 1
    assert found.alarms[0] == len(found.visited)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_missing_raises_no_alarm(seed):
    """Samples from the prior, all the way from the small model to the end of the doubts."""
    z = mg.sample_prior(FULL, 4, key=jax.random.key(100 + seed)).theta[0]
    beam = mg.Beam(mg.intensity(z, ROWS), key=jax.random.key(seed))
    settings = SMALL._replace(stop=False)
    found = mg.run_campaign(beam, ROWS, [THREE, FULL], 60, settings, key=KEY)
    assert len(found.alarms) <= 1


@pytest.fixture
def astray(monkeypatch):
    """Particles that sit in a wrong place, all alike, with less evidence than there is to find."""
    update = campaign_module.smc_update

    def anew(model, data, size, key):
        draw, key = jax.random.split(key)
        return update(mg.sample_prior(model, size, key=draw), data, 0 * data.weight, model, key=key)

    def set_loss(loss):
        def lead(particles, data, old, model, *, key):
            found = update(particles, data, old, model, key=key)
            z = (1e-6 * found.z).at[:, -1].add(1.5)  # three times the background
            evidence = found.log_evidence - loss
            return found._replace(z=z, theta=model.theta(z), log_evidence=evidence)

        monkeypatch.setattr(campaign_module, "smc_update", lead)

    monkeypatch.setattr(campaign_module, "_anew", anew)
    return set_loss


def test_a_second_look_replaces_lost_particles(astray):
    """Before couplings are called known, if the evidence says so by more than the margin."""
    beam = mg.Beam(mg.intensity(THETA, ROWS), key=KEY)
    for loss, lost in ((50.0, [6]), (0.0, [])):
        astray(loss)
        found = mg.run_campaign(beam, ROWS, [FULL], 6, SMALL, key=KEY)
        assert found.lost == lost
        assert (float(found.particles.sd[0]) > 1e-3) == bool(lost)


def test_a_second_look_takes_an_alarm_back(astray):
    """Lost bets of lost particles are void; of particles as good as new ones, an alarm."""
    beam = mg.Beam(mg.intensity(THETA, ROWS), key=KEY)
    settings = SMALL._replace(target=0.0)
    astray(1e6)
    found = mg.run_campaign(beam, ROWS, [FULL], 36, settings, key=KEY)
    capital = np.array([b.log_capital for b in found.batches])
    assert found.alarms == []
    assert found.lost == found.points[capital >= np.log(20)].tolist() != []
    astray(-1e6)
    found = mg.run_campaign(beam, ROWS, [FULL], 36, settings, key=KEY)
    assert len(found.alarms) == 1 and found.lost == []


def test_void_bets_take_back_gains_only():
    """Otherwise each second look would give the gamblers another chance."""
    won, lost = mg.Gambler().bet(np.array([5.0])), mg.Gambler().bet(np.array([-5.0]))
    assert won.log_capital > 0 > lost.log_capital
    assert won.void().log_capital == pytest.approx(0)
    assert lost.void().log_capital == lost.log_capital


def test_a_blind_adversary_draws_its_points():
    beam = mg.Beam(mg.intensity(THETA, ROWS), key=KEY)
    runs = [
        mg.run_campaign(beam, ROWS, [FULL], 48, settings, key=KEY).visited
        for settings in [SMALL._replace(adversary=6, blind=True, target=0.0)] * 2
        + [SMALL._replace(adversary=6, target=0.0)]
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert len(set(runs[2].tolist())) == 48  # the other one spreads its points
    step = np.abs(np.diff(np.sort(runs[0])))
    assert np.ptp(runs[0]) > 300 and step.max() < 60
    assert (runs[0] != runs[2]).mean() > 0.9


def test_known_couplings_leave_all_points_to_the_adversary():
    """With a target that is met at once, the second batch is the worst disagreements, in turn."""
    settings = SMALL._replace(target=10.0)
    first, both = (
        mg.run_campaign(
            mg.Beam(mg.intensity(THETA, ROWS), key=KEY), ROWS, [FULL], 12,
            settings._replace(stop=stop), key=KEY,
        )
        for stop in (True, False)
    )  # fmt: skip
    assert len(first.batches) == 1 and first.spectrum is not None
    model, spectrum, expected = (
        mg.predict(first.particles.theta, ROWS).mean(axis=0),
        first.spectrum,
        [],
    )
    for _ in range(6):
        worst = jnp.argmax(mg.disagreement(spectrum, model, settings.caution))
        expected.append(int(worst))
        spectrum = mg.kalman_step(
            spectrum, POINTS, worst, spectrum.mean[worst], model[worst], settings.kernel
        )
    assert both.batches[1].chosen.tolist() == expected


def test_strategies_choose_candidates():
    even = mg.uniform(21, 17, 6)
    first = np.concatenate([even(np.zeros(k, int), np.zeros(k)) for k in range(0, 120, 6)])
    across, up = np.divmod(first, 17)
    assert np.bincount(across, minlength=21).min() >= 4
    assert np.bincount(up, minlength=17).min() >= 5
    chance = mg.random(357, 6, rng=some(0))
    assert chance(np.zeros(0, int), np.zeros(0)).shape == (6,)
    for scale, score in ((mg.ROOT, mg.upper_bound(2.0)), (mg.LOGARITHM, mg.log_normal_variance)):
        kernel = mg.prior_kernel(FULL, ROWS, 17, lambda x: jnp.asarray(x), key=KEY)
        choose = mg.by_map(ROWS, kernel, score, scale, 4, 32)
        one = choose(np.zeros(0, int), np.zeros(0))
        assert len(set(one.tolist())) == 4
        bright = choose(one, np.array([0.0, 0.0, 90.0, 0.0]))
        distance = np.abs(np.asarray(POINTS)[bright] - np.asarray(POINTS)[one[2]])
        assert (distance[:, 2] < 12).any()


def test_scales_know_their_noise():
    """Root: variance 1 at any rate. Logarithm: about 1/rate."""
    counts = some(9).poisson(30, 100_000).astype(float)
    assert mg.ROOT.value(counts).var() == pytest.approx(1, abs=0.03)
    assert mg.LOGARITHM.value(counts).var() == pytest.approx(1 / 30, rel=0.05)
    y = mg.LOGARITHM.value(np.array([29.5]))
    assert mg.LOGARITHM.noise(y) == pytest.approx(1 / 30)


def test_bad_campaigns_are_refused(unchecked):
    beam = mg.Beam(mg.intensity(THETA, ROWS), key=KEY)
    with pytest.raises(ValueError, match="models must not be empty"):
        mg.run_campaign(beam, ROWS, [], 12, SMALL, key=KEY)
    for limit in (5, 97):
        with pytest.raises(ValueError, match=rf"limit must be .* \(6\) and 96, got {limit}"):
            mg.run_campaign(beam, ROWS, [FULL], limit, SMALL, key=KEY)
    for changes, message in (
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"adversary": 7}, r"adversary must be between 0 and the batch \(6\), got 7"),
        ({"caution": -1.0}, "caution must be at least 0, got -1.0"),
        ({"kernel": mg.Kernel(length_q=0.0)}, "kernel must be finite, with positive sd"),
    ):
        with pytest.raises(ValueError, match=message):
            mg.run_campaign(beam, ROWS, [FULL], 12, SMALL._replace(**changes), key=KEY)
    for number in (0, 13):

        def choose(index, counts, number=number):
            return np.zeros(number, int)

        with pytest.raises(ValueError, match=f"chooser must return 1 to 12 points, got {number}"):
            mg.run_campaign(beam, ROWS, [FULL], 12, SMALL, key=KEY, chooser=choose)
    with pytest.raises(ValueError, match="expected must be at least 0, got -1"):
        mg.Beam(jnp.array([-1.0]), key=KEY)
    with pytest.raises(ValueError, match="index must name one of 357 candidates, got 999"):
        beam.count(np.array([999]))
