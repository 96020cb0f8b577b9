r"""The screen: many structures fitted at once, without solving a differential equation.

In integral form the extent is :math:`\xi(t_i) = \sum_j k_j \int_0^{t_i} N_j(c)/D(c)^n\,dt`. With
the smoothed concentrations under the integral the only nonlinear parameters are the adsorption
constants. The rate constants enter linearly and are eliminated (variable projection: Golub and
Pereyra, SIAM J. Numer. Anal. 10, 413 (1973); Jacobian of Kaufman, BIT 15, 49 (1975)). No derivative
of noisy data is ever taken.
"""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.polynomial.legendre import legvander

from dy33lib.sindy.experiments import Curves
from dy33lib.sindy.laws import MAX_NUMERATORS, MAX_POWER, Encoded, RateTerm, encode, places

# Adsorption constants at the start, in units of one over the mean of c^g: the same for all data.
STARTS = (0.3, 3.0, 30.0)
REACH = 9.0  # the search for ln(K * mean c^g) ends at plus and minus this
FIRST = 5  # steps from each start; the best of them goes on
CHUNK = 24  # structures in one call of the compiled program


class ScreenResult(NamedTuple):
    """Scores of structures, best start of each.

    Attributes:
        bic: Bayesian information criterion; lower is better.
        chi2: squared residuals in units of the noise.
        params: the k of each numerator, then the K of each adsorbed species; 0 for a rate
            constant that came out with the wrong sign.
        edge: whether an adsorption constant left the range in which data can tell its size.
    """

    bic: Float[np.ndarray, " M"]
    chi2: Float[np.ndarray, " M"]
    params: tuple[Float[np.ndarray, " P"], ...]
    edge: tuple[bool, ...]


def screen(
    structures: Sequence[RateTerm],
    curves: Curves,
    reaction: int = 0,
    *,
    starts: Sequence[float] = STARTS,
    iterations: int = 12,
) -> ScreenResult:
    """Fit the rate of one reaction with each structure, in integral form.

    Args:
        structures: candidate laws.
        curves: from :func:`~dy33lib.sindy.experiments.prepare`.
        reaction: whose rate it is.
        starts: adsorption constants to start from, in units of one over the mean of c^g.
        iterations: of the Levenberg-Marquardt method, after the first few from each start.

    Raises:
        ValueError: if there are no structures or no starts, a structure has other species, or
            there are fewer samples than parameters.
    """
    species = curves.smooth.shape[2]
    if not structures or not len(starts) or min(starts, default=0) <= 0:
        raise ValueError(f"need structures and positive starts, got {list(starts)}")
    for term in structures:
        if len(term.orders) != species:
            raise ValueError(f"structures must have {species} species, got {len(term.orders)}")
    used = curves.experiments.used
    samples = int(used.sum())  # pyright: ignore
    if samples <= max(term.count for term in structures):
        raise ValueError(
            f"samples must outnumber the {max(t.count for t in structures)} parameters, "
            f"got {samples}"
        )
    target, quadrature, rest = _compress(curves, reaction)
    c = np.maximum(curves.smooth, 0.0)
    tables = np.stack([np.ones_like(c), np.sqrt(c), c, c * c])
    codes = encode(structures)
    bic, chi2, theta, rates = [], [], [], []
    for begin in range(0, len(structures), CHUNK):
        chosen = np.arange(begin, begin + CHUNK) % len(structures)  # filled up by wrapping around
        part = _screen(
            Encoded(*(a[chosen] for a in codes)), tables, target, quadrature,
            np.log(np.asarray(starts, float)), iterations,
        )  # fmt: skip
        keep = min(CHUNK, len(structures) - begin)
        chi2.append(np.asarray(part[0])[:keep] + rest)
        theta.append(np.asarray(part[1])[:keep])
        rates.append(np.asarray(part[2])[:keep])
    chi2, theta, rates = map(np.concatenate, (chi2, theta, rates))
    sizes = np.array([term.count for term in structures])
    bic = chi2 + sizes * np.log(curves.experiments.samples)
    scale = _scales(tables)
    params, edges = [], []
    for m, term in enumerate(structures):
        log_scale = np.log(scale[codes.order[m], np.arange(species)])
        K = np.exp(theta[m] - log_scale)
        params.append(np.concatenate([rates[m], K])[places(term)])
        edges.append(bool(np.any(np.abs(theta[m][list(term.adsorbed)]) >= REACH)))
    return ScreenResult(bic, chi2, tuple(params), tuple(edges))


def _scales(tables: Float[np.ndarray, "L E T1 S"]) -> Float[np.ndarray, "L S"]:
    """Mean of each power of each concentration; 1 for a species that is never there."""
    mean = tables.mean(axis=(1, 2))
    return np.where(mean > 0, mean, 1.0)


def _compress(curves: Curves, reaction: int, rank: int = 16):
    """Data and quadrature in orthonormal polynomials of time, and the chi2 left outside of them.

    Extents are smooth: 16 polynomials hold all that a law can explain. The noise stays white.
    """
    ex = curves.experiments
    used = ex.used[..., None].astype(float)  # pyright: ignore
    inverse = np.linalg.inv(curves.whiten)
    deviation = np.linalg.norm(inverse[reaction])
    data = used * (curves.xi @ inverse.T)[..., reaction, None] / deviation
    counts = used.sum(axis=(1, 2))
    span = np.where(counts[:, None] > 0, (ex.t * used[..., 0]).max(axis=1, keepdims=True), 1.0)
    columns = min(rank, int(counts[counts > 0].min()))
    basis = used * legvander(2 * ex.t / span - 1, columns - 1)
    basis = np.linalg.qr(basis)[0]
    target = np.einsum("etm,eti->em", basis, data)
    quadrature = np.einsum("etm,etq->emq", basis, used * curves.integral) / deviation
    return target, quadrature, float(np.sum(data**2) - np.sum(target**2))


