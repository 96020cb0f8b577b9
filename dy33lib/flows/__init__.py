"""Phase diagrams from one reference state, by flows that are told temperature and pressure.

The files go from exact to learned: `exact` (systems with known free energies), `estimators` (free
energies from weights, from two states, from many), `layers` (maps with known Jacobians), `coupling`
(the published flow), `training`, `chain` (a flow in one dimension), `absolute` (free energies of
crystal and liquid), `umbrella` (both joined directly), `diagram` (coexistence), and `study`.
"""

from dy33lib.flows.absolute import (
    Route,
    anharmonic,
    beta_ladder,
    einstein_crystal,
    gibbs,
    harmonic_crystal,
    log_density,
    phonons,
    soft_core,
)
from dy33lib.flows.chain import ChainFlow, chain_gaps, chain_log_weights, train_chain
from dy33lib.flows.coupling import CouplingFlow
from dy33lib.flows.diagram import Line, clapeyron, coexistence, correlation, isomorph, means
from dy33lib.flows.estimators import Difference, Mbar, bar, ess, lfep, mbar
from dy33lib.flows.exact import ideal_gas_gibbs, published_liquid, takahashi_gibbs
from dy33lib.flows.layers import (
    ConditionalFlow,
    Mapped,
    log_weights,
    log_weights_back,
    mapped,
)
from dy33lib.flows.training import Trained, minimise, train
from dy33lib.flows.umbrella import Orders, crossing_gap, order, profile

__all__ = [
    "ChainFlow",
    "ConditionalFlow",
    "CouplingFlow",
    "Difference",
    "Line",
    "Mapped",
    "Mbar",
    "Orders",
    "Route",
    "Trained",
    "anharmonic",
    "bar",
    "beta_ladder",
    "chain_gaps",
    "chain_log_weights",
    "clapeyron",
    "coexistence",
    "correlation",
    "crossing_gap",
    "einstein_crystal",
    "ess",
    "gibbs",
    "harmonic_crystal",
    "ideal_gas_gibbs",
    "isomorph",
    "lfep",
    "log_density",
    "log_weights",
    "log_weights_back",
    "mapped",
    "mbar",
    "means",
    "minimise",
    "order",
    "phonons",
    "profile",
    "published_liquid",
    "soft_core",
    "takahashi_gibbs",
    "train",
    "train_chain",
]
