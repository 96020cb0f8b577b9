"""Answers for chapter 5."""

import numpy as np

from dy33lib.exercises import Exercise, Mistake

EXERCISES = {
    "ch05.ex1": Exercise(
        answer=lambda: np.pi * (4 - np.pi) / 0.001**2,
        mistakes=(
            Mistake(
                lambda: np.pi * (4 - np.pi) / 0.001,
                "The error falls with the root of the number of points.",
            ),
        ),
        hint="What is the variance of a single point?",
    ),
}
