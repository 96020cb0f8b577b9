"""Absolute free energies: of the crystal from oscillators, of the liquid from the ideal gas.

Free energies are over k_B T, with thermal wavelength 1: F = -ln of the integral of exp(-U/T) over
all positions, over N!. Crystals are computed with their centre of mass at rest; the N! ways to put
the particles on the sites, and the volume V/N that the centre of mass has on each, come in exactly.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln

from dy33lib.flows.estimators import Difference, bar, jackknife, samples
from dy33lib.flows.exact import check_state
from dy33lib.particles import Configs, check_configs, fcc, pair_forces, pair_potential, simulate


class Route(NamedTuple):
    """A free energy over k_B T.

    Attributes:
        value: the mean of independent repeats.
        error: its standard error, from their scatter.
        each: what each repeat gave.
        evaluations: of forces, of all replicas together.
    """

    value: float
    error: float
    each: Float[np.ndarray, " R"]
    evaluations: int


def _route(each: np.ndarray, evaluations: int) -> Route:
    error = float(each.std(ddof=1) / np.sqrt(len(each)))
    return Route(float(each.mean()), error, each, evaluations)


# The harmonic crystal ----------------------------------------------------------------------------


def phonons(
    cells: tuple[int, int, int], density: float, pair: Callable = pair_potential, reach: float = 2.2
) -> tuple[float, Float[np.ndarray, " modes"]]:
    """Energy of a particle in the fcc crystal, and the eigenvalues of the Hessian, by Bloch sums.

    Args:
        cells: number of cubic cells along each edge, with periodic boundaries.
        density: particles per volume.
        pair: gives u and -u'/r by the squared distance.
        reach: beyond which u = 0.

    Returns:
        U / N; squared frequencies of all 3N modes, in ascending order; the first three are zero.

    Raises:
        ValueError: as in :func:`~dy33lib.particles.fcc`; if the box is not larger than twice the
            reach.
    """
    box = fcc(cells, density)
    check_configs(box.s[..., None], box.L[:, None], reach)
    a = float(box.L[0]) / cells[0]
    n = int(np.ceil(2 * reach / a)) + 1
    sites = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    R = a / 2 * sites[(sites.sum(axis=1) % 2 == 0) & sites.any(axis=1)]
    r = np.linalg.norm(R, axis=1)
    R, r = R[r < reach], r[r < reach]
    slope = jax.vmap(lambda x: -x * pair(x * x)[1])  # u'
    bend = jax.vmap(jax.grad(lambda x: -x * pair(x * x)[1]))  # u''
    first, second = np.asarray(slope(jnp.asarray(r))), np.asarray(bend(jnp.asarray(r)))
    along = R[:, :, None] * R[:, None, :] / (r * r)[:, None, None]
    K = second[:, None, None] * along + (first / r)[:, None, None] * (np.eye(3) - along)
    m = np.stack(np.meshgrid(*(np.arange(k) / k for k in cells), indexing="ij"), -1).reshape(-1, 3)
    zone = np.concatenate([[np.zeros(3)], np.eye(3)])  # four cubic zones make that of the fcc
    k = 2 * np.pi / a * (m[:, None] + zone).reshape(-1, 3)
    D = np.einsum("kr,rij->kij", 1 - np.cos(k @ R.T), K)
    U = 0.5 * float(np.sum(np.asarray(pair(jnp.asarray(r * r))[0])))
    return U, np.sort(np.linalg.eigvalsh(D).reshape(-1))


def harmonic_crystal(
    cells: tuple[int, int, int], density: float, T: float, pair: Callable = pair_potential
) -> float:
    """Free energy of the fcc crystal to second order in the displacements.

    beta F = beta U - ln(V/N) - 3/2 (N-1) ln(2 pi T) - 3/2 ln N + 1/2 sum of ln eigenvalues, over
    all that do not vanish.

    Args:
        cells: number of cubic cells along each edge.
        density: particles per volume.
        T: temperature.
        pair: gives u and -u'/r by the squared distance, zero beyond 2.2.

    Raises:
        ValueError: as in :func:`phonons`; if T is not positive and finite; if the crystal is not
            stable.
    """
    check_state(T, 1.0)
    U, modes = phonons(cells, density, pair)
    if not modes[3] > 0:
        raise ValueError(f"density = {density} leaves a mode without restoring force: {modes[3]}")
    N = 4 * int(np.prod(cells))
    rest = np.log(density) - 1.5 * (N - 1) * np.log(2 * np.pi * T) - 1.5 * np.log(N)
    return float(N * U / T + rest + 0.5 * np.sum(np.log(modes[3:])))


class Waves(eqx.Module):
    """The crystal and its harmonic approximation, to compare.

    Attributes:
        home: sites over the edges.
        stiffness: the Hessian of the energy, 3N x 3N, particle after particle.
        floor: energy of the sites.
        pair: gives u and -u'/r by the squared distance.
    """

    home: Float[Array, "3 N"]
    stiffness: Float[Array, "M M"]
    floor: Float[Array, ""]
    pair: Callable = eqx.field(static=True)

    def __call__(self, s, L):
        """Energies, forces and virials of the crystal."""
        return pair_forces(s, L, self.pair)

    def excess(self, s, L, U, *_):
        """Energy less that of the harmonic crystal."""
        d = s - self.home[..., None]
        d = (d - jnp.mean(d, axis=1, keepdims=True)) * L[:, None]
        d = jnp.swapaxes(d, 0, 1).reshape(self.stiffness.shape[0], -1)
        return U - self.floor - 0.5 * jnp.sum(d * (self.stiffness @ d), axis=0)


def anharmonic(
    cells: tuple[int, int, int], density: float, T: float, *, draws: int = 4000, repeats: int = 8,
    frames: int = 400, every: int = 2, warmup: int = 200, pair: Callable = pair_potential,
    key: Array,
) -> Difference:  # fmt: skip
    """Free energy of the fcc crystal less that of :func:`harmonic_crystal`, at low temperature.

    By :func:`~dy33lib.flows.estimators.bar` between independent draws of the harmonic crystal,
    which is Gaussian, and configurations of the crystal, both with their centre of mass at rest.

    Args:
        cells: number of cubic cells along each edge.
        density: particles per volume.
        T: temperature.
        draws: of the harmonic crystal.
        repeats: independent runs of the crystal.
        frames: configurations of each.
        every: trajectories between.
        warmup: trajectories before.
        pair: gives u and -u'/r by the squared distance.
        key: for the random numbers.

    Raises:
        ValueError: as in :func:`harmonic_crystal` and :func:`~dy33lib.particles.simulate`.
    """
    harmonic_crystal(cells, density, T, pair)  # refuses what is not stable
    box = fcc(cells, density)
    N, edge = box.s.shape[1], box.L[:, None]
    k1, k2 = jax.random.split(key)

    def energy(flat):
        s = box.s + flat.reshape(N, 3).T / edge
        return pair_forces(s[..., None], edge, pair)[0][0]

    def push(flat):
        s = box.s + flat.reshape(N, 3).T / edge
        return -pair_forces(s[..., None], edge, pair)[1][..., 0].T.reshape(-1)

    zero = jnp.zeros(3 * N)
    H = np.asarray(jax.lax.map(lambda e: jax.jvp(push, (zero,), (e,))[1], jnp.eye(3 * N)))
    values, modes = np.linalg.eigh((H + H.T) / 2)
    waves = Waves(box.s, jnp.asarray(H), energy(zero), pair)
    z = jax.random.normal(k1, (3 * N - 3, draws)) * np.sqrt(T / values[3:, None])
    d = np.asarray(modes[:, 3:] @ z).reshape(N, 3, draws).swapaxes(0, 1)
    s, L = box.s[..., None] + d / np.asarray(edge)[..., None], jnp.repeat(edge, draws, axis=1)
    forward = waves.excess(s, L, pair_forces(s, L, pair)[0]) / T
    start = Configs(jnp.repeat(box.s[..., None], repeats, 2), jnp.repeat(edge, repeats, 1))
    run = simulate(
        start, jnp.full(repeats, T), None, frames, every=every, warmup=warmup, potential=waves,
        observe=waves.excess, fixed=True, key=k2,
    )  # fmt: skip
    # independent draws in as many columns as there are runs, whose frames are not independent
    columns = np.asarray(forward)[: draws // repeats * repeats].reshape(-1, repeats)
    return bar(columns, -np.asarray(run.seen) / T)


# Chains of states --------------------------------------------------------------------------------


def _chain(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Differences along windows by `bar`, added up, for each repeat.

    Args:
        forward: reduced energy of the next window less its own, frames x windows x repeats.
        backward: of the window before less its own.
    """
    W, R = forward.shape[1:]
    return np.array(
        [
            sum(bar(forward[:, k, r], backward[:, k + 1, r]).value for k in range(W - 1))
            for r in range(R)
        ]
    )


