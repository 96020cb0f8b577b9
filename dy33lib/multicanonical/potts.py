"""The Potts model on a torus: colours on sites, and bonds between neighbours of equal colour.

H = -sum over nearest neighbours of delta(s_i, s_j), on L x L sites with periodic boundaries. The
energy E runs from -2N (all sites alike, N = L^2) to 0; arrays over energies start at -2N.
"""

import numpy as np
from jaxtyping import Array, Int


def check_size(L: int, q: int) -> None:
    """Raise if a lattice is too small, or has too few colours.

    With L = 2 the two bonds between a pair of sites would be counted twice.
    """
    if L < 3:
        raise ValueError(f"L must be at least 3, got {L}")
    if q < 2:
        raise ValueError(f"q must be at least 2, got {q}")


def energies(L: int) -> Int[np.ndarray, " E"]:
    """All energies from -2N to 0, those that no configuration has included."""
    return np.arange(-2 * L * L, 1)


def bonds(s: Int[Array, "*B L L"] | Int[np.ndarray, "*B L L"]):
    """Number of satisfied bonds, -E; without checks, for use within transformations."""
    roll = s.__array_namespace__().roll
    return (s == roll(s, 1, axis=-1)).sum((-2, -1)) + (s == roll(s, 1, axis=-2)).sum((-2, -1))


def potts_energy(s: Int[Array, "*B L L"] | Int[np.ndarray, "*B L L"], q: int):
    """Minus the number of neighbours of equal colour.

    Args:
        s: colours, 0 to q - 1.
        q: number of colours.

    Returns:
        Energies, one a configuration.

    Raises:
        ValueError: if L is below 3, q below 2, or a colour out of range.
    """
    check_size(s.shape[-1], q)
    wrong = (np.asarray(s) < 0) | (np.asarray(s) >= q)
    if wrong.any():
        raise ValueError(f"s must be colours from 0 to {q - 1}, got {np.asarray(s)[wrong][0]}")
    return -bonds(s)
