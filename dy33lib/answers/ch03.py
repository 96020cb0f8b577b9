"""Answers for chapter 3."""

import jax.numpy as jnp
import numpy as np

from dy33lib.exercises import Exercise, Mistake
from dy33lib.pid import i_sx, lattice


def _parity(n: int) -> float:
    """Redundancy of all of n fair bits about their parity."""
    p = np.zeros((2,) * (n + 1))
    for bits in np.ndindex((2,) * n):
        p[(*bits, sum(bits) % 2)] = 2.0**-n
    return float(i_sx(jnp.asarray(p))[_bottom(n)])


def _bottom(n: int) -> int:
    """Where the antichain of all single sources stands."""
    return lattice(n).antichains.index(tuple((i,) for i in range(1, n + 1)))


def _irrelevant(values: int) -> float:
    """Redundancy of a bit and of a source that knows nothing of it, about the bit."""
    p = np.zeros((2, values, 2))
    p[0, :, 0] = p[1, :, 1] = 1 / (2 * values)
    return float(i_sx(jnp.asarray(p))[_bottom(2)])


def _below(alpha: tuple[tuple[int, ...], ...]) -> float:
    """How many of the atoms of three sources lie at an antichain and below."""
    grid = lattice(3)
    return float(grid.order[grid.antichains.index(alpha)].sum())


def _either() -> float:
    """How many atoms of three sources lie below the first one or below the second."""
    grid = lattice(3)
    first, second = (grid.order[grid.antichains.index(((i,),))] for i in (1, 2))
    return float((first | second).sum())


def _entropy(theta: float) -> float:
    return float(-theta * np.log2(theta) - (1 - theta) * np.log2(1 - theta))


EXERCISES = {
    "ch03.ex1": Exercise(
        answer=lambda: _parity(3),
        mistakes=(
            Mistake(lambda: _parity(2), "That is the redundancy of two bits."),
            Mistake(
                lambda: float(np.log2(6 / 7)),
                "One case of eight is excluded, but look at its parity: which Y loses a case?",
            ),
            Mistake(
                lambda: 0.0, "Each bit alone says nothing; the three statements joined by 'or' do."
            ),
        ),
        hint="Count the cases in which at least one bit is as observed, and those with the same Y.",
    ),
    "ch03.ex2": Exercise(
        answer=lambda: _irrelevant(20),
        mistakes=(
            Mistake(lambda: 0.0, "It should be, one would think. Use the definition."),
            Mistake(lambda: _irrelevant(2), "That is for two values."),
            Mistake(lambda: 1.0, "That is the limit of infinitely many values."),
        ),
        hint="How likely is it that at least one of the statements is true, and then Y = s₁?",
    ),
    "ch03.ex3": Exercise(
        answer=lambda: (_below(((1,),)), _below(((1, 2),))),
        rtol=1e-6,
        mistakes=(
            Mistake(
                lambda: (_below(((1,),)), _either()),
                "Those are what F or C alone can tell; both together tell more.",
            ),
            Mistake(lambda: (4.0, 12.0), "The atom itself belongs to the sum."),
        ),
        hint="An antichain lies below {F} if one of its sets is inside {F}.",
    ),
    "ch03.ex4": Exercise(
        answer=lambda: (1 - _entropy(0.9), _entropy(0.9)),
        mistakes=(
            Mistake(lambda: (_entropy(0.9), 1 - _entropy(0.9)), "The other way round."),
            Mistake(lambda: (0.9, 0.1), "These are probabilities. How many bits are they?"),
            Mistake(lambda: (1.0, 0.0), "The field is known, but the answer is still drawn."),
        ),
        hint="H(Y) is one bit here; what is the entropy of a coin of 0.9?",
    ),
}
