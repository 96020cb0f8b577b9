r"""Which experiment next: the one on which the rivals disagree most, beyond all doubt.

Two fitted rivals predict extents :math:`\xi_1` and :math:`\xi_2` for a candidate experiment. Each
prediction is uncertain, because its constants are, with covariance
:math:`V = S F^{-1} S^\top` (S sensitivities, F Fisher information). A candidate is worth

.. math::
    T = (\xi_1 - \xi_2)^\top\,(2\Sigma + V_1 + V_2)^{-1}\,(\xi_1 - \xi_2) ,

with the noise :math:`\Sigma`: a difference counts only as far as neither the noise nor a
readjustment of the constants could make up for it (Buzzi-Ferraris and Forzatti, Chem. Eng. Sci. 38,
225 (1983); the idea is Hunter and Reiner's, Technometrics 7, 307 (1965)).
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dy33lib.sindy.experiments import check_sigma
from dy33lib.sindy.kinetics import check_initial, check_stoichiometry
from dy33lib.sindy.likelihood import Fit, bic_weights, predict

PRIOR = 3.0  # standard deviation of the logarithm of a constant of which the data say nothing


class NextExperiment(NamedTuple):
    """The best candidate, and the worth of all.

    Attributes:
        best: its position among the candidates.
        worth: sum over pairs of rivals of T, weighted by the product of their probabilities.
    """

    best: int
    worth: Float[np.ndarray, " C"]


def next_experiment(
    candidates: Float[np.ndarray, "C S"],
    rivals: Sequence[Fit],
    nu: Float[np.ndarray, "S R"] | Sequence,
    t: Float[np.ndarray, " T"],
    sigma: float | Sequence[float],
) -> NextExperiment:
    """Choose the initial concentrations that best tell the rivals apart.

    Args:
        candidates: initial concentrations, mol/L, one row a possible experiment.
        rivals: two or more fits of the same data.
        nu: stoichiometric coefficients.
        t: sampling times.
        sigma: standard deviation of the noise of the concentrations.

    Raises:
        ValueError: if there are fewer than two rivals or no candidates, or as in
            :func:`.sensitivities`.
    """
    if len(rivals) < 2:
        raise ValueError(f"rivals must be at least 2, got {len(rivals)}")
    nu = check_stoichiometry(nu)
    candidates = check_initial(candidates, len(nu))
    scaled = nu / check_sigma(sigma, len(nu))[:, None]
    root = np.linalg.cholesky(scaled.T @ scaled).T  # makes the noise of the extents white
    C = len(candidates)
    consumed = np.min(nu, axis=1) < 0
    limit = np.min(candidates[:, consumed] / -nu.min(axis=1)[consumed], axis=1)[:, None, None]
    predicted, spread = [], []
    for fit in rivals:
        xi, s = predict(fit.laws, fit.params, candidates, nu, t)
        if nu.shape[1] == 1:  # a law that would go on ends where a reactant is used up
            over = xi > limit
            xi, s = np.where(over, limit, xi), np.where(over[..., None], 0.0, s)
        covariance = np.linalg.inv(fit.fisher + np.eye(len(fit.fisher)) / PRIOR**2)
        s = np.einsum("qr,etrp->etqp", root, s).reshape(C, -1, len(covariance))
        predicted.append((xi @ root.T).reshape(C, -1))
        spread.append(s @ covariance @ np.swapaxes(s, 1, 2))
    weights = bic_weights([fit.bic for fit in rivals])
    noise = 2 * np.eye(predicted[0].shape[1])
    worth = np.zeros(C)
    for i, j in combinations(range(len(rivals)), 2):
        gap = predicted[i] - predicted[j]
        solved = np.linalg.solve(noise + spread[i] + spread[j], gap[..., None])[..., 0]
        worth += weights[i] * weights[j] * np.sum(gap * solved, axis=1)
    return NextExperiment(int(np.argmax(worth)), worth)
