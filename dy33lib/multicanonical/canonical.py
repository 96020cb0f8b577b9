"""From the density of states to the transition: reweighting, equal heights, interface tension."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar

from dy33lib.multicanonical.exact import baxter
from dy33lib.multicanonical.potts import check_size, energies


def _lattice(ln_g: Float[np.ndarray, " E"]) -> tuple[int, Float[np.ndarray, " E"]]:
    """L, and the energies."""
    L = round(np.sqrt((len(ln_g) - 1) / 2))
    if len(ln_g) != 2 * L * L + 1:
        raise ValueError(f"ln_g must have 2 L^2 + 1 entries, got {len(ln_g)}")
    if np.isnan(ln_g).any() or (ln_g == np.inf).any() or not np.isfinite(ln_g).any():
        raise ValueError("ln_g must be numbers or -inf, and not all -inf")
    return L, energies(L).astype(float)


def ln_z(ln_g: Float[np.ndarray, " E"], beta: float) -> float:
    """Logarithm of the partition function, the sum of g(E) exp(-beta E)."""
    return float(np.logaddexp.reduce(ln_g - beta * _lattice(ln_g)[1]))


def reweight(ln_g: Float[np.ndarray, " E"], beta: float) -> Float[np.ndarray, " E"]:
    """Canonical probabilities of the energies at an inverse temperature.

    Args:
        ln_g: logarithm of the density of states from -2N to 0; empty bins are -inf, and stay empty.
        beta: inverse temperature.

    Raises:
        ValueError: if the number of entries belongs to no square lattice, an entry is nan or +inf,
            or beta is not finite.
    """
    if not np.isfinite(beta):
        raise ValueError(f"beta must be finite, got {beta}")
    return np.exp(ln_g - beta * _lattice(ln_g)[1] - ln_z(ln_g, beta))


def moments(ln_g: Float[np.ndarray, " E"], beta: float) -> tuple[float, float]:
    """Energy and specific heat per site, <E>/N and beta^2 (<E^2> - <E>^2)/N."""
    L, E = _lattice(ln_g)
    p = reweight(ln_g, beta)
    mean = p @ E
    return float(mean) / L**2, float(beta**2 * (p @ (E - mean) ** 2)) / L**2


def middle(L: int, q: int) -> float:
    """Energy half-way between the phases of the infinite lattice, -N (1 + 1/sqrt q)."""
    return -L * L * (1 + 1 / np.sqrt(q))


def _halves(ln_g: Float[np.ndarray, " E"], q: int):
    L, E = _lattice(ln_g)
    ordered = middle(L, q) > E
    for name, part in (("ordered", ordered), ("disordered", ~ordered)):
        if not np.isfinite(ln_g[part]).any():
            raise ValueError(f"ln_g has no {name} states")
    return L, E, ordered


def _root(excess: Callable[[float], float]) -> float:
    return float(root_scalar(excess, bracket=(0.0, 50.0), xtol=1e-12).root)


def finite_size_beta(L: int, q: int) -> float:
    """Where ordered and disordered phases weigh about the same, from the infinite lattice.

    beta_t - ln q / (N latent heat) of :func:`.baxter`: q ordered phases against one (Borgs and
    Kotecky 1990, J. Stat. Phys. 61, 79). No simulation and no density of states is needed.

    Raises:
        ValueError: if L is below 3, or q not above 4.
    """
    check_size(L, q)
    exact = baxter(q)
    return exact.beta - float(np.log(q)) / (L * L * exact.latent_heat)


def equal_weight_beta(ln_g: Float[np.ndarray, " E"], q: int, ratio: float = 1.0) -> float:
    """Where the ordered phases together weigh `ratio` times as much as the disordered one.

    With `ratio` = q each of the q + 1 phases has the same weight, and the distance to the infinite
    lattice's transition falls exponentially with L (Borgs, Kotecky and Miracle-Sole 1991).

    Args:
        ln_g: logarithm of the density of states from -2N to 0.
        q: number of colours.
        ratio: positive.

    Raises:
        ValueError: if one of the phases has no states, or the ratio is not positive.
    """
    if not 0 < ratio < np.inf:
        raise ValueError(f"ratio must be positive and finite, got {ratio}")
    _, E, ordered = _halves(ln_g, q)

    def excess(beta):
        a = ln_g - beta * E
        return np.logaddexp.reduce(a[ordered]) - np.logaddexp.reduce(a[~ordered]) - np.log(ratio)

    return _root(excess)


def equal_height_beta(ln_g: Float[np.ndarray, " E"], q: int) -> float:
    """Where the highest probabilities of the ordered and of the disordered half are equal.

    Raises:
        ValueError: if one of the phases has no states.
    """
    _, E, ordered = _halves(ln_g, q)

    def excess(beta):
        a = ln_g - beta * E
        return a[ordered].max() - a[~ordered].max()

    return _root(excess)


def interface_tension(ln_g: Float[np.ndarray, " E"], q: int) -> float:
    """ln(P_max/P_min)/2L at equal heights: two interfaces of length L cost the valley its weight.

    Times beta; for large L it goes to :func:`.baxter`'s (Binder 1982, Phys. Rev. A 25, 1699).
    The valley is the lowest non-empty bin between the peaks.

    Raises:
        ValueError: if one of the phases has no states.
    """
    L, E, ordered = _halves(ln_g, q)
    a = ln_g - equal_height_beta(ln_g, q) * E
    left = int(np.flatnonzero(ordered)[a[ordered].argmax()])
    right = int(np.flatnonzero(~ordered)[a[~ordered].argmax()])
    valley = a[left : right + 1]
    return float(a[left] - valley[np.isfinite(valley)].min()) / (2 * L)


def microcanonical_beta(
    ln_g: Float[np.ndarray, " E"], width: int = 2
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Slope d ln g / dE, whose S shape is the mark of a first-order transition.

    Args:
        ln_g: logarithm of the density of states from -2N to 0.
        width: distance of the two energies whose difference is taken.

    Returns:
        Energies in the middle, and slopes; pairs with an empty bin are left out.

    Raises:
        ValueError: if the width is not between 1 and the number of energies.
    """
    _, E = _lattice(ln_g)
    if not 1 <= width < len(E):
        raise ValueError(f"width must be between 1 and {len(E) - 1}, got {width}")
    full = np.isfinite(ln_g[width:]) & np.isfinite(ln_g[:-width])
    slope = (ln_g[width:][full] - ln_g[:-width][full]) / width
    return (E[width:] + E[:-width])[full] / 2, slope
