"""Training a flow on energies: no sample of any other state is needed."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dy33lib.flows.layers import log_weights
from dy33lib.particles import Configs, lj_forces


class Trained(NamedTuple):
    """A flow after training.

    Attributes:
        flow: as the flow that was given, with other parameters.
        losses: mean of minus ln w over each batch. States far away count most in it; judge a flow
            by its weights, not by this.
    """

    flow: eqx.Module
    losses: Float[Array, " steps"]


@eqx.filter_jit
def _train(flow, configs: Configs, start, states, steps, batch, optimiser, potential, key):
    parameters, rest = eqx.partition(flow, eqx.is_inexact_array)

    def loss(parameters, key):
        k1, k2 = jax.random.split(key)
        which = jax.random.randint(k1, (batch,), 0, configs.L.shape[1])
        T, P = states(k2, batch)
        log_w = log_weights(
            eqx.combine(parameters, rest), configs.s[..., which], configs.L[..., which],
            start, T, P, potential,
        )  # fmt: skip
        return -jnp.mean(log_w)

    def step(carry, key):
        parameters, state = carry
        value, slope = jax.value_and_grad(loss)(parameters, key)
        with jax.numpy_dtype_promotion("standard"):  # optax takes a float to an integer power
            change, state = optimiser.update(slope, state, parameters)
        return (optax.apply_updates(parameters, change), state), value

    (parameters, _), losses = jax.lax.scan(
        step, (parameters, optimiser.init(parameters)), jax.random.split(key, steps)
    )
    return eqx.combine(parameters, rest), losses


def train(
    flow,
    configs: Configs,
    start: tuple[float, float],
    states: Callable,
    *,
    steps: int = 160,
    batch: int = 32,
    rate: float = 1e-2,
    potential: Callable = lj_forces,
    key: Array,
) -> Trained:
    """Minimise the mean of -ln w over configurations of the reference and over states.

    Up to constants this is the Kullback-Leibler divergence of what the flow makes from each state's
    ensemble, averaged over states (Schebek et al. 2024). Adam, with a rate that falls to zero along
    a cosine and gradients clipped to a length of 100.

    Args:
        flow: to begin with.
        configs: of the reference state.
        start: its temperature and pressure.
        states: gives temperatures and pressures by a key and their number.
        steps: of the optimiser.
        batch: configurations of each step, each with a state of its own.
        rate: of learning, at first.
        potential: energies, forces, virials by s and L.
        key: for the random numbers.

    Raises:
        ValueError: if steps or batch are below 1, the rate is not positive and finite, or the loss
            does not stay finite; as :func:`.log_weights` does.
    """
    if steps < 1 or batch < 1:
        raise ValueError(f"steps and batch must be at least 1, got {steps} and {batch}")
    if not 0 < rate < np.inf:
        raise ValueError(f"rate must be positive and finite, got {rate}")
    optimiser = optax.chain(
        optax.clip_by_global_norm(100.0), optax.adam(optax.cosine_decay_schedule(rate, steps))
    )
    found, losses = _train(flow, configs, start, states, steps, batch, optimiser, potential, key)
    if not jnp.all(jnp.isfinite(losses)):
        first = int(jnp.argmin(jnp.isfinite(losses)))
        raise ValueError(f"rate = {rate} made the loss diverge at step {first}")
    return Trained(found, losses)