def _repeated(start: Configs, windows: int) -> Configs:
    """The configurations of all repeats for the first window, then for the second, and so on."""
    return Configs(jnp.tile(start.s, (1, 1, windows)), jnp.tile(start.L, (1, windows)))


class Springs(eqx.Module):
    """The crystal on its way from independent oscillators, U = share U_pairs + (1-share) U_springs.

    Attributes:
        share: of the pair potential, for each replica.
        home: sites over the edges.
        stiffness: of the springs, energy over length squared.
        pair: gives u and -u'/r by the squared distance.
    """

    share: Float[Array, " B"]
    home: Float[Array, "3 N"]
    stiffness: float = eqx.field(static=True)
    pair: Callable = eqx.field(static=True)

    def _away(self, s, L):
        d = s - self.home[..., None]
        return (d - jnp.mean(d, axis=1, keepdims=True)) * L[:, None]

    def parts(self, s, L, *_):
        """Energies of the pairs and of the springs."""
        springs = 0.5 * self.stiffness * jnp.sum(self._away(s, L) ** 2, axis=(0, 1))
        return pair_forces(s, L, self.pair)[0], springs

    def __call__(self, s, L):
        """Energies, forces and virials on the way."""
        U, F, W = pair_forces(s, L, self.pair)
        d, rest = self._away(s, L), 1 - self.share
        U = self.share * U + rest * 0.5 * self.stiffness * jnp.sum(d * d, axis=(0, 1))
        F = self.share[None, None] * F - rest[None, None] * self.stiffness * d
        return U, F, self.share[None] * W


