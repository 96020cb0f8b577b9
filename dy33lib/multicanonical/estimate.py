"""The density of states from draws with known probabilities: unbiased, and absolutely normalised.

Each draw counts for 1/p(s), so the mean over all draws of one energy estimates how many
configurations have it; no sum rule, no free constant. With windows a draw counts for
r(z | E) / (p(z) p(s | z)), whose mean is the same for any encoder r that is fixed beforehand.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dy33lib.multicanonical.windows import Windows, log_encoder


class DensityOfStates(NamedTuple):
    """An estimate for each energy from -2N to 0.

    Attributes:
        ln_g: logarithm of the number of configurations; -inf where no draw had the energy.
        error: its standard error from bootstrap; nan where empty, inf where there is one draw only.
        ess: effective number of draws, (sum w)^2 / sum w^2, within each bin.
        hits: number of draws.
    """

    ln_g: Float[np.ndarray, " E"]
    error: Float[np.ndarray, " E"]
    ess: Float[np.ndarray, " E"]
    hits: Int[np.ndarray, " E"]


def estimate_dos(
    E: Float[np.ndarray, " n"],
    ln_p: Float[np.ndarray, " n"],
    L: int,
    windows: Windows | None = None,
    window: Int[np.ndarray, " n"] | None = None,
    *,
    rng: np.random.Generator,
    resamples: int = 200,
) -> DensityOfStates:
    """Estimate ln g(E).

    Args:
        E: energies of the draws.
        ln_p: logarithms of their probabilities.
        L: sites along an edge.
        windows: those that were drawn from; each equally often.
        window: number of the window of each draw.
        rng: for the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: if energies and probabilities are not equally many, or there are none; if an
            energy is impossible or a probability not finite; if windows are given without numbers,
            or not drawn from equally often.
    """
    bins = np.rint(E).astype(int) + 2 * L * L
    if len(E) != len(ln_p) or len(E) == 0:
        raise ValueError(f"E and ln_p must be equally many, got {len(E)} and {len(ln_p)}")
    if ((bins < 0) | (bins > 2 * L * L) | (bins - 2 * L * L != E)).any():
        raise ValueError(f"E must be whole numbers from {-2 * L * L} to 0")
    if not np.isfinite(ln_p).all():
        raise ValueError("ln_p must be finite")
    ln_w = -np.asarray(ln_p, float)
    if windows is not None:
        K = len(windows.centres)
        if window is None or (np.bincount(window, minlength=K) * K != len(E)).any():
            raise ValueError(f"window must name each of the {K} windows equally often")
        ln_w = ln_w + log_encoder(windows, L)[bins, window] + np.log(K)
    size, n = 2 * L * L + 1, len(E)
    top = np.full(size, -np.inf)
    np.maximum.at(top, bins, ln_w)
    w = np.exp(ln_w - top[bins])
    total, square = (np.bincount(bins, v, size) for v in (w, w**2))
    hits = np.bincount(bins, minlength=size)
    with np.errstate(divide="ignore", invalid="ignore"):
        ln_g = np.where(hits > 0, np.log(total) + top - np.log(n), -np.inf)
        ess = np.where(hits > 0, total**2 / square, 0.0)
    sums = np.empty((resamples, size))
    for r in range(resamples):
        again = rng.poisson(1.0, n)  # a draw is repeated that often (Poisson bootstrap)
        sums[r] = np.bincount(bins, w * again, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = sums.std(axis=0, ddof=1) / total
    error = np.where(hits > 1, relative, np.where(hits == 1, np.inf, np.nan))
    return DensityOfStates(ln_g, error, ess, hits)
