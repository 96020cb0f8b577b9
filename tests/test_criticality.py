"""Chapter 2: moments, laws, chains of inputs, networks."""

from itertools import pairwise, product
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import betainc, ndtr, ndtri

from dy33lib import criticality as cr
from dy33lib.criticality import Params
from dy33lib.criticality.outputs import shifted_beta
from dy33lib.datasets import load_shipped

PUBLISHED = load_shipped("criticality_published")
LAMS = 1 - 10 ** np.linspace(0, -4, 65)


# Moments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lam", "h", "mu"), [(0.9, 0.01, 1.0), (0.99, 0.001, 1.0), (0.0, 0.3, 1.0),
                                              (0.9, 0.05, 0.2), (0.99, 2.0, 0.5)])  # fmt: skip
def test_moments_of_a_small_network_are_exact(lam, h, mu):
    """Against the stationary law; without the term of order 1/n the variance misses by 1e-3."""
    law = cr.exact_stationary(200, lam, h, mu)
    x = np.arange(201) / 200
    mean = law @ x
    m = cr.activity_moments(lam, h, 1e-6, Params(n=200, mu=mu))
    assert float(m.mean) == pytest.approx(mean, rel=1e-10)
    assert float(m.var_inst) == pytest.approx(law @ (x - mean) ** 2, rel=1e-10)
    assert float(m.var_filtered) == pytest.approx(law @ (x - mean) ** 2, rel=1e-10)
    assert float(m.third) == pytest.approx(law @ (x - mean) ** 3, rel=1e-9)


def enumerated(lam, h, T, sizes, seen, n):
    """Mean, variance, third moment of the average, by linear equations for E[A^j; state]."""
    p, alpha = -np.expm1(-h), -np.expm1(-1 / T)
    outcomes = [range(k + 1) for s, r in zip(sizes, seen, strict=True) for k in (r, s - r)]
    groups = [k for s, r in zip(sizes, seen, strict=True) for k in (r, s - r)]
    steps = np.zeros((4, n + 1, n + 1))  # E[y^k; a' | a]
    for a in range(n + 1):
        fire = p + (1 - p) * lam * a / n, lam * a / n
        q = [fire[0], fire[0], fire[1], fire[1]]
        for state in product(*outcomes):
            weight = np.prod(
                [stats.binom.pmf(x, k, u) for x, k, u in zip(state, groups, q, strict=True)]
            )
            y = (state[0] + state[2]) / sum(seen)
            for k in range(4):
                steps[k, sum(state), a] += weight * y**k
    moments = []
    for j in range(4):
        lower = sum(
            comb(j, k) * (1 - alpha) ** k * alpha ** (j - k) * steps[j - k] @ moments[k]
            for k in range(j)
        )
        matrix = np.eye(n + 1) - (1 - alpha) ** j * steps[0]
        if j == 0:
            matrix[-1], lower = 1.0, np.append(np.zeros(n), 1.0)
        moments.append(np.linalg.solve(matrix, lower))
    raw = [m.sum() for m in moments]
    return raw[1], raw[2] - raw[1] ** 2, raw[3] - 3 * raw[1] * raw[2] + 2 * raw[1] ** 3


@pytest.mark.parametrize("T", [0.3, 2.0, 30.0])
@pytest.mark.parametrize(
    ("lam", "h", "seen"), [(0.9, 0.2, (2, 4)), (0.5, 1.0, (1, 2)), (0.95, 0.03, (1, 2))]
)
def test_filtered_moments_by_enumeration(lam, h, T, seen):
    """A network of six units: all of them read, or half of each group."""
    params = Params(n=6, mu=1 / 3, nu=sum(seen) / 6)
    m = cr.activity_moments(lam, h, T, params)
    found = float(m.mean), float(m.var_filtered), float(m.third)
    assert found == pytest.approx(enumerated(lam, h, T, (2, 4), seen, 6), rel=1e-9)


