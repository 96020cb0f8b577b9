r"""Flat directions of loss landscapes, and the symmetries that make them.

A bias-free network :math:`f(x) = W_L\,\phi(\dots\phi(W_1 x))` whose activation is linear does not
notice if the units of a hidden layer are mixed, :math:`W_l \to g\,W_l`, and unmixed again,
:math:`W_{l+1} \to W_{l+1}\,g^{-1}`. Each generator of such a symmetry is a direction in which the
loss stays constant, and a zero of its Hessian at a minimum. A ridge lifts some of these zeros to a
known value, a leaky ReLU of slope :math:`\alpha` breaks most of them by
:math:`(1 - \alpha)^2`.

The files go from objects to statements: `networks` (and their losses), `curvature` (Hessians and
minima), `symmetries` (generators, counting, identities), `spectra` (overlaps, what chance gives,
densities without matrices), `attribution` (a table for any network), and `study`.

References:
    Singh, Bachmann and Hofmann (2021), arXiv:2106.16225 (rank of the Hessian of linear networks);
    Zhao, Ganev, Walters, Yu and Dehmamy (2023), arXiv:2210.17216 (symmetries and flat minima);
    Sagun, Evci, Guney, Dauphin and Bottou (2017), arXiv:1706.04454 (bulk and outliers);
    Kühn and Rosenow (2025), DPG spring meeting, DY 33.4 (the talk).
"""

from dy33lib.hessian.attribution import Attribution, attribute
from dy33lib.hessian.curvature import Minimum, find_minimum, full_hessian, hvp
from dy33lib.hessian.networks import (
    ConvNet,
    DenseNet,
    cross_entropy_loss,
    mse_loss,
    outputs,
    parameters,
    with_parameters,
    with_slope,
)
from dy33lib.hessian.spectra import (
    Chance,
    Spectrum,
    chance_overlap,
    decile_overlap,
    overlap,
    spectral_density,
)
from dy33lib.hessian.study import (
    Case,
    Frame,
    Part,
    Result,
    break_symmetry,
    digits_task,
    gaussian_task,
    make_case,
    reduced_rank_loss,
    run_case,
)
from dy33lib.hessian.symmetries import (
    Counts,
    Mixings,
    Projection,
    count_zero_modes,
    fibre_basis,
    gauge_action,
    gauge_generators,
    goldstone_counts,
    hidden_widths,
    leaky_curvature,
    logit_shift_generators,
    orbit_basis,
    project_gauge,
    rescaling_generators,
    sort_mixings,
    ward_residual,
)

__all__ = [
    "Attribution",
    "Case",
    "Chance",
    "ConvNet",
    "Counts",
    "DenseNet",
    "Frame",
    "Minimum",
    "Mixings",
    "Part",
    "Projection",
    "Result",
    "Spectrum",
    "attribute",
    "break_symmetry",
    "chance_overlap",
    "count_zero_modes",
    "cross_entropy_loss",
    "decile_overlap",
    "digits_task",
    "fibre_basis",
    "find_minimum",
    "full_hessian",
    "gauge_action",
    "gauge_generators",
    "gaussian_task",
    "goldstone_counts",
    "hidden_widths",
    "hvp",
    "leaky_curvature",
    "logit_shift_generators",
    "make_case",
    "mse_loss",
    "orbit_basis",
    "outputs",
    "overlap",
    "parameters",
    "project_gauge",
    "reduced_rank_loss",
    "rescaling_generators",
    "run_case",
    "sort_mixings",
    "spectral_density",
    "ward_residual",
    "with_parameters",
    "with_slope",
]
