r"""What the reader sees: the law of the noisy output, and how often two inputs are confused.

The output is o = A + ση with the leaky average A of the activity and Gaussian noise η. The law of A
is taken as a Beta law on an interval [l, 1], the third moment deciding l:

- near criticality and for weak inputs the instantaneous activity is close to a Wright-Fisher
  diffusion, whose law is Beta on [0, 1];
- an average over time seldom comes near 0, and a lower end l > 0 says so. With l from the exact
  third moment the law is right in its first three moments and becomes Beta for T -> 0.

Elsewhere the law is narrow and only its moments matter; l may then be slightly negative. Where the
law is skew to the left, its mirror image is taken: the lower end is 0 and the upper end is free.
"""

import math
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dy33lib.criticality.moments import Moments, moments
from dy33lib.criticality.parameters import Params, Real, check_h, check_lam, check_T

Shape = Literal["shifted", "beta", "normal"]
SPACING = 0.25  # of the grid, in units of sigma
FEW = 64  # nodes suffice for laws that lie within WINDOW points of the grid
WINDOW = 128
MARGIN = 8.0  # of the grid around [0, 1], in units of sigma


def output_grid(params: Params | None = None) -> Float[np.ndarray, " G"]:
    """A uniform grid of outputs, fine and wide enough for :func:`.overlap_error`.

    The number of points is a multiple of 64, so that similar sigmas share compiled programs.
    """
    sigma = (params or Params()).sigma
    points = int(np.ceil((1 / sigma + 2 * MARGIN) / SPACING / 64)) * 64
    low = -MARGIN * sigma
    return np.linspace(low, 1 - low, points)


def output_pmf(
    lam: Real,
    h: Real,
    T: Real,
    params: Params | None = None,
    grid: Float[np.ndarray | Array, " G"] | None = None,
    *,
    shape: Shape = "shifted",
) -> Float[Array, " G"]:
    """Probability of each output on a uniform grid, for a given input.

    Args:
        lam: coupling strength, a number.
        h: input rate per step, a number; 0 and infinity are the two references.
        T: integration time in steps, a number; infinity leaves only the noise of the output.
        params: network and reader.
        grid: uniform outputs; :func:`.output_grid` if left out. The law is the density times the
            spacing. Nothing is normalised: the sum falls short of 1 by what lies outside.
        shape: "shifted" uses three moments of the average, "beta" two on [0, 1], "normal" two.

    Raises:
        ValueError: as in :func:`.activity_moments`; if the shape is unknown; if the grid is not
            uniform or is coarser than 1.2 sigma.
    """
    params = params or Params()
    lam, h, T = check_lam(lam), check_h(h), check_T(T)
    check_shape(shape)
    points = output_grid(params) if grid is None else np.asarray(grid, np.float64)
    steps = np.diff(points)
    if len(points) < 2 or not np.allclose(steps, steps[0], rtol=1e-6) or steps[0] <= 0:
        raise ValueError("grid must rise in equal steps")
    if steps[0] > 1.2 * params.sigma:
        raise ValueError(
            f"grid must have steps of at most 1.2 sigma, got {steps[0] / params.sigma:.3g}"
        )
    m = moments(lam, h, T, params)
    return law(
        m.mean, m.var_filtered, m.third, jnp.asarray(points), params.sigma,
        shape=shape, nodes=count_nodes(params),
    )  # fmt: skip


def check_shape(shape: str) -> None:
    """Raise unless the shape is known."""
    if shape not in ("shifted", "beta", "normal"):
        raise ValueError(f"shape must be 'shifted', 'beta' or 'normal', got {shape!r}")


