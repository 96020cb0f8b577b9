r"""Batch reactors: how concentrations follow from a rate law, and how they depend on its constants.

With R reactions among S species, stoichiometry :math:`\nu` (S x R) and extents :math:`\xi` (R),

.. math::
    c(t) = c_0 + \nu\,\xi(t), \qquad \dot\xi_r = r_r(c), \qquad \xi(0) = 0 ,

mass is conserved to rounding whatever the rate laws.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import optimize

from dy33lib.sindy.laws import MAX_POWER, Encoded, RateTerm, check_values, encode, pad_values

# Below this fraction of the largest initial concentration a half order goes on as a parabola of
# finite slope. The slope of the root is infinite, and no explicit integrator survives it.
FLOOR = 1e-3


def as_laws(laws: RateTerm | Sequence[RateTerm], reactions: int) -> tuple[RateTerm, ...]:
    """Laws as a tuple, one a reaction.

    Raises:
        ValueError: if their number is another.
    """
    laws = (laws,) if isinstance(laws, RateTerm) else tuple(laws)
    if len(laws) != reactions:
        raise ValueError(f"expected one law for each of {reactions} reactions, got {len(laws)}")
    return laws


def check_stoichiometry(
    nu: Float[np.ndarray, "S R"] | Sequence,
) -> Float[np.ndarray, "S R"]:
    """The stoichiometric matrix as an array of shape (S, R).

    Raises:
        ValueError: if it is empty, its columns are linearly dependent, or no assignment of
            positive masses to the species is conserved by every reaction.
    """
    array = np.ascontiguousarray(nu, float)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.size == 0 or not np.all(np.isfinite(array)):
        raise ValueError(f"nu must be finite of shape (species, reactions), got {array.shape}")
    if np.linalg.matrix_rank(array) < array.shape[1]:
        raise ValueError(f"nu must have independent columns, got rank below {array.shape[1]}")
    if not _conserves(array.tobytes(), array.shape):
        raise ValueError(f"nu does not conserve mass for any positive masses: {array.tolist()}")
    return array


@lru_cache
def _conserves(nu: bytes, shape: tuple[int, int]) -> bool:
    """Whether some positive masses of the species are conserved (a linear programme)."""
    balance = np.frombuffer(nu).reshape(shape).T
    found = optimize.linprog(
        np.ones(shape[0]), A_eq=balance, b_eq=np.zeros(shape[1]), bounds=(1, None)
    )
    return found.status == 0


def _half(c, floor):
    """Square root and its slope, continued below `floor` by a parabola, below 0 by its tangent."""
    root = jnp.sqrt(floor)
    low = jnp.clip(c, 0.0, floor)
    above = jnp.sqrt(jnp.maximum(c, floor))
    below = (low * (1.5 - 0.5 * low / floor) + 1.5 * jnp.minimum(c, 0.0)) / root
    return (
        jnp.where(c > floor, above, below),
        jnp.where(c > floor, 0.5 / above, (1.5 - low / floor) / root),
    )


def _law(code: Encoded, c: list, theta, floor):
    """One law at one point: the rate, its derivatives by c, and those by theta (logarithms).

    Species and numerators are written out as scalars: mapped over experiments and structures they
    become long arrays, which the compiler turns into fast loops, where short axes would not be.
    """
    S, J = len(c), code.sign.shape[0]
    halves = jax.lax.optimization_barrier([_half(x, floor) for x in c])

    def power(index, s):
        """Power of c_s that the index tells, and its derivative."""
        (half, slope), x = halves[s], c[s]
        return (
            jnp.where(
                index == 0, 1.0, jnp.where(index == 1, half, jnp.where(index == 2, x, x * x))
            ),
            jnp.where(
                index == 0, 0.0, jnp.where(index == 1, slope, jnp.where(index == 2, 1.0, 2 * x))
            ),
        )

    adsorbed, adsorbed_slope, bottom = [], [], jnp.asarray(1.0)
    for s in range(S):
        value, slope = power(code.order[s], s)
        constant = jnp.where(code.order[s] > 0, jnp.exp(theta[J + s]), 0.0)
        adsorbed.append(constant * value)
        adsorbed_slope.append(constant * slope)
        bottom = bottom + adsorbed[-1]
    inverse = 1 / bottom
    sites = jnp.asarray(1.0)
    for n in range(1, MAX_POWER + 1):
        sites = jnp.where(code.power >= n, sites * inverse, sites)
    inverse, sites, adsorbed, adsorbed_slope = jax.lax.optimization_barrier(
        (inverse, sites, adsorbed, adsorbed_slope)
    )
    by_k, by_c = [], [jnp.asarray(0.0)] * S
    for j in range(J):
        factors = [power(code.top[j, s], s) for s in range(S)]
        front = code.sign[j] * jnp.exp(theta[j]) * sites
        by_k.append(front * prod(value for value, _ in factors))
        for s in range(S):
            others = prod(factors[i][0] for i in range(S) if i != s)
            by_c[s] = by_c[s] + front * factors[s][1] * others
    by_k, by_c = jax.lax.optimization_barrier((by_k, by_c))
    rate = by_k[0] + sum(by_k[1:])
    drag = -code.power.astype(float) * inverse * rate
    by_c = [x + drag * slope for x, slope in zip(by_c, adsorbed_slope, strict=True)]
    return jax.lax.optimization_barrier(
        (rate, by_c, [*by_k, *(drag * value for value in adsorbed)])
    )


def _all_laws(code, c0, nu, xi: list, theta, floor):
    S, R = nu.shape
    c = [c0[s] + sum(nu[s, r] * xi[r] for r in range(R)) for s in range(S)]
    return [
        _law(Encoded(*(a[r] for a in code)), c, [theta[r, p] for p in range(theta.shape[1])], floor)
        for r in range(R)
    ]


def _trajectory(derivative, size: int, steps, substeps):
    """States (T, size) from zero after each of the steps, by Runge-Kutta of fourth order.

    The four stages are a loop: written out, they would take four times as long to compile.
    """
    ahead = jnp.array([0.0, 0.5, 0.5, 1.0])
    share = jnp.array([1.0, 2.0, 2.0, 1.0]) / 6

    def advance(state, step):
        h = step / substeps

        def stage(i, carry):
            state, slope, total = carry
            slope = derivative([x + ahead[i] * h * d for x, d in zip(state, slope, strict=True)])
            return state, slope, [x + share[i] * h * d for x, d in zip(total, slope, strict=True)]

        def substep(_, state):
            return jax.lax.fori_loop(0, 4, stage, (state, state, state))[2]

        state = jax.lax.fori_loop(0, substeps, substep, state)
        return state, state

    zeros = [jnp.zeros((), steps.dtype)] * size
    return jnp.stack(jax.lax.scan(advance, zeros, steps)[1], axis=-1)


@jax.jit
def _simulate(code, theta, c0, steps, nu, floor, substeps):
    def one(c0, steps):
        def derivative(xi):
            return [law[0] for law in _all_laws(code, c0, nu, xi, theta, floor)]

        return _trajectory(derivative, nu.shape[1], steps, substeps)

    return jax.vmap(one)(c0, steps)


def extents_and_sensitivities(code, theta, c0, nu, steps, floor, substeps):
    r"""Extents (T, R) of one experiment and their derivatives (T, R, R*(J+S)) by theta.

    The sensitivities obey :math:`\dot s = (\partial r/\partial\xi) s + \partial r/\partial\theta`
    and are integrated along. Runge-Kutta commutes with differentiation, so they are the exact
    derivatives of the numerical solution.
    """
    S, R = nu.shape
    P = theta.shape[1]

    def derivative(state):
        xi, s = state[:R], state[R:]
        laws = _all_laws(code, c0, nu, xi, theta, floor)
        slopes = [law[0] for law in laws]
        for r, (_, by_c, by_theta) in enumerate(laws):
            by_xi = [sum(by_c[i] * nu[i, q] for i in range(S)) for q in range(R)]
            for p in range(R * P):
                change = sum(by_xi[q] * s[q * R * P + p] for q in range(R))
                own = r * P <= p < (r + 1) * P
                slopes.append(change + by_theta[p - r * P] if own else change)
        return slopes

    states = _trajectory(derivative, R + R * R * P, steps, substeps)
    return states[:, :R], states[:, R:].reshape(-1, R, R * P)


def prepare_laws(
    laws: tuple[RateTerm, ...], params: Sequence
) -> tuple[Encoded, Float[np.ndarray, "R F"]]:
    """Arrays of the laws and the logarithms of their parameters.

    Raises:
        ValueError: as in :func:`.check_values`.
    """
    if len(laws) == 1 and np.ndim(params[0]) == 0:
        params = (params,)
    if len(params) != len(laws):
        raise ValueError(f"expected parameters for {len(laws)} laws, got {len(params)}")
    rows = [pad_values(law, check_values(law, p)) for law, p in zip(laws, params, strict=True)]
    return encode(laws), np.log(np.stack(rows))


def check_times(t: Float[np.ndarray, "*E T"], experiments: int) -> Float[np.ndarray, "E T"]:
    """Times as an array of shape (E, T).

    Raises:
        ValueError: if they are not finite, positive and increasing.
    """
    array = np.asarray(t, float)
    if array.ndim == 1:
        array = np.broadcast_to(array, (experiments, array.size))
    if array.ndim != 2 or len(array) != experiments or array.shape[1] == 0:
        raise ValueError(f"t must have shape (T,) or ({experiments}, T), got {np.shape(t)}")
    if not np.all(np.isfinite(array)):
        raise ValueError("t must be finite")
    if not np.all(np.diff(array, axis=1, prepend=0.0) > 0):
        e, i = np.argwhere(np.diff(array, axis=1, prepend=0.0) <= 0)[0]
        raise ValueError(f"t must increase from above 0, got t[{e}, {i}] = {array[e, i]:g}")
    return array


def check_initial(c0: Float[np.ndarray, "E S"], species: int) -> Float[np.ndarray, "E S"]:
    """Initial concentrations as an array of shape (E, S).

    Raises:
        ValueError: if the shape is another, a value is negative or not finite, or all are 0.
    """
    array = np.asarray(c0, float)
    if array.ndim != 2 or array.shape[1] != species or len(array) == 0:
        raise ValueError(f"c0 must have shape (experiments, {species}), got {array.shape}")
    if not np.all(np.isfinite(array)) or np.any(array < 0) or not np.any(array > 0):
        raise ValueError(f"c0 must be finite and not negative, smallest {np.min(array):.3g}")
    return array


def fill(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Repeat the last experiment up to a multiple of 8, so that compiled programs serve again."""
    return tuple(
        np.concatenate([array, np.repeat(array[-1:], -len(array) % 8, axis=0)]) for array in arrays
    )


