r"""Sensitivity near a critical point, for a reader with limited time.

Units excite each other: one that fires makes :math:`\lambda` others fire in the next step, on
average. Close to the critical point :math:`\lambda = 1` the network amplifies small inputs, but its
activity fluctuates strongly and slowly, and a reader who averages over a time T can no longer tell
inputs apart. How many inputs can be told apart, and over which range, follows here from exact
moments of the activity, without simulation.

The files go from objects to statements: `parameters`, `moments` (mean field, and three exact
moments at any integration time), `outputs` (the law of the noisy output, the probability of
confusion), `discrimination` (chains of inputs, dynamic range, optimum), `exact` (laws without an
assumed shape), and `simulation` (annealed and quenched networks).

References:
    Azizpour, Priesemann, Zierenberg and Levina (2026), Commun. Phys.,
    doi:10.1038/s42005-026-02584-w, arXiv:2602.09491 (the talk's paper: model, definitions);
    Kinouchi and Copelli (2006), Nature Physics 2, 348 (dynamic range is largest at criticality);
    Ewens (2004), Mathematical Population Genetics, chapter 5 (Wright-Fisher diffusions).
"""

from dy33lib.criticality.discrimination import (
    Optimum,
    Range,
    Sweep,
    discriminable_inputs,
    dynamic_range,
    limit_infinite,
    optimal_lambda,
    output_law,
    range_of_law,
    reference,
    sweep,
)
from dy33lib.criticality.exact import birth_death_pmf, diffusion_pmf, exact_stationary
from dy33lib.criticality.moments import Moments, activity_moments, invert_activity, mean_activity
from dy33lib.criticality.outputs import empirical_pmf, output_grid, output_pmf, overlap_error
from dy33lib.criticality.parameters import Params
from dy33lib.criticality.simulation import (
    Network,
    NetworkMoments,
    Simulation,
    drive,
    make_network,
    network_moments,
    simulate_annealed,
    simulate_network,
)

__all__ = [
    "Moments",
    "Network",
    "NetworkMoments",
    "Optimum",
    "Params",
    "Range",
    "Simulation",
    "Sweep",
    "activity_moments",
    "birth_death_pmf",
    "diffusion_pmf",
    "discriminable_inputs",
    "drive",
    "dynamic_range",
    "empirical_pmf",
    "exact_stationary",
    "invert_activity",
    "limit_infinite",
    "make_network",
    "mean_activity",
    "network_moments",
    "optimal_lambda",
    "output_grid",
    "output_law",
    "output_pmf",
    "overlap_error",
    "range_of_law",
    "reference",
    "simulate_annealed",
    "simulate_network",
    "sweep",
]
