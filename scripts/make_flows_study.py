"""Make the configurations and free energies of chapter 5 that take too long for the chapter.

    python scripts/make_flows_study.py run trial reference grid absolute cold umbrella line trapped
    python scripts/make_flows_study.py run large published networks worst maps both again authors
    python scripts/make_flows_study.py finish

About three hours of one core; parts that are done are skipped. Writes, into `dy33lib/data`,

- `flows_reference.npz`: configurations of the reference state and of a second one, see `pack`;
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

import equinox as eqx  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from dy33lib.flows import absolute, ess, lfep, log_weights_back, study, umbrella  # noqa: E402
from dy33lib.particles import Configs, simulate  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "dy33lib" / "data"
PARTIAL = Path(os.environ.get("PARTIAL", ROOT / "_build" / "flows_parts"))
B, FRAMES = 64, 400  # replicas of the reference, and how often they were looked at
T, P = study.T0, study.P0
V0 = {"solid": 107.09, "liquid": 116.37}  # volumes of the absolute free energies
LARGE = (4, 4, 4)
PARTS = {"umbrella": 10, "line": 8, "trapped": 10}  # of runs between the phases
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


def sampled(kind: str, phase: str, cells, replicas: int, state, key) -> dict:
    """Samples of one state of one phase."""

    def make() -> dict:
        run = study.reference(
            phase, replicas, FRAMES, state=state, cells=cells, warmup=400, key=jax.random.key(key)
        )
        return dict(s=run.s, L=run.L, U=run.U, W=run.W, cost=run.evaluations * replicas)

    return once(f"{kind}/{phase}-{4 * int(np.prod(cells))}", make)


def trial(phase: str, cells=study.CELLS) -> dict:
    """On these the training was tuned, and from these other simulations start."""
    replicas = B if cells == study.CELLS else 16
    return sampled("trial", phase, cells, replicas, (T, P), study.PHASES.index(phase))


def reference(phase: str) -> dict:
    """From this the set that ships is taken."""
    return sampled("reference", phase, study.CELLS, B, (T, P), 2 + study.PHASES.index(phase))


def start(phase: str, count: int, volume: float | None = None, cells=study.CELLS) -> Configs:
    """Configurations from the ends of that many replicas of the trial."""
    found = trial(phase, cells)
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
        run = simulate(
            begin, jnp.asarray(points[:, 0], jnp.float32), jnp.asarray(points[:, 1], jnp.float32),
            frames, every=8, warmup=300, observe=observe, key=jax.random.key(10),
        )  # fmt: skip
        U, V, Q = (np.asarray(v).reshape(frames, -1, replicas) for v in run.seen)
        return dict(U=U, V=V, Q=Q, cost=run.evaluations * len(points))

    return once(f"grid/{phase}", make)


def whole_grid(phase: str) -> dict:
    """Free energies of all states from all frames; only a quarter of them ships."""

    def make() -> dict:
        runs = grid(phase)
        archive = {f"grid/{phase}/{name}": runs[name] for name in ("U", "V")}
        archive |= {f"grid/{phase}/low": runs["Q"].min(axis=0)}
        archive |= {f"grid/{phase}/high": runs["Q"].max(axis=0)}
        archive |= {f"grid/{phase}/drop": study.drop(runs["U"])}
        every = study.grid(archive, phase)
        found = [every.at(*state) for state in study.states()[1:]]
        return {name: np.array([getattr(d, name) for d in found]) for name in ("value", "error")}

    made = once(f"grid-all/{phase}", make)
    return {name: made[name] for name in ("value", "error")}


def routes(name: str, make: Callable[[], tuple]) -> dict:
    """Free energies of independent repeats."""

    def arrays() -> dict:
        found = make()
        return {f"each{i}": r.each for i, r in enumerate(found)} | {"cost": found[0].evaluations}

    return once(name, arrays)


def solid(volume: float, cells, repeats: int, stiffness: float, seed: int, at: float = T):
    density = 4 * np.prod(cells) / volume
    return absolute.einstein_crystal(
        cells, density, at, stiffness=stiffness, repeats=repeats, key=jax.random.key(seed)
    )


def all_absolute() -> None:
    """Einstein crystal, soft core and ladder of temperatures for 108 particles."""
    routes("absolute/einstein200", partial(solid, V0["solid"], study.CELLS, 10, 200.0, 20))
    routes("absolute/einstein400", partial(solid, V0["solid"], study.CELLS, 10, 400.0, 21))
    liquid = start("liquid", 10, V0["liquid"])
    for more, seed in (("", 22), ("-more", 27)):
        soft = partial(absolute.soft_core, liquid, T, key=jax.random.key(seed))
        routes(f"absolute/soft{more}", lambda soft=soft: (soft(),))
        ladder = partial(absolute.beta_ladder, liquid, T, key=jax.random.key(seed + 1))
        routes(f"absolute/ladder{more}", lambda ladder=ladder: (ladder(),))


def cold() -> None:
    """The crystal where it is nearly harmonic."""
    for seed, at in ((25, 0.02), (26, 0.1)):
        routes(f"cold/{at}", partial(solid, V0["solid"], study.CELLS, 10, 200.0, seed, at))


def large() -> None:
    """The same for 256 particles."""
    for phase in study.PHASES:
        trial(phase, LARGE)
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
    soft = partial(absolute.soft_core, liquid, T, pair=shifted)
    routes("published/soft", lambda: (soft(key=jax.random.key(40)),))
    ladder = partial(absolute.beta_ladder, liquid, T, pair=partial(shifted, share=1.0))
    routes("published/ladder", lambda: (ladder(key=jax.random.key(41)),))


def cross(part: int, at: tuple[float, float], kind: str, rows: int = 8, frames: int = 1000) -> None:
    """Rows that begin in the crystal and in the liquid by turns, and go on from part to part.

    Of the kinds, "trapped" is without a penalty on unequal directions.
    """

    def make() -> dict:
        W = 26
        if part == 0:
            ends = [start("solid", W * rows // 2), start("liquid", W * rows // 2)]
            pick = np.concatenate([
                np.arange(W) + (r // 2) * W + (r % 2) * (W * rows // 2) for r in range(rows)
            ])  # fmt: skip
            s, L = (jnp.concatenate([e[i] for e in ends], -1)[..., pick] for i in (0, 1))
        else:
            before = np.load(PARTIAL / f"{kind}/{part - 1}.npz")
            s, L = jnp.asarray(before["s"]), jnp.asarray(before["L"])
        run = umbrella.cross(
            Configs(s, L), *at, study.CELLS, frames=frames, warmup=1000 if part == 0 else 60,
            even=0.0 if kind == "trapped" else 100.0,
            key=jax.random.key(100 + part + (50 if kind == "line" else 0)),
        )  # fmt: skip
        return dict(
            Q=run.Q, V=run.V, walker=run.walker, centres=run.centres, s=run.last.s, L=run.last.L,
            accepted=run.accepted, cost=run.evaluations, penalty=run.penalty,
        )  # fmt: skip

    once(f"{kind}/{part}", make)


def train(configs: Configs, seed: int, terms: int, state, name: str, longer: int = 1) -> dict:
    """Weights of one flow."""

    def make() -> dict:
        found = study.trained(
            configs, state, terms, steps=longer * study.STEPS[terms], batch=64,
            key=jax.random.key(70 + seed),
        )  # fmt: skip
        leaves = jax.tree.leaves(eqx.filter(found.flow, eqx.is_inexact_array))
        return {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}

    return once(f"networks/{name}-{terms}-{seed}", make)


def training_part(packed: study.Packed, seed: int) -> Configs:
    """Replicas that are not in the fold of the seed."""
    return study.unpack(packed, study.fold(packed.V.shape[1], seed)[0])


def thinned(found: dict, every: int, frames: int) -> study.Packed:
    return study.pack(
        found["s"][every - 1 :: every][:frames], found["L"][every - 1 :: every][:frames]
    )


def networks() -> None:
    """Three flows of each phase, each with another third of the replicas left for tests."""
    for phase in study.PHASES:
        packed = thinned(reference(phase), 25, 16)
        for seed in study.SEEDS:
            for terms in (0, study.TERMS):
                part = training_part(packed, seed)
                train(part, seed, terms, (T, P), f"reference-{phase}")


def of_both(seed: int) -> Configs:
    """Configurations of both phases, for one network that serves them both."""
    parts = [training_part(thinned(reference(phase), 25, 16), seed) for phase in study.PHASES]
    return Configs(*(jnp.concatenate(x, axis=-1) for x in zip(*parts, strict=True)))


def both() -> None:
    """The same for both phases together, trained as long as two flows."""
    for seed in study.SEEDS:
        train(of_both(seed), seed, study.TERMS, (T, P), "reference-both", longer=2)
    for phase in study.PHASES:
        both_map(phase)


def worst() -> study.Packed:
    """A second reference for the liquid, at the state of the grid that the first serves worst."""
    found = sampled("worst", "liquid", study.CELLS, B, study.WORST, 5)
    packed = thinned(found, 66, 6)
    train(training_part(packed, 0), 0, study.TERMS, study.WORST, "worst-liquid")
    return packed


def authors() -> dict:
    """Work between two states of 180 particles, whose free energies the authors compare."""

    def make() -> dict:
        out = {}
        pair = (1.2, 8.5555), (1.3, 8.5555)
        for name, here, there, seed in (("forward", 0, 1, 60), ("backward", 1, 0, 61)):
            run = study.reference(
                "solid", 16, 150, state=pair[here], cells=(3, 3, 5), key=jax.random.key(seed)
            )
            U, V = np.asarray(run.U, float), np.asarray(run.L, float).prod(axis=1)
            u = [(U + P * V) / T for T, P in (pair[here], pair[there])]
            out[name] = (u[1] - u[0]).astype(np.float32)
        return out

    return once("authors/work", make)


def judged(flow, many: study.Packed, at) -> dict:
    """Effective samples of each seed's test replicas, and free energies from all of them."""
    log_w = study.log_weights_at(study.pooled(flow, many, (T, P), at), at)
    tables = log_w.reshape(len(at), *many.V.shape)
    tests = [study.fold(many.V.shape[1], seed)[1] for seed in study.SEEDS]
    found = [lfep(w) for w in tables]
    return {
        "ess": np.array([[ess(w[:, t]) for w in tables] for t in tests]),
        "value": np.array([d.value for d in found]), "error": np.array([d.error for d in found]),
    }  # fmt: skip


