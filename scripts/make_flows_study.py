"""Make the configurations and free energies of chapter 5 that take too long for the chapter.

    python scripts/make_flows_study.py run reference grid absolute umbrella second published
    python scripts/make_flows_study.py finish

About two hours of one core; parts that are done are skipped. Writes, into `dy33lib/data`,

- `flows_reference.npz`: configurations of the reference state, `<phase>/s` and `<phase>/V`, see
  `dy33lib.flows.study.Packed`;
- `flows_study.npz`: all numbers, see `finish`.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from dy33lib.flows import absolute, study, umbrella  # noqa: E402
from dy33lib.particles import Configs, simulate  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "dy33lib" / "data"
PARTIAL = Path(os.environ.get("PARTIAL", ROOT / "_build" / "flows_parts"))
B, FRAMES = 64, 400  # replicas of the reference, and how often they were looked at
T, P = study.T0, study.P0
V0 = {"solid": 107.09, "liquid": 116.37}  # volumes of the absolute free energies
LARGE = (4, 4, 4)
V_LARGE = {"solid": 253.85, "liquid": 276.83}


def once(name: str, make: Callable[[], dict]) -> dict:
    """What the part gave, computed if it is not there yet."""
    target = PARTIAL / f"{name}.npz"
    if not target.exists():
        begun = time.process_time()
        arrays = make()
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, **arrays, seconds=time.process_time() - begun)
        print(f"{name}: {time.process_time() - begun:.0f} s", flush=True)
    with np.load(target) as archive:
        return dict(archive)


def reference(phase: str, cells=study.CELLS, replicas: int = B) -> dict:
    """Samples of the reference state."""

    def make() -> dict:
        run = study.reference(
            phase, replicas, FRAMES, cells=cells, warmup=400,
            key=jax.random.key(study.PHASES.index(phase)),
        )  # fmt: skip
        return dict(s=run.s, L=run.L, U=run.U, W=run.W, cost=run.evaluations * replicas)

    return once(f"reference/{phase}-{4 * int(np.prod(cells))}", make)


def start(phase: str, count: int, volume: float | None = None, cells=study.CELLS) -> Configs:
    """Configurations from the ends of that many replicas of the reference."""
    found = reference(phase, cells, B if cells == study.CELLS else 16)
    which = np.arange(count) % found["s"].shape[-1]
    s, L = found["s"][-1][..., which], found["L"][-1][..., which]
    if volume is not None:
        L = np.full_like(L, np.cbrt(volume))
    return Configs(jnp.asarray(s, jnp.float32), jnp.asarray(L, jnp.float32))


def observe(s, L, U, W):
    return U, jnp.prod(L, axis=0), umbrella.order(s, study.CELLS)


def grid(phase: str, replicas: int = 16, frames: int = 100) -> dict:
    """Separate simulations of every state of the grid, for `mbar`."""

    def make() -> dict:
        points = np.repeat(study.states(), replicas, axis=0)
        begin = start(phase, len(points))
        # replicas at every state come from other replicas of the reference
        run = simulate(
            begin, jnp.asarray(points[:, 0], jnp.float32), jnp.asarray(points[:, 1], jnp.float32),
            frames, every=8, warmup=300, observe=observe, key=jax.random.key(10),
        )  # fmt: skip
        U, V, Q = (np.asarray(v).reshape(frames, -1, replicas) for v in run.seen)
        return dict(U=U, V=V, Q=Q, cost=run.evaluations * len(points))

    return once(f"grid/{phase}", make)


def routes(name: str, make: Callable[[], tuple]) -> dict:
    """Free energies of independent repeats."""

    def arrays() -> dict:
        found = make()
        return {f"each{i}": r.each for i, r in enumerate(found)} | {"cost": found[0].evaluations}

    return once(name, arrays)


def solid(volume: float, cells, repeats: int, stiffness: float, seed: int):
    density = 4 * np.prod(cells) / volume
    return absolute.einstein_crystal(
        cells, density, T, stiffness=stiffness, repeats=repeats, key=jax.random.key(seed)
    )


def all_absolute() -> None:
    """Einstein crystal, soft core and ladder of temperatures for 108 particles."""
    routes("absolute/einstein200", partial(solid, V0["solid"], study.CELLS, 10, 200.0, 20))
    routes("absolute/einstein400", partial(solid, V0["solid"], study.CELLS, 10, 400.0, 21))
    liquid = start("liquid", 10, V0["liquid"])
    routes("absolute/soft", lambda: (absolute.soft_core(liquid, T, key=jax.random.key(22)),))
    routes("absolute/ladder", lambda: (absolute.beta_ladder(liquid, T, key=jax.random.key(23)),))


def second() -> None:
    """The same for 256 particles."""
    for phase in study.PHASES:
        reference(phase, LARGE, 16)
    routes("second/einstein200", partial(solid, V_LARGE["solid"], LARGE, 4, 200.0, 30))
    liquid = start("liquid", 6, V_LARGE["liquid"], LARGE)
    routes("second/soft", lambda: (absolute.soft_core(liquid, T, key=jax.random.key(31)),))
    routes("second/ladder", lambda: (absolute.beta_ladder(liquid, T, key=jax.random.key(32)),))


def shifted(r2, share, cutoff: float = 2.5):
    """Lennard-Jones with a soft core, cut off at 2.5 and shifted to zero there."""
    D, Dc = 0.5 * (1 - share) ** 2 + r2**3, 0.5 * (1 - share) ** 2 + cutoff**6
    inside = r2 < cutoff * cutoff
    u = 4 * share * ((1 / D - 1) / D - (1 / Dc - 1) / Dc)
    w = -4 * share * (1 - 2 / D) / D**2 * 6 * r2 * r2
    return jnp.where(inside, u, 0), jnp.where(inside, w, 0)


def published() -> None:
    """The liquid of the equation of state of Thol et al., which is truncated and shifted."""
    liquid = start("liquid", 10, 127.1)
    routes(
        "published/soft",
        lambda: (absolute.soft_core(liquid, T, pair=shifted, key=jax.random.key(40)),),
    )


def cross(part: int, rows: int = 8, frames: int = 1000) -> None:
    """Rows that begin in the crystal and in the liquid by turns, and go on from part to part."""

    def make() -> dict:
        W = 26
        if part == 0:
            ends = [start("solid", W * rows // 2), start("liquid", W * rows // 2)]
            pick = np.concatenate([
                np.arange(W) + (r // 2) * W + (r % 2) * (W * rows // 2) for r in range(rows)
            ])  # fmt: skip
            s, L = (jnp.concatenate([e[i] for e in ends], -1)[..., pick] for i in (0, 1))
        else:
            before = np.load(PARTIAL / f"umbrella/{part - 1}.npz")
            s, L = jnp.asarray(before["s"]), jnp.asarray(before["L"])
        run = umbrella.cross(
            Configs(s, L), T, P, study.CELLS, frames=frames, warmup=1000 if part == 0 else 60,
            key=jax.random.key(100 + part),
        )  # fmt: skip
        return dict(
            Q=run.Q, V=run.V, walker=run.walker, centres=run.centres, s=run.last.s, L=run.last.L,
            accepted=run.accepted, cost=run.evaluations,
        )  # fmt: skip

    once(f"umbrella/{part}", make)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("run", "finish"))
    parser.add_argument("parts", nargs="*")
    options = parser.parse_args()
    for part in options.parts:
        if part == "reference":
            for phase in study.PHASES:
                reference(phase)
        elif part == "grid":
            for phase in study.PHASES:
                grid(phase)
        elif part == "umbrella":
            for k in range(10):
                cross(k)
        else:
            {"absolute": all_absolute, "second": second, "published": published}[part]()


if __name__ == "__main__":
    main()