def simulate(
    laws: RateTerm | Sequence[RateTerm],
    params: Sequence,
    c0: Float[np.ndarray, "E S"],
    nu: Float[np.ndarray, "S R"] | Sequence,
    t: Float[np.ndarray, "*E T"],
    *,
    substeps: int = 8,
) -> Float[np.ndarray, "E T S"]:
    """Concentrations in batch reactors.

    Args:
        laws: one rate law for each reaction; a single one may stand alone.
        params: parameters of the law, or one such sequence a law, in units of mol/L and time.
        c0: concentrations at time 0, mol/L.
        nu: stoichiometric coefficients, negative for what is consumed; (S,) for one reaction.
        t: sampling times after 0, shape (T,) for all experiments or (E, T).
        substeps: Runge-Kutta steps of fourth order from one sample to the next.

    Raises:
        ValueError: if shapes do not match, a parameter is not positive, times do not increase
            from above 0, mass is not conserved, or a concentration falls below zero: a law does not
            vanish with what it consumes, or the step is too long for it.
    """
    nu = check_stoichiometry(nu)
    c0 = check_initial(c0, len(nu))
    t = check_times(t, len(c0))
    if substeps < 1:
        raise ValueError(f"substeps must be at least 1, got {substeps}")
    code, theta = prepare_laws(as_laws(laws, nu.shape[1]), params)
    steps = np.diff(t, axis=1, prepend=0.0)
    xi = _simulate(code, theta, *fill(c0, steps), nu, FLOOR * c0.max(), substeps)
    xi = np.asarray(xi)[: len(c0)]
    c = c0[:, None] + xi @ nu.T
    if not np.all(np.isfinite(c)) or np.min(c) < -FLOOR * c0.max():
        e, i, s = np.unravel_index(np.argmin(np.nan_to_num(c, nan=-np.inf)), c.shape)
        raise ValueError(
            f"laws drive species {s} of experiment {e} below zero, to {c[e, i, s]:.3g}: they do "
            f"not vanish with what they consume, or {substeps} substeps are too few"
        )
    return c


