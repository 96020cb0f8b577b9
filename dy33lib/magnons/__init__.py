r"""Where to count next: spin waves, Poisson counts, and a campaign that learns, maps and doubts.

A neutron spectrometer counts at one point (h, k, E) at a time. From few noisy counts the exchange
couplings of a magnet are to be known, and it has to be noticed if the model lacks something.

The files go from physics to decisions: `layer` (linear spin-wave theory of a layer with two sites),
`counts` (intensities and Poisson counts), `posterior` (particles that follow the couplings),
`kalman` (a map from counts alone, and ensembles before a measurement), `design` (Fisher
information, the best possible design, the next point, the adversary), `campaign` (the loop, and the
alarm), and `strategies` (others to race against).

References:
    Zhang, Abuawwad, Lounis and Zhang (2024), arXiv:2407.04457 (the talk's paper; its full text was
    not at hand, and what is done here is our reading of its abstract);
    Scheie et al. (2022), Adv. Sci. 9, 2202467 (spin waves of CrSBr);
    Whitaker and Hamill (2002), Mon. Weather Rev. 130, 1913 (square-root ensemble filters);
    Shafer (2021), J. R. Stat. Soc. A 184, 407 (testing by betting).
"""

from dy33lib.magnons.campaign import (
    Batch,
    Beam,
    Campaign,
    Gambler,
    Settings,
    map_odds,
    run_campaign,
)
from dy33lib.magnons.counts import (
    Rows,
    Spectrometer,
    candidate_grid,
    intensity,
    loglik,
    measurement_rows,
    simulate_counts,
)
from dy33lib.magnons.design import (
    Optimum,
    Travel,
    a_optimal,
    disagreement,
    fisher,
    predict,
    select,
)
from dy33lib.magnons.kalman import (
    Kernel,
    Map,
    empty_map,
    gp_map,
    kalman_downdate,
    kalman_step,
    prior_kernel,
)
from dy33lib.magnons.layer import SHELLS, Layer, Shell, bands, weights
from dy33lib.magnons.posterior import Data, Model, Particles, pack, sample_prior, smc_update
from dy33lib.magnons.strategies import (
    LOGARITHM,
    ROOT,
    Scale,
    by_map,
    log_normal_variance,
    random,
    uniform,
    upper_bound,
)

__all__ = [
    "LOGARITHM",
    "ROOT",
    "SHELLS",
    "Batch",
    "Beam",
    "Campaign",
    "Data",
    "Gambler",
    "Kernel",
    "Layer",
    "Map",
    "Model",
    "Optimum",
    "Particles",
    "Rows",
    "Scale",
    "Settings",
    "Shell",
    "Spectrometer",
    "Travel",
    "a_optimal",
    "bands",
    "by_map",
    "candidate_grid",
    "disagreement",
    "empty_map",
    "fisher",
    "gp_map",
    "intensity",
    "kalman_downdate",
    "kalman_step",
    "log_normal_variance",
    "loglik",
    "map_odds",
    "measurement_rows",
    "pack",
    "predict",
    "prior_kernel",
    "random",
    "run_campaign",
    "sample_prior",
    "select",
    "simulate_counts",
    "smc_update",
    "uniform",
    "upper_bound",
    "weights",
]
