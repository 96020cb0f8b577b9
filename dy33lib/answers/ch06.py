"""Answers for chapter 6."""

import numpy as np

from dy33lib import multicanonical as mc
from dy33lib.exercises import Exercise, Mistake


def _sum_without_ordered() -> float:
    """Logarithm of the share of configurations that are not ordered; 5 x 5 sites, q = 200."""
    ln_g = mc.exact_dos(5, 200)
    kept = mc.energies(5) >= -25 * (1 + 1 / np.sqrt(200))
    return float(np.logaddexp.reduce(ln_g[kept]) - 25 * np.log(200))


def _depth(q: int) -> float:
    """Lowest probability of the gap over the disordered peak, 4 x 4 sites, equal weights."""
    ln_g = mc.exact_dos(4, q)
    E, p = mc.energies(4) / 16, mc.reweight(ln_g, mc.equal_weight_beta(ln_g, q))
    return float(p[(E >= -4 / 3) & (E <= -5 / 6)].min() / p[E > -1].max())


def _colours() -> float:
    return float(next(q for q in range(100, 400, 2) if _depth(q) < 0.01))


EXERCISES = {
    "ch06.ex1": Exercise(
        answer=lambda: 2.0 * 16 * 100 * 99,
        rtol=1e-9,
        mistakes=(
            Mistake(lambda: 16.0 * 100 * 99, "Each site has two bonds of its own: 2N pairs."),
            Mistake(
                lambda: 2.0 * 16 * 100 * 99 * 98, "Two different odd colours cost seven bonds."
            ),
        ),
        hint="np.exp(mc.exact_dos(4, 100)[6]) knows it; now find the kinds.",
    ),
    "ch06.ex2": Exercise(
        answer=lambda: float(np.log(0.6)),
        rtol=1e-3,
        mistakes=(
            Mistake(lambda: float(np.log(0.4)), "That is what is lost; what is left?"),
            Mistake(lambda: -0.4, "That is the relative error of Z; take the logarithm."),
            Mistake(lambda: float(-np.log(0.6)), "Check the sign: the estimate is too small."),
        ),
        hint="Z is the sum over what is drawn.",
    ),
    "ch06.ex3": Exercise(
        answer=_sum_without_ordered,
        rtol=0.2,
        atol=1e-12,
        mistakes=(
            Mistake(
                lambda: float(np.log(0.5)),
                "That is the weight at the transition; here all count alike.",
            ),
        ),
        hint="np.logaddexp.reduce over the energies that are kept.",
    ),
    "ch06.ex4": Exercise(
        answer=lambda: 0.0,
        atol=1e-12,
        mistakes=(Mistake(lambda: 1.0, "Which draw is better than the mean of the others?"),),
        hint="All draws have the same energy and the same probability.",
    ),
    "ch06.ex5": Exercise(
        answer=_colours,
        rtol=0.02,
        mistakes=(Mistake(lambda: 100.0, "At 100 it is still above, see the figure."),),
        hint="valley(mc.exact_dos(4, q), q) for some q between 100 and 200.",
    ),
}
