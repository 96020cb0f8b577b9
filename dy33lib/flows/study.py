"""The study of chapter 5: its states, reference configurations, flows, and what ships of them."""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dy33lib.flows.diagram import means
from dy33lib.flows.estimators import Difference, Mbar, mbar
from dy33lib.flows.exact import check_state
from dy33lib.flows.layers import ConditionalFlow, Mapped, mapped
from dy33lib.flows.training import Trained, train
from dy33lib.particles import Configs, Samples, check_configs, fcc, sample_npt, simulate

PHASES = ("solid", "liquid")
CELLS = (3, 3, 3)
T0, P0 = 1.2, 6.1  # the reference state, close to coexistence of 108 particles
TEMPERATURES = (0.9, 1.05, 1.2, 1.35, 1.5, 1.6)
OFFSETS = (-2.0, -1.0, 0.0, 1.0, 2.0)
LEVELS = 2**16  # of positions that ship, of each coordinate
SEEDS = (0, 1, 2)  # of the flows; each leaves another third of the replicas for its tests
TERMS = 8  # of the profile
STEPS = {0: 300, TERMS: 600}  # of training, for the flows that ship


def guess(T):
    """Pressure about which states are chosen: a parabola near coexistence of 108 particles.

    Args:
        T: temperature.
    """
    return 6.4 + 13.6 * (T - 1.2) + 3.1 * (T - 1.2) ** 2


WORST = 0.9, guess(0.9) - 2  # where the liquid's flow has the fewest effective samples
HIGH = 1.5, guess(1.5)  # of a second run between the phases


def states(temperatures=TEMPERATURES, offsets=OFFSETS) -> Float[np.ndarray, "K 2"]:
    """Temperature and pressure of a grid along the guess; the reference first.

    Args:
        temperatures: of the grid.
        offsets: of the pressure from the guess.
    """
    grid = [(T, guess(T) + dP) for T in temperatures for dP in offsets]
    return np.array([(T0, P0), *grid])


def _repeated(box: Configs, B: int) -> Configs:
    """As many replicas in single precision."""
    return Configs(
        jnp.repeat(box.s[..., None], B, axis=2).astype(jnp.float32),
        jnp.repeat(box.L[:, None], B, axis=1).astype(jnp.float32),
    )


def begin(phase: str, B: int, *, cells: tuple[int, int, int] = CELLS, key: Array) -> Configs:
    """Configurations to start from: the crystal, or what is left of it after heating.

    Args:
        phase: "solid" or "liquid".
        B: replicas.
        cells: number of cubic cells along each edge.
        key: for the random numbers.

    Raises:
        ValueError: if there is no such phase.
    """
    if phase not in PHASES:
        raise ValueError(f"phase must be one of {PHASES}, got {phase!r}")
    box = _repeated(fcc(cells, 1.0 if phase == "solid" else 0.8), B)
    if phase == "solid":
        return box
    hot = jnp.full(B, 6.0, jnp.float32)
    return simulate(box, hot, None, 2, every=20, warmup=150, key=key).last


def reference(
    phase: str, B: int, frames: int, *, state: tuple[float, float] = (T0, P0),
    cells: tuple[int, int, int] = CELLS, every: int = 4, warmup: int = 300, key: Array,
) -> Samples:  # fmt: skip
    """Configurations of the reference state of one phase.

    Args:
        phase: "solid" or "liquid".
        B: replicas, each from a start of its own.
        frames: configurations of each.
        state: temperature and pressure.
        cells: number of cubic cells along each edge.
        every: sweeps between.
        warmup: sweeps before.
        key: for the random numbers.

    Raises:
        ValueError: as in :func:`begin` and :func:`~dy33lib.particles.simulate`.
    """
    check_state(*state)
    k1, k2 = jax.random.split(key)
    start = begin(phase, B, cells=cells, key=k1)
    T, P = (jnp.full(B, value, jnp.float32) for value in state)
    return sample_npt(start, T, P, frames, every=every, warmup=warmup, key=k2)


class Packed(NamedTuple):
    """Configurations of cubic boxes as they ship.

    Attributes:
        s: positions over the edges, in steps of 1 / 65536.
        V: volumes.
    """

    s: np.ndarray
    V: Float[np.ndarray, "F B"]


def pack(s, L) -> Packed:
    """Round positions to what ships; energies have to be computed anew from them.

    Args:
        s: positions over the edges, F x 3 x N x B.
        L: edges, all three alike, F x 3 x B.
    """
    steps = np.round(np.asarray(s, float) % 1 * LEVELS).astype(np.int64) % LEVELS
    V = np.prod(np.asarray(L, float), axis=1)
    return Packed(steps.astype(np.uint16), V.astype(np.float32))


