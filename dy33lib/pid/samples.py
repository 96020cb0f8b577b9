r"""Information of a neuron, estimated from the samples it has seen.

A neuron answers sample b with 1 with probability :math:`\theta_b`. Its sources are binned, and the
estimated distribution gives each of the B samples the weight 1/B. A dense table of it would have
20 × 20 × 20 × 2 cells, most of them empty. What is needed of it are, for every antichain α and
every sample, the number of samples that agree with this one in all sources of at least one set of
α, and the mean :math:`q_\alpha(b)` of their θ. Then

.. math:: I_\alpha = \frac1B \sum_b \left[\theta_b \log_2 \frac{q_\alpha(b)}{\bar\theta}
    + (1 - \theta_b) \log_2 \frac{1 - q_\alpha(b)}{1 - \bar\theta}\right]

is the redundancy :func:`.i_sx` of that distribution. One table of counts and one of sums are filled
for each set of sources, instead of one for each antichain, and all logarithms are of samples.
"""

import math
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from dy33lib.pid.lattices import lattice

SMALLEST = 1e-6  # probabilities of an answer are kept this far from 0 and 1, as the authors do
CHUNK = 20  # neurons that are worked on at once: what they need then stays in the cache


def bin_fixed(x: Float[Array, "..."], low: float, high: float, n_bins: int) -> Int[Array, "..."]:
    """Equal bins between two limits, closed to the right; the outer ones hold what lies beyond.

    Raises:
        ValueError: if there is no bin, or the limits are not in order.
    """
    if n_bins < 1 or not low < high:
        raise ValueError(f"need n_bins >= 1 and low < high, got {n_bins}, {low:g} and {high:g}")
    index = jnp.ceil((x - low) * (n_bins / (high - low))) - 1
    return jnp.clip(index, 0, n_bins - 1).astype(jnp.int32)


def bin_normalised(x: Float[Array, "... B"], n_bins: int) -> Int[Array, "... B"]:
    """Equal bins from -m to m, with m the largest absolute value of a neuron in the batch.

    Raises:
        ValueError: if there is no bin.
    """
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    return bin_fixed(x / jnp.where(largest > 0, largest, 1), -1.0, 1.0, n_bins)


def pid_from_samples(
    bins: Int[Array, "n K B"], theta: Float[Array, "K B"], n_bins: int
) -> Float[Array, "K A1"]:
    r"""Atoms and residual entropy of K neurons, in bits.

    Args:
        bins: of each source, at each neuron, in each sample; from 0 to n_bins - 1.
        theta: probability that the neuron answers 1. It is kept 1e-6 away from 0 and 1.
        n_bins: number of bins of each source.

    Returns:
        For each neuron, one a row, the A atoms in the order of :func:`.antichains`, then
        :math:`H(Y) - I(Y; S)`.

    Raises:
        ValueError: if there are not two or three sources, bins and theta do not fit each other, or
            a bin is out of range.
    """
    _check(bins, theta, n_bins)
    return _atoms(bins, theta, n_bins)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _goal(bins, theta, gamma, n_bins):
    return jnp.sum(_atoms(bins, theta, n_bins) @ gamma)


def _goal_forward(bins, theta, gamma, n_bins):
    atoms = _atoms(bins, theta, n_bins)
    return jnp.sum(atoms @ gamma), (_slopes(bins, theta, gamma, n_bins), atoms.sum(axis=0))


def _goal_backward(n_bins, kept, change):
    slopes, atoms = kept
    return None, change * slopes, change * atoms


_goal.defvjp(_goal_forward, _goal_backward)