def test_filtered_variance_against_simulation():
    """64 chains for six inputs and four times: the spread of chains gives the standard errors.

    Right code scatters as a normal variable; with the filter of a boxcar of T steps z exceeds 10.
    """
    scores = []
    for i, (lam, h) in enumerate(product((0.5, 0.9, 0.97), (0.003, 0.1))):
        Ts = np.array([1.0, 3.0, 10.0, 30.0])
        rng = np.random.default_rng(100 + i)
        run = cr.simulate_annealed(lam, h, Ts, 4000, Params(n=1000), rng=rng, burn=400, every=4000)
        theory = cr.activity_moments(lam, h, Ts, Params(n=1000)).var_filtered
        # around the exact mean, so that the spread of the chains' means does not enter
        means = run.mean - float(cr.mean_activity(lam, h, 0.2))
        square = run.var + means.mean(axis=1, keepdims=True) * (
            2 * means - means.mean(axis=1, keepdims=True)
        )
        error = square.std(axis=1, ddof=1) / 8
        scores.extend((square.mean(axis=1) - theory) / error)
    assert np.abs(scores).max() < 4
    assert np.sqrt(np.mean(np.square(scores))) < 1.5


def test_no_fluctuations_without_input_and_at_infinite_time():
    m = cr.activity_moments(0.9, 0.0, 10.0)
    assert (float(m.mean), float(m.var_filtered), float(m.third)) == (0.0, 0.0, 0.0)
    m = cr.activity_moments(0.9, 0.1, np.inf)
    assert float(m.var_filtered) == 0.0
    assert float(m.var_inst) > 0


def test_moments_vectorise_and_differentiate():
    lams, hs = np.array([0.5, 0.9]), np.array([0.1, 0.2])
    both = cr.activity_moments(lams, hs, 10.0)
    one = cr.activity_moments(0.9, 0.2, 10.0)
    assert float(np.asarray(both.third)[1]) == pytest.approx(float(one.third), rel=1e-12)
    mapped = jax.vmap(lambda lam, h: cr.activity_moments(lam, h, 10.0).var_filtered)(
        jnp.asarray(lams), jnp.asarray(hs)
    )
    assert np.asarray(mapped) == pytest.approx(np.asarray(both.var_filtered), rel=1e-12)
    slope = jax.grad(lambda lam: cr.activity_moments(lam, 0.2, 10.0).var_filtered)(0.9)
    ends = [float(cr.activity_moments(0.9 + d, 0.2, 10.0).var_filtered) for d in (-1e-5, 1e-5)]
    assert float(slope) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-6)


def test_autocorrelation_time():
    assert float(cr.activity_moments(0.9, 0.0, 1.0).tau) == pytest.approx(
        -1 / np.log(0.9), rel=1e-12
    )


def test_inversion_of_the_mean_activity():
    h = np.geomspace(1e-6, 10, 30)
    assert cr.invert_activity(cr.mean_activity(0.99, h, 0.3), 0.99, 0.3) == pytest.approx(
        h, rel=1e-10
    )
    assert float(cr.invert_activity(0.0, 0.9)) == 0.0
    assert float(cr.invert_activity(float(cr.mean_activity(0.9, np.inf)), 0.9)) > 30


def test_bad_input_of_the_moments():
    for lam in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"lam must be in \[0, 1\), got"):
            cr.activity_moments(lam, 0.1, 1.0)
    with pytest.raises(ValueError, match=r"lam must be in \[0, 1\), got 1.5"):
        cr.activity_moments(np.array([0.3, 1.5]), 0.1, 1.0)
    with pytest.raises(ValueError, match="h must be at least 0, got -1"):
        cr.mean_activity(0.5, -1.0)
    with pytest.raises(ValueError, match="T must be positive, got 0"):
        cr.activity_moments(0.5, 0.1, 0.0)
    with pytest.raises(ValueError, match=r"mu must be in \(0, 1\], got 0"):
        cr.mean_activity(0.5, 0.1, 0.0)
    for a in (-0.01, 0.8):
        with pytest.raises(
            ValueError, match=r"a must be between 0 and 0.714.*which an input reaches"
        ):
            cr.invert_activity(a, 0.9)
    with jax.enable_x64(False), pytest.raises(ValueError, match="double precision"):
        cr.mean_activity(0.5, 0.1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("n", 0, "at least 1, got 0"),
     ("n", float("nan"), "got nan"), ("n", 2.5, "got 2.5"),
     ("k", 0, "at least 1"), ("mu", 0.0, r"\(0, 1\], got 0"),
     ("mu", 1.1, r"\(0, 1\], got 1.1"), ("nu", 0.0, r"\(0, 1\]"), 
     ("sigma", 0.0, "positive and finite, got 0"),
     ("eps", 0.5, r"\(0, 0.5\), got 0.5"), ("eps", 0.0, r"\(0, 0.5\)")],
)  # fmt: skip
def test_bad_parameters(name, value, message, unchecked):
    with pytest.raises(ValueError, match=f"{name} must be .*{message}"):
        Params(**{name: value})