def unpack(packed: Packed, replicas=None) -> Configs:
    """Configurations in single precision, frames and replicas in one axis.

    Args:
        packed: from :func:`pack`.
        replicas: which; all unless given.
    """
    which = slice(None) if replicas is None else replicas
    s, V = packed.s[..., which], packed.V[..., which]
    F, _, N, B = s.shape
    flat = np.moveaxis(s, 0, -2).reshape(3, N, F * B)
    edge = np.cbrt(V.astype(float).reshape(-1))
    return Configs(
        jnp.asarray(flat / LEVELS, jnp.float32),
        jnp.asarray(np.tile(edge, (3, 1)), jnp.float32),
    )


def draw_states(key, n: int) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """States to train on: uniform in temperature, and in pressure about the guess.

    Args:
        key: for the random numbers.
        n: how many.
    """
    k1, k2 = jax.random.split(key)
    T = jax.random.uniform(k1, (n,), jnp.float32, min(TEMPERATURES), max(TEMPERATURES))
    return T, guess(T) + jax.random.uniform(k2, (n,), jnp.float32, min(OFFSETS), max(OFFSETS))


# Flows -------------------------------------------------------------------------------------------


def fold(B: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Replicas to train on, and to test on: every third, so that three seeds test on all.

    Args:
        B: replicas.
        seed: 0, 1 or 2.
    """
    test = np.arange(seed % len(SEEDS), B, len(SEEDS))
    return np.setdiff1d(np.arange(B), test), test


def trained(
    configs: Configs, start: tuple[float, float], terms: int, *, steps: int, batch: int, key: Array
) -> Trained:
    """A flow from the reference to the rectangle of states, at the rate that was best in trials.

    Args:
        configs: of the reference.
        start: its temperature and pressure.
        terms: of the profile; 0 for volumes only.
        steps: of the optimiser.
        batch: configurations of each step.
        key: for the random numbers.
    """
    k1, k2 = jax.random.split(key)
    flow = ConditionalFlow(configs, *start, terms=terms, key=k1)
    return train(flow, configs, start, draw_states, steps=steps, batch=batch, rate=1e-2, key=k2)


def shipped(
    archive: Mapping[str, np.ndarray], name: str, configs: Configs, start, terms: int, steps=1
) -> ConditionalFlow:
    """A flow that ships.

    Args:
        archive: what ships.
        name: as "reference-solid-8-0".
        configs: it was trained on.
        start: their temperature and pressure.
        terms: of the profile.
        steps: of the integration; flows were trained with one.

    Raises:
        ValueError: if it does not ship.
    """
    if f"networks/{name}/0" not in archive:
        raise ValueError(f"name must be that of a flow that ships, got {name!r}")
    flow = ConditionalFlow(configs, *start, terms=terms, steps=steps, key=jax.random.key(0))
    leaves, tree = jax.tree.flatten(eqx.filter(flow, eqx.is_inexact_array))
    weights = [jnp.asarray(archive[f"networks/{name}/{i}"]) for i in range(len(leaves))]
    return eqx.combine(jax.tree.unflatten(tree, weights), flow)


@eqx.filter_jit
def _sweep(flow, configs: Configs, start, T, P) -> Mapped:
    B = configs.L.shape[1]

    def one(state):
        T, P = (jnp.full(B, x, configs.s.dtype) for x in state)
        return mapped(flow, *configs, start, T, P)[:4]

    return Mapped(*jax.lax.map(one, (T, P)), N=configs.s.shape[1])


def sweep(flow, configs: Configs, start: tuple[float, float], at) -> Mapped:
    """Configurations mapped to many states; states along the first axis.

    Args:
        flow: the map, or None.
        configs: of the reference.
        start: its temperature and pressure.
        at: temperatures and pressures, K x 2.

    Raises:
        ValueError: as in :func:`~dy33lib.flows.layers.mapped` and
            :func:`~dy33lib.particles.check_configs`.
    """
    check_configs(*configs)
    check_state(*start)
    check_state(*np.asarray(at).T)
    T, P = jnp.asarray(at, configs.s.dtype).T
    return _sweep(flow, configs, start, T, P)


def log_weights_at(found: Mapped, at) -> Float[np.ndarray, "K B"]:
    """Logarithms of the weights where each sweep aimed at.

    Args:
        found: from :func:`sweep`.
        at: the same states.
    """
    T, P = np.asarray(at, float).T[:, :, None]
    double = Mapped(*(jnp.asarray(x, float) for x in found[:4]), N=found.N)
    return np.asarray(double.log_weights(T, P))


def pooled(flows, packed: Packed, start: tuple[float, float], at) -> Mapped:
    """Every configuration mapped by the flow that was not trained on it.

    Args:
        flows: one for each seed, trained on all but its fold; or None, for no map.
        packed: the reference.
        start: its temperature and pressure.
        at: temperatures and pressures, K x 2.

    Returns:
        As :func:`sweep`, configurations as frames x replicas in one axis.
    """
    if flows is None:
        return sweep(None, unpack(packed), start, at)
    F, B = packed.V.shape
    parts = [np.empty((len(at), F, B)) for _ in range(4)]
    for seed, flow in enumerate(flows):
        _, test = fold(B, seed)
        found = sweep(flow, unpack(packed, test), start, at)
        for whole, part in zip(parts, found[:4], strict=True):
            whole[:, :, test] = np.asarray(part, float).reshape(len(at), F, -1)
    return Mapped(*(jnp.asarray(p.reshape(len(at), -1)) for p in parts), N=packed.s.shape[2])


# The grid ----------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """Free energies from simulations of every state, by :func:`~dy33lib.flows.estimators.mbar`.

    Attributes:
        all: from all replicas, with energies and volumes of their configurations.
        without: the same with one replica of each state left out.
        kept: how many replicas of each state have stayed in their phase.
    """

    all: tuple[Mbar, np.ndarray, np.ndarray]
    without: list[tuple[Mbar, np.ndarray, np.ndarray]]
    kept: np.ndarray

    def at(self, T: float, P: float) -> Difference:
        """Free energy less that of the reference, with an error from leaving out replicas."""

        def value(found: Mbar, U: np.ndarray, V: np.ndarray) -> float:
            return found.at((U + P * V) / T)

        each = np.array([value(*w) for w in self.without])
        R = len(each)
        error = np.sqrt((R - 1) / R * np.sum((each - each.mean()) ** 2))
        return Difference(value(*self.all), float(error), float("nan"))

    def means(self, T: float, P: float) -> tuple[float, float]:
        """Mean energy and volume."""
        found, U, V = self.all
        return means(-(U + P * V) / T - found.log_mixture, U, V)


def drop(U: Float[np.ndarray, "F K R"]) -> Float[np.ndarray, "K R"]:
    """How far each replica's energy fell below that of its state.

    The lowest mean of a fifth of its run, in standard deviations of single frames, both about the
    state's median, so that few replicas do not matter. A liquid stays within 1.2; a crystal, in
    whatever direction it grew, falls by 2 to 4.

    Args:
        U: energies, frames x states x replicas.

    Raises:
        ValueError: if the number of frames is no multiple of five, or all energies are alike.
    """
    if len(U) % 5 or not len(U):
        raise ValueError(f"U must have a multiple of five frames, got {len(U)}")
    middle = np.median(U, axis=(0, 2), keepdims=True)
    spread = 1.4826 * np.median(np.abs(U - middle), axis=(0, 2), keepdims=True)
    if not spread.all():
        raise ValueError("U must have energies that differ, in every state")
    fifths = np.mean(U.reshape(5, -1, *U.shape[1:]), axis=1)
    return -((fifths - middle) / spread).min(axis=0)


def grid(
    archive: Mapping[str, np.ndarray], phase: str, between: float = 0.5, deep: float = 1.2
) -> Grid:
    """The grid of simulations that ships.

    A crystal that melts, or a liquid that freezes, has left the phase: its whole run is left out,
    and so is a state that half of its replicas have left. The order tells a crystal from the rest,
    but only one in the direction that it is made for; a liquid that freezes does so in any, and
    gives itself away by its energy.

    Args:
        archive: what ships.
        phase: "solid" or "liquid".
        between: order that divides the phases, see :func:`~dy33lib.flows.umbrella.order`.
        deep: :func:`drop` from which on a liquid has frozen.
    """
    U, V = (np.asarray(archive[f"grid/{phase}/{name}"], float) for name in "UV")
    if phase == "solid":
        stayed = archive["grid/solid/low"] > between
    else:
        stayed = (archive["grid/liquid/high"] < between) & (archive["grid/liquid/drop"] < deep)
    stayed = stayed & (stayed.mean(axis=1, keepdims=True) > 0.5)
    at, F = states(), U.shape[0]

    def solve(take: np.ndarray, start=None) -> tuple[Mbar, np.ndarray, np.ndarray]:
        u, v = (
            np.concatenate([x[:, k][:, take[k]].reshape(-1) for k in range(len(at))])
            for x in (U, V)
        )
        table = (u[None] + at[:, 1:] * v[None]) / at[:, :1]
        found = mbar(table, F * take.sum(axis=1), start)
        return found._replace(log_weights=np.empty((len(at), 0))), u, v  # large, and of no use

    everything, without = solve(stayed), []
    for r in range(U.shape[2]):
        take = stayed.copy()
        take[:, r] = False
        without.append(solve(take, everything[0].f))
    return Grid(everything, without, stayed.sum(axis=1))
