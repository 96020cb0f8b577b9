"""Particles in a periodic box: the Lennard-Jones system, the fcc crystal, sampling.

Lennard-Jones units throughout: lengths in sigma, energies and k_B T in epsilon, masses 1. Arrays
have the coordinate first, then the particle, and replicas last, so that one operation serves all
replicas of a pair: `s[:, i, b]` is the position of particle i of replica b in units of the box
edges `L[:, b]`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

CUTOFF, ONSET = 2.2, 1.98  # of the potential: zero from here, switched off from there


class Configs(NamedTuple):
    """Configurations of N particles.

    Attributes:
        s: positions over the edges of the box; any image will do.
        L: edges of the box.
    """

    s: Float[Array, "3 N ..."]
    L: Float[Array, "3 ..."]


def check_configs(s, L, cutoff: float = CUTOFF) -> None:
    """Raise a ValueError unless these are configurations whose minimum images are unique.

    Args:
        s: positions over the edges.
        L: edges.
        cutoff: of the potential.

    Raises:
        ValueError: if shapes do not fit, an entry is not finite, or an edge not longer than twice
            the cut-off.
    """
    if np.ndim(s) != 3 or s.shape[0] != 3 or s.shape[1] < 2 or np.shape(L) != (3, s.shape[2]):
        raise ValueError(f"s must be 3 x N x B, L 3 x B, got {np.shape(s)} and {np.shape(L)}")
    if isinstance(s, Tracer) or isinstance(L, Tracer):
        return  # the caller's values are known to nobody yet
    s, L = np.asarray(s), np.asarray(L)  # as JAX arrays they would be traced along
    if not np.isfinite(s).all():
        raise ValueError("s must be finite")
    if not (np.isfinite(L).all() and np.min(L) > 0):
        raise ValueError(f"L must be positive and finite, got a smallest of {np.min(L)}")
    if not np.min(L) > 2 * cutoff:
        raise ValueError(f"L must exceed twice the cutoff {cutoff}, got {np.min(L)}")


def fcc(cells: tuple[int, int, int], density: float) -> Configs:
    """The face-centred cubic crystal, four particles a cell, as one configuration without replicas.

    Args:
        cells: number of cubic cells along each edge.
        density: particles per volume.

    Raises:
        ValueError: if there is no cell, or the density is not positive and finite.
    """
    if len(cells) != 3 or min(cells) < 1:
        raise ValueError(f"cells must be three positive numbers, got {cells}")
    if not 0 < density < np.inf:
        raise ValueError(f"density must be positive and finite, got {density}")
    basis = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]]) / 2
    corners = np.stack(np.meshgrid(*(np.arange(n) for n in cells), indexing="ij"), -1)
    s = (corners.reshape(-1, 1, 3) + basis).reshape(-1, 3) / np.array(cells)
    edge = (4 / density) ** (1 / 3)
    return Configs(jnp.asarray(s.T), jnp.asarray(np.array(cells) * edge))


# The potential -----------------------------------------------------------------------------------


def pair_potential(r2, cutoff: float = CUTOFF, onset: float = ONSET):
    """Energy u of a pair, and the force along the distance over the distance, -u'/r.

    u = 4 (r^-12 - r^-6) S(x) with x = (r - onset) / (cutoff - onset), and between the two
    S = 1 - 10 x^3 + 15 x^4 - 6 x^5: energy, force and its derivative are continuous. Neither
    shifted nor corrected for what is cut off.

    Args:
        r2: squared distances; of any shape.
        cutoff: from here u = 0.
        onset: up to here S = 1.
    """
    r, inverse = jnp.sqrt(r2), 1 / r2
    sixth = inverse**3
    x = jnp.clip((r - onset) / (cutoff - onset), 0, 1)
    switch = 1 + x**3 * (-10 + x * (15 - 6 * x))
    slope = -30 * (x * (1 - x)) ** 2 / (cutoff - onset)
    bare = 4 * (sixth * sixth - sixth)
    steep = -24 * (2 * sixth * sixth - sixth)  # r times the derivative
    return bare * switch, -(switch * steep + r * bare * slope) * inverse


def sum_over_pairs(s, term: Callable, nothing: PyTree) -> tuple[Array, PyTree]:
    """Sum over pairs of a vector for one particle and its opposite for the other, and of more.

    Particles are paired with those k places on, for k up to N/2: everything stays a sum over
    contiguous arrays, without a table of neighbours.

    Args:
        s: positions over the edges.
        term: gives vectors, 3 x N x B, and other sums over the N pairs, by the nearest images of
            s_i - s_(i+k) and by k.
        nothing: zeros like the other sums.
    """
    N, twice = s.shape[1], jnp.concatenate([s, s], axis=1)

    def add(k, carry):
        vectors, others = carry
        d = s - jax.lax.dynamic_slice_in_dim(twice, k, N, axis=1)
        push, more = term(d - jnp.round(d), k)
        once = jnp.where(2 * k == N, 0.5, 1.0).astype(s.dtype)  # else these would count twice
        push = once * push
        vectors = vectors.at[:, :N].add(push)
        vectors = jax.lax.dynamic_update_slice_in_dim(
            vectors, jax.lax.dynamic_slice_in_dim(vectors, k, N, axis=1) - push, k, axis=1
        )
        return vectors, jax.tree.map(lambda a, b: a + once * b, others, more)

    zero = jnp.zeros((3, 2 * N, s.shape[2]), s.dtype)
    vectors, others = jax.lax.fori_loop(1, N // 2 + 1, add, (zero, nothing))
    return vectors[:, :N] + vectors[:, N:], others


def pair_forces(s, L, pair: Callable) -> tuple[Array, Array, Array]:
    """Energy, forces and virial of a sum over pairs, as :func:`lj_forces` but without checks.

    Args:
        s: positions over the edges.
        L: edges of the boxes.
        pair: gives u and -u'/r by the squared distance, as :func:`pair_potential`.
    """

    def term(d, _):
        d = d * L[:, None]
        u, w = pair(jnp.sum(d * d, axis=0))
        push = w[None] * d
        return push, (jnp.sum(u, axis=0), jnp.sum(push * d, axis=1))

    F, (U, W) = sum_over_pairs(s, term, (jnp.zeros_like(L[0]), jnp.zeros_like(L)))
    return U, F, W


def lj_forces(
    s: Float[Array, "3 N B"],
    L: Float[Array, "3 B"],
    cutoff: float = CUTOFF,
    onset: float = ONSET,
) -> tuple[Float[Array, " B"], Float[Array, "3 N B"], Float[Array, "3 B"]]:
    """Energy, forces and virial of the switched Lennard-Jones potential.

    Args:
        s: positions over the edges.
        L: edges of the boxes.
        cutoff: see :func:`pair_potential`.
        onset: see there.

    Returns:
        Energies; forces on the particles; virial along each edge, -L dU/dL at constant s. The
        pressure of a configuration is (N T + the mean of the three virials) / V.

    Raises:
        ValueError: as in :func:`check_configs`, or if the onset is not between 0 and the cut-off.
    """
    if not 0 < onset < cutoff < np.inf:
        raise ValueError(f"onset must lie between 0 and the cutoff {cutoff}, got {onset}")
    check_configs(s, L, cutoff)
    return pair_forces(s, L, partial(pair_potential, cutoff=cutoff, onset=onset))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _energy(s, L, cutoff, onset):
    return lj_forces(s, L, cutoff, onset)[0]


def _energy_forward(s, L, cutoff, onset):
    U, F, W = lj_forces(s, L, cutoff, onset)
    return U, (L, F, W)


def _energy_backward(cutoff, onset, kept, slope):
    L, F, W = kept
    return -slope[None, None] * F * L[:, None], -slope[None] * W / L


_energy.defvjp(_energy_forward, _energy_backward)


def lj_energy(
    s: Float[Array, "3 N B"],
    L: Float[Array, "3 B"],
    cutoff: float = CUTOFF,
    onset: float = ONSET,
) -> Float[Array, " B"]:
    """Energy of the switched Lennard-Jones potential; its gradient costs one evaluation of forces.

    Args:
        s: positions over the edges.
        L: edges of the boxes.
        cutoff: see :func:`pair_potential`.
        onset: see there.

    Raises:
        ValueError: as in :func:`lj_forces`.
    """
    check_configs(s, L, cutoff)  # here, where the values are known
    return _energy(s, L, cutoff, onset)


# Sampling ----------------------------------------------------------------------------------------


class Run(NamedTuple):
    """What :func:`simulate` gives; frames along the first axis.

    Attributes:
        seen: what was observed.
        last: the configurations at the end.
        origin: where each replica's configuration came from in the exchange before the frame.
        accepted: part of the trajectories, and of the changes of volume, that were accepted.
        step: time step of the trajectories after warming up.
        stretch: largest change of ln V after warming up.
        evaluations: how often forces were computed for one replica, warming up included.
    """

    seen: PyTree
    last: Configs
    origin: Int[Array, "F B"]
    accepted: Float[Array, "2 B"]
    step: Float[Array, " B"]
    stretch: Float[Array, " B"]
    evaluations: int


class Samples(NamedTuple):
    """Configurations from :func:`sample_npt`; frames along the first axis.

    Attributes:
        s: positions over the edges.
        L: edges of the boxes.
        U: energies.
        W: virials along each edge.
        accepted: part of the trajectories, and of the changes of volume, that were accepted.
        step: time step of the trajectories after warming up.
        stretch: largest change of ln V after warming up.
        evaluations: how often forces were computed for one replica, warming up included.
    """

    s: Float[Array, "F 3 N B"]
    L: Float[Array, "F 3 B"]
    U: Float[Array, "F B"]
    W: Float[Array, "F 3 B"]
    accepted: Float[Array, "2 B"]
    step: Float[Array, " B"]
    stretch: Float[Array, " B"]
    evaluations: int


class _Chain(NamedTuple):
    s: Array
    L: Array
    U: Array
    F: Array
    W: Array


def _where(take, new: _Chain, old: _Chain) -> _Chain:
    """The new state in the replicas that take it."""
    shape = {1: take, 2: take[None], 3: take[None, None]}
    return _Chain(*(jnp.where(shape[a.ndim], a, b) for a, b in zip(new, old, strict=True)))


def _trajectory(chain: _Chain, T, step, leaps: int, potential: Callable, fixed: bool, key):
    """Hybrid Monte Carlo: one trajectory with new velocities, accepted or not."""
    k1, k2, k3 = jax.random.split(key, 3)
    v = jax.random.normal(k1, chain.s.shape, chain.s.dtype) * jnp.sqrt(T)[None, None]
    if fixed:
        v = v - jnp.mean(v, axis=1, keepdims=True)
    # Lengths vary: a trajectory of just one period would leave a harmonic mode where it was.
    dt = step * jax.random.uniform(k3, step.shape, step.dtype, 0.8, 1.2)
    L, dt = chain.L[:, None], dt[None, None]

    def leap(_, carry):
        s, v, _, F, _ = carry
        v = v + 0.5 * dt * F
        s = s + dt * v / L
        U, F, W = potential(s, chain.L)
        return s, v + 0.5 * dt * F, U, F, W

    s, moving, U, F, W = jax.lax.fori_loop(0, leaps, leap, (chain.s, v, *chain[2:]))
    kinetic = [0.5 * jnp.sum(w * w, axis=(0, 1)) for w in (v, moving)]
    gain = (chain.U + kinetic[0] - U - kinetic[1]) / T
    take = jnp.log(jax.random.uniform(k2, gain.shape, gain.dtype)) < gain
    return _where(take, _Chain(s, chain.L, U, F, W), chain), take


def _breathe(chain: _Chain, T, P, stretch, smallest: float, potential: Callable, key):
    """A change of volume with all s as they are; where an edge gets too short it is refused."""
    k1, k2 = jax.random.split(key)
    N, V = chain.s.shape[1], jnp.prod(chain.L, axis=0)
    change = stretch * jax.random.uniform(k1, V.shape, V.dtype, -1, 1)  # of ln V
    L = chain.L * jnp.exp(change / 3)[None]
    narrow = jnp.min(L, axis=0) <= smallest
    U, F, W = potential(chain.s, L)
    gain = (chain.U - U + P * (V - V * jnp.exp(change))) / T + (N + 1) * change
    take = ~narrow & (jnp.log(jax.random.uniform(k2, gain.shape, gain.dtype)) < gain)
    return _where(take, _Chain(chain.s, L, U, F, W), chain), take, narrow


def _exchanged(chain: _Chain, exchange: Callable | None, potential: Callable, key):
    """Configurations after changing places, and where each came from."""
    stay = jnp.arange(chain.U.shape[0])
    if exchange is None:
        return chain, stay
    origin = exchange(chain.s, chain.L, key)
    s, L = chain.s[..., origin], chain.L[..., origin]
    return _Chain(s, L, *potential(s, L)), origin


@eqx.filter_jit
def _run(start, T, P, step, stretch, potential, key, settings):
    """Warm up, then look after every so many sweeps; settings: what does not change."""
    frames, every, warmup, leaps, smallest, observe, exchange, fixed = settings

    def sweep(chain, step, stretch, key):
        k1, k2 = jax.random.split(key)
        chain, moved = _trajectory(chain, T, step, leaps, potential, fixed, k1)
        if P is None:
            return chain, jnp.stack([moved, moved]), jnp.zeros_like(moved)
        chain, breathed, narrow = _breathe(chain, T, P, stretch, smallest, potential, k2)
        return chain, jnp.stack([moved, breathed]), narrow

    def warm(carry, key):
        chain, step, stretch = carry
        chain, took, _ = sweep(chain, step, stretch, key)
        rate = took.astype(step.dtype)
        step = step * jnp.exp(0.1 * (rate[0] - 0.8))
        stretch = stretch * jnp.exp(0.1 * (rate[1] - 0.5))
        return (chain, step, stretch), None

    def frame(chain, key):
        def one(carry, key):
            chain, took, hit = carry
            chain, more, narrow = sweep(chain, step, stretch, key)
            return (chain, took + more.astype(int), hit | jnp.any(narrow)), None

        k1, k2 = jax.random.split(key)
        none = jnp.zeros((2, T.shape[0]), int), jnp.array(False)
        (chain, took, hit), _ = jax.lax.scan(one, (chain, *none), jax.random.split(k1, every))
        chain, origin = _exchanged(chain, exchange, potential, k2)
        return chain, (observe(chain.s, chain.L, chain.U, chain.W), origin, took, hit)

    k1, k2 = jax.random.split(key)
    chain = _Chain(*start, *potential(*start))
    if warmup:
        (chain, step, stretch), _ = jax.lax.scan(
            warm, (chain, step, stretch), jax.random.split(k1, warmup)
        )
    chain, (seen, origin, took, hit) = jax.lax.scan(frame, chain, jax.random.split(k2, frames))
    accepted = (jnp.sum(took, axis=0) / (frames * every)).astype(step.dtype)
    return seen, Configs(chain.s, chain.L), origin, accepted, step, stretch, jnp.any(hit)


def everything(s, L, U, W):
    """Observe all there is."""
    return s, L, U, W


def simulate(
    start: Configs,
    T: Float[Array, " B"],
    P: Float[Array, " B"] | None,
    frames: int,
    *,
    every: int = 4,
    warmup: int = 200,
    leaps: int = 10,
    step: float | Array = 0.012,
    stretch: float | Array = 0.03,
    smallest: float = 2 * CUTOFF,
    potential: Callable = lj_forces,
    observe: Callable = everything,
    exchange: Callable | None = None,
    fixed: bool = False,
    key: Array,
) -> Run:
    """Hybrid Monte Carlo (Duane et al. 1987), at constant pressure with changes of volume.

    A sweep is a trajectory, of steps that vary by a fifth from one to the next, and at constant
    pressure a change of volume, with the measure dV. While warming up, time step and change of
    volume are adapted to 80 and 50 % accepted; then they are fixed. Each replica has its own
    temperature and pressure.

    Args:
        start: a configuration for each replica.
        T: temperatures.
        P: pressures; None at constant volume.
        frames: how often to look.
        every: sweeps between.
        warmup: sweeps before.
        leaps: steps of a trajectory.
        step: its time step at first; may differ from replica to replica.
        stretch: the largest change of ln V at first; may differ, too.
        smallest: edges never get as short as this.
        potential: energies, forces, virials by s and L; parameters by replica may be arrays of an
            `eqx.Module`.
        observe: what to keep of s, L, U and W.
        exchange: gives, by s, L and a key, where the configuration of each replica is to come from;
            called before each look. It has to leave the joint distribution as it is.
        fixed: whether the centre of mass stays.
        key: for the random numbers.

    Raises:
        ValueError: if the start is no configuration, see :func:`check_configs`; if T or P is not
            positive and finite, or a number not positive; if a box tried to shrink below the
            smallest edge, so that the potential could not be trusted; if hardly any trajectory was
            accepted.
    """
    check_configs(*start, smallest / 2)
    for name, value in (("T", T), ("P", T if P is None else P)):
        if np.shape(value) != start.L.shape[1:] or not np.all(np.isfinite(value) & (value > 0)):
            raise ValueError(f"{name} must be positive and finite for each replica, got {value}")
    for name, value in (("frames", frames), ("every", every), ("leaps", leaps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name, value in (("step", step), ("stretch", stretch)):
        if not np.all((np.asarray(value) > 0) & np.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if warmup < 0:
        raise ValueError(f"warmup must not be negative, got {warmup}")
    kind = start.s.dtype
    steps, stretches = (jnp.full(np.shape(T), value, kind) for value in (step, stretch))
    seen, last, origin, accepted, final, spread, hit = _run(
        Configs(*start), jnp.asarray(T, kind), None if P is None else jnp.asarray(P, kind),
        steps, stretches, potential, key,
        (frames, every, warmup, leaps, smallest, observe, exchange, fixed),
    )  # fmt: skip
    each = leaps + (P is not None)
    extra = frames * (exchange is not None)
    cost = 1 + (warmup + frames * every) * each + extra
    run = Run(seen, last, origin, accepted, final, spread, cost)
    if hit:
        raise ValueError(f"P drove a box to edges below smallest = {smallest}: take more particles")
    if float(jnp.min(run.accepted[0])) < 0.3:
        raise ValueError(
            f"step = {step} left a replica with {float(jnp.min(run.accepted[0])):.2f} of its "
            "trajectories accepted: warm up longer, or start from another configuration"
        )
    return run


def sample_npt(
    start: Configs, T: Float[Array, " B"], P: Float[Array, " B"], frames: int, **settings
) -> Samples:
    """Configurations at constant temperature and pressure.

    Args:
        start: a configuration for each replica.
        T: temperatures.
        P: pressures.
        frames: configurations to keep of each replica.
        settings: those of :func:`simulate`.

    Raises:
        ValueError: as in :func:`simulate`.
    """
    run = simulate(start, T, P, frames, **settings)
    s, L, U, W = run.seen
    return Samples(s, L, U, W, run.accepted, run.step, run.stretch, run.evaluations)
