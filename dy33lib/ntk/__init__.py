r"""Neural tangent kernels of multilayer perceptrons, and how training changes them.

A perceptron of width :math:`N` with :math:`L` hidden layers computes

.. math::
    f(x) = \frac{1}{\gamma\sqrt N}\, W_{L+1}\,\phi(h_L), \qquad
    h_{l+1} = \frac{1}{\sqrt N}\, W_{l+1}\,\phi(h_l), \qquad h_1 = \frac{1}{\sqrt d}\, W_1 x ,

with every weight drawn from a standard normal distribution. The output scale :math:`1/\gamma`
decides how far the weights must move to fit the data: :math:`\gamma = 1` is the NTK
parametrisation, :math:`\gamma \propto \sqrt N` the mean-field one. The neural tangent kernel is
:math:`\Theta_{ab}(x, x') = \nabla_\theta f_a(x) \cdot \nabla_\theta f_b(x')`.

The files go from exact to learned: `linear` (a network solved in closed form), `network`,
`kernels` (at infinite width, at finite width, by brute force), `observables`, `training` (and the
exact flow of the linearised network), `scaling`, and `study`, which puts them together.

References:
    Jacot, Gabriel and Hongler (2018), arXiv:1806.07572 (the kernel);
    Lee et al. (2019), arXiv:1902.06720 (linearised networks);
    Chizat, Oyallon and Bach (2019), arXiv:1812.07956 (the output scale);
    Nikolaou, Krippendorf, Tovey and Holm (2025), arXiv:2507.05035 (the talk).
"""

from dy33lib.ntk.kernels import empirical_ntk, empirical_ntk_generic, infinite_ntk
from dy33lib.ntk.linear import (
    LinearFlow,
    fkt_width_linear,
    simulate_two_layer_linear_flow,
    two_layer_linear_flow,
)
from dy33lib.ntk.network import ACTIVATIONS, MLP, Activation
from dy33lib.ntk.observables import (
    kernel_alignment,
    kernel_entropy,
    kernel_trace,
    label_alignment,
    relative_change,
)
from dy33lib.ntk.scaling import PowerLaw, Transition, power_law_fit, transition_width
from dy33lib.ntk.study import (
    Case,
    Linearised,
    Profile,
    Run,
    curve,
    prepare,
    run_case,
    run_cases,
    run_linearised,
    seed_exponents,
    steady_step,
)
from dy33lib.ntk.training import (
    KernelFlow,
    TrainResult,
    kernel_gradient_flow,
    match_time,
    train_full_batch,
)

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "Case",
    "KernelFlow",
    "LinearFlow",
    "Linearised",
    "PowerLaw",
    "Profile",
    "Run",
    "TrainResult",
    "Transition",
    "curve",
    "empirical_ntk",
    "empirical_ntk_generic",
    "fkt_width_linear",
    "infinite_ntk",
    "kernel_alignment",
    "kernel_entropy",
    "kernel_gradient_flow",
    "kernel_trace",
    "label_alignment",
    "match_time",
    "power_law_fit",
    "prepare",
    "relative_change",
    "run_case",
    "run_cases",
    "run_linearised",
    "seed_exponents",
    "simulate_two_layer_linear_flow",
    "steady_step",
    "train_full_batch",
    "transition_width",
    "two_layer_linear_flow",
]
