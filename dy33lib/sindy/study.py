"""The study of chapter 10: from experiments to a mechanism, and the laws it is tried on."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from pathlib import Path as FilePath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.integrate import solve_ivp

from dy33lib.sindy.experiments import Curves, Experiments, prepare
from dy33lib.sindy.integral import screen
from dy33lib.sindy.kinetics import simulate
from dy33lib.sindy.laws import IdentifiabilityError, Library, RateTerm
from dy33lib.sindy.likelihood import Fit, bic_weights, crb, fisher, misfit_p_value, refine
from dy33lib.sindy.search import Path, Structure, adapt

ADEQUATE = 0.01  # p-value of the residuals below which the search widens


class Identification(NamedTuple):
    """What some experiments say about a mechanism.

    Attributes:
        curves: the prepared data.
        fits: the best structure and its rivals, best first.
        weights: their BIC weights among all structures that were fitted.
        p_value: of the residuals of the best, as in :func:`.misfit_p_value`.
        path: the search; None if the library was enumerated.
    """

    curves: Curves
    fits: tuple[Fit, ...]
    weights: Float[np.ndarray, " M"]
    p_value: float
    path: Path | None

    @property
    def laws(self) -> Structure:
        """The best structure."""
        return self.fits[0].laws

    @property
    def misfit(self) -> bool:
        """Whether even the best is rejected, with p below 0.001."""
        return self.p_value < 1e-3

    def rows(self, level: float = 0.9) -> list[list[str]]:
        """A table of rivals: mechanism, constants with intervals, weight, chi2 per dof.

        Args:
            level: of the confidence intervals, which are symmetric in the logarithm.
        """
        species = self.curves.experiments.species
        rows = []
        for fit, weight in zip(self.fits, self.weights, strict=True):
            law = "; ".join(term.describe(species) for term in fit.laws)
            rows.append(
                [law, _constants(fit, species, level), f"{weight:.3f}", f"{fit.chi2 / fit.dof:.2f}"]
            )
        return rows


def _constants(fit: Fit, species: Sequence[str], level: float) -> str:
    """Constants with intervals; "undetermined" where the interval spans a factor of 25 or more."""
    names = parameter_names(fit.laws, species)
    values = np.concatenate(fit.params)
    information = fit.fisher + np.eye(len(values)) * 1e-12 * np.max(np.diag(fit.fisher))
    reach = stats.norm.ppf((1 + level) / 2) * np.sqrt(np.diag(np.linalg.inv(information)))
    return ", ".join(
        f"{name} = {value:.3g} ({value * np.exp(-r):.3g} to {value * np.exp(r):.3g})"
        if r < np.log(5)
        else f"{name} undetermined"
        for name, value, r in zip(names, values, reach, strict=True)
    ) + ("" if fit.converged else " (not converged)")


def parameter_names(laws: Structure, species: Sequence[str]) -> list[str]:
    """Names of all parameters; those of several laws are told apart by a prefix."""
    return [
        name if len(laws) == 1 else f"r{r + 1}: {name}"
        for r, law in enumerate(laws)
        for name in law.names(species)
    ]


def intervals(
    fit: Fit, level: float = 0.9, names: Sequence[str] | None = None
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Confidence intervals of all parameters, symmetric in the logarithm.

    Raises:
        ValueError: if the level is not between 0 and 1.
        IdentifiabilityError: as in :func:`.crb`.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    reach = stats.norm.ppf((1 + level) / 2) * crb(fit.fisher, names)
    values = np.concatenate(fit.params)
    return values * np.exp(-reach), values * np.exp(reach)


class Scorer:
    """Fits structures on demand and remembers them: screen for the start, then trajectories.

    Args:
        curves: from :func:`~dy33lib.sindy.experiments.prepare`.
        substeps: Runge-Kutta steps between samples; 2 rank structures, :func:`.identify` then
            fits the leaders with more.
    """

    def __init__(self, curves: Curves, substeps: int = 2):
        self.curves, self.substeps = curves, substeps
        self.fits: dict[Structure, Fit] = {}
        self._starts: dict[tuple[int, RateTerm], Float[np.ndarray, " P"]] = {}

    def starts(self, structures: Sequence[Structure]) -> list[list[Float[np.ndarray, " P"]]]:
        """Parameters of each law from the integral form."""
        for r in range(len(structures[0])):
            new = dict.fromkeys(s[r] for s in structures if (r, s[r]) not in self._starts)
            if new:
                found = screen(list(new), self.curves, r)
                self._starts.update(zip(((r, law) for law in new), found.params, strict=True))
        return [[self._starts[r, law] for r, law in enumerate(s)] for s in structures]

    def __call__(self, structures: Sequence[Structure]) -> list[float]:
        """The BIC of each structure."""
        new = [s for s in structures if s not in self.fits]
        if new:
            fits = refine(
                new,
                self.starts(new),
                self.curves,
                substeps=self.substeps,
                iterations=20,
                hopeless=0.01,
            )
            self.fits.update(zip(new, fits, strict=True))
        return [self.fits[s].bic for s in structures]

    def adequate(self, structure: Structure) -> bool:
        """Whether the residuals of a structure are no larger than the noise (p > 0.01)."""
        fit = self.fits[structure]
        return misfit_p_value(fit.chi2, fit.dof, self.curves.sigma_dof) > ADEQUATE


def identify(
    experiments: Experiments,
    libraries: Library | Sequence[Library] | None = None,
    *,
    sigma: float | Sequence[float] | None = None,
    start: RateTerm | Structure | None = None,
    beam: int = 2,
    rivals: int = 5,
    exhaustive: bool = False,
    substeps: int = 4,
) -> Identification:
    """Find the mechanism behind some experiments.

    Args:
        experiments: measured data.
        libraries: what the law of each reaction may be made of; :func:`.standard_library` if left
            out.
        sigma: standard deviation of the noise; measured from the balances if left out.
        start: where the adaptive search begins; mass action of the reactants if left out.
        beam: as in :func:`.adapt`.
        rivals: how many of the best structures are fitted in the end.
        exhaustive: fit every structure instead of searching.
        substeps: Runge-Kutta steps between samples in the final fits.

    Raises:
        ValueError: as in :func:`~dy33lib.sindy.experiments.prepare` and :func:`.adapt`, or if the
            number of rivals is not positive.
    """
    curves = prepare(experiments, sigma)
    R = experiments.nu.shape[1]
    if rivals < 1:
        raise ValueError(f"rivals must be at least 1, got {rivals}")
    if libraries is None:
        libraries = [standard_library(experiments.species, experiments.nu[:, r]) for r in range(R)]
    libraries = (libraries,) if isinstance(libraries, Library) else tuple(libraries)
    if len(libraries) != R:
        raise ValueError(f"libraries must be {R} in number, got {len(libraries)}")
    scorer = Scorer(curves)
    path = None
    if exhaustive:
        scorer(list(product(*(library.structures() for library in libraries))))
    else:
        if start is None:
            start = tuple(
                _mass_action(library, experiments.nu[:, r]) for r, library in enumerate(libraries)
            )
        path = adapt(scorer, libraries, start, beam=beam, adequate=scorer.adequate)
    leaders = sorted(scorer.fits.values(), key=lambda fit: fit.bic)[:rivals]
    final = refine(
        [fit.laws for fit in leaders], [fit.params for fit in leaders], curves, substeps=substeps
    )
    final.sort(key=lambda fit: fit.bic)
    best = final[0]
    shown = {fit.laws for fit in final}
    others = [fit.bic for laws, fit in scorer.fits.items() if laws not in shown]
    return Identification(
        curves,
        tuple(final),
        bic_weights([fit.bic for fit in final] + others)[: len(final)],
        misfit_p_value(best.chi2, best.dof, curves.sigma_dof),
        path,
    )


def standard_library(species: Sequence[str], nu: Float[np.ndarray, " S"]) -> Library:
    """The library for a reaction of which only the stoichiometry is known.

    Numerators: products of the reactants to the powers 0, 1/2 and 1, and their squares. Backwards:
    the product of the products, each with its coefficient (at most 2). Any species may adsorb,
    whole or in halves, on one or two sites.

    Raises:
        ValueError: if nothing is consumed.
    """
    nu = np.asarray(nu, float)
    S = len(species)
    reactants = [s for s in range(S) if nu[s] < 0]
    if not reactants:
        raise ValueError(f"nu must consume something, got {nu.tolist()}")
    tops = []
    for powers in product((0.0, 0.5, 1.0), repeat=len(reactants)):
        row = np.zeros(S)
        row[reactants] = powers
        tops.append(tuple(row.tolist()))
    tops += [tuple(2.0 * (np.arange(S) == s)) for s in reactants]
    backward = tuple(np.where(nu > 0, np.clip(np.round(nu), 1, 2), 0.0).tolist())
    return Library(
        tuple(species),
        tuple(tuple(map(float, row)) for row in tops if any(row)),
        ((0.5, 1.0),) * S,
        (1, 2),
        (backward,) if any(backward) else (),
    )


def _mass_action(library: Library, nu: Float[np.ndarray, " S"]) -> RateTerm:
    """The library's numerator closest to one power of each reactant, without a denominator."""
    target = np.clip(-nu, 0, 2)
    row = min(library.numerators, key=lambda row: float(np.sum(np.abs(np.asarray(row) - target))))
    return RateTerm((row,), (0.0,) * len(nu))


