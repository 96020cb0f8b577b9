r"""Maximum likelihood along trajectories, and what the data can know about the constants.

The differential equation is solved and all laws are fitted together by least squares on the
extents, which for Gaussian noise is maximum likelihood. Parameters are counted in logarithms, so
errors are relative. The Fisher information

.. math::
    F = \sum_{e,i} \Bigl(\frac{\partial\xi}{\partial\ln\theta}\Bigr)^{\!\top}
    \Sigma_\xi^{-1}\, \frac{\partial\xi}{\partial\ln\theta}

bounds every unbiased estimate from below: its covariance is at least :math:`F^{-1}` (Cramér 1946,
Rao 1945).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import stats

from dy33lib.sindy.experiments import Curves, check_sigma
from dy33lib.sindy.kinetics import (
    FLOOR,
    as_laws,
    check_initial,
    check_stoichiometry,
    check_times,
    extents_and_sensitivities,
    fill,
    prepare_laws,
)
from dy33lib.sindy.laws import (
    MAX_NUMERATORS,
    MAX_POWER,
    Encoded,
    IdentifiabilityError,
    RateTerm,
    encode,
    pad_values,
    places,
)

LANES = 8  # fits in one call of the compiled program
FIRST = 5  # steps after which the fits that have not ended are put together anew
TOLERANCE = 1e-4  # promised gain of chi2 at which a fit ends
REACH = 14.0  # the search for ln(constant) ends so far from its natural unit
STRIDE = 1.5  # longest step of ln(constant)
STIFF = 1e-2  # curvature of chi2/2 in ln(constant) below which steps are shortened


class Fit(NamedTuple):
    """One candidate, fitted along trajectories.

    Attributes:
        laws: one law a reaction.
        params: their parameters, as in :func:`~dy33lib.sindy.kinetics.simulate`.
        chi2: squared residuals of the extents in units of the noise.
        dof: degrees of freedom, measured extents minus parameters.
        bic: chi2 plus the number of parameters times the logarithm of the number of samples.
        fisher: information about the logarithms of all parameters.
        converged: whether one more step promised to lower chi2 by less than 0.0001.
        extents: predicted, at the sampling times.
    """

    laws: tuple[RateTerm, ...]
    params: tuple[Float[np.ndarray, " P"], ...]
    chi2: float
    dof: int
    bic: float
    fisher: Float[np.ndarray, "P P"]
    converged: bool
    extents: Float[np.ndarray, "E T R"]


def refine(
    candidates: Sequence[RateTerm | Sequence[RateTerm]],
    starts: Sequence,
    curves: Curves,
    *,
    substeps: int = 4,
    iterations: int = 40,
    hopeless: float = 0.0,
) -> list[Fit]:
    """Fit each candidate along trajectories by the Levenberg-Marquardt method.

    Args:
        candidates: a law, or one law a reaction, each.
        starts: parameters to start from; those below 0.001 of their natural unit (largest initial
            concentration, last sampling time) are raised to it.
        curves: from :func:`~dy33lib.sindy.experiments.prepare`.
        substeps: Runge-Kutta steps from one sample to the next.
        iterations: after which a fit that has not converged says so.
        hopeless: give up a fit with chi2 above 2 a sample when a step promises less than this share
            of the excess; it then counts as not converged.

    Raises:
        ValueError: if a candidate does not fit the reactions, or has as many parameters as there
            are samples.
    """
    ex = curves.experiments
    R, S = ex.nu.shape[1], ex.nu.shape[0]
    rows = [as_laws(c, R) for c in candidates]
    if not rows or len(rows) != len(starts):
        raise ValueError(f"need one start a candidate, got {len(starts)} for {len(rows)}")
    samples = int(ex.used.sum()) * R  # pyright: ignore
    theta = np.zeros((len(rows), R, MAX_NUMERATORS + S))
    codes, free = [], np.zeros_like(theta, dtype=bool)
    unit = np.zeros_like(theta)  # logarithm of the natural unit of each constant
    log_c, log_t = np.log(ex.c0.max()), np.log(ex.t.max())
    for m, (laws, start) in enumerate(zip(rows, starts, strict=True)):
        start = (start,) if R == 1 and np.ndim(start[0]) == 0 else start
        for r, (law, values) in enumerate(zip(laws, start, strict=True)):
            for j, row in enumerate(law.numerators):
                unit[m, r, j] = (1 - sum(row)) * log_c - log_t
            unit[m, r, MAX_NUMERATORS:] = -np.asarray(law.orders) * log_c
            free[m, r, places(law)] = True
            lowest = 1e-3 * np.exp(unit[m, r, places(law)])
            theta[m, r] = np.log(pad_values(law, np.maximum(np.asarray(values, float), lowest)))
        if free[m].sum() >= samples:
            raise ValueError(f"samples must outnumber {free[m].sum()} parameters, got {samples}")
        codes.append(encode(laws))
    code = Encoded(*(np.stack(arrays) for arrays in zip(*codes, strict=True)))
    steps = np.diff(ex.t, axis=1, prepend=0.0)
    weight = ex.used.astype(float)  # pyright: ignore
    # Most fits end after a few steps: the others go on in batches of their own.
    results: dict[int, tuple] = {}
    damping = np.full(len(rows), 1e-2)
    todo, converged = np.arange(len(rows)), np.zeros(len(rows), bool)
    for budget in (min(FIRST, iterations), iterations - FIRST):
        again = []
        for begin in range(0, len(todo) if budget > 0 else 0, LANES):
            group = todo[begin : begin + LANES]
            lanes = group[np.arange(LANES) % len(group)]  # filled up by wrapping around
            *state, good, done = _refine(
                Encoded(*(a[lanes] for a in code)), theta[lanes], unit[lanes], damping[lanes],
                free[lanes].astype(float), ex.c0, ex.nu, steps, weight, curves.whiten, curves.xi,
                FLOOR * ex.c0.max(), substeps, budget, hopeless,
            )  # fmt: skip
            state = [np.asarray(a)[: len(group)] for a in state]
            for i, m in enumerate(group):
                results[m] = tuple(a[i] for a in state)
            theta[group], damping[group] = state[:2]
            converged[group] = np.asarray(good)[: len(group)]
            again.append(group[~np.asarray(done)[: len(group)]])
        todo = np.concatenate(again) if again else todo[:0]
    fits = []
    for m, laws in enumerate(rows):
        _, _, chi2, normal, xi = results[m]
        flat = free[m].reshape(-1)
        size = int(flat.sum())
        fits.append(
            Fit(
                laws=laws,
                params=tuple(np.exp(theta[m, r, free[m, r]]) for r in range(R)),
                chi2=float(chi2),
                dof=samples - size,
                bic=float(chi2 + size * np.log(ex.samples)),
                fisher=normal[np.ix_(flat, flat)],
                converged=bool(converged[m]),
                extents=xi,
            )
        )
    return fits


@jax.jit
def _refine(
    code, theta, unit, damping, free, c0, nu, steps, weight, whiten, target, floor, substeps,
    iterations, hopeless,
):  # fmt: skip
    """Levenberg-Marquardt for a batch: theta, damping, chi2, normal, extents, converged, done."""

    def one(code, theta, unit, damping, free):
        shape, mask, centre = theta.shape, free.reshape(-1), unit.reshape(-1)
        # On a full surface k grows with as many adsorption constants as there are sites.
        j = jnp.arange(shape[1]) < MAX_NUMERATORS
        reach = jnp.tile(jnp.where(j, (1 + MAX_POWER) * REACH, REACH), shape[0])

        def model(flat):
            xi, s = jax.vmap(extents_and_sensitivities, (None, None, 0, None, 0, None, None))(
                code, flat.reshape(shape), c0, nu, steps, floor, substeps
            )
            residual = weight[..., None] * (xi @ whiten.T - target)
            jacobian = jnp.einsum("et,qr,etrp,p->etqp", weight, whiten, s, mask)
            jacobian = jacobian.reshape(-1, flat.size)
            residual = residual.reshape(-1)
            chi2 = jnp.sum(residual**2)
            return (
                jnp.where(jnp.isfinite(chi2), chi2, jnp.inf),
                jacobian.T @ residual, jacobian.T @ jacobian, xi,
            )  # fmt: skip

        def unfinished(state):
            *_, done, count = state
            return ~done & (count < iterations)

        def step(state):
            kept, fitted, trial, damping, _, _, count = state
            new = model(trial)
            better = new[0] <= fitted[0]

            def pick(a, b):
                return jnp.where(better, a, b)

            kept, fitted = pick(trial, kept), jax.tree.map(pick, new, fitted)
            damping = jnp.maximum(pick(damping / 10, damping * 5), 1e-10)
            chi2, gradient, normal, _ = fitted
            size = jnp.diag(normal)
            # STIFF keeps constants that hardly matter from being sent far away, and the others,
            # whose steps are coupled to theirs, from following.
            matrix = normal + jnp.diag(damping * size + STIFF + 1 - mask)
            move = -jnp.linalg.solve(matrix, gradient) * mask
            move = move / jnp.maximum(jnp.max(jnp.abs(move)) / STRIDE, 1.0)
            trial = jnp.clip(kept + move, centre - reach, centre + reach)
            gain = jnp.sum(jnp.abs(gradient * (trial - kept)))
            # A law that cannot be integrated from the start is given up: its gain is not a number.
            excess = jnp.maximum(chi2 - 2 * target.size, 0.0)
            done = ~(gain > TOLERANCE + hopeless * excess)
            return kept, fitted, trial, damping, gain, done, count + 1

        # The start enters as the first trial, so that the model is compiled once.
        flat = theta.reshape(-1)
        blank = jax.tree.map(lambda a: jnp.full(a.shape, jnp.inf), jax.eval_shape(model, flat))
        state = flat, blank, flat, damping, jnp.asarray(jnp.inf), jnp.asarray(False), jnp.asarray(0)
        flat, fitted, _, damping, gain, done, _ = jax.lax.while_loop(unfinished, step, state)
        converged = gain <= TOLERANCE
        return flat.reshape(shape), damping, fitted[0], fitted[2], fitted[3], converged, done

    return jax.vmap(one)(code, theta, unit, damping, free)


def fisher(
    laws: RateTerm | Sequence[RateTerm],
    params: Sequence,
    c0: Float[np.ndarray, "E S"],
    nu: Float[np.ndarray, "S R"] | Sequence,
    t: Float[np.ndarray, "*E T"],
    sigma: float | Sequence[float],
    *,
    substeps: int = 8,
) -> Float[np.ndarray, "P P"]:
    """Fisher information about the logarithms of the parameters, law after law.

    Args:
        laws: one law a reaction; a single one may stand alone.
        params: their parameters.
        c0: initial concentrations, mol/L.
        nu: stoichiometric coefficients.
        t: sampling times.
        sigma: standard deviation of the noise of the concentrations.
        substeps: Runge-Kutta steps from one sample to the next.

    Raises:
        ValueError: as in :func:`~dy33lib.sindy.kinetics.simulate`, or if sigma is not positive.
    """
    s = sensitivities(laws, params, c0, nu, t, substeps=substeps)
    scaled = check_stoichiometry(nu) / check_sigma(sigma, np.shape(c0)[1])[:, None]
    return np.einsum("etrp,rq,etqs->ps", s, scaled.T @ scaled, s)


def sensitivities(
    laws: RateTerm | Sequence[RateTerm],
    params: Sequence,
    c0: Float[np.ndarray, "E S"],
    nu: Float[np.ndarray, "S R"] | Sequence,
    t: Float[np.ndarray, "*E T"],
    *,
    substeps: int = 8,
) -> Float[np.ndarray, "E T R P"]:
    """Derivatives of the extents by the logarithms of the parameters; arguments as in `fisher`.

    Raises:
        ValueError: if shapes do not match, a parameter is not positive, or times do not increase.
    """
    return predict(laws, params, c0, nu, t, substeps=substeps)[1]


def predict(
    laws: RateTerm | Sequence[RateTerm],
    params: Sequence,
    c0: Float[np.ndarray, "E S"],
    nu: Float[np.ndarray, "S R"] | Sequence,
    t: Float[np.ndarray, "*E T"],
    *,
    substeps: int = 8,
) -> tuple[Float[np.ndarray, "E T R"], Float[np.ndarray, "E T R P"]]:
    """Extents and their derivatives by the logarithms of the parameters.

    Unlike :func:`~dy33lib.sindy.kinetics.simulate` it lets a law go on when what it consumes is
    used up.

    Raises:
        ValueError: as in :func:`.sensitivities`.
    """
    nu = check_stoichiometry(nu)
    c0 = check_initial(c0, len(nu))
    t = check_times(t, len(c0))
    laws = as_laws(laws, nu.shape[1])
    code, theta = prepare_laws(laws, params)
    steps = np.diff(t, axis=1, prepend=0.0)
    both = _sensitivities(code, theta, *fill(c0, steps), nu, FLOOR * c0.max(), substeps)
    xi, s = (np.asarray(array)[: len(c0)] for array in both)
    width = theta.shape[1]
    return xi, s[..., [r * width + p for r, law in enumerate(laws) for p in places(law)]]


@jax.jit
def _sensitivities(code, theta, c0, steps, nu, floor, substeps):
    return jax.vmap(extents_and_sensitivities, (None, None, 0, None, 0, None, None))(
        code, theta, c0, nu, steps, floor, substeps
    )


def crb(
    information: Float[np.ndarray, "P P"],
    names: Sequence[str] | None = None,
    *,
    tolerance: float = 1e-8,
) -> Float[np.ndarray, " P"]:
    """Cramér-Rao bounds: smallest standard deviations of the logarithms of the parameters.

    Args:
        information: Fisher matrix.
        names: of the parameters, for the message.
        tolerance: an eigenvalue below this fraction of the largest counts as zero.

    Raises:
        ValueError: if the matrix is not square, symmetric and finite, or names do not fit.
        IdentifiabilityError: if it is singular; the message names the combination of parameters
            that can change without any effect on the data.
    """
    matrix = np.asarray(information, float)
    names = [f"θ_{i}" for i in range(len(matrix))] if names is None else list(names)
    if matrix.ndim != 2 or matrix.shape != (len(names), len(names)) or not len(names):
        raise ValueError(f"information must be square for {len(names)} names, got {matrix.shape}")
    if not np.all(np.isfinite(matrix)) or not np.allclose(matrix, matrix.T, rtol=1e-6):
        raise ValueError("information must be finite and symmetric")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] <= tolerance * values[-1] or not values[-1] > 0:
        direction = vectors[:, 0] * np.sign(vectors[np.argmax(np.abs(vectors[:, 0])), 0])
        terms = [
            f"{'-' if v < 0 else '+'} {abs(v):.2f} ln {name}"
            for v, name in zip(direction, names, strict=True)
            if abs(v) > 0.01
        ]
        raise IdentifiabilityError(
            "the data do not determine the combination " + " ".join(terms).lstrip("+ ")
        )
    return np.sqrt(np.sum(vectors**2 / values, axis=1))


def bic_weights(bic: Sequence[float] | Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    r"""Posterior probabilities of rivals, :math:`\propto e^{-{\rm BIC}/2}`, equal before the data.

    Schwarz, Ann. Statist. 6, 461 (1978); Kass and Raftery, J. Am. Stat. Assoc. 90, 773 (1995).

    Raises:
        ValueError: if there is no finite value, or one is NaN or minus infinity.
    """
    values = np.asarray(bic, float)
    if not np.any(np.isfinite(values)) or np.any(np.isnan(values) | (values == -np.inf)):
        raise ValueError(f"bic must hold finite numbers, got {values.tolist()}")
    weights = np.exp(-(values - values.min()) / 2)
    return weights / weights.sum()


def misfit_p_value(chi2: float, dof: int, sigma_dof: float = np.inf) -> float:
    """Probability of residuals as large as these if the law is right.

    The noise was given (chi-squared test), or measured from the balances with `sigma_dof` degrees
    of freedom (F test).

    Raises:
        ValueError: if chi2 is negative or a number of degrees of freedom is not positive.
    """
    if not chi2 >= 0 or dof < 1 or not sigma_dof > 0:
        raise ValueError(f"need chi2 >= 0 and positive dof, got {chi2}, {dof} and {sigma_dof}")
    if np.isinf(sigma_dof):
        return float(stats.chi2.sf(chi2, dof))
    return float(stats.f.sf(chi2 / dof, dof, sigma_dof))
