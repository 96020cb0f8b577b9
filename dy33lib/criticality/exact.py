r"""Laws without an assumed shape: small networks, filtered diffusions, birth and death.

They are what the laws of `outputs` are measured against.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal
from scipy.stats import binom

from dy33lib.criticality.moments import moments
from dy33lib.criticality.outputs import blur, output_grid
from dy33lib.criticality.parameters import Params, check_h, check_lam, check_mu, check_T

MODES = 200  # of the diffusion; 300 change no digit that is shown
BAND = 6.5  # frequencies up to BAND/sigma; the noise damps the others by e^-21


def exact_stationary(n: int, lam: float, h: float, mu: float = 1.0) -> Float[np.ndarray, " states"]:
    """Stationary law of the number of active units of an annealed network, by linear algebra.

    Given the number now, the next one is the sum of two binomial numbers; the matrix of transitions
    has n + 1 rows and its left eigenvector of eigenvalue 1 is found by elimination.

    Args:
        n: units, at most 600.
        lam: coupling strength.
        h: input rate, per step, a number.
        mu: share of units with input; mu n must be an integer.

    Raises:
        ValueError: if n is not between 1 and 600, mu n is not an integer, or as in
            :func:`.mean_activity`.
    """
    check_lam(lam)
    check_h(h)
    check_mu(mu)
    if not 1 <= n <= 600:
        raise ValueError(f"n must be between 1 and 600, got {n}")
    inputs = round(mu * n)
    if abs(inputs - mu * n) > 1e-9:
        raise ValueError(f"mu n must be an integer, got {mu * n}")
    p = -np.expm1(-h)
    k = np.arange(n + 1)
    rows = []
    for a in k / n:
        driven = binom.pmf(np.arange(inputs + 1), inputs, p + (1 - p) * lam * a)
        others = binom.pmf(np.arange(n - inputs + 1), n - inputs, lam * a)
        rows.append(np.convolve(driven, others))
    balance = np.array(rows).T - np.eye(n + 1)
    balance[-1] = 1.0  # the rows sum to zero: replace one by the normalisation
    return np.linalg.solve(balance, np.append(np.zeros(n), 1.0))


def diffusion_pmf(
    lam: float, h: float, T: float, params: Params | None = None
) -> Float[np.ndarray, " G"]:
    r"""Law of the output on :func:`.output_grid`, with the law of the filtered diffusion.

    Near criticality and for large n the activity is a Wright-Fisher diffusion, fixed by mean,
    variance and memory. In the Jacobi polynomials that are orthonormal under its stationary law,
    Beta(α, β), the generator is diagonal,
    :math:`\gamma_n = -\ln R\; n\,[1 + (n-1)/(\alpha+\beta)]`, and the activity a tridiagonal matrix
    J. The coefficients v of :math:`E[e^{i\theta A}\,|\,a]` in these polynomials, with the leaky
    average A, obey

    .. math:: \frac{dv}{d\theta} = \Bigl(iJ - \frac{T\gamma}{\theta}\Bigr)\,v, \qquad v(0) = e_0 ,

    since the diffusion looks the same backwards in time, and :math:`v_0(\theta)` is the
    characteristic function. It is multiplied with that of the noise
    and transformed back. Integration: Strang's splitting and Richardson's extrapolation.

    Args:
        lam: coupling strength.
        h: input rate, positive and finite.
        T: integration time in steps; time is continuous here, so that either T or the
            autocorrelation time should be long.
        params: network and reader, of all units.

    Raises:
        ValueError: if lam, h or T are not positive and finite, or nu is not 1, or as in
            :func:`.activity_moments`.
    """
    params = params or Params()
    check_lam(lam)
    check_h(h)
    check_T(T)
    if not 0 < h < np.inf or not np.isfinite(T) or lam == 0:
        raise ValueError(f"lam, h and T must be positive and finite, got {lam}, {h} and {T}")
    if params.nu != 1:
        raise ValueError(f"nu must be 1, got {params.nu}: the noise of a part is left out")
    m = moments(lam, h, T, params, np)
    grid = output_grid(params)
    step = grid[1] - grid[0]
    spacing = 2 * np.pi / (step * len(grid))
    theta = spacing * np.arange(int(BAND / params.sigma / spacing) + 1)
    process = float(m.mean), float(m.var_inst), float(m.memory), T
    coarse, fine = (_characteristic(*process, theta, parts) for parts in (1, 2))
    phi = (4 * fine - coarse) / 3
    phi *= np.exp(-((params.sigma * theta) ** 2) / 2 - 1j * theta * grid[0])
    return np.fft.irfft(np.append(phi, np.zeros(len(grid) // 2 + 1 - len(phi))).conj(), len(grid))


def _characteristic(
    mean: float, var: float, memory: float, T: float, theta: np.ndarray, parts: int
) -> np.ndarray:
    """Characteristic function of the average at uniform frequencies, with `parts` steps to each."""
    c = mean * (1 - mean) / var - 1
    A, B = (1 - mean) * c - 1, mean * c - 1  # exponents of 1 - a and a
    k = np.arange(MODES)
    s = 2 * k + A + B
    diagonal = np.full(MODES, (B - A) / (A + B + 2))
    diagonal[1:] = (B**2 - A**2) / (s[1:] * (s[1:] + 2))
    square = 4 * k * (k + A) * (k + B) * (k + A + B) / (s**2 * (s + 1) * (s - 1) + (k == 0))
    square[1] = 4 * (1 + A) * (1 + B) / ((2 + A + B) ** 2 * (3 + A + B))
    diagonal, off = (1 + diagonal) / 2, np.sqrt(square[1:]) / 2
    x, Q = eigh_tridiagonal(diagonal, off)
    decay = -T * np.log(memory) * k * (1 + (k - 1) / c)
    # Steps grow in proportion to the frequency, so that the slowest mode decays by little in each;
    # the first interval, from where a series of two terms holds, takes a geometric mesh.
    start, ratio = 1e-3, min(0.1, 0.4 / decay[1])
    counts = [int(np.ceil(np.log(theta[1] / start) / ratio)) * parts]
    counts += [int(np.ceil(theta[1] / (ratio * t))) * parts for t in theta[1:-1]]
    mesh = [np.geomspace(start, theta[1], counts[0] + 1)]
    mesh += [
        np.linspace(t, t + theta[1], c + 1)[1:] for t, c in zip(theta[1:], counts[1:], strict=False)
    ]
    mesh = np.concatenate(mesh)
    v = np.zeros((MODES, 2))  # real and imaginary parts
    v[0] = 1.0, start * diagonal[0]
    v[1, 1] = start * off[0] / (1 + decay[1])
    values = []
    for now, then in pairwise(mesh):
        middle = (now + then) / 2
        u = Q.T @ (np.exp(-decay * np.log(middle / now))[:, None] * v)
        cos, sin = np.cos((then - now) * x), np.sin((then - now) * x)
        u = np.stack((cos * u[:, 0] - sin * u[:, 1], sin * u[:, 0] + cos * u[:, 1]), axis=1)
        v = np.exp(-decay * np.log(then / middle))[:, None] * (Q @ u)
        values.append(complex(*v[0]))
    return np.concatenate(([1.0], np.array(values)[np.cumsum(counts) - 1]))


def birth_death_pmf(lam: float, h: float, params: Params | None = None) -> Float[np.ndarray, " G"]:
    r"""Law of the output for T -> 0 as in the talk's paper: two groups with births and deaths.

    In each group one unit switches at a time, with rates of births :math:`\omega_+` and of deaths
    :math:`\omega_-`; the other group follows its mean. The Fokker-Planck equation with drift
    :math:`f = \omega_+ - \omega_-` and noise :math:`g = \omega_+ + \omega_-` has the stationary law
    :math:`\propto g^{-1}\exp 2\int f/g`, and the two numbers are added as if independent. On
    :func:`.output_grid`.

    Raises:
        ValueError: as in :func:`.mean_activity`.
    """
    params = params or Params()
    check_lam(lam)
    check_h(h)
    n, mu = params.n, params.mu
    p = -np.expm1(-h)
    inputs = round(mu * n)
    follow = lam / (1 - (1 - mu) * lam)  # of the activity of the group with input
    driven = _birth_death(inputs, lambda x: 1 - (1 - follow * x / n) * (1 - p))
    follow = lam / (1 - mu * lam * (1 - p))
    others = _birth_death(n - inputs, lambda x: follow * (x / n + mu * p))
    law = np.convolve(driven, others)
    # Blocks of a tenth of sigma, each at its centre of mass, then the noise.
    width = max(int(0.1 * params.sigma * n), 1)
    law = np.append(law, np.zeros(-len(law) % width)).reshape(-1, width)
    weight = law.sum(axis=1)
    position = (law @ np.arange(width)) / np.where(weight > 0, weight, 1) + width * np.arange(
        len(law)
    )
    return blur(position / n, weight, output_grid(params), params.sigma)


def _birth_death(size: int, fire: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Stationary law of a group, whose units fire with probability `fire(x)`."""
    x = np.arange(size + 1)
    births, deaths = (size - x) * fire(x), x * (1 - fire(x))
    noise = births + deaths
    if not noise[0]:  # nothing ever fires
        return (x == 0).astype(float)
    safe = np.where(noise > 0, noise, 1.0)
    ratio = np.where(noise > 0, (births - deaths) / safe, 0.0)
    exponent = 2 * (np.cumsum(ratio) - ratio[0]) - np.log(safe)
    exponent[noise <= 0] = -np.inf
    law = np.exp(exponent - exponent.max())
    return law / law.sum()
