"""The study of chapter 5: its states, reference configurations, and what ships of both."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dy33lib.flows.exact import check_state
from dy33lib.particles import Configs, Samples, fcc, sample_npt, simulate

PHASES = ("solid", "liquid")
CELLS = (3, 3, 3)
T0, P0 = 1.2, 6.1  # the reference state, close to coexistence of 108 particles
TEMPERATURES = (0.9, 1.05, 1.2, 1.35, 1.5, 1.6)
OFFSETS = (-2.0, -1.0, 0.0, 1.0, 2.0)
LEVELS = 2**16  # of positions that ship, of each coordinate


def guess(T):
    """Pressure about which states are chosen: a parabola near coexistence of 108 particles.

    Args:
        T: temperature.
    """
    return 6.4 + 13.6 * (T - 1.2) + 3.1 * (T - 1.2) ** 2


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