# Laws of the output ------------------------------------------------------------------------------

CASES = [
    (lam, h, T) for lam in (0.0, 0.9, 0.99, 0.999, 0.9999)
    for h in (1e-6, 1e-4, 2e-3, 0.1, 3.0) for T in (0.01, 10.0, 1e3, 1e5)
]  # fmt: skip


@pytest.mark.parametrize("shape", ["shifted", "beta"])
def test_laws_have_the_exact_moments(shape):
    """Sum, mean and variance to rounding; the third moment for the law that promises it."""
    grid = cr.output_grid()
    for lam, h, T in CASES:
        law = np.asarray(cr.output_pmf(lam, h, T, shape=shape))
        m = cr.activity_moments(lam, h, T)
        noisy = float(m.var_filtered) + 1e-4
        mean = law @ grid
        assert law.sum() == pytest.approx(1, abs=1e-9), (lam, h, T)
        assert mean == pytest.approx(float(m.mean), abs=1e-9), (lam, h, T)
        assert law @ (grid - mean) ** 2 == pytest.approx(noisy, rel=1e-7), (lam, h, T)
        if shape == "shifted" and m.var_filtered > 1e-8:  # below, only the width is kept
            third = law @ (grid - mean) ** 3
            assert third == pytest.approx(float(m.third), abs=1e-6 * noisy**1.5), (lam, h, T)


def test_beta_law_by_another_quadrature():
    """Cell masses from the incomplete Beta function, each cell with normal noise."""
    grid, edges = cr.output_grid(), np.linspace(0, 1, 200_001)
    middle = (edges[1:] + edges[:-1]) / 2
    for lam, h, T in ((0.9999, 1e-4, 1.0), (0.999, 3e-4, 100.0), (0.99, 0.1, 1.0)):
        m = cr.activity_moments(lam, h, T)
        c = float(m.mean * (1 - m.mean) / m.var_filtered) - 1
        mass = np.diff(betainc(float(m.mean) * c, (1 - float(m.mean)) * c, edges))
        density = np.array([mass @ stats.norm.pdf(o, middle, 0.01) for o in grid[::16]])
        found = cr.output_pmf(lam, h, T, shape="beta")[::16] / (grid[1] - grid[0])
        assert found == pytest.approx(density, abs=1e-4 * density.max())


def test_shifted_beta_law_has_its_three_moments():
    mean, var, third = 0.2, 0.01, 0.0009
    alpha, beta, low = (float(v) for v in shifted_beta(mean, var, third))
    law = stats.beta(alpha, beta, loc=low, scale=1 - low)
    assert law.mean() == pytest.approx(mean, rel=1e-12)
    assert law.var() == pytest.approx(var, rel=1e-12)
    assert law.stats("s") * law.std() ** 3 == pytest.approx(third, rel=1e-10)


