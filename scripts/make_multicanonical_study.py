"""Train the networks of chapter 6 that take too long for the chapter.

    python scripts/make_multicanonical_study.py run rates plain-rates    # how rates were chosen
    python scripts/make_multicanonical_study.py run race again trace plain   # the study
    python scripts/make_multicanonical_study.py run growth fresh         # larger lattices
    python scripts/make_multicanonical_study.py run reference exact      # to compare with
    python scripts/make_multicanonical_study.py finish                   # writes the files

About four hours of one core. `--share 3/16` runs every sixteenth job, beginning with the third;
jobs that are done are skipped. Writes, into `dy33lib/data`,

- `multicanonical_study.npz`: `<part>/<L>-<q> <arm> <steps or rate>/<what>`, seeds along the first
  axis, with `ln_g`, `error`, `hits` and `ess` from -2N to 0, `colours` (different ones among the
  ground states), `seconds` (CPU time of training and of drawing); parts `race`, `again` (other
  seeds), `plain` (network without symmetry), `rates`, `plain-rates`, `fresh` (larger lattices,
  without growing), `trace` (mean `energy` of each step);
  `growth/<q>/<L>/<before or after>/<what>`: networks that grow, before and after training on the
  lattice; `reference/<L>-<q>/ln_g`: eight chains;
- `multicanonical_networks.npz`: weights of the grown networks, first seed, `<L>-<q>/<name>`;
- `multicanonical_exact.npz`: exact ln g of 6 x 6 sites, `6-<q>`, from -72 to 0, -inf if empty.
"""

import argparse
import hashlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402

from dy33lib import multicanonical as mc  # noqa: E402
from dy33lib.multicanonical import study as st  # noqa: E402

# processors that round products to 10 bits by default would spoil the probabilities
jax.config.update("jax_default_matmul_precision", "highest")

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "dy33lib" / "data"
PARTIAL = Path(os.environ.get("PARTIAL", ROOT / "_build" / "multicanonical_parts"))
ARMS = ("canonical", "multicanonical", "windows")
TRIALS = range(2)  # the settings were chosen on these seeds,
SEEDS = range(10, 15)  # and these are reported;
AGAIN = range(15, 20)  # these where a setting was changed after a look at the former
RACE = ((5, 200), (5, 20), (4, 100))
STEPS = (200, 400, 800)
GROWTH, GROWTH_RATE = ((5, 400), (6, 200), (8, 400), (10, 400)), 1.2e-2
FRESH = (
    (6, 20, "windows", 330), (6, 200, "windows", 330), (8, 200, "windows", 600),
    (6, 200, "multicanonical", 330), (8, 200, "multicanonical", 600), (8, 200, "canonical", 600),
)  # fmt: skip
GROWN, EXACT = (20, 200), (20, 100, 200)


def arguments(L: int, q: int, arm: str, steps: int, seed: int) -> dict:
    """Of one arm; two more are multicanonical.

    "straight" continues ln g_hat in straight lines; its rate is the highest at which it lost no
    run on the trial seeds. "blind" is not told the transition and stays near beta = 0 before.
    """
    if arm == "straight":
        extra = dict(target="multicanonical", straight=True, rate=6e-3)
    elif arm == "blind":
        extra = dict(target="multicanonical", beta=1e-3)
    else:
        extra = dict(target=arm)
    return dict(L=L, q=q, steps=steps, seed=seed, **extra)


