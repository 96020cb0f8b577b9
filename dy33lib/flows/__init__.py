"""Phase diagrams from one reference state, by flows that are told temperature and pressure.

The files go from exact to learned: `exact` (systems with known free energies), `estimators` (free
energies from weights, from two states, from many), and `layers` (maps with known Jacobians).
"""

from dy33lib.flows.estimators import Difference, Mbar, bar, ess, lfep, mbar
from dy33lib.flows.exact import ideal_gas_gibbs, takahashi_gibbs
from dy33lib.flows.layers import ConditionalFlow, log_weights

__all__ = [
    "ConditionalFlow",
    "Difference",
    "Mbar",
    "bar",
    "ess",
    "ideal_gas_gibbs",
    "lfep",
    "log_weights",
    "mbar",
    "takahashi_gibbs",
]
