"""Sparse identification as it began: polynomials, derivatives, thresholds."""

import numpy as np
from jaxtyping import Float


def stlsq(
    features: Float[np.ndarray, "m n"],
    target: Float[np.ndarray, " m"],
    threshold: float,
    *,
    iterations: int = 20,
) -> Float[np.ndarray, " n"]:
    """Sequentially thresholded least squares.

    Fit, drop every coefficient below the threshold, fit the rest again (Brunton, Proctor and Kutz,
    PNAS 113, 3932 (2016), algorithm 1).

    Args:
        features: library functions at the samples.
        target: what their linear combination should give.
        threshold: smallest coefficient that stays.
        iterations: at most so many rounds.

    Raises:
        ValueError: if the shapes do not match or the threshold is negative.
    """
    if features.ndim != 2 or target.shape != features.shape[:1]:
        raise ValueError(f"target must have shape {features.shape[:1]}, got {target.shape}")
    if not threshold >= 0:
        raise ValueError(f"threshold must not be negative, got {threshold}")
    kept = np.ones(features.shape[1], bool)
    coefficients = np.zeros(features.shape[1])
    for _ in range(iterations):
        coefficients[:] = 0.0
        coefficients[kept] = np.linalg.lstsq(features[:, kept], target, rcond=None)[0]
        small = np.abs(coefficients) < threshold
        if not np.any(small & kept):
            break
        kept &= ~small
    return coefficients
