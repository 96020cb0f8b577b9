"""Answers for chapter 5."""

import numpy as np

from dy33lib.exercises import Exercise, Mistake

EXERCISES = {
    "ch05.ex1": Exercise(
        answer=lambda: -108 * np.log(1.6 / 15 * 6.1 / 1.2),
        rtol=2e-3,
        mistakes=(
            Mistake(
                lambda: 108 * np.log(1.6 / 15 * 6.1 / 1.2),
                "The sign: without the term, a configuration whose box shrinks weighs too much.",
            ),
            Mistake(
                lambda: -109 * np.log(1.6 / 15 * 6.1 / 1.2),
                "One factor of the volume is the Jacobian of the map, and was not forgotten.",
            ),
        ),
        hint="Compare ln w with the term and without it, for a map that scales the volume.",
    ),
    "ch05.ex2": Exercise(
        answer=lambda: (1.2 / 1.6) ** (1 / 5.475),
        rtol=2e-3,
        mistakes=(
            Mistake(lambda: (1.6 / 1.2) ** (1 / 5.475), "Hotter states of an isomorph are denser."),
            Mistake(
                lambda: (1.2 / 1.6) ** 5.475, "The temperature goes with a power of the density."
            ),
        ),
        hint="T / T0 = (V0 / V) ** gamma: solve for V / V0.",
    ),
    "ch05.ex3": Exercise(
        answer=lambda: (1 / 0.05 - 1) / 0.1**2,
        mistakes=(
            Mistake(lambda: 1 / 0.1**2, "That would do if all weights were nearly alike."),
            Mistake(lambda: (1 / 0.05 - 1) / 0.1, "The error falls with the root of the number."),
        ),
        hint="The error is the root of (1/ESS - 1) / n.",
    ),
    "ch05.ex4": Exercise(
        answer=lambda: np.log(108) * 1.2 / 9.25,
        mistakes=(
            Mistake(lambda: np.log(108) / 9.25, "G is over k_B T here."),
            Mistake(
                lambda: np.log(108) * 1.2 / 9.25 / 108,
                "Not per particle: the whole box changes its phase.",
            ),
        ),
        hint="How fast does the difference of the free energies change with the pressure?",
    ),
}