@partial(jax.jit, static_argnames="iterations")
def _screen(codes, tables, target, quadrature, starts, iterations):
    mean = jnp.mean(tables, axis=(1, 2))
    mean = jnp.where(mean > 0, mean, 1.0)

    return jax.vmap(lambda code: _fit(code, tables, mean, target, quadrature, starts, iterations))(
        codes
    )


def _fit(code: Encoded, tables, mean, target, quadrature, starts, iterations):
    """Levenberg-Marquardt for the logarithms of the scaled adsorption constants.

    Species are written out one by one, for the reason given in `kinetics`.
    """
    S, J = mean.shape[1], MAX_NUMERATORS
    present = [(code.order[s] > 0).astype(float) for s in range(S)]
    adsorbed = [
        present[s] * tables[code.order[s], ..., s] / mean[code.order[s], s] for s in range(S)
    ]
    tops = [code.sign[j] * prod(tables[code.top[j, s], ..., s] for s in range(S)) for j in range(J)]

    def integrate(curves):
        return jnp.einsum("emq,jeq->jem", quadrature, jnp.stack(curves)).reshape(len(curves), -1)

    data = target.reshape(-1)

    def model(theta):
        """Squared residual, gradient and normal matrix with the rate constants eliminated."""
        parts = [jnp.exp(theta[s]) * adsorbed[s] for s in range(S)]
        inverse = 1 / (1 + sum(parts))
        sites = jnp.ones_like(inverse)
        for n in range(1, MAX_POWER + 1):
            sites = jnp.where(code.power >= n, sites * inverse, sites)
        basis = integrate([top * sites for top in tops])
        rates = _nonnegative(basis @ basis.T, basis @ data, code.sign != 0)
        rate = sites * sum(rates[j] * tops[j] for j in range(J))
        drag = -code.power.astype(float) * inverse * rate
        jacobian = integrate([drag * part for part in parts])
        residual = rates @ basis - data
        active = basis * (rates > 0).astype(float)[:, None]
        gram = active @ active.T + jnp.diag((rates <= 0).astype(float))
        across = active @ jacobian.T
        normal = jacobian @ jacobian.T - across.T @ _solve(gram, across)
        return jnp.sum(residual**2), jacobian @ residual, normal, rates

    mask = jnp.stack(present)

    def step(state, _):
        kept, (chi2, *old), trial, damping = state
        found = model(trial)
        better = found[0] < chi2

        def pick(a, b):
            return jnp.where(better, a, b)

        kept = pick(trial, kept)
        _, gradient, normal, _ = fitted = jax.tree.map(pick, found, (chi2, *old))
        damping = jnp.clip(pick(damping / 5, damping * 4), 1e-9, 1e9)
        size = jnp.diag(normal)
        matrix = normal + jnp.diag(damping * size + 1e-12 * jnp.max(size) + (1 - mask) + 1e-300)
        move = jnp.clip(-_solve(matrix, gradient[:, None])[:, 0], -2.0, 2.0) * mask
        return (kept, fitted, jnp.clip(kept + move, -REACH, REACH), damping), None

    # Every start makes a few steps; the best of them goes on. A start enters as the first trial,
    # so that the model is compiled once a loop.
    mask = jnp.stack(present)
    trials = starts[:, None] * mask[None]
    blank = jax.tree.map(lambda a: jnp.full(a.shape, jnp.inf), jax.eval_shape(model, trials[0]))
    state = jax.vmap(
        lambda trial: jax.lax.scan(step, (trial, blank, trial, jnp.asarray(1e-1)), length=FIRST)[0]
    )(trials)
    best = jnp.argmin(state[1][0])
    state = jax.tree.map(lambda a: a[best], state)
    (theta, (chi2, _, _, rates), _, _), _ = jax.lax.scan(step, state, length=iterations)
    return chi2, theta, rates


def _solve(matrix, right):
    """Gaussian elimination of a small positive definite system, written out so that it is fused."""
    rows = [jnp.concatenate([matrix[i], right[i]]) for i in range(len(matrix))]
    for i in range(len(rows)):
        rows[i] = rows[i] / rows[i][i]
        for j in range(len(rows)):
            if j != i:
                rows[j] = rows[j] - rows[j][i] * rows[i]
    return jnp.stack(rows)[:, len(rows) :]


def _nonnegative(gram, projected, exists):
    """Least squares with non-negative coefficients, for two columns, by its four cases."""
    ((a, b), (_, d)) = gram
    p, q = projected
    a, d = jnp.where(exists[0], a, 1.0), jnp.where(exists[1], d, 1.0)
    tiny = 1e-300
    alone = jnp.maximum(p / (a + tiny), 0), jnp.maximum(q / (d + tiny), 0)
    det = a * d - b * b
    both = jnp.stack([d * p - b * q, a * q - b * p]) / jnp.where(det > tiny, det, 1.0)
    fits = jnp.stack([alone[0] * p, alone[1] * q])
    single = jnp.where(
        fits[0] >= fits[1],
        jnp.stack([alone[0], jnp.zeros_like(p)]),
        jnp.stack([jnp.zeros_like(p), alone[1]]),
    )
    inside = (both[0] > 0) & (both[1] > 0) & (det > 1e-14 * a * d)
    return jnp.where(inside, both, single)
