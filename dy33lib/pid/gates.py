"""One neuron with two binary sources: what does a goal make of it?"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from dy33lib.pid.measure import pid


def gate_distribution(
    theta: Float[Array, "2 2"], agreement: float | Float[Array, ""] = 0.5
) -> Float[Array, "2 2 2"]:
    """Joint distribution of two binary sources and the answer of a neuron.

    Args:
        theta: probability of the answer 1 for each pair of sources.
        agreement: probability that the sources are equal; each is 0 or 1 equally often.

    Raises:
        ValueError: if the agreement is not between 0 and 1.
    """
    if not isinstance(agreement, Tracer) and not 0 <= agreement <= 1:
        raise ValueError(f"agreement must be between 0 and 1, got {agreement}")
    equal = jnp.eye(2, dtype=theta.dtype)
    sources = (equal * agreement + (1 - equal) * (1 - agreement)) / 2
    return sources[..., None] * jnp.stack([1 - theta, theta], axis=-1)


class Climb(NamedTuple):
    """Where gradient ascent ended.

    Attributes:
        theta: probabilities of the answer 1, one 2 by 2 table for each start.
        value: the goal reached, in bits.
    """

    theta: Float[Array, "m 2 2"]
    value: Float[Array, " m"]


def climb(
    gamma: Float[Array, "5"],
    agreement: float = 0.5,
    *,
    starts: int = 32,
    steps: int = 400,
    key: Key[Array, ""],
) -> Climb:
    """Let a neuron climb a goal from several random starts.

    The four log-odds of its answers are free, and follow the gradient with a step of four.

    Args:
        gamma: coefficients of the atoms {1}, {2}, {1}{2}, {12} and of the residual entropy.
        agreement: probability that the sources are equal.
        starts: number of neurons.
        steps: of ascent.
        key: for the starts, standard normal log-odds.

    Raises:
        ValueError: as in :func:`.gate_distribution`, or without starts.
    """
    if starts < 1:
        raise ValueError(f"starts must be positive, got {starts}")
    gate_distribution(jnp.full((2, 2), 0.5), agreement)  # checks the agreement
    first = jax.random.normal(key, (starts, 2, 2), gamma.dtype)
    odds, value = _climb(first, gamma, jnp.asarray(agreement, gamma.dtype), steps)
    return Climb(jax.nn.sigmoid(odds), value)


def best_gate(
    gamma: Float[Array, "5"], agreement: float = 0.5, *, levels: int = 11
) -> tuple[Float[np.ndarray, "2 2"], float]:
    """The best of all neurons on a grid, by trying them all.

    Args:
        gamma: as in :func:`.climb`.
        agreement: probability that the sources are equal.
        levels: probabilities of the answer 1 that are tried for each pair of sources, from 0 to 1.

    Raises:
        ValueError: as in :func:`.gate_distribution`, or if there are fewer than two levels.
    """
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    gate_distribution(jnp.full((2, 2), 0.5), agreement)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, levels)] * 4, indexing="ij"), axis=-1)
    tables = jnp.asarray(grid.reshape(-1, 2, 2), gamma.dtype)
    values = np.asarray(_values(tables, gamma, jnp.asarray(agreement, gamma.dtype)))
    return np.asarray(tables[int(values.argmax())]), float(values.max())


def _reached(theta: Array, gamma: Array, agreement: Array) -> Float[Array, ""]:
    p = gate_distribution(theta, agreement)
    answers = p.sum(axis=(0, 1))
    atoms = pid(p)
    safe = jnp.where(answers > 0, answers, 1)
    residual = -jnp.sum(answers * jnp.log2(safe)) - atoms.sum()
    return gamma[:-1] @ atoms + gamma[-1] * residual


@jax.jit
def _values(tables: Array, gamma: Array, agreement: Array) -> Float[Array, " m"]:
    return jax.vmap(lambda theta: _reached(theta, gamma, agreement))(tables)


@partial(jax.jit, static_argnames="steps")
def _climb(odds: Array, gamma: Array, agreement: Array, steps: int) -> tuple[Array, Array]:
    def value(odds: Array) -> Float[Array, ""]:
        return _reached(jax.nn.sigmoid(odds), gamma, agreement)

    def step(odds: Array, _: None) -> tuple[Array, None]:
        return odds + 4 * jax.vmap(jax.grad(value))(odds), None

    odds, _ = jax.lax.scan(step, odds, None, length=steps)
    return odds, jax.vmap(value)(odds)