def maps(phase: str) -> dict:
    """Effective samples and free energies at all states, from many test configurations."""

    def make() -> dict:
        many, few = thinned(reference(phase), 5, 80), thinned(reference(phase), 25, 16)
        at, out = study.states()[1:], {}
        flows: dict = {"none": None}
        for label, terms in (("volume", 0), ("pair", study.TERMS)):
            flows[label] = [
                study.shipped(
                    weights(), f"reference-{phase}-{terms}-{seed}", study.unpack(few), (T, P), terms
                )
                for seed in study.SEEDS
            ]
        for label, flow in flows.items():
            out |= {f"{label}/{name}": v for name, v in judged(flow, many, at).items()}
        return out

    return once(f"maps/{phase}", make)


def again() -> dict:
    """The liquid at the lowest temperature of the line, simulated anew and mapped back."""

    def make() -> dict:
        state = min(study.TEMPERATURES), study.guess(min(study.TEMPERATURES))
        run = study.reference(
            "liquid", B, 100, state=state, every=8, warmup=600, key=jax.random.key(77)
        )
        part = training_part(thinned(reference("liquid"), 25, 16), 0)
        name = f"reference-liquid-{study.TERMS}-0"
        flow = study.shipped(weights(), name, part, (T, P), study.TERMS)
        back = eqx.filter_jit(log_weights_back)
        t, p = (jnp.full(B, x, jnp.float32) for x in state)
        found = [
            back(flow, s, L, (T, P), t, p) for s, L in zip(run.s[1::2], run.L[1::2], strict=True)
        ]
        return {"back": np.asarray(jnp.stack(found), np.float32)}

    return once("again/liquid", make)


