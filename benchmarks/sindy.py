"""Peer benchmark of `dy33lib.sindy.identify`; run it with `python benchmarks/sindy.py`.

The rate law r = 8AB / (1 + 3A + 2B)^2 of A + B -> C from noisy concentrations in 8 batch reactors.
Two workers, one after the other, on one CPU:

- `ours`, in this environment: makes the data, identifies the law with nothing told, times itself;
- `peers`, pysindy in `.venv-peers/sindy`, which this script creates: explicit, ensemble, weak-form
  and implicit sparse regression, and a library with a grid of adsorption constants.

The error of a law is that of its rate on a grid of A and B without C, relative, root mean square.
Each peer is tuned by an oracle: for each noise level, the setting with the smallest true error on
other seeds.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from functools import cache
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "sindy.json"
PEER_VENV = ROOT / ".venv-peers" / "sindy"
PEER_PACKAGES = [
    "pysindy==2.1.0", "cvxpy==1.9.3", "numpy==2.4.6", "scipy==1.17.1", "scikit-learn==1.9.1",
    "derivative==0.6.3", "osqp==1.1.3",
]  # fmt: skip
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
PACKAGES = ("jax", "jaxlib", *(name.split("==")[0] for name in PEER_PACKAGES))
LAW = "Langmuir-Hinshelwood"
SIGMAS, SEEDS, TUNING = (0.005, 0.01, 0.02, 0.05, 0.1), range(5000, 5005), range(6000, 6003)
BAR_SIGMA = 0.01  # where the bars are: ten times below SINDy-PI, twice below the grid
REPEATS = 3  # timings of one data set, of which the fastest counts
NU = np.array([-1.0, -1.0, 1.0])
A, B = np.meshgrid(*2 * [np.linspace(0.2, 2.5, 12)])
POINTS = np.stack([A, B, 0 * A], axis=-1).reshape(-1, 3)


def truth(c: np.ndarray) -> np.ndarray:
    return 8 * c[..., 0] * c[..., 1] / (1 + 3 * c[..., 0] + 2 * c[..., 1]) ** 2


def rate_error(rate: Any) -> float:
    error = np.linalg.norm(rate - truth(POINTS)) / np.linalg.norm(truth(POINTS))
    return float(error) if np.isfinite(error) else float("inf")


def fastest(run) -> float:
    """CPU seconds, after a call that warms up."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def ours(folder: str) -> dict:
    """Write the data sets, identify the law in each, and time it."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from dy33lib import sindy

    data = {"t": sindy.TIMES, "c0": sindy.DESIGN, "clean": sindy.measure(LAW, 0.0, 0).y}
    for sigma, seed in product(SIGMAS, (*SEEDS, *TUNING)):
        data[f"{sigma}/{seed}"] = sindy.measure(LAW, sigma, seed).y
    np.savez(f"{folder}/data.npz", **data)

    library, (law, values) = sindy.study_library(reversible=True), sindy.ZOO[LAW]
    rows = []
    for sigma in SIGMAS:
        row: dict[str, Any] = {"method": "ours", "sigma": sigma, "errors": [], "exact": []}
        row["parameters"] = []  # largest relative error of one
        for seed in SEEDS:
            found = sindy.identify(sindy.measure(LAW, sigma, seed), library)
            term, params = found.laws[0], found.fits[0].params[0]
            exact = found.laws == (law,)
            row["errors"].append(rate_error(term(POINTS, params)))
            row["exact"].append(exact)
            worst = float(np.max(np.abs(params / values - 1))) if exact else None
            row["parameters"].append(worst)
        experiments = sindy.measure(LAW, sigma, SEEDS[0])
        row["seconds"] = fastest(lambda e=experiments: sindy.identify(e, library))
        rows.append(row)

    experiments = sindy.measure(LAW, BAR_SIGMA, SEEDS[0])
    structures = sindy.study_library().structures()

    def exhaustive():
        curves = sindy.prepare(experiments)
        screened = sindy.screen(structures, curves)
        best = np.argsort(screened.bic)[:5]
        sindy.refine([structures[m] for m in best], [[screened.params[m]] for m in best], curves)

    times = {"structures": len(structures), "screen and refine 5": fastest(exhaustive)}
    times["identify, adaptive, 161 structures"] = fastest(
        lambda: sindy.identify(experiments, sindy.study_library())
    )
    times["identify, exhaustive, 161 structures"] = fastest(
        lambda: sindy.identify(experiments, sindy.study_library(), exhaustive=True)
    )
    return {"rows": rows, "times": times}


# The peers ---------------------------------------------------------------------------------------

# Smoothers with their settings; `spline` is the smoothing spline of dy33lib with its stiffness by
# C_p, made stiffer by so many thirds of a decade, and `stiff` the same with one given stiffness.
SMOOTHERS = [
    *product(["savgol"], (5, 7, 9, 13, 17, 21)),
    *product(["local polynomial"], (0.75, 1.25, 2.0, 3.0)),
    *product(["kalman"], (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
    *product(["trend"], (1e-4, 1e-3, 1e-2)),
    *product(["fitpack"], (0.7, 0.9, 1.1)),
    ("spectral", 0),
    *product(["spline"], (-3, -1, 0, 1, 3, 5)),
    *product(["stiff"], range(4, 26, 2)),
]
SOURCES = [(features, *s) for features, s in product(("raw", "projected"), SMOOTHERS)]
STIFFNESS = np.geomspace(1e-4, 1e5, 28)
FINE = 8  # points between samples where the weak form gets a spline
POLYNOMIALS = list(product(("AB", "ABC"), (2, 3, 4)))  # species, degree
# Thresholds of coefficients, and of coefficients of columns of unit length.
THRESHOLDS = [*product((0.003, 0.01, 0.03, 0.1, 0.2), [False])]
THRESHOLDS += [*product((0.0, 0.1, 0.3, 1.0, 3.0), [True])]
RIDGES = (1e-6, 1e-3, 0.05, 0.5, 5.0)
FIRST = ({}, {"threshold": 0.03, "ridge": 0.05})  # tried with all smoothers
EXACT_TERMS = {"r", "rA", "rB", "rAA", "rAB", "rBB", "AB"}  # 8AB = r (1 + 3A + 2B)^2
LEFT = ("r", "rAA", "rAB", "rBB", "AB")  # the term that implicit regression expresses by the others
SOLVERS = [  # with their weights, and whether least squares repeat the fit with the terms found
    *product(["SINDyPI"], (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2), (False, True)),
    *product(["STLSQ"], (0.01, 0.03, 0.1), [False]),
]
IMPLICIT = (  # name, library, whether integrated
    ("SINDy-PI", "ABC", False),
    ("SINDy-PI, integrated", "ABC", True),
    ("SINDy-PI, told A and B", "AB", False),
    ("SINDy-PI, told the terms", "exact", False),
    ("SINDy-PI, told, integrated", "exact", True),
)
AFRESH = ("smooth", "matrix", "weak_matrix", "implicit_columns", "sindy_pi")  # when timed
PENALTIES = (0.0, 1e-6, 1e-4, 1e-2)  # of ridge regression, tried with all smoothers
GRIDS, RANGE = (8, 12, 16, 24, 32), (0.1, 30.0)  # how many adsorption constants, between which
NUMERATORS = ((1, 1, 0), (1, 0.5, 0), (1, 0, 0), (0, 1, 0), (0, 0.5, 0), (2, 0, 0), (0, 2, 0))


def compress(theta: np.ndarray, *targets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns rotated into as many rows: all squared distances stay, so all fits do."""
    factor: Any = np.linalg.qr(np.column_stack([theta, *targets]), mode="r")
    n = theta.shape[1]
    return factor[:, :n], *factor.T[n:]


