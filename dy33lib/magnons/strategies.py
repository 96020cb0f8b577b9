"""Other ways to choose points, to race against. They see counts only; all share one estimator."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import qmc

from dy33lib.magnons.campaign import Chooser
from dy33lib.magnons.counts import Rows
from dy33lib.magnons.kalman import Kernel, Map, empty_map, kalman_step

Score = Callable[[Map], Float[Array, " C"]]


def uniform(wave_vectors: int, energies: int, batch: int) -> Chooser:
    """Points that fill the plane evenly at any number: Halton's sequence, on the grid."""
    sequence = qmc.Halton(2, scramble=False).random(100_000 // batch)
    places = (sequence * (wave_vectors, energies)).astype(int)
    order = places[:, 0] * energies + places[:, 1]

    def choose(index, counts):
        return order[len(index) : len(index) + batch]

    return choose


def random(candidates: int, batch: int, *, rng: np.random.Generator) -> Chooser:
    """Points drawn evenly among the candidates."""

    def choose(index, counts):
        return rng.integers(candidates, size=batch)

    return choose


def upper_bound(kappa: float) -> Score:
    """Mean plus kappa standard deviations: Bayesian optimisation, in search of the brightest."""

    def score(state):
        return state.mean + kappa * jnp.sqrt(jnp.maximum(state.var, 0.0))

    return score


def log_normal_variance(state: Map) -> Float[Array, " C"]:
    """Log of the variance of exp(f), f the mapped logarithm: (e^P - 1) e^(2 m + P).

    The criterion of log-Gaussian processes for triple-axis spectrometers (Teixeira Parente et al.,
    Nat. Commun. 14, 2246, 2023), without their cost of travel and their estimate of background.
    """
    var = jnp.maximum(state.var, 1e-12)
    return jnp.log(jnp.expm1(var)) + 2 * state.mean + var


class Scale(NamedTuple):
    """A scale on which counts are mapped.

    Attributes:
        value: from counts to values.
        noise: from values to the variance that counting gives them.
    """

    value: Callable[[np.ndarray], np.ndarray]
    noise: Callable[[np.ndarray], np.ndarray]


# Anscombe's root, whose noise is about 1 at any rate, and the logarithm.
ROOT = Scale(lambda n: 2 * np.sqrt(n + 0.375), np.ones_like)
LOGARITHM = Scale(lambda n: np.log(n + 0.5), lambda y: np.exp(-y))


def by_map(
    rows: Rows,
    kernel: Kernel,
    score: Score,
    scale: Scale,
    batch: int,
    size: int,
) -> Chooser:
    """Points with the largest score on a map of transformed counts.

    Within a batch the map is told that it was right, so that points keep apart.

    Args:
        rows: the candidates.
        kernel: of intensities on that scale.
        score: from map to candidates.
        scale: of the map.
        batch: points at once.
        size: room of the map.
    """
    state, used = empty_map(rows.points, kernel, size), 0

    def step(state, i, value):
        args = (jnp.asarray(part) for part in (i, value, scale.noise(value)))
        return kalman_step(state, rows.points, *args, kernel)

    def choose(index, counts):
        nonlocal state, used
        for i, y in zip(index[used:], scale.value(counts[used:]), strict=True):
            state = step(state, i, y)
        used, guess, chosen = len(index), state, []
        for _ in range(batch):
            best = jnp.argmax(score(guess))
            chosen.append(int(best))
            guess = step(guess, best, np.asarray(guess.mean[best]))
        return np.array(chosen)

    return choose
