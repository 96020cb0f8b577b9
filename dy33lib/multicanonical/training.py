"""Training by reverse Kullback-Leibler divergence: the network learns from its own draws only.

The target is p(s | z) ~ exp(-beta E - (E - z)^2 / 2 w^2) / g_hat(E); which of the three factors are
there makes the difference between a canonical network (the first), a multicanonical one (the last)
and one with windows (the last two). Gradients are those of REINFORCE (Williams 1992), with the mean
of the other draws for the same z as a baseline; no Monte Carlo sample and no exact result is used.
"""

from typing import Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dy33lib.multicanonical.network import Decoder, log_prob, sample
from dy33lib.multicanonical.windows import Windows, check_windows, log_encoder

Target = Literal["canonical", "multicanonical", "windows"]

ANNEAL = 0.3  # part of the steps in which beta rises, or windows narrow
START = 0.35  # part of the steps after which g_hat is used
EVERY, MEMORY = 10, 12  # it is estimated after so many steps, from so many
CLIP = 8.0  # of the advantage, which has long tails at the start
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


class Trained(NamedTuple):
    """A network, and how it came about.

    Attributes:
        decoder: the network.
        target: what it was trained for.
        windows: that it was trained with, if any.
        guess: ln g_hat at the end; guessed where nothing was seen, so no result.
        loss: mean of ln p - ln target, one a step; its constant changes with g_hat.
        energy: mean over the draws, one a step.
    """

    decoder: Decoder
    target: Target
    windows: Windows | None
    guess: Float[np.ndarray, " E"]
    loss: Float[np.ndarray, " steps"]
    energy: Float[np.ndarray, " steps"]

    def latent(self, draws: int) -> tuple[Array, np.ndarray | None]:
        """Latent numbers for so many draws, and their windows, each equally often."""
        if self.windows is None:
            return jnp.full(draws, -1.0 * self.decoder.L**2, jnp.float32), None
        K = len(self.windows.centres)
        if draws % K:
            raise ValueError(f"draws must be a multiple of the {K} windows, got {draws}")
        window = np.repeat(np.arange(K), draws // K)
        return jnp.asarray(self.windows.centres[window], jnp.float32), window


class _Schedule(NamedTuple):
    """What changes from step to step."""

    beta: Float[Array, " T"]
    width: Float[Array, " T"]
    rate: Float[Array, " T"]


@eqx.filter_jit
def _steps(decoder, state, guess, z, windowed, schedule, group, key):
    """Some steps with one g_hat; the draws of all of them are returned."""
    params, static = eqx.partition(decoder, eqx.is_inexact_array)

    def step(carry, inputs):
        params, state = carry
        now, key = inputs
        s, E, ln_p = sample(eqx.combine(params, static), z, key=key)
        bend = windowed * (E - z) ** 2 / (2 * now.width**2)
        cost = ln_p + now.beta * E + bend + guess[E.astype(int) + len(guess) - 1]
        table = cost.reshape(-1, group)
        others = (table.sum(axis=1, keepdims=True) - table) / (group - 1)
        advantage = jnp.clip(table - others, -CLIP, CLIP).reshape(-1)

        def surrogate(params):
            return jnp.mean(advantage * log_prob(eqx.combine(params, static), s, z))

        slope = jax.grad(surrogate)(params)
        with jax.numpy_dtype_promotion("standard"):  # optax takes a float to an integer power
            updates, state = OPTIMISER.update(slope, state)
        params = jax.tree.map(lambda p, u: p - now.rate * u, params, updates)
        return (params, state), (E, ln_p, cost.mean())

    keys = jax.random.split(key, len(schedule.rate))
    (params, state), draws = jax.lax.scan(step, (params, state), (schedule, keys))
    return eqx.combine(params, static), state, draws


def _filled(ln_g: Float[np.ndarray, " E"], slope: float) -> Float[np.ndarray, " E"]:
    """A guess for bins without draws: straight lines, beyond the ends no steeper than the slope."""
    at, every = np.flatnonzero(np.isfinite(ln_g)), np.arange(len(ln_g))
    filled = np.interp(every, at, ln_g[at])
    near = min(6, len(at) - 1)
    if near and slope > 0:
        ends = ((at[0], at[near], every < at[0]), (at[-1], at[-1 - near], every > at[-1]))
        for end, inner, outside in ends:
            rise = np.clip((ln_g[end] - ln_g[inner]) / (end - inner), -slope, slope)
            filled[outside] = ln_g[end] + rise * (every[outside] - end)
    return filled - filled.max()


def train(
    decoder: Decoder,
    target: Target,
    steps: int,
    *,
    batch: int = 240,
    beta: float | None = None,
    windows: Windows | None = None,
    rate: float = 6e-3,
    warm: bool = False,
    straight: bool = False,
    key: Array,
) -> Trained:
    """Train a network.

    Args:
        decoder: where to start; it is not changed.
        target: "canonical" ends at `beta`; "multicanonical" goes there first, and then to a flat
            histogram of energies; "windows" to a flat histogram within each window.
        steps: number of them, a multiple of 10.
        batch: draws a step, a multiple of twice the number of windows.
        beta: inverse temperature; not for windows.
        windows: for "windows".
        rate: largest learning rate of Adam; it falls to 0 on a cosine.
        warm: the decoder knows the task already, from a smaller lattice perhaps: beta and windows
            are at their final values and g_hat is used from the first step on.
        straight: continue ln g_hat in a straight line, not by a constant, to energies without
            draws. At a strong first-order transition the network may then fall into the ground
            states for good.
        key: for the draws.

    Raises:
        ValueError: if the target is unknown, or lacks what it needs; if the number of steps or the
            batch does not fit; if beta or the rate is not positive and finite; if a weight of the
            network is not finite; as in :func:`.check_windows`.
    """
    L, q = decoder.L, decoder.q
    if target not in get_args(Target):
        raise ValueError(f"target must be one of {get_args(Target)}, got {target!r}")
    if (target == "windows") != (windows is not None) or (target == "windows") == (
        beta is not None
    ):
        raise ValueError(f"target {target!r} needs windows or beta, not both, and the right one")
    if steps < EVERY or steps % EVERY:
        raise ValueError(f"steps must be a multiple of {EVERY}, got {steps}")
    for name, value in (("rate", rate), ("beta", 1.0 if beta is None else beta)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if not all(np.isfinite(w).all() for w in decoder.weights.values()):
        raise ValueError("decoder must have finite weights")
    K = 1 if windows is None else len(windows.centres)
    if batch < 2 * K or batch % K:
        raise ValueError(
            f"batch must be a multiple of the {K} windows, at least twice, got {batch}"
        )
    if windows is not None:
        check_windows(windows, L, q)
    result = Trained(decoder, target, windows, np.zeros(2 * L * L + 1), np.zeros(0), np.zeros(0))
    z, window = result.latent(batch)
    state = OPTIMISER.init(eqx.filter(decoder, eqx.is_inexact_array))
    guess, recent, losses, means = result.guess, [], [], []
    last = L * L / 3 if windows is None else windows.width
    ready = 0.0 if warm else START * steps  # when g_hat is used

    def estimate():
        bins = np.concatenate([E for E, _ in recent]).astype(int) + 2 * L * L
        ln_w = -np.concatenate([ln_p for _, ln_p in recent]).astype(float)
        if windows is not None and window is not None:
            ln_w += log_encoder(windows, L)[bins, np.tile(window, len(recent))]
        ln_g = np.full(2 * L * L + 1, -np.inf)
        np.logaddexp.at(ln_g, bins, ln_w)
        return _filled(ln_g, 1.5 * beta if straight and beta is not None else 0.0)

    if warm and target != "canonical":
        key, now = jax.random.split(key)
        for k in jax.random.split(now, MEMORY):
            _, E, ln_p = sample(decoder, z, key=k)
            recent.append((np.asarray(E), np.asarray(ln_p)))
        guess = estimate()
    for first in range(0, steps, EVERY):
        t = np.arange(first, first + EVERY) / steps
        rise = np.ones(EVERY) if warm else np.minimum(t / ANNEAL, 1.0)
        flat = target != "canonical" and first >= ready
        on = 0.0 if windows is not None or flat else beta
        schedule = _Schedule(*(
            jnp.asarray(values, jnp.float32)
            for values in (
                (0.0 if on is None else on) * rise,
                (L * L / 3) * (last / (L * L / 3)) ** rise,
                rate * (1 + np.cos(np.pi * t)) / 2,
            )
        ))  # fmt: skip
        key, now = jax.random.split(key)
        windowed = jnp.float32(windows is not None)
        decoder, state, draws = _steps(
            decoder, state, jnp.asarray(guess, jnp.float32), z, windowed, schedule, batch // K, now
        )
        E, ln_p, loss = (np.asarray(values) for values in draws)
        losses.append(loss)
        means.append(E.mean(axis=1))
        recent = [*recent, *zip(E, ln_p, strict=True)][-MEMORY:]
        if target != "canonical" and first + EVERY >= ready:
            guess = estimate()
    losses, means = np.concatenate(losses), np.concatenate(means)
    return Trained(decoder, target, windows, guess, losses, means)