def test_the_instantaneous_law_is_beta():
    """The exact law of 400 units, all driven: Wright-Fisher. The normal law misses."""
    n, lam, h = 400, 0.98, 0.01
    law = cr.exact_stationary(n, lam, h)
    m = cr.activity_moments(lam, h, 1e-6, Params(n=n, mu=1.0))
    c = float(m.mean * (1 - m.mean) / m.var_inst) - 1
    edges = (np.arange(n + 2) - 0.5) / n
    beta = np.diff(stats.beta.cdf(edges, float(m.mean) * c, (1 - float(m.mean)) * c))
    normal = np.diff(stats.norm.cdf(edges, float(m.mean), float(m.var_inst) ** 0.5))
    assert np.abs(law - beta).sum() / 2 < 0.01
    assert np.abs(law - normal).sum() / 2 > 0.03


def test_confusion_of_normal_laws():
    """Equal widths: ndtr(-d / 2 sigma); unequal ones by integration on a fine grid."""
    grid = cr.output_grid()
    for d in (0.003, 0.0256310, 0.05):
        p, q = (stats.norm.pdf(grid, m, 0.01) * (grid[1] - grid[0]) for m in (0.4, 0.4 + d))
        assert cr.overlap_error(p, q) == pytest.approx(ndtr(-d / 0.02), rel=2e-4)
        assert cr.overlap_error(p, q) == cr.overlap_error(q, p)
    fine = np.linspace(-0.2, 1.2, 200_001)
    pairs = [
        [stats.norm.pdf(g, m, s) * (g[1] - g[0]) for m, s in ((0.0, 0.01), (0.06, 0.035))]
        for g in (grid, fine)
    ]
    assert cr.overlap_error(*pairs[0]) == pytest.approx(np.minimum(*pairs[1]).sum() / 2, rel=5e-4)
    p = pairs[0][0]
    assert cr.overlap_error(p, p) == pytest.approx(0.5, abs=1e-12)


def test_kinks_are_integrated_to_fourth_order():
    """Halving the spacing leaves a small part of the error; without the terms, a quarter."""
    errors = []
    for points in (120, 240):
        offsets = np.linspace(0, 1, 11)[:-1] / points
        worst = 0.0
        for offset in offsets:
            grid = np.linspace(-0.3, 1.3, points) + offset
            p, q = (stats.norm.pdf(grid, m, 0.04) * (grid[1] - grid[0]) for m in (0.4, 0.5))
            worst = max(worst, abs(cr.overlap_error(p, q) - ndtr(-0.1 / 0.08)))
        errors.append(worst)
    assert errors[1] < errors[0] / 5
    assert errors[1] < 1e-5


def test_law_of_samples():
    samples = np.random.default_rng(1).beta(3, 60, (500, 40))
    law, grid = cr.empirical_pmf(samples), cr.output_grid()
    assert law.sum() == pytest.approx(1, abs=1e-9)
    assert law @ grid == pytest.approx(samples.mean(), abs=1e-9)
    assert law @ (grid - law @ grid) ** 2 == pytest.approx(samples.var() + 1e-4, rel=1e-3)


def test_bad_input_of_the_laws(unchecked):
    with pytest.raises(ValueError, match="samples must lie between 0 and 1"):
        cr.empirical_pmf(np.array([0.5, 1.2]))
    with pytest.raises(
        ValueError, match="shape must be 'shifted', 'beta' or 'normal', got 'gamma'"
    ):
        cr.output_pmf(0.9, 0.1, 1.0, shape="gamma")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="grid must rise in equal steps"):
        cr.output_pmf(0.9, 0.1, 1.0, grid=np.array([0.0, 0.1, 0.3]))
    with pytest.raises(ValueError, match=r"at most 1.2 sigma, got 10"):
        cr.output_pmf(0.9, 0.1, 1.0, grid=np.linspace(0, 1, 11))
    with pytest.raises(ValueError, match="arrays of one length"):
        cr.overlap_error(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="h must be at least 0"):
        cr.output_pmf(0.9, -0.1, 1.0)


# Laws without an assumed shape -------------------------------------------------------------------


