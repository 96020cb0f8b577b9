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
from typing import Literal

import numpy as np
from jaxtyping import Array, Float

from dy33lib.criticality.moments import Moments, moments
from dy33lib.criticality.parameters import Params, Real, check_h, check_lam, check_T

Shape = Literal["shifted", "beta", "normal"]
SPACING = 0.25  # of the grid, in units of sigma
FEW = 64  # nodes suffice for laws that lie within 32 sigma
MARGIN = 8.0  # of the grid around [0, 1], in units of sigma


def output_grid(params: Params | None = None) -> Float[np.ndarray, " G"]:
    """A uniform grid of outputs, fine and wide enough for :func:`.overlap_error`."""
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
) -> Float[np.ndarray, " G"]:
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
        ValueError: as in :func:`.activity_moments`; if lam, h or T are arrays; if the shape is
            unknown; if the grid is not uniform or is coarser than 1.2 sigma.
    """
    params = params or Params()
    lam, h, T = check_lam(lam), check_h(h), check_T(T)
    check_shape(shape)
    if np.ndim(lam) or np.ndim(h) or np.ndim(T):
        raise ValueError(f"lam, h and T must be numbers, got {lam}, {h} and {T}")
    points = output_grid(params) if grid is None else np.asarray(grid, np.float64)
    steps = np.diff(points)
    if len(points) < 2 or not np.allclose(steps, steps[0], rtol=1e-6) or steps[0] <= 0:
        raise ValueError("grid must rise in equal steps")
    if steps[0] > 1.2 * params.sigma:
        raise ValueError(
            f"grid must have steps of at most 1.2 sigma, got {steps[0] / params.sigma:.3g}"
        )
    m = moments(float(lam), float(h), float(T), params, np)
    return law(m, points, params.sigma, shape=shape, nodes=count_nodes(params))


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
    position = total[kept] / number[kept]
    return blur(position, number[kept] / flat.size, output_grid(params), params.sigma)


def count_nodes(params: Params) -> int:
    """Nodes that resolve [0, 1] at the width of the noise, and both ends."""
    return int(np.ceil((1.25 / params.sigma + 60) / 64)) * 64


def is_narrow(m: Moments, sigma: float) -> bool:
    """Whether the law of A, with its tails, is so narrow that FEW nodes suffice."""
    sd = math.sqrt(float(m.var_filtered))
    skew_sd = abs(float(m.third)) / sd**2 if sd else 0.0
    return 7 * sd + 12 * skew_sd < 14 * sigma


def law(
    m: Moments, grid: Float[np.ndarray, " G"], sigma: float, *, shape: Shape, nodes: int
) -> Float[np.ndarray, " G"]:
    """The law of the output on a grid, for moments that are numbers."""
    mean, var, third = float(m.mean), float(m.var_filtered), float(m.third)
    # Below a hundredth of sigma, and for no input at all, the shape of A does not matter.
    if shape == "normal" or var < (0.01 * sigma) ** 2:
        return normal(grid, mean, math.sqrt(var + sigma**2))
    x, weight = _nodes(mean, var, third if shape == "shifted" else None, sigma, nodes)
    return blur(x, weight, grid, sigma)


def blur(
    x: Float[np.ndarray, " M"],
    weight: Float[np.ndarray, " M"],
    grid: Float[np.ndarray, " G"],
    sigma: float,
) -> Float[np.ndarray, " G"]:
    """Weighted sum of normal densities around x, times the spacing of the grid.

    Each is evaluated within 8.5 sigma only, where all but 1e-16 of it lies.
    """
    step = (grid[-1] - grid[0]) / (len(grid) - 1)
    half = math.ceil(8.5 * sigma / step)
    nearest = np.rint((x - grid[0]) / step).astype(int)
    near = (nearest >= -half) & (nearest < len(grid) + half)
    index = nearest[near, None] + np.arange(-half, half + 1)
    z = (grid[0] + step * index - x[near, None]) / sigma
    density = weight[near, None] * np.exp(-(z**2) / 2) * (step / (sigma * math.sqrt(2 * math.pi)))
    index += 2 * half  # from 0 on
    padded = np.bincount(index.ravel(), density.ravel(), minlength=len(grid) + 4 * half)
    return padded[2 * half : 2 * half + len(grid)]


def normal(grid: Float[np.ndarray, " G"], mean: float, sd: float) -> Float[np.ndarray, " G"]:
    """Normal density times the spacing of the grid."""
    step = (grid[-1] - grid[0]) / (len(grid) - 1)
    return np.exp(-(((grid - mean) / sd) ** 2) / 2) * (step / (sd * math.sqrt(2 * math.pi)))


def shifted_beta(mean: float, var: float, third: float) -> tuple[float, float, float]:
    """Parameters and lower end (α, β, l) of the Beta law on [l, 1] with three given moments.

    With Y = 1 - A and r_k = E Y^k / E Y^(k-1): (1 - l) β = r_1 c, (1 - l)(β + 1) = r_2 (c + 1) and
    (1 - l)(β + 2) = r_3 (c + 2) with c = α + β, three equations that are solved in closed form.
    """
    e = 1 - mean
    c = 2 * (e**2 * var - e * third - var**2) / (2 * var**2 + e * third)
    length = e + var / e * (1 + c)
    beta = e * c / length
    return c - beta, beta, 1 - length


def _nodes(
    mean: float, var: float, third: float | None, sigma: float, nodes: int
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Nodes and weights of the law of A, which convolved with the noise give its density.

    The trapezoidal rule in u, where t = s(u) / (s(u) + s(K - u)) with s(u) = ln(1 + e^u): evenly
    spaced inside, logarithmically at both ends, where the density may diverge. It converges
    exponentially, since the integrand is analytic and vanishes at infinity.
    """
    mirrored = third is not None and third < 0
    mean = 1 - mean if mirrored else mean
    if third is None:
        c = mean * (1 - mean) / var - 1
        alpha, beta, low = mean * c, (1 - mean) * c, 0.0
    else:
        alpha, beta, low = shifted_beta(mean, var, abs(third))
    length = 1 - low
    t0, sd = (mean - low) / length, math.sqrt(var) / length
    c = alpha + beta
    skewness = 2 * (beta - alpha) * math.sqrt(c + 1) / ((c + 2) * math.sqrt(alpha * beta))
    K = length / (0.8 * sigma)
    if min(alpha, beta) > 4:  # then the standard deviation is a scale, too
        K = max(K, 2 / sd)
    # From where to where: up to e^-24 in Gaussian and Gamma tails, or far into the powers at the
    # ends, where t or 1 - t has become e^-28/K. What lies beyond is a geometric series.
    from_below = t0 - (7 + 12 * max(-skewness, 0.0)) * sd
    from_above = 1 - t0 - (7 + 12 * max(skewness, 0.0)) * sd
    start = K * from_below - 1 if from_below > 3 / K else -min(24 / alpha, 25) - 3
    end = K - (K * from_above - 1 if from_above > 3 / K else -min(24 / beta, 25) - 3)
    u, step = np.linspace(start, end, nodes, retstep=True)
    below, above = _log_softplus(u), _log_softplus(K - u)
    total = np.logaddexp(below, above)
    log_t, log_rest = below - total, above - total  # ln t and ln(1 - t)
    # dt/du = t (1 - t) (s'(u)/s(u) + s'(K - u)/s(K - u)), and s'(u) = 1/(1 + e^-u)
    slope = np.exp(-np.logaddexp(0, -u) - below) + np.exp(-np.logaddexp(0, u - K) - above)
    log_weight = alpha * log_t + beta * log_rest
    weight = np.exp(log_weight - log_weight.max()) * slope
    weight[0] /= -math.expm1(-alpha * step * slope[0])
    weight[-1] /= -math.expm1(-beta * step * slope[-1])
    x = low + length * np.exp(log_t)
    return (1 - x if mirrored else x), weight / weight.sum()


def _log_softplus(u: np.ndarray) -> np.ndarray:
    """Logarithm of ln(1 + e^u), also far to the left."""
    return np.where(u < -30, u, np.log(np.logaddexp(0, np.maximum(u, -30))))
