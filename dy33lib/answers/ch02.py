"""Answers for chapter 2."""

import numpy as np
from scipy.optimize import brentq

from dy33lib.criticality import Params, activity_moments, limit_infinite, optimal_lambda
from dy33lib.exercises import Exercise, Mistake


def _variance() -> float:
    """Variance of all N units with input, times N, for large N."""
    n = 10**9
    return n * float(activity_moments(0.9, 0.01, 1.0, Params(n=n, mu=1.0)).var_inst)


def _activity() -> tuple[float, float]:
    """Mean activity and memory of exercise 1."""
    p = 1 - np.exp(-0.01)
    memory = 0.9 * (1 - p)
    return p / (1 - memory), memory


def _halved() -> float:
    """Best distances for two noises, as a ratio."""
    return (1 - optimal_lambda(1.0, Params(sigma=0.005)).lam) / (1 - optimal_lambda(1.0).lam)


def _time() -> float:
    """Integration time that moves the optimum from 0.01 to 0.002 below criticality."""

    def excess(T: float) -> float:
        return 0.002**2 * (1 + 0.002 * T) ** 2 / (1 + 0.004 * T) - 1e-4

    return float(brentq(excess, 1, 1e8))  # pyright: ignore[reportArgumentType]


EXERCISES = {
    "ch02.ex1": Exercise(
        answer=_variance,
        rtol=2e-3,
        mistakes=(
            Mistake(
                lambda: _activity()[0] * (1 - _activity()[0]),
                "That is the noise of one step. Deviations last.",
            ),
            Mistake(
                lambda: _activity()[0] * (1 - _activity()[0]) / (1 - _activity()[1]),
                "Squares shrink by R² in a step, not by R.",
            ),
            Mistake(
                lambda: _activity()[0] * (1 - _activity()[0]) / (1 - 0.81),
                "R is not λ: units that fire by the input do not listen to the others.",
            ),
        ),
        hint="With one group, what is the mean probability to fire?",
    ),
    "ch02.ex2": Exercise(
        answer=lambda: limit_infinite(0.9).number,
        rtol=1e-6,
        mistakes=(
            Mistake(lambda: 28.0, "That counts the reference at infinite input, and one more."),
            Mistake(lambda: 27.0, "Neither of the two references is counted."),
            Mistake(lambda: 38.0, "The largest activity is not one: most units have no input."),
        ),
        hint="Largest activity over spacing, rounded up, minus the two references.",
    ),
    "ch02.ex3": Exercise(
        answer=_halved,
        rtol=0.05,
        mistakes=(
            Mistake(lambda: 2.0, "Fluctuations matter more, so further away? See what is gained."),
            Mistake(lambda: 0.5, "The first activity is smaller; so are its fluctuations."),
        ),
        hint="Look for σ in the rule.",
    ),
    "ch02.ex4": Exercise(
        answer=lambda: (25.0, _time()),
        rtol=1e-2,
        mistakes=(
            Mistake(lambda: (5.0, _time()), "The distance falls with the root of the size."),
            Mistake(lambda: (125.0, _time()), "The third root is for times, not for sizes."),
        ),
        hint="Give (factor, time); the right side of the rule is the square of the distance 0.01.",
    ),
}