def test_filtered_diffusion_has_the_exact_moments():
    """Its equation knows mean, variance and memory; the third moment of the average comes out."""
    grid = cr.output_grid()
    for lam, h, T in (
        (0.9999, 1.1e-4, 1e3),
        (0.9999, 7e-5, 1e4),
        (0.999, 2.5e-4, 1e3),
        (0.999, 1e-2, 100.0),
    ):
        law, m = cr.diffusion_pmf(lam, h, T), cr.activity_moments(lam, h, T)
        mean = law @ grid
        assert law.sum() == pytest.approx(1, abs=1e-9)
        assert law.min() > -1e-7
        assert mean == pytest.approx(float(m.mean), rel=1e-5)
        assert law @ (grid - mean) ** 2 - 1e-4 == pytest.approx(float(m.var_filtered), rel=1e-3)
        assert law @ (grid - mean) ** 3 == pytest.approx(float(m.third), rel=3e-3)


def test_filtered_diffusion_against_the_shipped_simulation():
    """Third moments know the slowest mode only; with equal gaps the confusion is 8 % off."""
    shipped = load_shipped("criticality_simulation")
    silent = cr.reference(0.0, Params())
    for pair, time in ((4, 3), (5, 4), (1, 3)):
        lam, h, T = shipped["lam"][pair], shipped["h"][pair], shipped["T"][time]
        found = cr.overlap_error(silent, cr.diffusion_pmf(lam, h, T))
        groups = shipped["confusion"][:, pair, time]
        error = groups.std(ddof=1) / np.sqrt(8)
        assert error < 0.002
        assert abs(found - groups.mean()) < 4 * error


def test_filtered_diffusion_becomes_beta_for_short_times():
    """T = 1 against an autocorrelation time of 8,000: there is nothing to average."""
    law = cr.diffusion_pmf(0.9999, 1.3e-4, 1.0)
    beta = np.asarray(cr.output_pmf(0.9999, 1.3e-4, 1.0, shape="beta"))
    assert np.abs(law - beta).sum() / 2 < 5e-4


def test_three_moments_come_closer_to_the_filtered_law_than_two():
    for lam, h, T in ((0.999, 2.5e-4, 1e3), (0.9999, 1.1e-4, 1e3), (0.9999, 7e-5, 1e4)):
        law = cr.diffusion_pmf(lam, h, T)
        miss = [
            np.abs(law - np.asarray(cr.output_pmf(lam, h, T, shape=s))).sum()
            for s in ("shifted", "beta", "normal")
        ]
        assert 2 * miss[0] < miss[1] < miss[2]


def test_birth_and_death_gives_the_published_limit():
    """Fokker-Planck equations as in the talk's paper, at five of its 65 couplings."""
    for i in (0, 16, 32, 48, 64):
        found = cr.range_of_law(LAMS[i], lambda h, lam=LAMS[i]: cr.birth_death_pmf(lam, h))
        assert found == pytest.approx(PUBLISHED["zero_decibel"][i], abs=0.005)


def test_stationary_law_without_coupling_is_binomial():
    law = cr.exact_stationary(50, 0.0, 0.3, 0.4)
    assert law[:21] == pytest.approx(stats.binom.pmf(np.arange(21), 20, -np.expm1(-0.3)), abs=1e-14)
    assert law.sum() == pytest.approx(1, abs=1e-12)


def test_bad_input_of_the_exact_laws():
    for n in (0, 601):
        with pytest.raises(ValueError, match=f"n must be between 1 and 600, got {n}"):
            cr.exact_stationary(n, 0.5, 0.1)
    with pytest.raises(ValueError, match=r"mu n must be an integer, got 2.5"):
        cr.exact_stationary(5, 0.5, 0.1, 0.5)
    with pytest.raises(ValueError, match=r"must be positive and finite, got 0.5, 0.0 and 1.0"):
        cr.diffusion_pmf(0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"nu must be 1, got 0.2"):
        cr.diffusion_pmf(0.9, 0.1, 10.0, Params(nu=0.2))
    with pytest.raises(ValueError, match="lam must be in"):
        cr.birth_death_pmf(1.0, 0.1)


# Chains of inputs --------------------------------------------------------------------------------