def einstein_crystal(
    cells: tuple[int, int, int], density: float, T: float, *, stiffness: float = 200.0,
    nodes: int = 10, repeats: int = 8, frames: int = 1500, every: int = 2, warmup: int = 200,
    pair: Callable = pair_potential, key: Array,
) -> tuple[Route, Route]:  # fmt: skip
    """Free energy of the fcc crystal from independent oscillators (Frenkel and Ladd 1984).

    With the centre of mass at rest the oscillators have (Polson et al. 2000)
    beta F = -ln(V/N) - 3/2 (N-1) ln(2 pi T / stiffness) - 3/2 ln N.
    Windows are the nodes of Gauss's rule on (0, 1), and both ends.

    Args:
        cells: number of cubic cells along each edge.
        density: particles per volume.
        T: temperature.
        stiffness: of the springs.
        nodes: of the rule.
        repeats: independent ones.
        frames: configurations of each window and repeat.
        every: trajectories between.
        warmup: trajectories before.
        pair: gives u and -u'/r by the squared distance.
        key: for the random numbers.

    Returns:
        By `bar` along the windows; by the rule, from the same configurations.

    Raises:
        ValueError: as in :func:`~dy33lib.particles.simulate`; if stiffness is not positive.
    """
    check_state(T, 1.0)
    if not 0 < stiffness < np.inf:
        raise ValueError(f"stiffness must be positive and finite, got {stiffness}")
    if repeats < 2 or nodes < 1:
        raise ValueError(f"repeats must be 2 or more, nodes 1, got {repeats} and {nodes}")
    x, weight = np.polynomial.legendre.leggauss(nodes)
    shares = np.concatenate([[0.0], (x + 1) / 2, [1.0]])
    box, kind = fcc(cells, density), jnp.float32
    B = len(shares) * repeats
    start = Configs(
        jnp.repeat(box.s[..., None], B, axis=2).astype(kind),
        jnp.repeat(box.L[:, None], B, axis=1).astype(kind),
    )
    springs = Springs(
        jnp.repeat(jnp.asarray(shares, kind), repeats), box.s.astype(kind), stiffness, pair
    )
    run = simulate(
        start, jnp.full(B, T, kind), None, frames, every=every, warmup=warmup, potential=springs,
        observe=springs.parts, fixed=True, key=key,
    )  # fmt: skip
    pairs, bound = (np.asarray(v, float).reshape(frames, -1, repeats) for v in run.seen)
    gap = (pairs - bound) / T
    step = np.diff(shares)[:, None]
    forward, backward = gap[:, :-1] * step, -gap[:, 1:] * step
    N = box.s.shape[1]
    known = np.log(density) - 1.5 * (N - 1) * np.log(2 * np.pi * T / stiffness) - 1.5 * np.log(N)
    pad = np.zeros_like(gap[:, :1])
    chain = _chain(np.concatenate([forward, pad], 1), np.concatenate([pad, backward], 1))
    rule = np.einsum("w,wr->r", weight / 2, gap[:, 1:-1].mean(axis=0))
    cost = run.evaluations * B
    return _route(known + chain, cost), _route(known + rule, cost)


