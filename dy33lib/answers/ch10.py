"""Answers for chapter 10."""

import numpy as np
from scipy import stats

from dy33lib.exercises import Exercise, Mistake
from dy33lib.sindy import DESIGN, NU, TIMES, ZOO, crb, fisher


def _bound(experiments: np.ndarray) -> float:
    """Cramér-Rao bound of ln K_C of the law with product inhibition at σ = 0.1."""
    law, constants = ZOO["product inhibition"]
    return float(crb(fisher(law, constants, experiments, NU, TIMES, 0.1))[3])


EXERCISES = {
    "ch10.ex1": Exercise(
        answer=lambda: (8 / 12) / (8 / 36),
        mistakes=(
            Mistake(lambda: 1 / 3, "Upside down: which of the two rates is larger?"),
            Mistake(
                lambda: 8 / 12,
                "That is the rate on different sites. Divide it by the one on shared sites.",
            ),
            Mistake(
                lambda: (8 / 12) / (8 / 6),
                "The law on shared sites has the square of 1 + K_A c_A + K_B c_B below.",
            ),
        ),
        hint="Put in the numbers: (1 + 3)(1 + 2) against (1 + 3 + 2)².",
    ),
    "ch10.ex2": Exercise(
        answer=lambda: _bound(DESIGN[:6]) / _bound(DESIGN),
        rtol=0.02,
        mistakes=(
            Mistake(
                lambda: _bound(DESIGN) / _bound(DESIGN[:6]),
                "Upside down: fewer experiments have the larger bound.",
            ),
            Mistake(
                lambda: (_bound(DESIGN[:6]) / _bound(DESIGN)) ** 2,
                "That is the ratio of variances; the bound is a standard deviation.",
            ),
            Mistake(
                lambda: float(np.sqrt(8 / 6)),
                "That counts samples. Which ones they are matters more than how many.",
            ),
        ),
        hint="crb(fisher(law, constants, DESIGN[:6], NU, TIMES, 0.1)) over that of DESIGN; "
        "K_C is the last constant.",
    ),
    "ch10.ex3": Exercise(
        answer=lambda: float(stats.chi2.sf(np.log(768), df=1)),
        rtol=0.02,
        mistakes=(
            Mistake(
                lambda: float(stats.chi2.sf(2.0, df=1)),
                "That is Akaike's criterion, with a price of 2 a constant. BIC asks ln m.",
            ),
            Mistake(
                lambda: float(stats.chi2.sf(np.log(768), df=1)) / 2,
                "That is for a constant that must be positive.",
            ),
            Mistake(
                lambda: float(stats.norm.sf(np.log(768))),
                "χ² is a square: compare it with ln m, or its root with a normal number.",
            ),
        ),
        hint="scipy.stats.chi2.sf(x, df=1), with x the price of one constant.",
    ),
    "ch10.ex4": Exercise(
        answer=lambda: 2.0,
        rtol=1e-6,
        mistakes=(
            Mistake(
                lambda: 1.0, "One site would be a power of 1. Look at the first row of the table."
            ),
        ),
        hint="The power of the denominator in the first row of the table.",
    ),
}