def jobs(part: str) -> dict[str, dict]:
    """Arguments of :func:`.study.run` by name."""
    found: dict[str, dict] = {}
    if part == "rates":
        for rate in (3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2, 9.6e-2):
            for L, q in ((5, 200), (5, 20)):
                for arm in (*ARMS, "straight"):
                    for seed in TRIALS:
                        if q == 20 and arm == "multicanonical":
                            continue  # as with straight lines
                        name = f"rates/{L}-{q} {arm} {rate:g}/{seed}"
                        found[name] = arguments(L, q, arm, 400, seed) | dict(rate=rate)
    if part == "plain-rates":
        for rate in (1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2):
            for arm in ARMS:
                for seed in TRIALS:
                    found[f"plain-rates/5-20 {arm} {rate:g}/{seed}"] = dict(
                        L=5, q=20, target=arm, steps=400, seed=seed, rate=rate, symmetric=False,
                        hidden=96,
                    )  # fmt: skip
    if part == "race":
        for L, q in RACE:
            for seed in SEEDS:
                for steps in STEPS[::-1]:
                    for arm in (*ARMS, "straight") if q == 200 else ARMS:
                        name = f"race/{L}-{q} {arm} {steps}/{seed}"
                        found[name] = arguments(L, q, arm, steps, seed)
                if q == 200:
                    name = f"race/{L}-{q} blind 400/{seed}"
                    found[name] = arguments(L, q, "blind", 400, seed)
    if part == "again":  # the constant came after collapses on the seeds of the race
        for seed in AGAIN:
            for steps in STEPS[::-1]:
                name = f"again/5-200 multicanonical {steps}/{seed}"
                found[name] = arguments(5, 200, "multicanonical", steps, seed)
    if part == "trace":  # again, for what happens on the way
        for arm in (*ARMS, "straight"):
            for seed in SEEDS:
                found[f"trace/5-200 {arm} 400/{seed}"] = arguments(5, 200, arm, 400, seed) | dict(
                    draws=st.BLOCK
                )
    if part == "fresh":  # as long as it takes to grow as far
        for L, q, arm, steps in FRESH:
            for seed in SEEDS[:3]:
                found[f"fresh/{L}-{q} {arm} {steps}/{seed}"] = dict(
                    L=L, q=q, target=arm, steps=steps, seed=seed,
                    windows=mc.energy_windows(L, q, st.WINDOWS[L]), batch=8 * st.WINDOWS[L],
                )  # fmt: skip
    if part == "plain":
        for seed in SEEDS[:3]:
            for steps in STEPS[::-1]:
                for arm in ARMS:
                    found[f"plain/5-20 {arm} {steps}/{seed}"] = dict(
                        L=5, q=20, target=arm, steps=steps, seed=seed, symmetric=False, hidden=96
                    )
    return found


def save(name: str, arrays: dict) -> None:
    target = PARTIAL / f"{name}.npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **arrays)


def done(name: str) -> bool:
    return (PARTIAL / f"{name}.npz").exists()


def result(run: st.Run) -> dict:
    """What is kept of a run."""
    return {
        "ln_g": run.dos.ln_g, "error": run.dos.error, "hits": run.dos.hits,
        "ess": run.dos.ess, "colours": run.colours, "seconds": np.array(run.seconds),
    }  # fmt: skip


def work(name: str, arguments: dict) -> None:
    if done(name):
        return
    begun = time.perf_counter()
    run = st.run(**arguments)
    save(name, {"energy": run.trained.energy} if "trace/" in name else result(run))
    print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)


def grow(q: int, seed: int, target: st.Target = "windows") -> None:
    """From 5 x 5 to 10 x 10 sites; each network before it is trained on its lattice, and after."""
    name = f"growth/{q}/{seed}" if target == "windows" else f"growth-{target}/{q}/{seed}"
    if done(name):
        return
    arrays, start = {}, None
    for L, steps in GROWTH:
        batch = 8 * st.WINDOWS[L]
        windows = mc.energy_windows(L, q, st.WINDOWS[L]) if target == "windows" else None
        if start is not None:
            start = mc.enlarge(start, L)
            begun = mc.Trained(start, target, windows, *np.zeros((3, 2 * L * L + 1)))
            now = time.process_time()
            E, ln_p, window, colours = st.draw(begun, st.DRAWS, key=jax.random.key(1000 + seed))
            dos = mc.estimate_dos(
                E, ln_p, L, windows, window, rng=np.random.default_rng(seed), resamples=100
            )
            seconds = 0.0, time.process_time() - now
            zero = st.Run(begun, E, ln_p, window, dos, colours, seconds)
            arrays |= {f"{L}/before/{key}": value for key, value in result(zero).items()}
        run = st.run(
            L, q, target, steps, seed=seed, windows=windows, batch=batch, start=start,
            rate=None if start is None else GROWTH_RATE,
        )  # fmt: skip
        start = run.trained.decoder
        arrays |= {f"{L}/after/{key}": value for key, value in result(run).items()}
        arrays |= {f"{L}/weights/{key}": np.asarray(w) for key, w in start.weights.items()}
        print(f"{name} {L}: {np.round(run.seconds, 1)}", flush=True)
    save(name, arrays)