def goal(
    bins: Int[Array, "n K B"],
    theta: Float[Array, "K B"],
    gamma: Float[Array, " A1"],
    n_bins: int,
) -> Float[Array, ""]:
    r"""Goal of the neurons in bits, :math:`\sum_k \gamma \cdot (\mathrm{atoms}_k, H_\mathrm{res})`.

    Its derivative is exact and costs as much as the value. Let :math:`n_\alpha(b)` be the number
    of samples that agree with sample b, and

    .. math:: h_\alpha(b)
        = \frac{\theta_b - q_\alpha(b)}{q_\alpha(b)\, (1 - q_\alpha(b))\, n_\alpha(b)} .

    Then

    .. math:: B \ln 2\, \frac{\partial I_\alpha}{\partial\theta_c} = \mathrm{logit}\, q_\alpha(c)
        - \mathrm{logit}\, \bar\theta + \sum_{b\ \mathrm{agrees\ with}\ c} h_\alpha(b) .

    Args:
        bins: as in :func:`.pid_from_samples`; nothing is differentiated with respect to them.
        theta: probability that the neuron answers 1.
        gamma: coefficients of the atoms and of the residual entropy.
        n_bins: number of bins of each source.

    Raises:
        ValueError: as in :func:`.pid_from_samples`, or if gamma has the wrong length.
    """
    _check(bins, theta, n_bins)
    needed = len(lattice(bins.shape[0]).antichains) + 1
    if gamma.shape != (needed,):
        raise ValueError(
            f"gamma must have {needed} entries for {bins.shape[0]} sources, got shape {gamma.shape}"
        )
    return _goal(bins, theta, gamma, n_bins)


def _check(bins: Int[Array, "n K B"], theta: Float[Array, "K B"], n_bins: int) -> None:
    if bins.shape[0] not in (2, 3):
        raise ValueError(f"bins must be of 2 or 3 sources, got shape {bins.shape}")
    if bins.shape[1:] != theta.shape:
        raise ValueError(f"bins {bins.shape} and theta {theta.shape} must be of the same samples")
    if not isinstance(bins, Tracer) and bins.size:
        low, high = int(np.asarray(bins).min()), int(np.asarray(bins).max())
        if low < 0 or high >= n_bins:
            raise ValueError(f"bins must be 0 to {n_bins - 1}, got {low} to {high}")


class _Seen(NamedTuple):
    """What neurons have seen; N is the number of neurons times that of samples, neuron by neuron.

    Attributes:
        cells: for each subset of sources, the cell that a sample falls into.
        theta: probability of the answer 1.
        agreeing: for each antichain, the number of samples that agree with a sample.
        mean: the mean of their theta.
    """

    cells: list[Int[Array, " N"]]
    theta: Float[Array, " N"]
    agreeing: list[Float[Array, " N"]]
    mean: list[Float[Array, " N"]]


def _sums(cells: Int[Array, " N"], x: Float[Array, " N"], size: int) -> Float[Array, " N"]:
    """Of each sample: the sum of x over all samples in the same cell."""
    table = jnp.zeros(size, x.dtype).at[cells].add(x, mode="promise_in_bounds")
    return table.at[cells].get(mode="promise_in_bounds")


def _add(parts: list[Array]) -> Array:
    return reduce(jnp.add, parts)


def _signed_sum(signs: Int[np.ndarray, " S"], parts: list[Array]) -> Array:
    return _add([int(sign) * part for sign, part in zip(signs, parts, strict=True) if sign])


def _look(bins: Int[Array, "n K B"], theta: Float[Array, "K B"], n_bins: int) -> _Seen:
    n, K, B = bins.shape
    grid = lattice(n)
    # Long vectors, since XLA would lay out matrices sample by sample, and the tables of all
    # neurons do not fit into the cache. Antichains are written out one by one, which fuses into
    # loops and is a third faster than matrices of all of them; for four sources it would take
    # minutes to compile.
    neuron = jnp.repeat(jnp.arange(K, dtype=bins.dtype), B)
    cells = []
    for subset in grid.subsets:
        index = neuron
        for source in subset:
            index = index * n_bins + bins[source - 1].reshape(-1)
        cells.append(index)
    sizes = [K * n_bins ** len(subset) for subset in grid.subsets]
    theta = jnp.clip(theta.reshape(-1), SMALLEST, 1 - SMALLEST)
    ones = jnp.ones_like(theta)
    counts = [_sums(c, ones, m) for c, m in zip(cells, sizes, strict=True)]
    totals = [_sums(c, theta, m) for c, m in zip(cells, sizes, strict=True)]
    count = [_signed_sum(row, counts) for row in grid.union]
    mean = [_signed_sum(row, totals) / c for row, c in zip(grid.union, count, strict=True)]
    # A mean of answers lies between the smallest and the largest; rounding may leave that range.
    mean = [jnp.clip(q, SMALLEST, 1 - SMALLEST) for q in mean]
    return _Seen(cells, theta, count, mean)


