"""What counts say about the couplings: sequential Monte Carlo.

A cloud of particles follows the posterior from batch to batch. The likelihood of new counts is
switched on in steps, each as large as leaves half of the particles effective (Del Moral, Doucet
and Jasra 2006); after each step particles are resampled and moved by Metropolis steps along
differences of two other particles (ter Braak 2006). The product of the mean weights is the
evidence.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dy33lib.magnons.counts import (
    Rows,
    check_counts,
    check_index,
    log_poisson,
    lowest_energy,
    rates,
)
from dy33lib.magnons.layer import finite

MOVES = 15  # Metropolis steps after each resampling
STAGES = 60  # more of them are never needed from one batch to the next


class Model(NamedTuple):
    """A normal prior over the couplings (meV), log A and log b, where no mode is soft.

    Attributes:
        mean: of the prior.
        sd: its standard deviations; 0 freezes a parameter, so that models of three and of seven
            couplings have one shape.
        guard: points at which stability is checked, all wave vectors of the candidates.
    """

    mean: Float[Array, " d"]
    sd: Float[Array, " d"]
    guard: Rows

    def theta(self, z: Float[Array, "M d"]) -> Float[Array, "M d"]:
        """Parameters from numbers in units of the prior."""
        return self.mean[None] + self.sd[None] * z

    @property
    def free(self) -> Bool[Array, " n"]:
        """Which couplings are fitted."""
        return self.sd[:-2] > 0


class Data(NamedTuple):
    """Counts, padded to a fixed length so that nothing is compiled anew.

    Attributes:
        rows: the points.
        counts: what was counted.
        weight: 1 for data, 0 for padding.
    """

    rows: Rows
    counts: Float[Array, " P"]
    weight: Float[Array, " P"]


class Particles(NamedTuple):
    """A posterior in samples of equal weight.

    Attributes:
        z: parameters in units of the prior, (theta - mean) / sd.
        theta: couplings (meV), log A, log b.
        log_evidence: log probability of all data so far.
        acceptance: share of accepted moves in the last stage.
        converged: whether the stages sufficed for all data.
    """

    z: Float[Array, "M d"]
    theta: Float[Array, "M d"]
    log_evidence: Float[Array, ""]
    acceptance: Float[Array, ""]
    converged: Bool[Array, ""]

    @property
    def sd(self) -> Float[Array, " d"]:
        """Posterior standard deviations."""
        return self.theta.std(axis=0)


def pack(rows: Rows, index: Int[np.ndarray, " N"], counts: Float[np.ndarray, " N"], size: int):
    """Counts at some of the candidates as padded data.

    Args:
        rows: all candidates.
        index: which of them were measured.
        counts: what was counted there.
        size: length after padding.

    Returns:
        `Data`.

    Raises:
        ValueError: if a count is negative or not whole; if there are more points than the size,
            or another number of counts; if a point is not a candidate.
    """
    check_counts(counts)
    index = np.asarray(index)
    if len(index) != len(counts) or len(index) > size:
        raise ValueError(
            f"counts must be as many as points and at most {size}, "
            f"got {len(counts)} for {len(index)} points"
        )
    check_index(index, rows.points.shape[0])
    padded = np.zeros(size, int)
    padded[: len(index)] = index
    values, weight = np.zeros((2, size))
    values[: len(index)], weight[: len(index)] = counts, 1
    return Data(rows.take(jnp.asarray(padded)), jnp.asarray(values), jnp.asarray(weight))


_lowest = jax.jit(jax.vmap(lowest_energy, (0, None)))


def sample_prior(model: Model, size: int, *, key: Array) -> Particles:
    """Particles before any data, all of them stable.

    Raises:
        ValueError: if the size is not even and at least 4; if the prior is not finite, or has
            hardly any stable parameters.
    """
    if size < 4 or size % 2:
        raise ValueError(f"size must be even and at least 4, got {size}")
    finite("mean", model.mean)
    finite("sd", model.sd)
    if bool((model.sd < 0).any()):
        raise ValueError(f"sd must be at least 0, got {float(model.sd.min())}")
    z = jax.random.normal(key, (20 * size, len(model.mean)))
    stable = _lowest(model.theta(z), model.guard) >= 0
    z = jnp.asarray(np.asarray(z)[np.asarray(stable)][:size])
    if len(z) < size:
        raise ValueError("mean and sd leave hardly any stable parameters")
    zero = jnp.zeros(())
    return Particles(z, model.theta(z), zero, zero + 1, zero == 0)


def _systematic(log_weights: Float[Array, " M"], key: Array) -> Int[Array, " M"]:
    """Indices of particles after systematic resampling."""
    M = log_weights.shape[0]
    total = jnp.cumsum(jax.nn.softmax(log_weights))
    comb = (jnp.arange(M, dtype=total.dtype) + jax.random.uniform(key)) / M
    return jnp.minimum(jnp.searchsorted(total, comb * total[-1]), M - 1)


@jax.jit
def smc_update(
    particles: Particles, data: Data, old: Float[Array, " P"], model: Model, *, key: Array
) -> Particles:
    """Carry particles to the posterior of more data.

    Args:
        particles: the posterior of the data with weight `old`.
        data: all data, with their new weights.
        old: weights of the data that the particles know.
        model: the prior.
        key: for resampling and moves.

    Returns:
        Particles of equal weight. The evidence is that of the data with their new weights.
    """
    M, d = particles.z.shape
    new = data.weight - old

    def terms(z):
        theta = model.mean + model.sd * z
        each = log_poisson(data.counts, rates(theta, data.rows))
        stable = lowest_energy(theta, model.guard) >= 0
        return jnp.where(stable, each @ old - 0.5 * (z @ z), -jnp.inf), each @ new

    every = jax.vmap(terms)

    def enough(step, gain):
        weight = jax.nn.softmax(step * gain)
        return 1 / jnp.sum(weight**2) >= 0.5 * M

    def next_step(gain, rest):
        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) / 2
            good = enough(middle, gain)
            return jnp.where(good, middle, low), jnp.where(good, high, middle)

        low, _ = jax.lax.fori_loop(0, 30, halve, (0.0 * rest, rest))
        return jnp.where(enough(rest, gain), rest, jnp.maximum(low, 1e-6))

    def stage(state):
        t, z, (base, gain), evidence, _, key, number = state
        key, draw, pairs, sizes, noise, tosses = jax.random.split(key, 6)
        step = next_step(gain, 1 - t)
        evidence += jax.scipy.special.logsumexp(step * gain) - jnp.log(M)
        kept = _systematic(step * gain, draw)
        t, z, base, gain = t + step, z[kept], base[kept], gain[kept]
        first, second = jax.random.randint(pairs, (2, MOVES, M), 0, M)
        # Most steps have the best size for a normal law, some are short, for narrow ridges, and
        # some lead from one peak of the posterior to another.
        kind = jax.random.uniform(sizes, (MOVES, M, 1))
        length = 2.38 / jnp.sqrt(2 * d) * jnp.where(kind < 0.6, 1.0, 0.3)
        leap = jnp.where(kind < 0.9, length, 1.0) * (z[first] - z[second])
        leap += 1e-4 * jax.random.normal(noise, leap.shape)
        toss = jnp.log(jax.random.uniform(tosses, (MOVES, M)))

        def move(carry, draws):
            z, base, gain = carry
            leap, toss = draws
            other, gained = every(z + leap)
            accept = toss < other + t * gained - base - t * gain
            z = jnp.where(accept[:, None], z + leap, z)
            carry = z, jnp.where(accept, other, base), jnp.where(accept, gained, gain)
            return carry, jnp.mean(accept, dtype=z.dtype)

        (z, base, gain), accepted = jax.lax.scan(move, (z, base, gain), (leap, toss))
        return t, z, (base, gain), evidence, accepted.mean(), key, number + 1

    def going(state):
        return (state[0] < 1) & (state[-1] < STAGES)

    start = (0.0 * old[0], particles.z, every(particles.z), particles.log_evidence)
    start = (*start, particles.acceptance, key, 0)
    t, z, _, evidence, acceptance, _, _ = jax.lax.while_loop(going, stage, start)
    converged = particles.converged & (t >= 1)
    return Particles(z, model.theta(z), evidence, acceptance, converged)
