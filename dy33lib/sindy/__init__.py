r"""Rate laws from noisy concentration curves: sparse identification with adaptive function bases.

The dynamics are :math:`\dot\xi = r(c)`, :math:`c = c_0 + \nu\xi`, and the rate law is sought among

.. math::
    r(c) = \frac{\sum_j \pm k_j \prod_s c_s^{a_{js}}}{\bigl(1 + \sum_s K_s c_s^{g_s}\bigr)^n} ,

functions with parameters of their own, not fixed ones. Which numerators, which species in the
denominator, with which exponents: that is the structure, and a search that grows, prunes and swaps
finds it.

The files read in the order of the chapter: `laws` (structures and libraries), `kinetics` (what a
law does in a reactor), `experiments` (data, extents, files), `integral` (many structures at once),
`likelihood` (fits along trajectories, Fisher information), `search` (adaptive), `design` (the next
experiment) and `study`, which puts them together; `polynomials` is what sparse identification began
with.

References:
    Ducci, Kouyate, Reuter and Scheurer, talk DY 33.10 (the idea: parametric functions, adaptive
    library);
    Brunton, Proctor and Kutz (2016), doi:10.1073/pnas.1517384113 (sparse identification);
    Kaheman, Kutz and Brunton (2020), doi:10.1098/rspa.2020.0279 (implicit rational laws).
"""

from dy33lib.sindy.design import NextExperiment, next_experiment
from dy33lib.sindy.experiments import (
    Curves,
    Experiments,
    Extents,
    imbalance_p_value,
    noise_level,
    parse_reactions,
    prepare,
    read_experiments,
    to_extent,
)
from dy33lib.sindy.integral import ScreenResult, screen
from dy33lib.sindy.kinetics import extent_closed_form_lh2, simulate
from dy33lib.sindy.laws import (
    EXPONENTS,
    IdentifiabilityError,
    Library,
    RateTerm,
    enumerate_structures,
)
from dy33lib.sindy.likelihood import (
    Fit,
    bic_weights,
    crb,
    fisher,
    misfit_p_value,
    predict,
    refine,
    sensitivities,
)
from dy33lib.sindy.polynomials import stlsq
from dy33lib.sindy.search import Move, Path, Structure, adapt
from dy33lib.sindy.study import (
    DESIGN,
    EXAMPLE,
    NU,
    SPECIES,
    TIMES,
    ZOO,
    Case,
    Certificate,
    Identification,
    Result,
    Scorer,
    certify,
    fit_known,
    identify,
    intervals,
    measure,
    parameter_names,
    rate_error,
    run_case,
    run_cases,
    standard_library,
    study_library,
)

__all__ = [
    "DESIGN",
    "EXAMPLE",
    "EXPONENTS",
    "NU",
    "SPECIES",
    "TIMES",
    "ZOO",
    "Case",
    "Certificate",
    "Curves",
    "Experiments",
    "Extents",
    "Fit",
    "IdentifiabilityError",
    "Identification",
    "Library",
    "Move",
    "NextExperiment",
    "Path",
    "RateTerm",
    "Result",
    "Scorer",
    "ScreenResult",
    "Structure",
    "adapt",
    "bic_weights",
    "certify",
    "crb",
    "enumerate_structures",
    "extent_closed_form_lh2",
    "fisher",
    "fit_known",
    "identify",
    "imbalance_p_value",
    "intervals",
    "measure",
    "misfit_p_value",
    "next_experiment",
    "noise_level",
    "parameter_names",
    "parse_reactions",
    "predict",
    "prepare",
    "rate_error",
    "read_experiments",
    "refine",
    "run_case",
    "run_cases",
    "screen",
    "sensitivities",
    "simulate",
    "standard_library",
    "stlsq",
    "study_library",
    "to_extent",
]