def overlap_error(p: Float[Array | np.ndarray, " G"], q: Float[Array | np.ndarray, " G"]) -> float:
    r"""Smallest probability of confusing two equally likely inputs, :math:`\frac12\int\min(p, q)`.

    Args:
        p: law of the output for one input, on a uniform grid.
        q: for the other, on the same grid.

    Where the two cross, min(p, q) has a kink, and the sum an error of second order in the spacing.
    Two terms per crossing (exact integration of straight lines, and the end correction of Euler and
    Maclaurin) lift this to fourth order.

    Raises:
        ValueError: if the shapes differ.
    """
    if p.shape != q.shape or p.ndim != 1:
        raise ValueError(f"p and q must be arrays of one length, got {p.shape} and {q.shape}")
    p, q = np.asarray(p), np.asarray(q)
    d = p - q
    kinks = np.flatnonzero(d[:-1] * d[1:] < 0)
    d = np.abs(d)
    left, right = d[kinks], d[kinks + 1]
    distance = d.sum() + ((left + right) / 6 - left * right / (left + right)).sum()
    return float(p.sum() + q.sum() - distance) / 4


def empirical_pmf(
    samples: Float[np.ndarray, "..."], params: Params | None = None
) -> Float[np.ndarray, " G"]:
    """Law of the output on :func:`.output_grid` for simulated averages: their histogram and noise.

    Cells are a twentieth of sigma wide, each counted at the mean of its samples.

    Raises:
        ValueError: if there are no samples, or some lie outside of [0, 1].
    """
    params = params or Params()
    flat = np.ravel(samples)
    if not flat.size or not np.all((flat >= 0) & (flat <= 1)):
        raise ValueError(f"samples must lie between 0 and 1 and not be empty, got {flat}")
    cell = (flat * 20 / params.sigma).astype(int)
    number, total = np.bincount(cell), np.bincount(cell, flat)
    kept = number > 0
    grid = output_grid(params)
    noise = normal(jnp.asarray(grid)[None, :], (total[kept] / number[kept])[:, None], params.sigma)
    return number[kept] / flat.size @ np.asarray(noise)


def count_nodes(params: Params) -> int:
    """Nodes that resolve [0, 1] at the width of the noise, and both ends."""
    return int(np.ceil((1.25 / params.sigma + 60) / 64)) * 64


def is_narrow(m: Moments, sigma: float) -> bool:
    """Whether the law of A, with its tails, lies within WINDOW points of the grid."""
    sd = math.sqrt(float(m.var_filtered))
    skew_sd = abs(float(m.third)) / sd**2 if sd else 0.0
    return 7 * sd + 12 * skew_sd < (WINDOW * SPACING / 2 - 2) * sigma


