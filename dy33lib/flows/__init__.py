"""Phase diagrams from one reference state, by flows that are told temperature and pressure.

The files go from exact to learned: `exact` (systems with known free energies) and `estimators`
(free energies from weights, from two states, from many).
"""

from dy33lib.flows.estimators import Difference, Mbar, bar, ess, lfep, mbar
from dy33lib.flows.exact import ideal_gas_gibbs, takahashi_gibbs

__all__ = [
    "Difference",
    "Mbar",
    "bar",
    "ess",
    "ideal_gas_gibbs",
    "lfep",
    "mbar",
    "takahashi_gibbs",
]