# The laws of the study ---------------------------------------------------------------------------

SPECIES = ("A", "B", "C")
NU = np.array([[-1.0], [-1.0], [1.0]])  # A + B -> C
A, B, C = np.eye(3)


def _law(top, orders=(0, 0, 0), power=0) -> RateTerm:
    return RateTerm((tuple(map(float, top)),), tuple(map(float, orders)), power)


# Name, structure and constants (mol/L, min) of the laws that the study is tried on.
ZOO: dict[str, tuple[RateTerm, tuple[float, ...]]] = {
    "Langmuir-Hinshelwood": (_law(A + B, (1, 1, 0), 2), (8.0, 3.0, 2.0)),
    "dissociative": (_law(A + B / 2, (1, 0.5, 0), 2), (4.0, 3.0, 1.5)),
    "product inhibition": (_law(A + B, (1, 1, 1), 2), (10.0, 3.0, 2.0, 4.0)),
    "Eley-Rideal": (_law(A + B, (1, 0, 0), 1), (1.2, 2.0)),
    "unimolecular": (_law(A, (1, 0, 0), 1), (0.12, 1.5)),
    "power law": (_law(A + B), (0.3,)),
}
# Initial concentrations of A, B and C; two experiments start with product. Of several hundred
# random designs this one leaves, without noise, the largest BIC gap between the first three laws
# of the zoo and their closest rivals. One experiment is done twice.
DESIGN = np.array(
    [
        [2.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1.0, 1.5, 0.0], [1.0, 1.5, 0.0],
        [2.5, 2.5, 0.0], [1.5, 2.5, 0.0], [1.5, 1.5, 0.8], [0.5, 2.5, 1.5],
    ]
)  # fmt: skip
TIMES = np.linspace(0.25, 8.0, 32)
# An example file to bring one's own data by; `scripts/make_kinetics_example.py` made it.
EXAMPLE = FilePath(__file__).resolve().parent.parent / "data" / "kinetics_example.csv"