# The liquid --------------------------------------------------------------------------------------


def soft_pair(r2, share, cutoff: float = 2.2, onset: float = 1.98):
    """Energy and -u'/r of a pair on its way from nothing to Lennard-Jones (Beutler et al. 1994).

    u = 4 share (1/D^2 - 1/D) S with D = (1 - share)^2 / 2 + r^6, and S as in
    :func:`~dy33lib.particles.pair_potential`, which this is at share = 1.

    Args:
        r2: squared distances.
        share: from 0 to 1, of a shape that broadcasts.
        cutoff: from here u = 0.
        onset: up to here S = 1.
    """
    r = jnp.sqrt(r2)
    D = 0.5 * (1 - share) ** 2 + r2**3
    x = jnp.clip((r - onset) / (cutoff - onset), 0, 1)
    switch = 1 + x**3 * (-10 + x * (15 - 6 * x))
    slope = -30 * (x * (1 - x)) ** 2 / (cutoff - onset)
    bare = 4 * share * (1 / D - 1) / D
    steep = 4 * share * (1 - 2 / D) / D**2 * 6 * r2 * r2  # u' of the bare one, over r
    return bare * switch, -(switch * steep + bare * slope / jnp.maximum(r, 1e-6))


class Soft(eqx.Module):
    """Particles on their way from the ideal gas to the liquid.

    Attributes:
        share: how far, for each replica.
        before: the share one window before.
        after: the share one window on.
        pair: gives u and -u'/r by squared distance and share.
    """

    share: Float[Array, " B"]
    before: Float[Array, " B"]
    after: Float[Array, " B"]
    pair: Callable = eqx.field(static=True)

    def __call__(self, s, L):
        """Energies, forces and virials on the way."""
        return pair_forces(s, L, lambda r2: self.pair(r2, self.share[None]))

    def parts(self, s, L, U, *_):
        """Energies in the window after and in the one before, less that in its own."""
        return tuple(
            pair_forces(s, L, lambda r2, share=share: self.pair(r2, share[None]))[0] - U
            for share in (self.after, self.before)
        )


def soft_core(
    liquid: Configs, T: float, *, windows: int = 21, frames: int = 1500, every: int = 3,
    warmup: int = 300, pair: Callable = soft_pair, key: Array,
) -> Route:  # fmt: skip
    """Free energy of a liquid from the ideal gas, along soft potentials.

    The windows are joined by :func:`~dy33lib.flows.estimators.bar`.

    beta F = ln N! - N ln V at the start of the way, where nothing acts.

    Args:
        liquid: one configuration for each repeat, all of one volume.
        T: temperature.
        windows: equidistant ones from the ideal gas to the liquid.
        frames: configurations of each window and repeat.
        every: trajectories between.
        warmup: trajectories before.
        pair: gives u and -u'/r by squared distance and share.
        key: for the random numbers.

    Raises:
        ValueError: as in :func:`~dy33lib.particles.simulate`; if there are fewer than two repeats
            or windows, or volumes differ.
    """
    repeats, N, V = _liquid(liquid, T)
    if windows < 2:
        raise ValueError(f"windows must be at least 2, got {windows}")
    shares = np.linspace(0, 1, windows)
    near = [np.clip(np.arange(windows) + k, 0, windows - 1) for k in (0, -1, 1)]
    kind = liquid.s.dtype
    soft = Soft(*(jnp.repeat(jnp.asarray(shares[k], kind), repeats) for k in near), pair=pair)
    run = simulate(
        _repeated(liquid, windows), jnp.full(windows * repeats, T, kind), None, frames,
        every=every, warmup=warmup, potential=soft, observe=soft.parts, key=key,
    )  # fmt: skip
    forward, backward = (np.asarray(v, float).reshape(frames, -1, repeats) / T for v in run.seen)
    ideal = gammaln(N + 1) - N * np.log(V)
    return _route(ideal + _chain(forward, backward), run.evaluations * windows * repeats)