def ridge(theta: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    n = theta.shape[1]
    rows = np.concatenate([theta, np.sqrt(penalty) * np.eye(n)])
    return np.linalg.lstsq(rows, np.concatenate([target, np.zeros(n)]))[0]


class Peers:
    """The peers on the data sets of a file.

    A method takes the name of a data set and a setting. It returns the rate at `POINTS` and whether
    the structure is the true one (None where it cannot be).
    """

    def __init__(self, file: str):
        data = np.load(file)
        self.c0, self.t = data["c0"], np.concatenate([[0.0], data["t"]])
        # Everyone gets the initial concentrations, which are known.
        self.c = {
            key: np.concatenate([self.c0[:, None], data[key]], axis=1)
            for key in data.files
            if key not in ("t", "c0")
        }
        self.cumulative = self._cumulative()
        self.splines = [self._spline(value) for value in STIFFNESS]
        for name in (*AFRESH, "linear", "weak_weights", "at_points"):
            setattr(self, name, cache(getattr(self, name)))

    # Concentrations and rates

    def _cumulative(self):
        from scipy.interpolate import CubicSpline

        return CubicSpline(self.t, np.eye(len(self.t))).antiderivative()(self.t)

    def _spline(self, stiffness: float):
        from scipy.interpolate import make_smoothing_spline

        t = self.t
        weights = np.where(t > 0, 1.0, 1e6)
        lam = stiffness * (t[1] - t[0]) ** 3
        spline = make_smoothing_spline(t, np.eye(len(t)), weights, lam=lam)
        return spline(t), spline(t, 1), spline(np.linspace(0, t[-1], FINE * (len(t) - 1) + 1))

    def differentiator(self, kind: str, value: float, variance: float):
        """A method of pysindy."""
        from pysindy.differentiation import (  # pyright: ignore[reportMissingImports]
            SINDyDerivative,
            SmoothedFiniteDifference,
        )

        if kind == "savgol":
            return SmoothedFiniteDifference(smoother_kws={"window_length": value, "polyorder": 3})
        settings = {
            "local polynomial": {"kind": "savitzky_golay", "order": 3, "iwindow": False}
            | {"left": value, "right": value},
            "kalman": {"kind": "kalman", "alpha": value},
            "trend": {"kind": "trend_filtered", "order": 2, "alpha": value},
            "fitpack": {"kind": "spline", "s": value * len(self.t) * variance},
            "spectral": {"kind": "spectral"},
        }
        return SINDyDerivative(**settings[kind])

    def linear(self, kind: str, value: float):
        """The matrices of a linear smoother: values and derivatives."""
        if kind == "stiff":
            return self.splines[int(value)][:2]
        method = self.differentiator(kind, value, 0.0)
        slopes = method(np.eye(len(self.t)), self.t)
        return np.asarray(method.smoothed_x_), np.asarray(slopes)

    def deviations(self, case: str, features: str):
        """What is smoothed: changes of all concentrations or of the extent; a column a curve."""
        moved = self.c[case] - self.c0[:, None]
        if features == "projected":
            moved = np.sum(moved * NU, axis=2, keepdims=True) / 3
        variance = float(case.split("/")[0]) ** 2 / (3 if features == "projected" else 1)
        return np.moveaxis(moved, 1, 0).reshape(len(self.t), -1), variance

    def concentrations(self, columns: np.ndarray, features: str):
        """Back to (experiments, times, species), as changes."""
        shaped = np.moveaxis(columns.reshape(len(columns), len(self.c0), -1), 0, 1)
        return shaped * NU if features == "projected" else shaped

    def stiffnesses(self, columns: np.ndarray, variance: float, shift: float):
        """Index of each curve's stiffness by Mallows' C_p, as in dy33lib."""
        scores = [
            np.sum((s[1:] @ columns - columns[1:]) ** 2, axis=0) / variance
            + 2 * np.trace(s[1:, 1:])
            for s, _, _ in self.splines
        ]
        return np.clip(np.argmin(scores, axis=0) + int(shift), 0, len(STIFFNESS) - 1)

    def smooth(self, case: str, features: str, kind: str, value: float):
        """Smoothed concentrations and the rate, at time 0 and at the samples."""
        columns, variance = self.deviations(case, features)
        if kind == "spline":
            best = self.stiffnesses(columns, variance, value)
            pairs = zip(best, columns.T, strict=True)
            both = np.array([[m @ y for m in self.splines[i][:2]] for i, y in pairs])
            s, d = np.moveaxis(both, 0, 2)
        elif kind in ("trend", "fitpack"):
            method = self.differentiator(kind, value, variance)
            d = np.asarray(method(columns, self.t))
            s = np.asarray(method.smoothed_x_)
        else:
            s, d = (matrix @ columns for matrix in self.linear(kind, value))
        c = self.c0[:, None] + self.concentrations(s, features)
        return c, self.concentrations(d, features)[..., 2]

    # Explicit polynomials

    def polynomials(self, c: np.ndarray, species: str, degree: int):
        """Columns of a polynomial without constant."""
        from pysindy import PolynomialLibrary  # pyright: ignore[reportMissingImports]

        flat = c.reshape(-1, 3)[:, : len(species)]
        return np.asarray(PolynomialLibrary(degree, include_bias=False).fit_transform(flat))

    def at_points(self, species: str, degree: int):
        """The columns where the rate is compared."""
        return self.polynomials(POINTS, species, degree)

    def matrix(self, case: str, source: tuple, polynomial: tuple):
        """Columns and rates."""
        c, rate = self.smooth(case, *source)
        return self.polynomials(c, *polynomial), rate.ravel()

    def stlsq(self, case, source, polynomial, threshold=0.0, ridge=0.0, unit=False):
        """Sequentially thresholded least squares on derivatives."""
        theta, rate = compress(*self.matrix(case, source, polynomial))
        coefficients = self.threshold(theta, rate, threshold, ridge, unit)
        return self.at_points(*polynomial) @ coefficients, None

    def threshold(self, theta, target, threshold, ridge, unit):
        """Coefficients of one equation."""
        from pysindy import STLSQ  # pyright: ignore[reportMissingImports]

        if threshold == ridge == 0:
            return np.linalg.lstsq(theta, target)[0]
        optimizer = STLSQ(threshold=threshold, alpha=ridge, normalize_columns=unit)
        return np.ravel(optimizer.fit(theta, target).coef_)

    def ensemble(self, case, source, polynomial, threshold, ridge, unit, bagging, dropping):
        """E-SINDy: the median of 20 models."""
        from pysindy import STLSQ, EnsembleOptimizer  # pyright: ignore[reportMissingImports]

        np.random.seed(0)  # noqa: NPY002 - pysindy draws from the global state
        optimizer = EnsembleOptimizer(
            STLSQ(threshold=threshold, alpha=ridge, normalize_columns=unit),
            bagging=bagging, library_ensemble=dropping, n_models=20,
        )  # fmt: skip
        coefficients = np.ravel(optimizer.fit(*self.matrix(case, source, polynomial)).coef_)
        return self.at_points(*polynomial) @ coefficients, None

    # The weak form

    def weak_weights(self, fine: bool, width: float, power: int):
        """The quadrature of pysindy's weak library, as matrices: of values and of derivatives."""
        from pysindy import (  # pyright: ignore[reportMissingImports]
            IdentityLibrary,
            WeakPDELibrary,
        )
        from pysindy.utils import AxesArray  # pyright: ignore[reportMissingImports]

        np.random.seed(0)  # noqa: NPY002
        t = np.linspace(0, self.t[-1], FINE * (len(self.t) - 1) + 1) if fine else self.t
        weak = WeakPDELibrary(
            IdentityLibrary(), spatiotemporal_grid=t, K=60, H_xt=width, p=int(power)
        )
        unit = AxesArray(np.eye(len(t)), {"ax_time": 0, "ax_coord": 1})
        return np.asarray(weak.fit_transform(unit)), weak.convert_u_dot_integral(np.eye(len(t)))

    def weak_matrix(self, case, features, spline, window, polynomial):
        """Columns and rates, each integrated with the test functions and compressed."""
        columns, variance = self.deviations(case, features)
        if spline is not None:
            best = self.stiffnesses(columns, variance, spline)
            pairs = zip(best, columns.T, strict=True)
            columns = np.stack([self.splines[i][2] @ y for i, y in pairs], axis=1)
        c = self.c0[:, None] + self.concentrations(columns, features)
        values, slopes = self.weak_weights(spline is not None, *window)
        theta = self.polynomials(c, *polynomial).reshape(*c.shape[:2], -1)
        theta = np.einsum("kt,etp->ekp", values, theta, optimize=True).reshape(-1, theta.shape[2])
        return compress(theta, np.ravel(c[..., 2] @ slopes.T))

    def weak(
        self, case, features, spline, window, polynomial, threshold=0.0, ridge=0.0, unit=False
    ):
        """Weak-form SINDy, on the samples (spline None) or on a spline through them."""
        theta, rate = self.weak_matrix(case, features, spline, window, polynomial)
        coefficients = self.threshold(theta, rate, threshold, ridge, unit)
        return self.at_points(*polynomial) @ coefficients, None

    # Implicit laws

    def implicit_columns(self, case, source, library, integral):
        """Terms as columns of unit length, compressed, and their lengths."""
        if source is None:  # exact derivatives, to test the method
            c = self.smooth(case, "projected", "stiff", 0)[0]
            rate = truth(c)
        else:
            c, rate = self.smooth(case, *source)
        terms = implicit_terms(library)
        columns = np.stack([evaluate(term, c, rate) for term in terms], axis=-1)
        if integral:
            columns = np.einsum("qt,etp->eqp", self.cumulative, columns)
        theta = columns.reshape(-1, len(terms))
        norms = np.linalg.norm(theta, axis=0)
        return compress(theta / norms)[0], norms

    def sindy_pi(self, case, source, library, integral, i, weight):
        """The fit of pysindy: least squares with an l1 penalty."""
        from pysindy import SINDyPI  # pyright: ignore[reportMissingImports]

        theta, _ = self.implicit_columns(case, source, library, integral)
        optimizer = SINDyPI(reg_weight_lam=weight, tol=1e-8, max_iter=20000, model_subset=[i])
        with open(os.devnull, "w") as null, redirect_stdout(null):  # it prints
            x = optimizer.fit(theta, theta).coef_[i]
        return x if np.all(np.isfinite(x)) else np.zeros(len(x))

    def implicit(
        self, case, source, library, left, integral=False, solver="ridge", weight=0.0,
        refit=False,
    ):  # fmt: skip
        """SINDy-PI: one term, such as AB, as a sparse sum of the others, such as r, rA, rAB.

        With `integral` both sides are integrated from time 0.
        """
        terms = implicit_terms(library)
        theta, norms = self.implicit_columns(case, source, library, integral)
        i = terms.index(left)
        others = [j for j in range(len(terms)) if j != i]
        x = np.zeros(len(terms))
        if solver == "SINDyPI":
            x[:] = self.sindy_pi(case, source, library, integral, i, weight)
        elif solver == "STLSQ":
            x[others] = self.threshold(theta[:, others], theta[:, i], weight, 1e-12, False)
        else:
            x[others] = ridge(theta[:, others], theta[:, i], weight)
        x[i] = -1.0
        kept = np.abs(x) > 1e-3 * np.max(np.abs(x))
        if refit:
            rest = [j for j in others if kept[j]]
            x[others] = 0.0
            x[rest] = np.linalg.lstsq(theta[:, rest], theta[:, i])[0]
        x /= norms
        # What stands with r has the other sign on the other side.
        x *= [-1 if term[0] == "r" else 1 for term in terms]
        sides = {
            side: sum(
                x[j] * evaluate(term, POINTS, np.ones(len(POINTS)))
                for j, term in enumerate(terms)
                if (term[0] == "r") == side
            )
            for side in (False, True)
        }
        with np.errstate(all="ignore"):
            rate = sides[False] / sides[True]
        found = {term for term, keep in zip(terms, kept, strict=True) if keep} == EXACT_TERMS
        return rate, bool(found and len(set(np.sign(x[kept]))) == 1)

    # A grid of adsorption constants

    def grid(self, case, shift, size):
        """The one column of all that fits the extents best, in integral form (FROLS, one term).

        A column is N / (1 + K_A A + K_B B^g + K_C C)^n; `size` constants each, and 0.
        """
        c = np.maximum(self.smooth(case, "projected", "spline", shift)[0], 0.0)
        xi = self.deviations(case, "projected")[0].T[:, 1:]
        # Extents are smooth: 16 polynomials of time hold all of a column.
        basis = np.linalg.qr(np.polynomial.legendre.legvander(self.t[1:] / 4 - 1, 15))[0]
        target, quadrature = np.ravel(xi @ basis), self.cumulative[1:].T @ basis
        tops = {top: np.prod(c ** np.array(top), axis=2) for top in NUMERATORS}
        weights = {top: values[..., None] * quadrature for top, values in tops.items()}
        K = np.concatenate([[0.0], np.geomspace(*RANGE, size)])
        adsorbed = [np.multiply.outer(K, c[..., s]) for s in (0, 2)]  # (constants, 8, 33)
        adsorbed = np.moveaxis(adsorbed[0][:, None] + adsorbed[1], 2, 0).reshape(
            len(c), -1, len(self.t)
        )
        best: tuple = (0.0,)
        for g, K_B in [(1.0, k) for k in K] + [(0.5, k) for k in K[1:]]:
            inverse = 1 / (1 + adsorbed + K_B * c[:, None, :, 1] ** g)
            for power in (1, 2):
                inverse = inverse if power == 1 else inverse**2
                for top in NUMERATORS:
                    columns = np.moveaxis(inverse @ weights[top], 0, 1).reshape(len(K) ** 2, -1)
                    along, square = columns @ target, np.einsum("mi,mi->m", columns, columns)
                    m = int(np.argmax(along**2 / square))
                    if (score := along[m] ** 2 / square[m]) > best[0]:
                        constants = K[m // len(K)], K_B, K[m % len(K)]
                        best = score, along[m] / square[m], top, power, g, constants
        _, k, top, power, g, (K_A, K_B, K_C) = best
        rate = k * np.prod(POINTS ** np.array(top), axis=1)
        rate /= (1 + K_A * POINTS[:, 0] + K_B * POINTS[:, 1] ** g + K_C * POINTS[:, 2]) ** power
        exact = (top, power, g, K_C) == ((1, 1, 0), 2, 1.0, 0.0) and K_A > 0 and K_B > 0
        return rate, bool(exact)

    # Tuning

    def score(self, method, settings: dict, sigma: float, seeds=TUNING) -> float:
        """Mean error over some seeds."""
        cases = [f"{sigma}/{seed}" for seed in seeds]
        return float(np.mean([rate_error(method(case, **settings)[0]) for case in cases]))

    def rank(self, method, candidates: list[dict], sigma: float) -> list[tuple[float, dict]]:
        """Errors and settings, best first."""
        scored = [(self.score(method, settings, sigma), settings) for settings in candidates]
        return sorted(scored, key=lambda pair: pair[0])

    def tuned(self, sigma: float) -> dict[str, tuple]:
        """For each peer its method and its best setting."""
        found: dict[str, tuple] = {}

        def polish(method, inputs):
            """Everything with two settings, then the best of each with all."""
            kept = []
            for first, polynomial in product(FIRST, POLYNOMIALS):
                plain = [i | {"polynomial": polynomial} for i in inputs]
                best = self.rank(method, [i | first for i in plain], sigma)[:1]
                kept += [{k: v for k, v in s.items() if k not in first} for _, s in best]
            unique = [s for i, s in enumerate(kept) if s not in kept[:i]]
            candidates = [
                s | {"threshold": h, "ridge": a, "unit": u}
                for s, (h, u), a in product(unique, THRESHOLDS, RIDGES)
            ]
            return self.rank(method, candidates, sigma)

        ranked = polish(self.stlsq, [{"source": source} for source in SOURCES])
        found["STLSQ"] = self.stlsq, *ranked[0]
        ensembles = [
            s | {"bagging": bagging, "dropping": dropping}
            for polynomial in POLYNOMIALS
            for s in [s for _, s in ranked if s["polynomial"] == polynomial][:1]
            for bagging, dropping in ((True, False), (False, True), (True, True))
        ]
        found["E-SINDy"] = self.ensemble, *self.rank(self.ensemble, ensembles, sigma)[0]

        inputs = [*product(("raw", "projected"), (None, 0, 3))]
        windows = list(product((0.6, 1.2, 2.4, 3.9), (2, 6)))
        weak_inputs = [
            {"features": f, "spline": s, "window": w} for (f, s), w in product(inputs, windows)
        ]
        found["weak form"] = self.weak, *polish(self.weak, weak_inputs)[0]

        for name, library, integral in IMPLICIT:
            coarse, fine = [], []
            for left, penalty in product(LEFT, PENALTIES):
                plain = {"library": library, "left": left, "integral": integral}
                settings = [
                    plain | {"source": s, "solver": "ridge", "weight": penalty} for s in SOURCES
                ]
                coarse += (best := self.rank(self.implicit, settings, sigma)[:1])
                source = best[0][1]["source"]
                if plain | {"source": source} not in fine:
                    fine.append(plain | {"source": source})
            fine = [
                s | {"solver": solver, "weight": w, "refit": refit}
                for s, (solver, w, refit) in product(fine, SOLVERS)
            ]
            ranked = self.rank(self.implicit, fine, sigma) + coarse
            found[name] = self.implicit, *min(ranked, key=lambda pair: pair[0])
        sizes = self.rank(self.grid, [{"shift": 0, "size": n} for n in GRIDS], sigma)
        shifts = [sizes[0][1] | {"shift": shift} for shift in (-3, 0, 3)]
        found["grid library"] = self.grid, *self.rank(self.grid, shifts, sigma)[0]
        return found

    def row(self, name: str, sigma: float, method, tuning: float, settings: dict) -> dict:
        """The test of a tuned method, and its time without anything remembered."""
        results = [method(f"{sigma}/{seed}", **settings) for seed in SEEDS]

        def afresh():
            for function in AFRESH:
                getattr(self, function).cache_clear()
            method(f"{sigma}/{SEEDS[0]}", **settings)

        return {
            "method": name, "sigma": sigma, "errors": [rate_error(rate) for rate, _ in results],
            "exact": [exact for _, exact in results], "seconds": fastest(afresh),
            "tuning error": tuning, "settings": settings,
        }  # fmt: skip


@cache
def implicit_terms(library: str) -> list[str]:
    if library == "exact":
        return sorted(EXACT_TERMS)
    pairs = [a + b for i, a in enumerate(library) for b in library[i:]]
    return [*library, *pairs, "r", *("r" + x for x in (*library, *pairs))]


def evaluate(term: str, c: np.ndarray, rate) -> np.ndarray:
    """Such as rAB, at concentrations and rates."""
    product = np.ones(c.shape[:-1])
    for letter in term:
        product = product * (rate if letter == "r" else c[..., "ABC".index(letter)])
    return product


def peers(folder: str) -> dict:
    peer = Peers(f"{folder}/data.npz")
    peer.c["0/clean"] = peer.c.pop("clean")
    told: Any = {"library": "exact", "left": "AB"}
    clean = {
        "exact derivatives": rate_error(peer.implicit("0/clean", None, **told)[0]),
        "spline": rate_error(peer.implicit("0/clean", ("projected", "stiff", 0), **told)[0]),
    }
    rows = []
    for sigma in SIGMAS:
        rows += [peer.row(name, sigma, *best) for name, best in peer.tuned(sigma).items()]
        print(f"tuned for sigma {sigma}, {time.process_time():.0f} s", file=sys.stderr, flush=True)
    return {"rows": rows, "SINDy-PI without noise": clean}


def worker(side: str, folder: str) -> None:
    warnings.simplefilter("ignore")
    if hasattr(os, "sched_setaffinity"):
        # The clock of the process reads too low when JAX has more than one CPU.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    result = {"ours": ours, "peers": peers}[side](folder)
    names = {d.name: d.version for d in metadata.distributions() if d.name in PACKAGES}
    Path(f"{folder}/{side}.json").write_text(json.dumps(result | {"versions": names}))


def run_side(side: str, python: str, folder: str) -> dict:
    command = [python, __file__, "--worker", side, folder]
    subprocess.run(command, env=os.environ | ENVIRONMENT, check=True)
    return json.loads(Path(f"{folder}/{side}.json").read_text())


def bars(rows: list[dict], times: dict) -> dict:
    """What is promised, as numbers: ratios of the errors at one noise level, and seconds."""
    mean = {r["method"]: float(np.mean(r["errors"])) for r in rows if r["sigma"] == BAR_SIGMA}
    ratios = {name: error / mean["ours"] for name, error in mean.items() if name != "ours"}
    return {"error over ours": ratios, "CPU seconds": times}


def main() -> None:
    """Create the environment of the peers if it is missing, measure, print, and save."""
    peer_python = str(PEER_VENV / "bin" / "python")
    if not PEER_VENV.exists():
        uv = Path(sys.executable).with_name("uv")
        if uv.exists():
            subprocess.run([uv, "venv", "-q", "-p", sys.executable, PEER_VENV], check=True)
            install = [uv, "pip", "install", "-q", "--python", peer_python]
        else:
            subprocess.run([sys.executable, "-m", "venv", PEER_VENV], check=True)
            install = [peer_python, "-m", "pip", "install", "-q"]
        subprocess.run([*install, *PEER_PACKAGES], check=True)
    with tempfile.TemporaryDirectory() as folder:
        mine = run_side("ours", sys.executable, folder)
        theirs = run_side("peers", peer_python, folder)
    rows = mine["rows"] + theirs["rows"]
    print("| method |", " | ".join(f"{s:g}" for s in SIGMAS), "| structure found | CPU s |")
    print("|---" * (len(SIGMAS) + 3) + "|")
    for name in dict.fromkeys(row["method"] for row in rows):
        mine_ = [row for row in rows if row["method"] == name]
        cells = [f"{np.mean(row['errors']):.4f}" for row in mine_]
        exact = [e for row in mine_ for e in row["exact"]]
        cells.append("impossible" if None in exact else f"{sum(exact)} of {len(exact)}")
        cells.append(f"{max(row['seconds'] for row in mine_):.3f}")
        print(f"| {name} |", " | ".join(cells), "|")
    result = {
        "versions": {"ours": mine["versions"], "peers": theirs["versions"]},
        "bars": bars(rows, mine["times"]),
        "SINDy-PI without noise": theirs["SINDy-PI without noise"],
        "rows": rows,
    }
    worst = {row["sigma"]: max(p or np.inf for p in row["parameters"]) for row in mine["rows"]}
    print(f"\nlargest relative error of a parameter of ours: {worst}")
    for name in ("SINDy-PI without noise", "bars", "versions"):
        print(f"{name}: {json.dumps(result[name])}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    worker(*sys.argv[2:]) if sys.argv[1:2] == ["--worker"] else main()