def study_library(*, reversible: bool = False) -> Library:
    """The library of the study: 161 structures, or 322 with an optional step backwards."""
    tops = (A + B, A + B / 2, A, B, B / 2, 2 * A, 2 * B)
    return Library(
        SPECIES,
        tuple(tuple(map(float, row)) for row in tops),
        ((1.0,), (0.5, 1.0), (1.0,)),
        (1, 2),
        (tuple(map(float, C)),) if reversible else (),
    )


def measure(
    law: str | Callable[[Float[np.ndarray, " S"], float], float],
    sigma: float,
    seed: int,
    *,
    c0: Float[np.ndarray, "E 3"] = DESIGN,
    t: Float[np.ndarray, " T"] = TIMES,
) -> Experiments:
    """Simulated experiments on A + B -> C with Gaussian noise on all three concentrations.

    Args:
        law: a name in `ZOO`, or a function of the concentrations and of time for a law outside of
            every library, integrated by SciPy.
        sigma: standard deviation of the noise, mol/L; 0 for none.
        seed: of the noise.
        c0: initial concentrations.
        t: sampling times.

    Raises:
        ValueError: if the law is unknown or sigma is negative.
    """
    if not sigma >= 0:
        raise ValueError(f"sigma must not be negative, got {sigma}")
    if callable(law):
        clean = _simulate_any(law, c0, t)
    elif law in ZOO:
        clean = simulate(*ZOO[law], c0, NU, t)
    else:
        raise ValueError(f"law must be a function or one of {list(ZOO)}, got {law!r}")
    # Noise is drawn anew for each law and each level, so that their results are independent.
    place = list(ZOO).index(law) if isinstance(law, str) else len(ZOO)
    rng = np.random.default_rng([10, place, round(1e9 * sigma), seed])
    noise = rng.normal(size=clean.shape)
    return Experiments(SPECIES, NU, np.tile(t, (len(c0), 1)), clean + sigma * noise, c0)