def test_infinite_time_gives_the_published_table():
    found = [cr.limit_infinite(lam) for lam in LAMS]
    assert [f.number for f in found] == list(PUBLISHED["infinite_number"])
    assert np.abs(np.array([f.decibel for f in found]) - PUBLISHED["infinite_decibel"]).max() < 1e-4
    # five of them, as printed in the authors' table
    quoted = {
        0: (11.75531632, 6),
        16: (22.5226, 26),
        32: (28.8668, 36),
        48: (31.1833, 37),
        64: (31.55467661, 37),
    }
    for i, (decibel, number) in quoted.items():
        assert found[i].decibel == pytest.approx(decibel, abs=1e-4)
        assert found[i].number == number


def test_long_times_approach_the_limit():
    found, limit = cr.dynamic_range(0.99, 1e9), cr.limit_infinite(0.99)
    assert found.decibel == pytest.approx(limit.decibel, abs=2e-3)
    assert found.number == limit.number
    assert cr.dynamic_range(0.99, np.inf) == limit


@pytest.mark.parametrize("which", [0, 20])
def test_published_ranges_and_counts(which):
    """The authors' simulations at T = 1 and 10,000; their seeds scatter by 0.07 dB."""
    T = float(PUBLISHED["T"][which])
    found = cr.sweep(LAMS, [T])
    decibel, number = found.decibel[0], found.number[0]
    miss = np.abs(decibel - PUBLISHED["decibel"][0, which])
    assert miss.mean() < 0.3
    assert decibel.max() == pytest.approx(PUBLISHED["best_decibel"][0, which], abs=0.25)
    assert number.max() == pytest.approx(PUBLISHED["best_number"][0, which], abs=1)
    place = np.log10(1 - LAMS[decibel.argmax()])
    assert place == pytest.approx(np.log10(1 - PUBLISHED["lam_decibel"][0, which]), abs=0.0625)
    assert LAMS[number.argmax()] < LAMS[decibel.argmax()] < 1


def test_readers_of_a_fifth_of_the_units_as_published():
    """nu = 0.2, ten networks of the authors, at T = 1 and 1,000."""
    for which in (0, 15):
        T = float(PUBLISHED["T"][which])
        best = cr.optimal_lambda(T, Params(nu=0.2))
        assert best.value == pytest.approx(PUBLISHED["best_decibel"][1, which], abs=0.25)
        theirs = np.log10(1 - PUBLISHED["lam_decibel"][1, which])
        assert np.log10(1 - best.lam) == pytest.approx(theirs, abs=0.0625)
    found = cr.sweep(LAMS[8:24:2], [1.0], Params(nu=0.2))
    assert found.number.max() == pytest.approx(PUBLISHED["best_number"][1, 0], abs=1)


def test_a_chain_confuses_neighbours_with_the_tolerated_probability():
    params = Params()
    for side in ("left", "right"):
        chain = cr.discriminable_inputs(0.95, 30.0, params, side)
        assert np.all(np.diff(chain) > 0) if side == "left" else np.all(np.diff(chain) < 0)
        start = cr.reference(
            0.0 if side == "left" else float(cr.mean_activity(0.95, np.inf)), params
        )
        laws = [start] + [np.asarray(cr.output_pmf(0.95, h, 30.0, params)) for h in chain]
        errors = [cr.overlap_error(p, q) for p, q in pairwise(laws)]
        assert errors == pytest.approx([0.1] * len(chain), rel=2e-4)
    assert len(cr.discriminable_inputs(0.95, 30.0, params, at_most=2)) == 2


def test_too_much_noise_leaves_nothing():
    found = cr.dynamic_range(0.0, 10.0, Params(sigma=0.2))
    assert found.number == 0
    assert np.isnan(found.decibel)
    assert cr.limit_infinite(0.0, Params(sigma=0.2)).number == 0
    with pytest.raises(ValueError, match="no two inputs can be told apart"):
        cr.optimal_lambda(10.0, Params(sigma=0.6))


