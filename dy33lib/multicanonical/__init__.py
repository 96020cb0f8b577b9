r"""The density of states of Potts models, rare states included, by networks and exactly.

The files go from the model to its networks: `potts` (energies), `exact` (the density of states of
small lattices; the infinite lattice), `canonical` (reweighting, transition point, interface
tension), `network` (autoregressive networks with exact probabilities), `windows` (a latent number
that tells which energies to draw), `training`, `estimate` (from draws to densities), `chains`
(Wang-Landau and multicanonical sampling, to compare with), and `study` (the chapter's runs).

References:
    Wu, Wang and Zhang (2019), Phys. Rev. Lett. 122, 080602 (variational autoregressive networks);
    Nicoli et al. (2020), Phys. Rev. E 101, 023304 (unbiased estimates from exact probabilities);
    Berg and Neuhaus (1992), Phys. Rev. Lett. 68, 9 (the multicanonical ensemble);
    Borgs and Janke (1992), J. Phys. I 2, 2011 (interface tension).
"""

from dy33lib.multicanonical.canonical import (
    equal_height_beta,
    equal_weight_beta,
    finite_size_beta,
    interface_tension,
    ln_z,
    microcanonical_beta,
    moments,
    reweight,
)
from dy33lib.multicanonical.chains import (
    Muca,
    WangLandau,
    independence_chain,
    muca,
    round_trips,
    wang_landau,
)
from dy33lib.multicanonical.estimate import DensityOfStates, estimate_dos
from dy33lib.multicanonical.exact import Baxter, baxter, exact_dos
from dy33lib.multicanonical.network import Decoder, enlarge, log_prob, sample
from dy33lib.multicanonical.potts import energies, potts_energy
from dy33lib.multicanonical.training import Trained, train
from dy33lib.multicanonical.windows import Windows, energy_windows, log_encoder

__all__ = [
    "Baxter",
    "Decoder",
    "DensityOfStates",
    "Muca",
    "Trained",
    "WangLandau",
    "Windows",
    "baxter",
    "energies",
    "energy_windows",
    "enlarge",
    "equal_height_beta",
    "equal_weight_beta",
    "estimate_dos",
    "exact_dos",
    "finite_size_beta",
    "independence_chain",
    "interface_tension",
    "ln_z",
    "log_encoder",
    "log_prob",
    "microcanonical_beta",
    "moments",
    "muca",
    "potts_energy",
    "reweight",
    "round_trips",
    "sample",
    "train",
    "wang_landau",
]