def both_map(phase: str) -> dict:
    """Effective samples and free energies by the one network for both phases."""

    def make() -> dict:
        flows = [
            study.shipped(
                weights(), f"reference-both-{study.TERMS}-{seed}", of_both(seed), (T, P),
                study.TERMS,
            )
            for seed in study.SEEDS
        ]  # fmt: skip
        found = judged(flows, thinned(reference(phase), 5, 80), study.states()[1:])
        return {f"both/{name}": value for name, value in found.items()}

    return once(f"maps/both-{phase}", make)


def all_maps() -> None:
    for phase in study.PHASES:
        maps(phase)
    worst_map()


def worst_map() -> dict:
    """Effective samples of the flow from the second reference, on replicas not trained on."""

    def make() -> dict:
        many = thinned(sampled("worst", "liquid", study.CELLS, B, study.WORST, 5), 5, 80)
        configs = study.unpack(many, study.fold(B, 0)[1])
        name = f"worst-liquid-{study.TERMS}-0"
        flow = study.shipped(weights(), name, study.unpack(worst()), study.WORST, study.TERMS)
        at = study.states()[1:]
        log_w = study.log_weights_at(study.sweep(flow, configs, study.WORST, at), at)
        return {"ess": np.array([ess(w) for w in log_w])}

    return once("maps/worst", make)


