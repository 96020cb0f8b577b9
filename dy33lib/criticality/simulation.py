r"""Simulations of annealed and of quenched networks.

In the annealed network every unit draws its inputs anew in each step; in the quenched one the
wiring stays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.linalg import bicgstab

from dy33lib.criticality.moments import mean_activity
from dy33lib.criticality.parameters import Params, check_h, check_lam, check_T

SPARSE = 0.25  # share of active units below which their outgoing links are followed


class Simulation(NamedTuple):
    """Stationary statistics of leaky averages, one column per chain.

    Attributes:
        Ts: integration times.
        mean: time averages of the averages.
        var: their mean squared deviations from the mean over time and all chains.
        third: third central moments, likewise.
        samples: every so many steps, the averages themselves.
    """

    Ts: Float[np.ndarray, " T"]
    mean: Float[np.ndarray, "T C"]
    var: Float[np.ndarray, "T C"]
    third: Float[np.ndarray, "T C"]
    samples: Float[np.ndarray, "S T C"]


class Network(eqx.Module):
    """A quenched network.

    Attributes:
        rows: incoming weights, one row a unit, each row with sum 1.
        columns: the same by columns, for following outgoing links.
        driven: which units receive input.
        read: which units are read.
        params: what it was made from.
    """

    rows: sparse.csr_array
    columns: sparse.csc_array
    driven: Bool[np.ndarray, " N"]
    read: Bool[np.ndarray, " N"]
    params: Params


class NetworkMoments(NamedTuple):
    """Mean and variance of the activity of one quenched network.

    Attributes:
        mean: of the share of active units.
        var: of the share of active units.
    """

    mean: float
    var: float


def simulate_annealed(
    lam: float,
    h: float,
    Ts: Sequence[float] | Float[np.ndarray, " T"],
    steps: int,
    params: Params | None = None,
    *,
    rng: np.random.Generator,
    chains: int = 64,
    burn: int = 1000,
    every: int = 10,
) -> Simulation:
    """Independent annealed networks side by side, and their leaky averages.

    Groups are sampled as binomial numbers; of those that are read (a share nu of each group) the
    number is drawn separately. Sizes are rounded to integers.

    Args:
        lam: coupling strength.
        h: input rate, per step.
        Ts: integration times, in steps.
        steps: recorded steps.
        params: the network.
        rng: generator of random numbers.
        chains: networks.
        burn: steps before, beginning at the mean activity; five times the longest of
            autocorrelation and integration time are enough.
        every: keep a sample every so many steps.

    Raises:
        ValueError: if lam, h or Ts are out of range, or steps, chains or every are not positive.
    """
    params = params or Params()
    Ts = _check_run(lam, h, Ts, steps, chains, every, burn)
    p = -np.expm1(-h)
    mean = float(mean_activity(lam, h, params.mu))
    sizes = np.array([round(params.mu * params.n), params.n - round(params.mu * params.n)])
    seen = np.round(params.nu * sizes).astype(int)
    if not sizes[0] or not seen.sum():
        raise ValueError(f"n must be larger: no unit would be driven, or read, got {params}")
    a = np.full(chains, mean)
    record = _Record(Ts, a, steps, every)
    for t in range(-burn, steps):
        fire = p + (1 - p) * lam * a, lam * a
        y = sum(rng.binomial(s, q) for s, q in zip(seen, fire, strict=True))
        rest = [rng.binomial(s, q) for s, q in zip(sizes - seen, fire, strict=True) if s]
        a = (y + sum(rest)) / params.n
        record.update(y / seen.sum(), t)
    return record.result()


def make_network(params: Params | None = None, *, rng: np.random.Generator) -> Network:
    """A random network: k n links at random, weights uniform in (0, 1), rows scaled to sum 1.

    Raises:
        ValueError: if a unit has no incoming link, which happens for small k, or k > n.
    """
    params = params or Params()
    n = params.n
    if params.k > n:
        raise ValueError(f"k must be at most n = {n}, got {params.k}")
    rows = sparse.csr_array(sparse.random_array((n, n), density=params.k / n, rng=rng))
    sums = rows.sum(axis=1)
    if not np.all(sums > 0):
        raise ValueError(
            f"k must be larger: {np.sum(sums == 0)} units have no link, got {params.k}"
        )
    rows = sparse.csr_array(sparse.diags_array(1 / sums) @ rows)
    driven, read = np.zeros((2, n), bool)
    if not round(params.mu * n) or not round(params.nu * n):
        raise ValueError(f"n must be larger: no unit would be driven, or read, got {params}")
    driven[rng.choice(n, round(params.mu * n), replace=False)] = True
    read[rng.choice(n, round(params.nu * n), replace=False)] = True
    return Network(rows, sparse.csc_array(rows), driven, read, params)


def drive(network: Network, active: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Sum of incoming weights of active units, for each unit.

    Few active units: their outgoing links are followed, which costs k times their number. Many: a
    sparse product, which costs k n whatever their number.
    """
    fired = np.flatnonzero(active)
    if not len(fired):
        return np.zeros(len(active))
    if len(fired) > SPARSE * len(active):
        return network.rows @ active.astype(float)
    columns = network.columns
    first, count = columns.indptr[fired], np.diff(columns.indptr)[fired]
    ends = np.cumsum(count)
    links: Int[np.ndarray, " L"] = np.arange(ends[-1])
    links = links + np.repeat(first - (ends - count), count)
    return np.bincount(columns.indices[links], columns.data[links], minlength=len(active))


