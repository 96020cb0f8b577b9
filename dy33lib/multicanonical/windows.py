"""Energy windows: a latent number that tells the network which energies to draw.

A window is a normal weight around its centre z. The encoder r(z | E) says which window a
configuration of energy E would be ascribed to; it depends on nothing else, and adds up to one over
the windows, which is all that the estimator needs to be unbiased.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dy33lib.multicanonical.potts import check_size, energies


class Windows(NamedTuple):
    """Windows of one width.

    Attributes:
        centres: energies, ascending.
        width: standard deviation of the weight.
    """

    centres: Float[np.ndarray, " K"]
    width: float


def energy_windows(L: int, q: int, number: int = 30, width: float = 2.5) -> Windows:
    """Evenly spread windows from the ground state to the mean energy at infinite temperature.

    Args:
        L: sites along an edge.
        q: number of colours.
        number: of windows.
        width: standard deviation of the weight.

    Raises:
        ValueError: if L is below 3, q below 2, or the windows leave gaps wider than twice their
            width between them.
    """
    check_size(L, q)
    centres = np.linspace(-2 * L * L - 1, -2 * L * L / q + 2, max(number, 1))
    windows = Windows(centres, width)
    check_windows(windows, L, q)
    return windows


def check_windows(windows: Windows, L: int, q: int) -> None:
    """Raise if windows do not cover the energies from -2N to -2N/q.

    Raises:
        ValueError: if the width is not positive and finite; or if some energy there is further from
            all centres than the width.
    """
    if not 0 < windows.width < np.inf:
        raise ValueError(f"width must be positive and finite, got {windows.width}")
    E = energies(L)[energies(L) <= np.ceil(-2 * L * L / q)]
    far = np.abs(E[:, None] - windows.centres[None]).min(axis=1)
    if not far.max() <= windows.width:
        raise ValueError(
            f"centres must cover the energies from {E[0]} to {E[-1]}, "
            f"but {E[far.argmax()]} is {far.max():.3g} from the next"
        )


def log_encoder(windows: Windows, L: int) -> Float[np.ndarray, "E K"]:
    """Logarithm of r(z | E) for all energies and windows; normalised over the windows.

    Proportional to the density that the window's flat histogram has at E:
    exp(-(E - z)^2 / 2 w^2), normalised over the energies.
    """
    E = energies(L).astype(float)
    a = -((E[:, None] - windows.centres[None]) ** 2) / (2 * windows.width**2)
    a = a - np.logaddexp.reduce(a, axis=0)[None]
    return a - np.logaddexp.reduce(a, axis=1)[:, None]
