"""The Kalman recursion, twice: a map of intensity from counts alone, and what a point would teach.

Both are conditioning of a normal law on one number after another. The map's law is a Gaussian
process over all candidates; instead of its covariance, of 3,172 squared entries, the recursion
keeps one row for each measurement (a partial Cholesky factor), which is the same to rounding.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dy33lib.magnons.counts import Rows, check_counts, check_index, rates
from dy33lib.magnons.posterior import Model, sample_prior


class Kernel(NamedTuple):
    """The Gaussian process before any data: what an unknown spectrum may look like.

    Attributes:
        mean: expected counts anywhere.
        sd: standard deviation of the intensity (counts).
        length_q: distance over which it stays similar, in reciprocal lattice units.
        length_E: the same in energy (meV).
    """

    mean: float = 5.0
    sd: float = 7.0
    length_q: float = 0.05
    length_E: float = 1.5


def prior_kernel(
    model: Model,
    rows: Rows,
    energies: int,
    transform: Callable = jnp.asarray,
    *,
    key: Array,
    draws: int = 100,
) -> Kernel:
    """The process whose mean, variance and correlations are those of spectra drawn from a prior.

    Args:
        model: the prior.
        rows: the candidates, as :func:`.candidate_grid` orders them.
        energies: number of energies at each wave vector.
        transform: of the array of intensities, for maps of roots or logarithms.
        key: for the draws.
        draws: number of spectra.

    Returns:
        Lengths from the correlation between neighbours on the grid.

    Raises:
        ValueError: if the candidates are not a grid with so many energies; as in
            :func:`.sample_prior`.
    """
    C = rows.points.shape[0]
    if energies < 2 or C % energies or C // energies < 2:
        raise ValueError(f"energies must divide the {C} candidates into a grid, got {energies}")
    theta = sample_prior(model, draws, key=key).theta
    spectra = np.asarray(transform(_intensities(theta, rows))).reshape(draws, -1, energies)
    deviation = spectra - spectra.mean()
    variance = (deviation**2).mean()
    along_q = (deviation[:, 1:] * deviation[:, :-1]).mean() / variance
    along_E = (deviation[:, :, 1:] * deviation[:, :, :-1]).mean() / variance
    points = np.asarray(rows.points).reshape(-1, energies, 3)
    step_q = np.linalg.norm(points[1:, 0, :2] - points[:-1, 0, :2], axis=1).mean()
    step_E = points[0, 1, 2] - points[0, 0, 2]
    lengths = (step / np.sqrt(-2 * np.log(r)) for step, r in ((step_q, along_q), (step_E, along_E)))
    return Kernel(*(float(v) for v in (spectra.mean(), np.sqrt(variance), *lengths)))


_intensities = jax.jit(jax.vmap(rates, (0, None)))


class Map(NamedTuple):
    """The intensity at all candidates, as counts alone have it.

    Attributes:
        mean: posterior mean (counts).
        var: posterior variance.
        rows: factor of the covariance, one row a measurement: cov = K - rows.T @ rows.
        used: number of measurements so far.
    """

    mean: Float[Array, " C"]
    var: Float[Array, " C"]
    rows: Float[Array, "P C"]
    used: Int[Array, ""]


def covariance(
    points: Float[Array, "C 3"], one: Float[Array, " 3"], kernel: Kernel
) -> Float[Array, " C"]:
    """Prior covariance of the intensity at all points with that at one: squared exponential."""
    q = ((points[:, :2] - one[None, :2]) ** 2).sum(axis=1) / kernel.length_q**2
    E = (points[:, 2] - one[2]) ** 2 / kernel.length_E**2
    return kernel.sd**2 * jnp.exp(-0.5 * (q + E))


def empty_map(points: Float[Array, "C 3"], kernel: Kernel, size: int) -> Map:
    """The map before any data, with room for `size` measurements.

    Raises:
        ValueError: if the kernel's mean is not finite, or its sd or a length not positive.
    """
    if not (np.isfinite(kernel).all() and min(kernel[1:]) > 0):
        raise ValueError(f"kernel must be finite, with positive sd and lengths, got {kernel}")
    C = points.shape[0]
    flat = jnp.full(C, float(kernel.mean))
    return Map(flat, jnp.full(C, float(kernel.sd**2)), jnp.zeros((size, C)), jnp.zeros((), int))


@jax.jit
def kalman_step(
    state: Map,
    points: Float[Array, "C 3"],
    index: Int[Array, ""],
    count: Float[Array, ""],
    noise: Float[Array, ""],
    kernel: Kernel,
) -> Map:
    """One measurement: gain, innovation, new mean and covariance."""
    row = covariance(points, points[index], kernel) - state.rows[:, index] @ state.rows
    total = row[index] + noise
    mean = state.mean + row * (count - state.mean[index]) / total
    row = row / jnp.sqrt(total)
    return Map(mean, state.var - row**2, state.rows.at[state.used].set(row), state.used + 1)


def gp_map(
    points: Float[Array, "C 3"],
    index: Int[np.ndarray, " N"],
    counts: Float[np.ndarray, " N"],
    kernel: Kernel | None = None,
    noise: Float[np.ndarray, " N"] | None = None,
) -> Map:
    """The map after some counts: the exact posterior of the process, by the Kalman recursion.

    Args:
        points: all candidates (h, k, E).
        index: which of them were measured, in any order, repeated or not.
        counts: what was counted.
        kernel: the process.
        noise: variances of the counts; by default count + 1, the mean of a Poisson rate after one
            count and a flat prior. It adapts to the signal, and does not depend on the order.

    Raises:
        ValueError: if a count is negative or not whole; if a point is not a candidate; if a
            variance is not positive; as in :func:`empty_map`.
    """
    check_counts(counts)
    check_index(index, points.shape[0])
    noise = np.asarray(counts) + 1.0 if noise is None else np.asarray(noise)
    if not (np.isfinite(noise) & (noise > 0)).all():
        raise ValueError(f"noise must be positive and finite, got {noise.min()}")
    kernel = Kernel() if kernel is None else kernel
    state = empty_map(points, kernel, max(len(counts), 1))
    for i, n, r in zip(index, counts, noise, strict=True):
        state = kalman_step(state, points, *map(jnp.asarray, (i, n, r)), kernel)
    return state


def kalman_downdate(
    ensemble: Float[Array, "M D"], index: Int[Array, ""] | int, noise: Float[Array, ""] | float
) -> Float[Array, "M D"]:
    """An ensemble as it would scatter after measuring one of its columns.

    The mean stays, since the count is not known yet; the sample covariance P becomes exactly
    P - P e e'P / (e'Pe + R) (square-root filter after Potter; Whitaker and Hamill 2002, eq. 13).

    Args:
        ensemble: one member a row, any quantities side by side.
        index: the column that would be measured.
        noise: variance R of that measurement, positive.

    Raises:
        ValueError: if the noise is not positive, or the index is not that of a column.
    """
    if isinstance(noise, float | int) and not noise > 0:
        raise ValueError(f"noise must be positive, got {noise}")
    if isinstance(index, int):
        check_index(np.array([index]), ensemble.shape[1])
    mean = ensemble.mean(axis=0, keepdims=True)
    anomalies = ensemble - mean
    column = anomalies[:, index]
    variance = jnp.mean(column**2)
    gain = column @ anomalies / anomalies.shape[0] / (variance + noise)
    half = 1 / (1 + jnp.sqrt(noise / (variance + noise)))
    return mean + anomalies - half * jnp.outer(column, gain)
