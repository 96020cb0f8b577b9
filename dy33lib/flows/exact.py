"""Systems whose Gibbs free energy is known: what a flow has to find.

Free energies are over k_B T, with thermal wavelength 1 and volumes with the measure dV / sigma^3.
"""

import numpy as np
from scipy.integrate import quad

from dy33lib.particles import CUTOFF, ONSET, pair_potential


def check_state(T, P) -> None:
    """Raise a ValueError unless temperature and pressure are positive and finite."""
    for name, value in (("T", T), ("P", P)):
        if not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
            raise ValueError(f"{name} must be positive and finite, got {value}")


def ideal_gas_gibbs(N: int, T: float, P: float) -> float:
    """Gibbs free energy of the ideal gas, (N + 1) ln(P / T).

    Args:
        N: particles.
        T: temperature.
        P: pressure.

    Raises:
        ValueError: if N is below 1, T or P not positive and finite.
    """
    if N < 1:
        raise ValueError(f"N must be at least 1, got {N}")
    check_state(T, P)
    return (N + 1) * float(np.log(P / T))


def takahashi_gibbs(
    N: int, T: float, P: float, cutoff: float = CUTOFF, onset: float = ONSET
) -> float:
    """Gibbs free energy of a chain with forces between neighbours only (Takahashi 1942).

    At constant pressure the N gaps r are independent, with the weight exp(-(u(r) + P r) / T) each:
    one integral solves the chain. u is :func:`~dy33lib.particles.pair_potential`.

    Args:
        N: gaps.
        T: temperature.
        P: pressure, a force in one dimension.
        cutoff: of the potential.
        onset: of its switch.

    Raises:
        ValueError: if N is below 1, T or P not positive and finite.
    """
    if N < 1:
        raise ValueError(f"N must be at least 1, got {N}")
    check_state(T, P)

    def weight(r: float) -> float:
        return float(np.exp(-(np.asarray(pair_potential(r * r, cutoff, onset)[0]) + P * r) / T))

    inside = quad(weight, 0.3, onset, epsabs=0, epsrel=1e-12, limit=200)[0]
    inside += quad(weight, onset, cutoff, epsabs=0, epsrel=1e-12, limit=200)[0]
    return -N * float(np.log(inside + T / P * np.exp(-P * cutoff / T)))