def exact(q: int) -> None:
    if not done(f"exact/6-{q}"):
        save(f"exact/6-{q}", {"ln_g": mc.exact_dos(6, q)})


def reference(L: int, q: int, steps: int) -> None:
    """Eight multicanonical chains with the weights of one Wang-Landau run."""
    name = f"reference/{L}-{q}"
    if done(name):
        return
    rough = mc.wang_landau(L, q, steps, rng=np.random.default_rng(0))
    chains = [mc.muca(rough.ln_g, q, steps, rng=np.random.default_rng(r)) for r in range(1, 9)]
    save(name, {
        "ln_g": np.array([c.ln_g for c in chains]), "trips": np.array([c.trips for c in chains]),
    })  # fmt: skip
    print(name, [c.trips for c in chains], flush=True)


def finish() -> None:
    """Collect: seeds along the first axis, except for networks, of which the first seed ships."""
    arrays: dict[str, np.ndarray] = {}
    networks: dict[str, np.ndarray] = {}
    for part in ("rates", "plain-rates", "race", "again", "plain", "fresh"):
        seeds = {"rates": TRIALS, "plain-rates": TRIALS, "race": SEEDS, "again": AGAIN}.get(
            part, SEEDS[:3]
        )
        arms = sorted({name.rsplit("/", 1)[0] for name in jobs(part)})
        for arm in arms:
            runs = [np.load(PARTIAL / f"{arm}/{seed}.npz") for seed in seeds]
            for what in ("ln_g", "error", "hits", "ess", "colours", "seconds"):
                arrays[f"{arm}/{what}"] = np.array([run[what] for run in runs])
    for arm in (*ARMS, "straight"):
        name = f"trace/5-200 {arm} 400"
        runs = [np.load(PARTIAL / f"{name}/{seed}.npz")["energy"] for seed in SEEDS]
        arrays[f"{name}/energy"] = np.array(runs)
    for q in GROWN:
        for part in ("growth", "growth-multicanonical")[: 1 if q == 20 else 2]:
            runs = [dict(np.load(PARTIAL / f"{part}/{q}/{seed}.npz")) for seed in SEEDS[:3]]
            for name in runs[0]:
                if "/weights/" not in name:
                    arrays[f"{part}/{q}/{name}"] = np.array([run[name] for run in runs])
                elif part == "growth":
                    L, _, key = name.split("/")
                    networks[f"{L}-{q}/{key}"] = runs[0][name].astype(np.float32)
        for L in (8, 10):
            chains = np.load(PARTIAL / f"reference/{L}-{q}.npz")
            arrays[f"reference/{L}-{q}/ln_g"] = chains["ln_g"]
            arrays[f"reference/{L}-{q}/trips"] = chains["trips"]
    exact = {f"6-{q}": np.load(PARTIAL / f"exact/6-{q}.npz")["ln_g"] for q in EXACT}
    for name, found in (("study", arrays), ("networks", networks), ("exact", exact)):
        target = DATA / f"multicanonical_{name}.npz"
        small = {
            k: v.astype(np.float32) if name == "study" and v.dtype == float else v
            for k, v in found.items()
        }
        np.savez_compressed(target, **small)  # pyright: ignore[reportArgumentType]
        print(hashlib.sha256(target.read_bytes()).hexdigest(), target.name, target.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("run", "finish"))
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--share", default="0/1")
    options = parser.parse_args()
    first, every = map(int, options.share.split("/"))
    todo: list[Callable[[], None]] = []
    for part in options.parts:
        if part == "growth":
            todo += [partial(grow, q, seed) for seed in SEEDS[:3] for q in GROWN]
            todo += [partial(grow, 200, seed, "multicanonical") for seed in SEEDS[:3]]
        elif part == "reference":
            todo += [partial(reference, L, q, 200_000_000) for L in (8, 10) for q in GROWN]
        elif part == "exact":
            todo += [partial(exact, q) for q in EXACT]
        else:
            todo += [partial(work, *job) for job in jobs(part).items()]
    for job in todo[first::every]:
        job()
    if options.command == "finish":
        finish()


if __name__ == "__main__":
    main()