def _chunk_atoms(
    bins: Int[Array, "n K B"], theta: Float[Array, "K B"], n_bins: int
) -> Float[Array, "K A1"]:
    n, K, B = bins.shape
    seen = _look(bins, theta, n_bins)
    answers = seen.theta.reshape(K, B).mean(axis=1)
    entropy = -(answers * jnp.log2(answers) + (1 - answers) * jnp.log2(1 - answers))
    missing = []
    for q in seen.mean:
        surprise = seen.theta * jnp.log2(q) + (1 - seen.theta) * jnp.log2(1 - q)
        missing.append(-surprise.reshape(K, B).mean(axis=1))
    atoms = jnp.asarray(lattice(n).moebius, entropy.dtype) @ jnp.stack(
        [entropy - m for m in missing]
    )
    # The last antichain is the set of all sources; what is missing of it is the residual entropy.
    return jnp.concatenate([atoms, missing[-1][None]]).T


def _chunk_slopes(
    bins: Int[Array, "n K B"], theta: Float[Array, "K B"], gamma: Float[Array, " A1"], n_bins: int
) -> Float[Array, "K 2 B"]:
    """Derivative of the goal with respect to theta, in two parts that are to be added.

    Added here, XLA would fuse them, and compute logarithms in the loops that look up sums.
    """
    n, K, B = bins.shape
    grid = lattice(n)
    seen = _look(bins, theta, n_bins)
    # The goal as a sum over redundancies I_α = H(Y) - missing_α, and H_res = missing of all.
    weights = jnp.asarray(grid.moebius.T, gamma.dtype) @ gamma[:-1]
    missing = weights.at[-1].add(-gamma[-1])
    answers = jnp.repeat(seen.theta.reshape(K, B).mean(axis=1), B)
    direct = -weights.sum() * jnp.log(answers / (1 - answers))
    direct += sum(m * jnp.log(q / (1 - q)) for m, q in zip(missing, seen.mean, strict=True))
    # Where α is one set, the samples of a cell share q, and their h add up to 0.
    several = [i for i, alpha in enumerate(grid.antichains) if len(alpha) > 1]
    h = [
        missing[i] * (seen.theta - q) / (q * (1 - q) * seen.agreeing[i])
        for i, q in ((i, seen.mean[i]) for i in several)
    ]
    of_subsets = [_signed_sum(row, h) for row in grid.union[several].T]
    parts = zip(seen.cells, of_subsets, grid.subsets, strict=True)
    others = _add([_sums(cells, x, K * n_bins ** len(subset)) for cells, x, subset in parts])
    return jnp.stack([direct.reshape(K, B), others.reshape(K, B)], axis=1) / (B * math.log(2))


def _in_chunks(function, bins: Int[Array, "n K B"], theta: Float[Array, "K B"]) -> Array:
    """A function of some neurons' bins (n, k, B) and answers (k, B), applied to all of them."""
    n, K, B = bins.shape
    fill = -K % min(K, CHUNK)
    chunks = (K + fill) // min(K, CHUNK)
    rows = jnp.pad(theta, ((0, fill), (0, 0)), constant_values=0.5).reshape(chunks, -1, B)
    parts = jnp.pad(bins, ((0, 0), (0, fill), (0, 0))).reshape(n, chunks, -1, B).swapaxes(0, 1)
    out = jax.lax.map(lambda part: function(*part), (parts, rows))
    return out.reshape(K + fill, *out.shape[2:])[:K]


@partial(jax.jit, static_argnums=2)
def _atoms(
    bins: Int[Array, "n K B"], theta: Float[Array, "K B"], n_bins: int
) -> Float[Array, "K A1"]:
    return _in_chunks(lambda b, t: _chunk_atoms(b, t, n_bins), bins, theta)


def _slopes(
    bins: Int[Array, "n K B"], theta: Float[Array, "K B"], gamma: Float[Array, " A1"], n_bins: int
) -> Float[Array, "K B"]:
    parts = _in_chunks(lambda b, t: _chunk_slopes(b, t, gamma, n_bins), bins, theta)
    inside = (theta > SMALLEST) & (theta < 1 - SMALLEST)
    return jnp.where(inside, parts.sum(axis=1), 0)