def extent_closed_form_lh2(
    xi: Float[np.ndarray, "*batch"],
    params: Sequence[float] | Float[np.ndarray, " 3"],
    c0: Sequence[float] | Float[np.ndarray, " S"],
) -> Float[np.ndarray, "*batch"]:
    r"""Time at which A + B -> C with k AB/(1 + K_A A + K_B B)² reaches an extent, exactly.

    With :math:`A = a - \xi`, :math:`B = b - \xi` and :math:`D = d - K\xi`, where
    :math:`d = 1 + K_A a + K_B b` and :math:`K = K_A + K_B`, partial fractions of
    :math:`t = \int_0^\xi D^2/(k A B)\,d\xi` give, for :math:`a \neq b`,

    .. math::
        k t = K^2 \xi + \frac{D(a)^2 \ln\frac{a}{a - \xi} - D(b)^2 \ln\frac{b}{b - \xi}}{b - a} .

    Args:
        xi: extents from 0 to below the smaller of a and b, mol/L.
        params: k, K_A and K_B.
        c0: initial concentrations a and b.

    Raises:
        ValueError: if a = b, a parameter is not positive, or an extent is out of range.
    """
    k, K_A, K_B = np.asarray(params, float)
    a, b = np.asarray(c0, float)[:2]
    xi = np.asarray(xi, float)
    if min(k, K_A, K_B, a, b) <= 0 or a == b:
        raise ValueError(f"need positive parameters and a != b, got {params} and c0 = {c0}")
    if not (np.all(xi >= 0) and np.all(xi < min(a, b))):
        raise ValueError(f"xi must be in [0, {min(a, b):g}), got up to {np.max(xi):g}")
    K = K_A + K_B
    D_a, D_b = (1 + K_A * a + K_B * b - K * end for end in (a, b))
    logarithms = D_a**2 * np.log1p(-xi / a) - D_b**2 * np.log1p(-xi / b)
    return np.asarray((K**2 * xi - logarithms / (b - a)) / k)
