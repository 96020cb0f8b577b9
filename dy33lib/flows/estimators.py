"""Free energies from samples and weights: one-sided, two-sided, and from many states at once.

All energies here are reduced, over k_B T. Samples may come as frames by replicas: replicas are
independent of each other, frames are not, and standard errors then come from leaving out one
replica at a time (jackknife), so that no correlation time has to be guessed. A flat array counts
as independent samples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize
from scipy.special import expit, logsumexp


class Difference(NamedTuple):
    """A difference of free energies.

    Attributes:
        value: over k_B T.
        error: its standard error.
        ess: effective over actual number of samples, see :func:`ess`; nan if it does not apply.
    """

    value: float
    error: float
    ess: float


def log_sum(values, axis: int | None = None) -> Any:
    """Logarithm of the sum of exponentials; all at once, or along one axis."""
    return logsumexp(values, axis=axis)


def samples(name: str, values) -> np.ndarray:
    """As an array of frames by replicas, one frame if flat."""
    array = np.asarray(values, float)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must be a list or a table of samples, got shape {array.shape}")
    if np.isnan(array).any() or np.isposinf(array).any():
        raise ValueError(f"{name} must be neither nan nor infinite")
    if array.shape[1] < 2:
        raise ValueError(f"{name} must come from at least two replicas, got {array.shape[1]}")
    return array


def jackknife(value: Callable[..., float], *tables: np.ndarray) -> float:
    """Standard error of a function of tables of replicas, each left out once, table by table."""
    variance = 0.0
    for i, table in enumerate(tables):
        B, without = table.shape[1], []
        for b in range(B):
            rest = [np.delete(t, b, axis=1) if j == i else t for j, t in enumerate(tables)]
            without.append(value(*rest))
        variance += (B - 1) / B * float(np.sum((np.array(without) - np.mean(without)) ** 2))
    return float(np.sqrt(variance))


def ess(log_w) -> float:
    """Effective over actual number of samples (Kish), (sum w)^2 / (n sum w^2), from 1/n to 1.

    Args:
        log_w: logarithms of the weights, of any shape; -inf for none.

    Raises:
        ValueError: if there are no samples, or an entry is nan or infinite, or all weights vanish.
    """
    flat = np.asarray(log_w, float).reshape(-1)
    if not flat.size or np.isnan(flat).any() or np.isposinf(flat).any():
        raise ValueError(f"log_w must be samples that are neither nan nor infinite, got {log_w}")
    if np.isneginf(flat).all():
        raise ValueError("log_w must have a weight that does not vanish")
    return float(np.exp(2 * log_sum(flat) - log_sum(2 * flat)) / flat.size)


def lfep(log_w: Float[np.ndarray, "..."]) -> Difference:
    """One-sided estimate from weights, -ln <w> (Zwanzig 1954; with a map Jarzynski 2002).

    Its error is right only where the samples reach what matters: see the effective number.

    Args:
        log_w: logarithms of the weights; frames by replicas, or independent ones.

    Raises:
        ValueError: as in :func:`ess`; if there are fewer than two replicas.
    """
    table = samples("log_w", log_w)
    share = ess(table)

    top = table.max()
    each = np.exp(table - top).sum(axis=0)  # of each replica
    value = float(np.log(table.size) - np.log(each.sum()) - top)
    if table.shape[0] == 1:  # independent: the jackknife in closed form, to first order
        error = float(np.sqrt(max(1 / share - 1, 0.0) / table.size))
    else:
        with np.errstate(divide="ignore"):  # one replica may carry all the weight
            without = -np.log(np.delete(each.sum() - each, each.sum() == each))
        B = table.shape[1]
        spread = np.sum((without - without.mean()) ** 2) if len(without) == B else np.inf
        error = float(np.sqrt((B - 1) / B * spread))
    return Difference(value, error, share)


def bar(forward: Float[np.ndarray, "..."], backward: Float[np.ndarray, "..."]) -> Difference:
    """Two-sided estimate of F_1 - F_0 (Bennett 1976, eqs. 12).

    Args:
        forward: u_1 - u_0 of samples of state 0; frames by replicas, or independent ones.
        backward: u_0 - u_1 of samples of state 1.

    Raises:
        ValueError: if there are no samples, fewer than two replicas, or one is nan or infinite.
    """
    tables = samples("forward", forward), samples("backward", backward)
    if not all(np.isfinite(t).all() for t in tables):
        raise ValueError("forward and backward must be finite")

    def value(f: np.ndarray, b: np.ndarray) -> float:
        shift = np.log(f.size / b.size)

        def excess(F: float) -> float:
            return float(np.sum(expit(F - f - shift)) - np.sum(expit(-F - b + shift)))

        low = min(f.min(), -b.max()) - abs(shift) - 1
        high = max(f.max(), -b.min()) + abs(shift) + 1
        while excess(low) > 0:
            low -= high - low
        while excess(high) < 0:
            high += high - low
        return brentq(excess, low, high, xtol=1e-12)  # pyright: ignore[reportReturnType]

    found = value(*tables)
    if tables[0].shape[0] == tables[1].shape[0] == 1:
        error = _bar_error(tables[0][0], tables[1][0], found)
    else:
        error = jackknife(value, *tables)
    return Difference(found, error, float("nan"))


def _bar_error(f: np.ndarray, b: np.ndarray, F: float) -> float:
    """Of independent samples (Bennett 1976, eq. 10b), with the optimal weights."""
    shift = np.log(f.size / b.size)
    on_f, on_b = expit(F - f - shift), expit(-F - b + shift)
    variance = on_f.var() / on_f.mean() ** 2 / f.size + on_b.var() / on_b.mean() ** 2 / b.size
    return float(np.sqrt(variance))


class Mbar(NamedTuple):
    """Free energies of many states.

    Attributes:
        f: free energies over k_B T, the first one zero.
        covariance: of f, for independent samples.
        log_weights: logarithm of each sample's weight in each state; those of a state sum to 1.
        log_mixture: logarithm of the density that all samples together are drawn from, times
            their number; for histograms over the number of times each was seen.
    """

    f: Float[np.ndarray, " K"]
    covariance: Float[np.ndarray, "K K"]
    log_weights: Float[np.ndarray, "K n"]
    log_mixture: Float[np.ndarray, " n"]

    def at(self, u: Float[np.ndarray, " n"]) -> float:
        """Free energy of another state, over k_B T, from its reduced energies of the samples."""
        return -float(log_sum(-u - self.log_mixture))


def mbar(u_kn: Float[np.ndarray, "K n"], N_k, start=None, times=None) -> Mbar:
    """Free energies from samples of many states (Shirts and Chodera 2008, eqs. 11 and D6).

    The estimate maximises a likelihood that is concave in f; its Hessian is at hand.

    Args:
        u_kn: reduced energies of all samples in each state; samples of state 0 first, and so on.
        N_k: number of samples of each state; 0 for states that were not sampled.
        start: free energies to begin with; differences of mean energies unless given.
        times: how often each column was seen, for histograms; once unless given.

    Raises:
        ValueError: if shapes do not fit, an energy is not finite, no sample is given, or no
            optimum is found.
    """
    u, N = np.asarray(u_kn, float), np.asarray(N_k)
    m = np.ones(u.shape[-1]) if times is None else np.asarray(times, float)
    if u.ndim != 2 or m.shape != u.shape[1:] or not (m > 0).all():
        raise ValueError(f"times must be positive, one for each column of u_kn, got {times}")
    if N.shape != (u.shape[0],) or N.min() < 0 or N.sum() != m.sum() or N[0] < 1:
        raise ValueError(
            f"N_k must count the samples of each state of u_kn, state 0 sampled, got {N_k} for a "
            f"table of shape {u.shape}"
        )
    if not np.isfinite(u).all():
        raise ValueError("u_kn must be finite")
    seen = np.flatnonzero(N > 0)
    counts, v = N[seen].astype(float), u[seen]

    latest: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def at(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithm of the mixture, and each state's share in it; once for cost and curvature."""
        key = free.tobytes()
        if key not in latest:
            a = (np.log(counts) + np.concatenate([[0.0], free]))[:, None] - v
            top = a.max(axis=0)
            p = np.exp(a - top)
            total = p.sum(axis=0)
            latest.clear()
            latest[key] = top + np.log(total), p / total
        return latest[key]

    def cost(free: np.ndarray):
        mixture, p = at(free)
        slope = (p @ m - counts)[1:]
        return (m @ mixture - counts[1:] @ free) / counts.sum(), slope / counts.sum()

    def curvature(free: np.ndarray) -> np.ndarray:
        p = at(free)[1]
        return ((np.diag(p @ m) - (m * p) @ p.T) / counts.sum())[1:, 1:]

    if start is None:
        means = v @ m / m.sum()
        guess = means[1:] - means[0]
    else:
        guess = (np.asarray(start, float) - np.asarray(start, float)[0])[seen[1:]]
    free = np.zeros(0)
    if len(seen) > 1:
        found = minimize(
            cost, guess, jac=True, hess=curvature, method="trust-exact",
            options={"gtol": 1e-12, "maxiter": 500},
        )  # fmt: skip
        step = np.linalg.solve(curvature(found.x), cost(found.x)[1])  # one step of Newton's
        free = found.x - step
        if not np.abs(cost(free)[1]).max() < 1e-9:
            raise ValueError(f"u_kn has no optimum that could be found: {found.message}")
    mixture = at(free)[0]
    every = -log_sum(np.log(m) - u - mixture, axis=1)
    log_w = every[:, None] + np.log(m) - u - mixture
    single = np.exp(log_w) / np.sqrt(m)  # m columns of 1/m each have the same products
    return Mbar(every, _covariance(single, N), log_w, mixture - np.log(m))


def _covariance(W: np.ndarray, N: np.ndarray) -> np.ndarray:
    """Of f - f_0, by the pseudoinverse (Shirts and Chodera 2008, eq. D6)."""
    _, s, rows = np.linalg.svd(np.linalg.qr(W.T, mode="r"))  # of W itself, but cheaper
    middle = np.eye(len(s)) - (s[:, None] * (rows @ np.diag(N.astype(float)) @ rows.T)) * s
    theta = rows.T @ (s[:, None] * np.linalg.pinv(middle, rcond=1e-10) * s) @ rows
    away = theta - theta[:1]
    return away - away[:, :1]