@partial(jax.jit, static_argnames=("shape", "nodes"))
def law(
    mean: Real, var: Real, third: Real, grid: Array, sigma: Real, *, shape: Shape, nodes: int
) -> Float[Array, " G"]:
    """The law of the output on a grid for three moments of the average, compiled."""
    # Below a hundredth of sigma, and for no input at all, the shape of A does not matter.
    narrow = var < (0.01 * sigma) ** 2
    blurred = normal(grid, mean, jnp.sqrt(var + sigma**2))
    if shape == "normal":
        return blurred
    mean, var = jnp.where(narrow, 0.5, mean), jnp.where(narrow, 0.01, var)
    skew = jnp.where(narrow, 0.0, third) if shape == "shifted" else None
    x, weight = _nodes(mean, var, skew, sigma, nodes)
    if nodes > FEW:
        broad = weight @ normal(grid[None, :], x[:, None], jnp.asarray(sigma))
    else:
        first = jnp.clip(jnp.searchsorted(grid, mean) - WINDOW // 2, 0, len(grid) - WINDOW)
        window = jax.lax.dynamic_slice(grid, (first,), (WINDOW,))
        part = weight @ normal(window[None, :], x[:, None], jnp.asarray(sigma))
        broad = jax.lax.dynamic_update_slice(jnp.zeros_like(grid), part, (first,))
    return jnp.where(narrow, blurred, broad)


def normal(grid: Array, mean: Real, sd: Real) -> Array:
    """Normal density times the spacing of the grid (along its last axis)."""
    step = (grid[..., -1] - grid[..., 0])[..., None] / (grid.shape[-1] - 1)
    return jnp.exp(-(((grid - mean) / sd) ** 2) / 2) * (step / (sd * np.sqrt(2 * np.pi)))


def shifted_beta(mean: Array, var: Array, third: Array) -> tuple[Array, Array, Array]:
    """Exponents and lower end (α, β, l) of the Beta law on [l, 1] with three given moments.

    With Y = 1 - A and r_k = E Y^k / E Y^(k-1): (1 - l) β = r_1 c, (1 - l)(β + 1) = r_2 (c + 1) and
    (1 - l)(β + 2) = r_3 (c + 2) with c = α + β, three equations that are solved in closed form.
    """
    e = 1 - mean
    c = 2 * (e**2 * var - e * third - var**2) / (2 * var**2 + e * third)
    length = e + var / e * (1 + c)
    beta = e * c / length
    return c - beta, beta, 1 - length


def _nodes(
    mean: Array, var: Array, third: Array | None, sigma: Real, nodes: int
) -> tuple[Float[Array, " M"], Float[Array, " M"]]:
    """Nodes and weights of the law of A, which convolved with the noise give its density.

    The trapezoidal rule in u, where t = s(u) / (s(u) + s(K - u)) with s(u) = ln(1 + e^u): evenly
    spaced inside, logarithmically at both ends, where the density may diverge. It converges
    exponentially, since the integrand is analytic and vanishes at infinity.
    """
    mirrored = jnp.asarray(False) if third is None else third < 0
    mean = jnp.where(mirrored, 1 - mean, mean)
    if third is None:
        c = mean * (1 - mean) / var - 1
        alpha, beta, low = mean * c, (1 - mean) * c, jnp.zeros_like(mean)
    else:
        alpha, beta, low = shifted_beta(mean, var, jnp.abs(third))
    length = 1 - low
    t0, sd = (mean - low) / length, jnp.sqrt(var) / length
    c = alpha + beta
    skewness = 2 * (beta - alpha) * jnp.sqrt(c + 1) / ((c + 2) * jnp.sqrt(alpha * beta))
    steep = jnp.minimum(alpha, beta) > 4  # then the scale is the standard deviation
    K = jnp.maximum(length / (0.8 * sigma), jnp.where(steep, 2 / sd, 0.0))
    # From where to where: up to e^-24 in Gaussian and Gamma tails, or far into the powers at the
    # ends, where t or 1 - t has become e^-28/K. What lies beyond is a geometric series.
    from_below = t0 - (7 + 12 * jnp.maximum(-skewness, 0.0)) * sd
    from_above = 1 - t0 - (7 + 12 * jnp.maximum(skewness, 0.0)) * sd
    low_u = jnp.where(from_below > 3 / K, K * from_below - 1, -jnp.minimum(24 / alpha, 25) - 3)
    high_u = K - jnp.where(from_above > 3 / K, K * from_above - 1, -jnp.minimum(24 / beta, 25) - 3)
    step = (high_u - low_u) / (nodes - 1)
    u = low_u + step * jnp.arange(nodes, dtype=low_u.dtype)
    below, above = _log_softplus(u), _log_softplus(K - u)
    total = jnp.logaddexp(below, above)
    log_t, log_rest = below - total, above - total  # ln t and ln(1 - t)
    # dt/du = t (1 - t) (s'(u)/s(u) + s'(K - u)/s(K - u))
    slope = jnp.exp(jax.nn.log_sigmoid(u) - below) + jnp.exp(jax.nn.log_sigmoid(K - u) - above)
    log_weight = alpha * log_t + beta * log_rest
    weight = jnp.exp(log_weight - jnp.max(log_weight)) * slope
    weight = weight.at[0].divide(-jnp.expm1(-alpha * step * slope[0]))
    weight = weight.at[-1].divide(-jnp.expm1(-beta * step * slope[-1]))
    x = low + length * jnp.exp(log_t)
    return jnp.where(mirrored, 1 - x, x), weight / jnp.sum(weight)


def _log_softplus(u: Array) -> Array:
    """Logarithm of ln(1 + e^u), also far to the left."""
    return jnp.where(u < -30, u, jnp.log(jax.nn.softplus(jnp.maximum(u, -30.0))))
