r"""Mean field, and the exact moments of the annealed network at any integration time.

If every unit draws its K inputs anew in each step, the units are independent given the activity a,
and the number of active units in each of the two groups (with and without input) is binomial. The
conditional cumulants of the next activity are then polynomials in a of the order of the cumulant,
so that the moments of each order obey linear equations among themselves: they close.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dy33lib.criticality.parameters import (
    Params,
    Real,
    as_array,
    check,
    check_h,
    check_lam,
    check_mu,
    check_T,
)


class Moments(NamedTuple):
    """Stationary moments of the activity and of its leaky average, arrays of one shape.

    Attributes:
        mean: of the activity and of the average.
        var_inst: variance of the activity.
        var_filtered: variance of the average.
        third: third central moment of the average.
        memory: R, the factor by which a deviation of the activity shrinks in a step on average.
    """

    mean: Float[Array, "..."] | float
    var_inst: Float[Array, "..."] | float
    var_filtered: Float[Array, "..."] | float
    third: Float[Array, "..."] | float
    memory: Float[Array, "..."] | float

    @property
    def tau(self) -> Float[Array, "..."]:
        """Autocorrelation time of the activity in steps, -1/ln R."""
        return -1 / jnp.log(self.memory)

    @property
    def skewness(self) -> Float[Array, "..."]:
        """Third standardised moment of the average."""
        return self.third / self.var_filtered**1.5


def mean_activity(lam: Real, h: Real, mu: Real = 0.2) -> Float[Array, "..."]:
    r"""Mean share of active units, :math:`a = \mu p / (1 - \lambda + \lambda\mu p)`.

    The input makes a unit fire with probability :math:`p = 1 - e^{-h}` in a step. The formula is
    exact for annealed networks, and for quenched ones with equal sums of incoming weights whose
    inputs are spread at random, up to the randomness of their wiring.

    Args:
        lam: coupling strength, the mean number of units that one active unit activates.
        h: input rate, per step.
        mu: share of units with input.

    Raises:
        ValueError: if lam is not in [0, 1), h is negative, or mu is not in (0, 1].
    """
    lam, h, mu = check_lam(lam), check_h(h), check_mu(mu)
    p = -jnp.expm1(-h)
    return mu * p / (1 - lam + lam * mu * p)


def invert_activity(a: Real, lam: Real, mu: Real = 0.2) -> Float[Array, "..."]:
    """The input rate at which the mean activity is a; the inverse of :func:`.mean_activity`.

    Raises:
        ValueError: if a is negative or above the activity of an infinite input, or as there.
    """
    lam, mu, a = check_lam(lam), check_mu(mu), as_array("a", a)
    p = a * (1 - lam) / (mu * (1 - lam * a))
    highest = mean_activity(lam, jnp.inf, mu)
    check("a", a, (a >= 0) & (a <= highest), f"between 0 and {highest}, which an input reaches")
    return -jnp.log1p(-jnp.minimum(p, 1.0))  # p may exceed 1 by rounding at the highest activity


def activity_moments(lam: Real, h: Real, T: Real, params: Params | None = None) -> Moments:
    r"""Exact moments of the annealed network and of its leaky average, to third order.

    The average follows :math:`A' = (1 - \alpha) A + \alpha y'` with :math:`\alpha = 1 - e^{-1/T}`,
    where y is the activity of the units that are read. Derivation: chapter 2.

    Args:
        lam: coupling strength.
        h: input rate, per step.
        T: integration time, in steps; with infinity the average has no variance.
        params: the network.

    Raises:
        ValueError: if lam is not in [0, 1), h is negative or T is not positive. Within
            transformations of JAX, values are not checked.
    """
    lam, h, T = check_lam(lam), check_h(h), check_T(T)
    return moments(lam, h, T, params or Params())


def moments(lam: Any, h: Any, T: Any, params: Params, xp: Any = None) -> Moments:
    """The formulas of :func:`.activity_moments` for arguments that have been checked.

    With `xp` NumPy instead of `jax.numpy`, single numbers take a tenth of the time.
    """
    xp = xp or jnp
    n, mu, nu = float(params.n), params.mu, params.nu
    p = -xp.expm1(-h)
    loss = 1 - lam + lam * mu * p  # 1 - R
    R = 1 - loss
    mean = mu * p / loss
    # Units with and without input: shares f, firing probabilities q + s δ for a deviation δ of a.
    groups = ((mu, p + (1 - p) * lam * mean, lam * (1 - p)), (1 - mu, lam * mean, lam))
    # Conditional variance v0 + v1 δ + v2 δ² and third cumulant c0 + c1 δ + c2 δ² + c3 δ³ of a';
    # c1 is not needed.
    v0 = sum(f * q * (1 - q) for f, q, _ in groups) / n
    v1 = sum(f * s * (1 - 2 * q) for f, q, s in groups) / n
    v2 = -sum(f * s**2 for f, _, s in groups) / n
    c0 = sum(f * q * (1 - q) * (1 - 2 * q) for f, q, _ in groups) / n**2
    c2 = sum(f * s**2 * (6 * q - 3) for f, q, s in groups) / n**2
    c3 = 2 * sum(f * s**3 for f, _, s in groups) / n**2

    V = v0 / (loss * (1 + R) - v2)
    D = v0 + v2 * V
    alpha, b = -xp.expm1(-1 / T), xp.exp(-1 / T)
    # Joint moments M[i j] of δ^i Δ^j, with Δ the deviation of A: M20 = V, M11 = C, M02 = W.
    C = alpha * (R**2 * V + D) / (alpha + b * loss)
    W = (2 * b * R * C + alpha * (R**2 * V + D / nu)) / (1 + b)
    M30 = (3 * R * v1 * V + c0 + c2 * V) / (loss * (1 + R + R**2) - 3 * R * v2 - c3)
    c = c0 + c2 * V + c3 * M30
    vδ = v1 * V + v2 * M30  # mean of δ times the conditional variance
    M21 = (alpha * (R**3 * M30 + 3 * R * vδ + c) + b * v1 * C) / (1 - b * (R**2 + v2))
    vΔ = v1 * C + v2 * M21
    u = b * vΔ + alpha * R * vδ
    M12 = (
        2 * alpha * b * R**2 * M21
        + alpha**2 * R * (R**2 * M30 + vδ / nu)
        + 2 * alpha * u
        + alpha**2 * c / nu
    ) / (1 - b**2 * R)
    M03 = (
        3 * b**2 * R * M12
        + 3 * alpha * b * R**2 * M21
        + alpha**2 * (R**3 * M30 + c / nu**2)
        + 3 * alpha * u / nu
    ) / (1 + b + b**2)
    return Moments(mean, V, W, M03, R)
