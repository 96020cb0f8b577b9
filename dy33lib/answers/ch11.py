"""Answers for chapter 11."""

import jax
import numpy as np

from dy33lib import magnons as mg
from dy33lib.exercises import Exercise, Mistake
from dy33lib.magnons import study


def _darkness() -> float:
    """Sum of variances at L = 1/dz over that at L = 0.97, both of the best designs."""
    with jax.enable_x64(True):
        setup = study.bench()
        dark = mg.measurement_rows(setup.rows.points, 7, mg.Spectrometer(L=1 / 0.257))
        ratio = mg.a_optimal(setup.theta, dark).variance
        return float(ratio / mg.a_optimal(setup.theta, setup.rows).variance)


EXERCISES = {
    "ch11.ex1": Exercise(
        answer=lambda: -4 * 1.5 * 0.365,
        rtol=1e-3,
        mistakes=(
            Mistake(lambda: 4 * 1.5 * 0.365, "Check the sign: this coupling is antiferromagnetic."),
            Mistake(lambda: -2 * 1.5 * 0.365, "There are two neighbours, at (2, 0) and (-2, 0)."),
            Mistake(lambda: -2 * 0.365, "Multiply by the spin, and count both neighbours."),
        ),
        hint="J_s(h) - J_s(0) = 2 J6 (cos 4πh - 1).",
    ),
    "ch11.ex2": Exercise(
        answer=lambda: (5 + 49 / 80 * 25, float(np.sqrt(49 * 31 / 80))),
        rtol=3e-3,
        mistakes=(
            Mistake(
                lambda: (5 + 49 / 80 * 25, 49 * 31 / 80), "That is the variance; take the root."
            ),
            Mistake(
                lambda: (5 + 49 / 79 * 25, float(np.sqrt(49 * 30 / 79))),
                "The variance of the noise is n + 1.",
            ),
        ),
        hint="Gain = P / (P + R), with P = 49 and R = 31.",
    ),
    "ch11.ex3": Exercise(
        answer=lambda: 4.0,
        rtol=1e-6,
        mistakes=(
            Mistake(lambda: 6.0, "J2, J4 and J7 appear only as their sum."),
            Mistake(lambda: 5.0, "The lower mode at Γ has no energy, whatever the couplings are."),
            Mistake(lambda: 3.0, "Are the four closed forms really dependent?"),
        ),
        hint="Write down which couplings are in the four closed forms.",
    ),
    "ch11.ex4": Exercise(
        answer=_darkness,
        rtol=0.05,
        mistakes=(
            Mistake(lambda: 2.0, "The mode that is left does not tell all couplings apart well."),
            Mistake(lambda: 7.0, "That would be a standard deviation; compare variances."),
        ),
        hint="a_optimal for measurement_rows with another Spectrometer.",
    ),
    "ch11.ex5": Exercise(
        answer=lambda: 20.0,
        rtol=1e-6,
        mistakes=(
            Mistake(lambda: 50.0, "That is 1/20 of them; the capital asked for is 50."),
            Mistake(lambda: 0.02, "That is the chance of a single campaign."),
        ),
        hint="Ville: the chance to ever reach c is at most 1/c.",
    ),
}