def test_optimum_is_a_maximum_and_moves_with_time():
    found = [cr.optimal_lambda(T) for T in (1.0, 1e4)]
    for T, best in zip((1.0, 1e4), found, strict=True):
        assert best.low < best.lam < best.high < 1
        for lam in (1 - 1.3 * (1 - best.lam), 1 - (1 - best.lam) / 1.3):
            assert cr.dynamic_range(lam, T).decibel < best.value
        ends = [cr.dynamic_range(lam, T).decibel for lam in (best.low, best.high)]
        assert ends == pytest.approx([best.value - 0.1] * 2, abs=0.02)
    assert found[0].lam < found[1].lam
    count = cr.optimal_lambda(100.0, which="count")
    assert count.lam == count.low < count.high < found[0].lam
    assert cr.dynamic_range((count.low + count.high) / 2, 100.0).number == count.value


def test_optimum_follows_the_rule_for_large_networks():
    """1 - lam = x with x²(1 + xT)² / (1 + 2xT) = μz²/n, whatever the noise; to leading order."""
    z = ndtri(0.9)
    for T, sigma in ((1.0, 0.01), (1e4, 0.01), (1e4, 0.04)):
        params = Params(n=1_000_000, sigma=sigma)
        rule = brentq(
            lambda x, T=T: x**2 * (1 + x * T) ** 2 / (1 + 2 * x * T) - 0.2 * z**2 / 1e6, 1e-9, 1
        )
        assert 1 - cr.optimal_lambda(T, params).lam == pytest.approx(rule, rel=0.15)


def test_bad_input_of_the_chains(unchecked):
    with pytest.raises(ValueError, match="side must be 'left' or 'right', got 'up'"):
        cr.discriminable_inputs(0.9, 1.0, side="up")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="which must be 'range' or 'count', got 'all'"):
        cr.optimal_lambda(1.0, which="all")  # pyright: ignore[reportArgumentType]
    for T in (0.0, np.inf):
        with pytest.raises(ValueError, match=f"T must be positive and finite, got {T}"):
            cr.optimal_lambda(T)
    with pytest.raises(ValueError, match=r"lam must be in \[0, 1\), got 1"):
        cr.dynamic_range(1.0, 1.0)
    with pytest.raises(ValueError, match="T must be positive, got -inf"):
        cr.dynamic_range(0.9, -np.inf)
    with pytest.raises(ValueError, match="shape must be"):
        cr.dynamic_range(0.9, np.inf, shape="gamma")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at_most must be at least 1, got 0"):
        cr.discriminable_inputs(0.9, 1.0, at_most=0)
    with pytest.raises(ValueError, match="n must be larger: the output at infinite input"):
        cr.dynamic_range(0.5, 1.0, Params(n=100, sigma=0.002))
    with pytest.raises(ValueError, match="the optimum is closer to 1 than"):
        cr.optimal_lambda(1e9, Params(n=10**18))


# Networks ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return cr.make_network(Params(n=400, k=30), rng=np.random.default_rng(5))


def test_network_is_as_described(network):
    assert network.rows.nnz == 400 * 30
    assert network.rows.sum(axis=1) == pytest.approx(np.ones(400), rel=1e-12)
    assert network.driven.sum() == 80
    assert network.read.all()
    assert np.std(network.rows.sum(axis=0)) > 0.05  # outgoing weights differ


def test_drive_is_the_sparse_product(network, rng):
    for share in (0.0, 0.01, 0.2, 0.6, 1.0):
        active = rng.random(400) < share
        assert cr.drive(network, active) == pytest.approx(
            network.rows @ active.astype(float), abs=1e-14
        )


def test_network_moments_by_dense_algebra(network):
    """The full covariance matrix, with its diagonal restored in each step of a fixed point."""
    lam, h = 0.9, 0.05
    p = np.where(network.driven, -np.expm1(-h), 0.0)
    M = (1 - p)[:, None] * lam * network.rows.toarray()
    m = np.linalg.solve(np.eye(400) - M, p)
    C = np.diag(m * (1 - m))
    for _ in range(400):
        C = M @ C @ M.T
        np.fill_diagonal(C, m * (1 - m))
    found = cr.network_moments(network, lam, h)
    assert found.mean == pytest.approx(m.mean(), rel=1e-10)
    assert found.var == pytest.approx(C.mean(), rel=2e-3)


