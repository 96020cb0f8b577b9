"""Answers for chapter 1."""

from dy33lib.exercises import Exercise, Mistake
from dy33lib.ntk import fkt_width_linear

EXERCISES = {
    "ch01.ex1": Exercise(
        answer=lambda: fkt_width_linear(3.0, 4.0),
        mistakes=(
            Mistake(
                lambda: 4.0**2 * 3.0**2,
                "That is the width at which γ²y²/N = 1. The kernel grows by √(1 + γ²y²/N), and "
                "doubling it needs a larger argument of the root.",
            ),
            Mistake(
                lambda: 4.0 * 3.0**2 / 3,
                "γ enters squared, as γ²y²/N: the weights must move γ times as far.",
            ),
            Mistake(
                lambda: 4.0**2 * 3.0**2 / 2,
                "That is the approximation Δ = γ²y²/2N of the kernel side, which fails at Δ = 1.",
            ),
        ),
        hint="Set √(1 + γ²y²/N) - 1 equal to 1 and solve for N.",
    ),
    "ch01.ex2": Exercise(
        answer=lambda: 512 * (32 / 16) ** 2,
        rtol=1e-6,
        mistakes=(
            Mistake(
                lambda: 512 * 32 / 16,
                "The scaling variable is N/γ², not N/γ: twice the γ needs four times the width.",
            ),
            Mistake(lambda: 512 / 4, "The other way round: larger γ means more feature learning."),
        ),
        hint="Which width keeps N/γ² the same?",
    ),
    "ch01.ex3": Exercise(
        answer=lambda: fkt_width_linear(1.0, 1.0, 0.1) / fkt_width_linear(1.0, 1.0, 1.0),
        mistakes=(
            Mistake(
                lambda: 10.0,
                "That holds where the change falls as 1/N. On the feature side it falls more "
                "slowly; use the full formula.",
            ),
            Mistake(
                lambda: 3 / 0.2,
                "Close: use the full formula also at 10 %, not its kernel-side limit.",
            ),
            Mistake(
                lambda: fkt_width_linear(1.0, 1.0, 1.0) / fkt_width_linear(1.0, 1.0, 0.1),
                "Upside down: a smaller change is reached at a larger width.",
            ),
        ),
        hint="Compute N* for both thresholds with fkt_width_linear and divide.",
    ),
    "ch01.ex4": Exercise(
        answer=lambda: 4 ** (-0.75),
        rtol=0.03,
        mistakes=(
            Mistake(lambda: 4**0.75, "Upside down: the new change over the old one."),
            Mistake(
                lambda: 0.25,
                "That is the 1/N law of a smooth network. Here gates flip: fewer of them, and "
                "with random signs.",
            ),
            Mistake(lambda: 0.5, "Count the flipped gates, about √N of N, and add them randomly."),
        ),
        hint="About N·δ gates flip, with δ ~ γ/√N; random signs add up to a root of that number.",
    ),
}