def weights() -> dict:
    """Of all flows."""
    return {
        f"networks/{file.stem}/{name}": value
        for file in sorted((PARTIAL / "networks").glob("*.npz"))
        for name, value in numbers(f"networks/{file.stem}").items()
    }


def numbers(part: str) -> dict:
    with np.load(PARTIAL / f"{part}.npz") as archive:
        return dict(archive)


def crossing(part: dict) -> umbrella.Crossing:
    return umbrella.Crossing(
        part["Q"], part["V"], part["walker"], part["centres"], Configs(part["s"], part["L"]),
        float(part["accepted"]), int(part["cost"]), part["penalty"],
    )  # fmt: skip


def finish() -> None:
    """Collect what ships.

    Configurations: `<phase>/s`, `<phase>/V`, see `study.Packed`. Numbers: `grid/<phase>/U`, `V`
    (frames x states x replicas), the lowest and highest order of each run and the `drop` of its
    energy; free energies of each repeat (`absolute/...`, `cold/...`, `second/...`,
    `published/...`); histograms of the order, differences of free energies, passages by part and
    the directions of the last configurations (`umbrella/...`, `line/...`, `trapped/...`); weights
    of flows (`networks/...`), effective samples and free energies from many configurations
    (`maps/...`), weights on the way back (`again/back`); evaluations of forces (`cost/...`).
    """
    configs, found = {}, {}
    for phase in study.PHASES:
        packed = thinned(reference(phase), 25, 16)
        # one replica less makes the folds equally large, so that a page compiles for one size
        configs |= {f"{phase}/s": packed.s[..., :63], f"{phase}/V": packed.V[:, :63]}
        grid_of = numbers(f"grid/{phase}")
        for name in ("U", "V"):
            found[f"grid/{phase}/{name}"] = grid_of[name][3::4].astype(np.float32)
        found[f"grid/{phase}/low"] = grid_of["Q"].min(axis=0)
        found[f"grid/{phase}/high"] = grid_of["Q"].max(axis=0)
        found[f"grid/{phase}/drop"] = study.drop(grid_of["U"].astype(float)).astype(np.float32)
        found |= {f"grid/{phase}/{name}": value for name, value in whole_grid(phase).items()}
        found[f"cost/grid/{phase}"] = grid_of["cost"]
        for name in ("U", "V"):
            whole = reference(phase)["U" if name == "U" else "L"].astype(float)
            found[f"reference/{phase}/{name}"] = (
                whole if name == "U" else whole.prod(axis=1)
            ).mean(axis=0)
        found[f"cost/reference/{phase}"] = reference(phase)["cost"]
    packed = worst()
    configs |= {"worst/s": packed.s[:5, ..., :63], "worst/V": packed.V[:5, :63]}
    for part in (
        "absolute/einstein200", "absolute/einstein400", "absolute/soft", "absolute/soft-more",
        "absolute/ladder", "absolute/ladder-more",
        "cold/0.02", "cold/0.1", "second/einstein200", "second/soft", "second/ladder",
        "published/soft", "published/ladder",
    ):  # fmt: skip
        for name, value in numbers(part).items():
            if name.startswith("each"):
                found[f"{part}/{name[4:]}"] = value
        found[f"cost/{part}"] = numbers(part)["cost"]
    for phase in study.PHASES:  # volumes of 108 and 256 particles at the reference state
        for cells in (study.CELLS, LARGE):
            V = trial(phase, cells)["L"][3::4].astype(float).prod(axis=1)
            found[f"volumes/{phase}-{4 * int(np.prod(cells))}"] = V.astype(np.float32)
    for kind in PARTS:
        parts = sorted((PARTIAL / kind).glob("*.npz"), key=lambda f: int(f.stem))
        each = [crossing(numbers(f"{kind}/{f.stem}")) for f in parts]
        run = umbrella.continued(each)
        seen = umbrella.orders(run)
        found[f"{kind}/gap"] = np.array(umbrella.crossing_gap(seen)[:2])
        if kind != "trapped":  # its histograms are of no use
            found[f"{kind}/counts"] = seen.counts.astype(np.uint32)
            found[f"{kind}/lift"] = np.asarray(seen.lift, np.float32)
        so_far = [umbrella.passages(umbrella.continued(each[:k])) for k in range(1, len(each) + 1)]
        found[f"{kind}/passages"] = np.diff(so_far, prepend=0)
        found[f"{kind}/directions"] = np.asarray(umbrella.directions(run.last.s, study.CELLS))
        found[f"{kind}/accepted"] = np.array(run.accepted)
        found[f"cost/{kind}"] = np.array(run.evaluations)
    found |= {name: value for name, value in weights().items() if "-both-" not in name}
    for phase in study.PHASES:
        for made in (maps(phase), both_map(phase)):
            found |= {f"maps/{phase}/{k}": v for k, v in made.items() if k != "seconds"}
    found["maps/worst"] = worst_map()["ess"]
    found["again/back"] = again()["back"]
    found |= {f"authors/{name}": authors()[name] for name in ("forward", "backward")}
    np.savez_compressed(DATA / "flows_reference.npz", **configs)
    np.savez_compressed(DATA / "flows_study.npz", **found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("run", "finish"))
    parser.add_argument("parts", nargs="*")
    options = parser.parse_args()
    if options.command == "finish":
        finish()
    for part in options.parts:
        if part in ("trial", "reference", "grid"):
            for phase in study.PHASES:
                {"trial": trial, "reference": reference, "grid": grid}[part](phase)
        elif part in PARTS:
            for k in range(PARTS[part]):
                cross(k, study.HIGH if part == "line" else (T, P), part)
        else:
            {
                "absolute": all_absolute, "cold": cold, "large": large, "published": published,
                "networks": networks, "worst": worst, "maps": all_maps, "both": both,
                "again": again, "authors": authors,
            }[part]()  # fmt: skip


if __name__ == "__main__":
    main()