def _simulate_any(rate, c0, t) -> Float[np.ndarray, "E T S"]:
    extents = []
    for start in c0:

        def slope(time, xi, start=start):
            return [rate(np.maximum(start + NU[:, 0] * xi[0], 0.0), time)]

        found = solve_ivp(slope, (0.0, t[-1]), [0.0], t_eval=t, rtol=1e-9, atol=1e-11)
        extents.append(found.y[0])
    return c0[:, None] + np.stack(extents)[..., None] * NU[:, 0]


@dataclass(frozen=True)
class Case:
    """One simulated data set and how it is searched.

    Attributes:
        law: a name in `ZOO`.
        sigma: standard deviation of the noise, mol/L.
        seed: of the noise.
        start: "action" (mass action), "small" (one first-order numerator, no denominator) or
            "large" (all species adsorbed on two sites); "all" enumerates the library.
        reversible: whether the library has the step backwards.
    """

    law: str
    sigma: float
    seed: int
    start: str = "action"
    reversible: bool = True


class Result(NamedTuple):
    """What came out of one case.

    Attributes:
        case: what was run.
        found: the structure that was identified.
        exact: whether it is the true one.
        weight: probability of the one found, among its rivals.
        p_value: of its residuals.
        fits: structures fitted in the search.
        bic: of the structure that was found.
        errors: ln of estimate over truth of the true structure's constants, NaN if it is not
            among the rivals.
        bounds: their Cramér-Rao bounds, at the truth.
        deviations: their standard deviations as the fit itself estimates them; infinite if it
            leaves a combination undetermined.
    """

    case: Case
    found: RateTerm
    exact: bool
    weight: float
    p_value: float
    fits: int
    bic: float
    errors: tuple[float, ...]
    bounds: tuple[float, ...]
    deviations: tuple[float, ...]


# Where the adaptive search of a case begins.
STARTS: dict[str, RateTerm | None] = {
    "action": None,
    "small": _law(A),
    "large": _law(2 * A, (1, 0.5, 1), 2),
}