def test_network_simulation_against_its_theory(network):
    """Eight runs: |z| < 4 for mean and variance; an all-to-all network misses the mean by 3 %."""
    lam, h = 0.9, 0.05
    runs = [
        cr.simulate_network(network, lam, h, [0.01], 3000, rng=np.random.default_rng(i), burn=200)
        for i in range(8)
    ]
    theory = cr.network_moments(network, lam, h)
    for found, right in (([r.mean[0, 0] for r in runs], theory.mean),
                         ([r.var[0, 0] for r in runs], theory.var)):  # fmt: skip
        assert abs(np.mean(found) - right) < 4 * np.std(found, ddof=1) / np.sqrt(8)


def test_simulations_record_what_they_say():
    rng, params = np.random.default_rng(0), Params(n=100, nu=0.5)
    run = cr.simulate_annealed(0.5, 0.1, [1.0, 5.0], 20, params, rng=rng, chains=3, burn=0, every=1)
    assert run.samples.shape == (20, 2, 3)
    assert run.mean == pytest.approx(run.samples.mean(axis=0), rel=1e-12)
    centre = run.samples.mean(axis=(0, 2))[:, None]
    assert run.var == pytest.approx(((run.samples - centre) ** 2).mean(axis=0), rel=1e-9)
    assert run.third == pytest.approx(
        ((run.samples - centre) ** 3).mean(axis=0), rel=1e-6, abs=1e-12
    )


def test_bad_input_of_the_simulations(network):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="k must be at most n = 10, got 20"):
        cr.make_network(Params(n=10, k=20), rng=rng)
    with pytest.raises(ValueError, match=r"k must be larger: [0-9]+ units have no link, got 1"):
        cr.make_network(Params(n=100, k=1), rng=rng)
    with pytest.raises(ValueError, match="n must be larger: no unit would be driven"):
        cr.simulate_annealed(0.5, 0.1, [1.0], 10, Params(n=2), rng=rng)
    with pytest.raises(ValueError, match="n must be larger: no unit would be driven"):
        cr.make_network(Params(n=20, k=19, nu=0.01), rng=rng)
    with pytest.raises(ValueError, match="burn must not be negative, got -1"):
        cr.simulate_annealed(0.5, 0.1, [1.0], 10, rng=rng, burn=-1)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        cr.simulate_annealed(0.5, 0.1, [1.0], 0, rng=rng)
    with pytest.raises(ValueError, match="T must be positive, got -1"):
        cr.simulate_network(network, 0.5, 0.1, [1.0, -1.0], 10, rng=rng)
    with pytest.raises(ValueError, match="lam must be in"):
        cr.network_moments(network, 1.0, 0.1)


# Shipped runs ------------------------------------------------------------------------------------


def test_shipped_networks_are_made_again():
    """The first of the three networks: its means and variances without simulation."""
    shipped = load_shipped("criticality_network")
    network = cr.make_network(rng=np.random.default_rng([2602, 0]))
    found = cr.network_moments(network, shipped["lam"][0], shipped["h"][0])
    assert found.mean == pytest.approx(shipped["theory_mean"][0, 0], rel=1e-9)
    assert found.var == pytest.approx(shipped["theory_var"][0, 0], rel=1e-9)


def test_shipped_simulation_by_a_short_one():
    """256 networks, 2,000 steps: the confusion scatters by 0.001; at half the input it is 0.25."""
    shipped = load_shipped("criticality_simulation")
    lam, h = shipped["lam"][0], shipped["h"][0]
    rng = np.random.default_rng(3)
    run = cr.simulate_annealed(lam, h, shipped["T"][:2], 2000, rng=rng, chains=256, burn=500)
    for i in range(2):
        law = cr.empirical_pmf(run.samples[:, i])
        found = cr.overlap_error(cr.reference(0.0, Params()), law)
        assert found == pytest.approx(shipped["confusion"][:, 0, i].mean(), abs=0.006)
