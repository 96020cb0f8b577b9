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


# Coefficients of the equation of state: powers, exponentials and bells of the reduced density.
_POWERS = np.array([
    (0.015606084, 1.000, 4), (1.7917527, 0.304, 1), (-1.9613228, 0.583, 1),
    (1.3045604, 0.662, 2), (-1.8117673, 0.870, 2), (0.15483997, 0.870, 3),
])  # fmt: skip
_EXPONENTIALS = np.array([
    (-0.094885204, 1.250, 5, 1), (-0.20092412, 3.000, 2, 2), (0.11639644, 1.700, 2, 1),
    (-0.50607364, 2.400, 3, 2), (-0.58422807, 1.960, 1, 2), (-0.47510982, 1.286, 1, 1),
])  # fmt: skip
_BELLS = np.array([
    (0.0094333106, 3.600, 1, 4.70, 20.0, 1.0, 0.55), (0.30444628, 2.080, 1, 1.92, 0.77, 0.5, 0.7),
    (-0.0010820946, 5.240, 2, 2.70, 0.5, 0.8, 2.0), (-0.099693391, 0.960, 3, 1.49, 0.8, 1.5, 1.14),
    (0.0091193522, 1.360, 3, 0.65, 0.4, 0.7, 1.2), (0.12970543, 1.655, 2, 1.73, 0.43, 1.6, 1.31),
    (0.023036030, 0.900, 1, 3.70, 8.0, 1.3, 1.14), (-0.082671073, 0.860, 2, 1.90, 3.3, 0.6, 0.53),
    (-2.2497821, 3.950, 3, 13.2, 114.0, 1.3, 0.96),
])  # fmt: skip


def published_liquid(T: float, density: float) -> float:
    """Residual free energy of a particle, over k_B T, from a published equation of state.

    For the Lennard-Jones fluid cut off at 2.5 and shifted to zero there, a fit to simulations by
    Thol et al. 2015 (Int. J. Thermophys. 36, 25, table 1): free energy less that of the ideal gas.

    Args:
        T: temperature.
        density: particles per volume.

    Raises:
        ValueError: if T or density is not positive and finite.
    """
    if not 0 < density < np.inf:
        raise ValueError(f"density must be positive and finite, got {density}")
    check_state(T, 1.0)
    tau, delta = 1.086 / T, density / 0.319  # reduced by the critical point
    n, t, d = _POWERS.T
    total = np.sum(n * tau**t * delta**d)
    n, t, d, power = _EXPONENTIALS.T
    total += np.sum(n * tau**t * delta**d * np.exp(-(delta**power)))
    n, t, d, eta, beta, gamma, epsilon = _BELLS.T
    bell = np.exp(-eta * (delta - epsilon) ** 2 - beta * (tau - gamma) ** 2)
    return float(total + np.sum(n * tau**t * delta**d * bell))