def run_case(case: Case) -> Result:
    """Simulate, identify, compare.

    Raises:
        ValueError: as in :func:`.measure` and :func:`.identify`.
    """
    experiments = measure(case.law, case.sigma, case.seed)
    library = study_library(reversible=case.reversible)
    everything = case.start == "all"
    found = identify(
        experiments, library, start=None if everything else STARTS[case.start],
        exhaustive=everything,
    )  # fmt: skip
    truth, values = ZOO[case.law]
    fit = next((f for f in found.fits if f.laws == (truth,)), None)
    nothing = np.full(len(values), np.nan)
    try:
        deviations = crb(fit.fisher) if fit else nothing
    except IdentifiabilityError:  # much noise can drive constants to infinity together
        deviations = np.full(len(values), np.inf)
    return Result(
        case,
        found.laws[0],
        found.laws == (truth,),
        float(found.weights[0]),
        found.p_value,
        found.path.fits if found.path else len(library.structures()),
        found.fits[0].bic,
        tuple(np.log(fit.params[0] / np.asarray(values)) if fit else nothing),
        tuple(crb(fisher(truth, values, DESIGN, NU, TIMES, case.sigma))),
        tuple(deviations),
    )


def fit_known(law: str, sigma: float, seed: int) -> Float[np.ndarray, "3 P"]:
    """Fit the true structure.

    Returns:
        Errors (ln of estimate over truth), Cramér-Rao bounds at the truth, and the standard
        deviations that the fit estimates.

    Raises:
        ValueError: as in :func:`.measure`.
    """
    curves = prepare(measure(law, sigma, seed))
    truth, values = ZOO[law]
    fit = refine([truth], screen([truth], curves).params, curves)[0]
    errors = np.log(fit.params[0] / np.asarray(values))
    bounds = crb(fisher(truth, values, DESIGN, NU, TIMES, sigma))
    return np.stack([errors, bounds, crb(fit.fisher)])


def rate_error(
    rate: Callable[[Float[np.ndarray, "m 3"]], Float[np.ndarray, " m"]], law: str
) -> float:
    """Relative error of a rate law on 12 x 12 concentrations of A and B from 0.2 to 2.5 mol/L.

    Raises:
        ValueError: if the law is not in `ZOO`.
    """
    if law not in ZOO:
        raise ValueError(f"law must be one of {list(ZOO)}, got {law!r}")
    axis = np.linspace(0.2, 2.5, 12)
    c = np.array([[a, b, 0.0] for a in axis for b in axis])
    truth = ZOO[law][0](c, ZOO[law][1])
    return float(np.linalg.norm(rate(c) - truth) / np.linalg.norm(truth))


class Certificate(NamedTuple):
    """An adaptive search held against the enumeration of its library, on the same fits.

    Attributes:
        start: where the search began, a name in `STARTS`.
        optimal: whether it ended at the structure of lowest BIC of all.
        share: structures fitted in the search over structures in the library.
    """

    start: str
    optimal: bool
    share: float


def certify(
    experiments: Experiments,
    library: Library,
    starts: Sequence[str] = ("small", "large"),
    *,
    beam: int = 2,
    window: float = 6.0,
) -> list[Certificate]:
    """Fit every structure of a library for A + B -> C, then search it from each start.

    Raises:
        ValueError: as in :func:`~dy33lib.sindy.experiments.prepare` and :func:`.adapt`.
    """
    scorer = Scorer(prepare(experiments))
    everything = [(term,) for term in library.structures()]
    best = everything[int(np.argmin(scorer(everything)))]
    results = []
    for name in starts:
        start = STARTS[name] or _mass_action(library, NU[:, 0])
        path = adapt(scorer, library, start, beam=beam, window=window, adequate=scorer.adequate)
        results.append(Certificate(name, path.structure == best, path.fits / len(everything)))
    return results


def run_cases(
    cases: Iterable[Case],
    *,
    executor: Executor | None = None,
    track: Callable[[Iterable[Result], int], Iterable[Result]] | None = None,
) -> list[Result]:
    """Run many cases, in this process or wherever the executor runs them.

    Args:
        cases: what to run.
        executor: any `concurrent.futures.Executor`; in this process if left out.
        track: wraps the stream of results, given their number.

    Returns:
        The results, in the order of the cases.
    """
    cases = list(cases)
    results = map(run_case, cases) if executor is None else executor.map(run_case, cases)
    return list(results if track is None else track(results, len(cases)))
