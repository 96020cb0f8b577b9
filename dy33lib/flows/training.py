"""Training a flow on energies: no sample of any other state is needed."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from dy33lib.flows.layers import log_weights
from dy33lib.particles import Configs, check_configs, lj_energy


class Trained(NamedTuple):
    """A flow after training.

    Attributes:
        flow: as the flow that was given, with other parameters.
        losses: mean of minus ln w over each batch. States far away count most in it; judge a flow
            by its weights, not by this.
    """

    flow: PyTree
    losses: Float[Array, " steps"]


@eqx.filter_jit
def _minimise(flow, loss: Callable, data, steps: int, rate, longest: float, key):
    parameters, rest = eqx.partition(flow, eqx.is_inexact_array)
    optimiser = optax.chain(
        optax.clip_by_global_norm(longest), optax.adam(optax.cosine_decay_schedule(1.0, steps))
    )

    def step(carry, key):
        parameters, state = carry
        value, slope = jax.value_and_grad(lambda p: loss(eqx.combine(p, rest), data, key))(
            parameters
        )
        with jax.numpy_dtype_promotion("standard"):  # optax takes a float to an integer power
            change, state = optimiser.update(slope, state, parameters)
            change = jax.tree.map(lambda c: rate.astype(c.dtype) * c, change)
        return (eqx.apply_updates(parameters, change), state), value

    (parameters, _), losses = jax.lax.scan(
        step, (parameters, optimiser.init(parameters)), jax.random.split(key, steps)
    )
    return eqx.combine(parameters, rest), losses


def minimise(
    flow: PyTree,
    loss: Callable,
    data: PyTree,
    *,
    steps: int,
    rate: float,
    longest: float = 100.0,
    key: Array,
) -> Trained:
    """Adam, with a rate that falls to zero along a cosine and gradients of limited length.

    Args:
        flow: to begin with; all its floating-point arrays are changed.
        loss: mean of minus ln w, of a flow, the data and a key.
        data: passed on to the loss, so that one compiled program serves all data of one shape.
        steps: of the optimiser.
        rate: of learning, at first.
        longest: gradients are clipped to this length.
        key: for the random numbers.

    Raises:
        ValueError: if steps is below 1, rate or longest not positive and finite, or the loss does
            not stay finite.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    for name, value in (("rate", rate), ("longest", longest)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    found, losses = _minimise(flow, loss, data, steps, jnp.asarray(rate), longest, key)
    if not jnp.all(jnp.isfinite(losses)):
        first = int(jnp.argmin(jnp.isfinite(losses)))
        raise ValueError(f"rate = {rate} made the loss diverge at step {first}")
    return Trained(found, losses)


def train(
    flow: PyTree,
    configs: Configs,
    start: tuple[float, float],
    states: Callable,
    *,
    steps: int = 160,
    batch: int = 32,
    rate: float = 1e-2,
    longest: float = 100.0,
    energy: Callable = lj_energy,
    key: Array,
) -> Trained:
    """Minimise the mean of -ln w over configurations of the reference and over states.

    Up to constants this is the Kullback-Leibler divergence of what the flow makes from each state's
    ensemble, averaged over states (Schebek et al. 2024). The optimiser is that of :func:`minimise`.

    Args:
        flow: to begin with.
        configs: of the reference state.
        start: its temperature and pressure.
        states: gives temperatures and pressures by a key and their number.
        steps: of the optimiser.
        batch: configurations of each step, each with a state of its own.
        rate: of learning, at first.
        longest: gradients are clipped to this length.
        energy: energies by s and L; its gradient should be cheap.
        key: for the random numbers.

    Raises:
        ValueError: if the batch is below 1; as in :func:`minimise`,
            :func:`~dy33lib.flows.layers.log_weights` and
            :func:`~dy33lib.particles.check_configs`.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    check_configs(*configs)
    loss = _Loss(start, states, batch, energy)
    return minimise(flow, loss, configs, steps=steps, rate=rate, longest=longest, key=key)


class _Loss(NamedTuple):
    """Mean of -ln w over a batch; what it closes over is compared by value, and compiled once."""

    start: tuple[float, float]
    states: Callable
    batch: int
    energy: Callable

    def __call__(self, flow, configs: Configs, key):
        k1, k2 = jax.random.split(key)
        which = jax.random.randint(k1, (self.batch,), 0, configs.L.shape[1])
        T, P = self.states(k2, self.batch)
        s, L = configs.s[..., which], configs.L[..., which]
        return -jnp.mean(log_weights(flow, s, L, self.start, T, P, self.energy))
