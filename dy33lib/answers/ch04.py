"""Answers for chapter 4."""

import numpy as np

from dy33lib.exercises import Exercise, Mistake
from dy33lib.hessian import count_zero_modes, goldstone_counts, leaky_curvature

WIDTHS = (6, 9, 9, 6)


def _rayleigh() -> float:
    """Curvature along the mixing of two orthogonal units of unit weights, per unit length."""
    return float(leaky_curvature(np.eye(2), np.eye(2), 0.0)[0, 1]) / 2


EXERCISES = {
    "ch04.ex1": Exercise(
        answer=lambda: goldstone_counts(WIDTHS[1:-1], [6, 6]),
        rtol=1e-6,
        mistakes=(
            Mistake(
                lambda: goldstone_counts(WIDTHS[1:-1], [6, 6])[::-1],
                "Swapped: which of the two kinds changes the length of the weights?",
            ),
            Mistake(
                lambda: goldstone_counts(WIDTHS[1:-1], [9, 9]),
                "That is for maps of full rank 9. How much can pass through six inputs?",
            ),
            Mistake(
                lambda: (count_zero_modes(WIDTHS).zeros, 0),
                "That is without a ridge.",
            ),
        ),
        hint="Give (zeros, number at 2λ): r(2h - r - 1)/2 and r(2h - r + 1)/2, for each layer.",
    ),
    "ch04.ex2": Exercise(
        answer=lambda: (10.0, 0.02),
        rtol=1e-6,
        mistakes=(
            Mistake(
                lambda: (100.0, 0.02),
                "All mixings survive in a linear network only. What can be pulled through a ReLU?",
            ),
            Mistake(
                lambda: (10.0, 0.01),
                "λ is the curvature of the ridge itself. The gradient of the data adds as much.",
            ),
            Mistake(
                lambda: (10.0, 0.0),
                "Rescaling changes the length of the weights, so the ridge notices.",
            ),
        ),
        hint="Give (number of zeros without ridge, their eigenvalue with it).",
    ),
    "ch04.ex3": Exercise(
        answer=_rayleigh,
        rtol=1e-3,
        mistakes=(
            Mistake(
                lambda: 2 * _rayleigh(),
                "That is along the generator. How long is the generator?",
            ),
            Mistake(
                lambda: 2 * _rayleigh() / np.sqrt(2),
                "The curvature is quadratic in the direction: divide by the squared length.",
            ),
        ),
        hint="Put the angle π/2 into the formula, and divide by the squared length of v.",
    ),
    "ch04.ex4": Exercise(
        answer=lambda: 16.0,
        rtol=1e-6,
        mistakes=(
            Mistake(lambda: 1.0, "One shift for each input of the last layer, not one in all."),
            Mistake(lambda: 10.0, "All outputs move together. What can they move with?"),
            Mistake(lambda: 32.0, "Shifts are changes of the last layer only."),
            Mistake(lambda: 24.0, "Inputs of the last layer, not of the network."),
        ),
        hint="Add the same number to all entries of one column of the last matrix.",
    ),
}