def beta_ladder(
    liquid: Configs, T: float, *, nodes: int = 14, frames: int = 1500, every: int = 3,
    warmup: int = 400, pair: Callable = pair_potential, key: Array,
) -> Route:  # fmt: skip
    """Free energy of a liquid from the ideal gas at infinite temperature, at constant volume.

    beta F = ln N! - N ln V + the integral of <U> over beta. With beta = x^4 / T the integrand is
    smooth: at short distances <U> grows as beta^(-3/4). Gauss's rule in x. In a gas so dilute that
    particles hardly ever meet, hot ones see too few collisions, which the error does not tell.

    Args:
        liquid: one configuration for each repeat, all of one volume.
        T: temperature of the liquid.
        nodes: of the rule.
        frames: configurations of each window and repeat.
        every: trajectories between.
        warmup: trajectories before, from the liquid on.
        pair: gives u and -u'/r by the squared distance.
        key: for the random numbers.

    Raises:
        ValueError: as in :func:`soft_core`.
    """
    repeats, N, V = _liquid(liquid, T)
    if nodes < 1:
        raise ValueError(f"nodes must be at least 1, got {nodes}")
    x, weight = np.polynomial.legendre.leggauss(nodes)
    x = (x + 1) / 2
    kind = liquid.s.dtype
    hot = jnp.repeat(jnp.asarray(T / x**4, kind), repeats)
    run = simulate(
        _repeated(liquid, nodes), hot, None, frames, every=every, warmup=warmup,
        step=0.012 * jnp.sqrt(T / hot), potential=partial(pair_forces, pair=pair),
        observe=_energy, key=key,
    )  # fmt: skip
    U = np.asarray(run.seen, float).reshape(frames, nodes, repeats).mean(axis=0)
    each = np.einsum("w,wr->r", weight / 2 * 4 * x**3 / T, U)
    ideal = gammaln(N + 1) - N * np.log(V)
    return _route(ideal + each, run.evaluations * nodes * repeats)


def _energy(s, L, U, W):
    return U


def _liquid(liquid: Configs, T: float) -> tuple[int, int, float]:
    """Repeats, particles and volume."""
    check_state(T, 1.0)
    V = np.prod(np.asarray(liquid.L, float), axis=0)
    if V.ndim != 1 or len(V) < 2 or np.ptp(V) > 1e-5 * V.mean():
        raise ValueError(f"liquid must have two or more replicas of one volume, got {V}")
    return len(V), liquid.s.shape[1], float(V.mean())


# From constant volume to constant pressure -------------------------------------------------------


def log_density(V, at: float) -> Difference:
    """Logarithm of the density of volumes at one of them, by Edgeworth's series.

    Args:
        V: volumes sampled at constant pressure, frames by replicas.
        at: where.

    Raises:
        ValueError: if there are no samples, or if it is further than one standard deviation from
            their mean, where the series is not to be trusted.
    """
    table = samples("V", V)
    away = (at - table.mean()) / table.std()
    if not abs(away) < 1:
        raise ValueError(
            f"at must be within a standard deviation of the mean, got {away:.2f} of it"
        )

    def value(v: np.ndarray) -> float:
        sd = v.std()
        z, d = (at - v.mean()) / sd, (v - v.mean()) / sd
        skew, excess = np.mean(d**3), np.mean(d**4) - 3
        he = np.polynomial.hermite_e.hermeval(z, [1, 0, 0, skew / 6, excess / 24, 0, skew**2 / 72])
        return float(np.log(he) - z * z / 2 - np.log(sd) - 0.5 * np.log(2 * np.pi))

    return Difference(value(table), jackknife(value, table), float("nan"))


def gibbs(F: float, T: float, P: float, V: float, ln_p: float) -> float:
    """Gibbs over k_B T, from F at one volume: beta G = beta F + beta P V + ln p(V).

    Args:
        F: over k_B T.
        T: temperature.
        P: pressure.
        V: the volume.
        ln_p: logarithm of the density of volumes at it, see :func:`log_density`.
    """
    return F + P * V / T + ln_p