def simulate_network(
    network: Network,
    lam: float,
    h: float,
    Ts: Sequence[float] | Float[np.ndarray, " T"],
    steps: int,
    *,
    rng: np.random.Generator,
    burn: int = 1000,
    every: int = 10,
) -> Simulation:
    """One quenched network, in synchronous steps; the result has one column.

    A unit fires with probability 1 - (1 - p)(1 - λ Σ_j w_ij x_j), and p = 0 without input. Since
    the weights add up to one, the sum never exceeds λ.

    Raises:
        ValueError: as in :func:`.simulate_annealed`.
    """
    Ts = _check_run(lam, h, Ts, steps, 1, every, burn)
    p = np.where(network.driven, -np.expm1(-h), 0.0)
    n = len(p)
    active = rng.random(n) < float(mean_activity(lam, h, network.params.mu))
    record = _Record(Ts, np.array([active.mean()]), steps, every)
    seen = network.read.sum()
    for t in range(-burn, steps):
        active = rng.random(n) < 1 - (1 - p) * (1 - lam * drive(network, active))
        record.update(np.array([active[network.read].sum() / seen]), t)
    return record.result()


def network_moments(network: Network, lam: float, h: float) -> NetworkMoments:
    r"""Mean and variance of the activity of a quenched network, without simulation.

    Means and covariances close, as the probabilities are linear in the states. The means solve
    :math:`m = p + M m` with :math:`M_{ij} = (1-p_i)\lambda w_{ij}`, and the covariances
    :math:`C = M C M^\top + D` with diagonal D. With :math:`u_0 = 1/n` and
    :math:`u_{k+1} = M^\top u_k`, the variance of the mean is
    :math:`\sum_k \sum_i D_{ii} u_{k,i}^2`.
    On the diagonal :math:`C_{ii} = m_i(1-m_i)` exactly, so that
    :math:`D_{ii} = m_i(1-m_i) - (MCM^\top)_{ii}`; the off-diagonal covariances in it, of order 1/n,
    are replaced by their mean.

    Raises:
        ValueError: if lam or h is out of range.
    """
    check_lam(lam)
    check_h(h)
    p = np.where(network.driven, -np.expm1(-h), 0.0)
    n = len(p)
    M = sparse.csr_array(sparse.diags_array((1 - p) * lam) @ network.rows)
    m, failed = bicgstab(sparse.eye_array(n, format="csr") - M, p, rtol=1e-12, atol=0)
    if failed:
        raise RuntimeError(f"the means did not converge: bicgstab returned {failed}")
    single = m * (1 - m)
    own = sparse.csr_array(M.power(2)) @ single
    row_sums = M.sum(axis=1)
    u, direct, indirect, transposed = np.full(n, 1 / n), 0.0, 0.0, sparse.csr_array(M.T)
    while True:
        added = np.sum(u**2 * (single - own))
        direct += added
        indirect += np.sum(u**2 * row_sums**2)
        if added < 1e-10 * direct:
            break
        u = transposed @ u
    # D = single - own - row_sums^2 (V - sum(single)/n^2), linear in V: solved for V.
    base = direct + indirect * single.sum() / n**2
    return NetworkMoments(float(m.mean()), float(base / (1 + indirect)))


class _Record:
    """Leaky averages on the fly, with power sums around a first guess of the mean."""

    def __init__(self, Ts: np.ndarray, start: np.ndarray, steps: int, every: int):
        self.Ts, self.alpha = Ts, -np.expm1(-1 / Ts)[:, None]
        self.A = np.tile(start, (len(Ts), 1))
        self.centre, self.steps, self.every = self.A.copy(), steps, every
        self.sums = np.zeros((3, *self.A.shape))
        self.samples = np.empty((-(-steps // every), *self.A.shape))

    def update(self, y: np.ndarray, t: int) -> None:
        """Take in a step; steps before 0 are not recorded."""
        self.A += self.alpha * (y - self.A)
        if t < 0:
            return
        d = self.A - self.centre
        self.sums += (d, d**2, d**3)
        if t % self.every == 0:
            self.samples[t // self.every] = self.A

    def result(self) -> Simulation:
        """The moments around the mean over time and chains."""
        first, second, third = self.sums / self.steps
        shift = first.mean(axis=1, keepdims=True)
        var = second - 2 * shift * first + shift**2
        cubed = third - 3 * shift * second + 3 * shift**2 * first - shift**3
        return Simulation(self.Ts, self.centre + first, var, cubed, self.samples)


def _check_run(
    lam: float, h: float, Ts: Sequence | np.ndarray, steps: int, chains: int, every: int, burn: int
) -> np.ndarray:
    """Integration times as an array, if all arguments are in range."""
    check_lam(lam)
    check_h(h)
    Ts = np.atleast_1d(np.asarray(Ts, np.float64))
    check_T(Ts)
    for name, value in (("steps", steps), ("chains", chains), ("every", every)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if burn < 0:
        raise ValueError(f"burn must not be negative, got {burn}")
    return Ts
