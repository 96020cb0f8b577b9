"""Train the networks of chapter 6 that take too long for the chapter.

    python scripts/make_multicanonical_study.py run rates plain-rates    # how rates were chosen
    python scripts/make_multicanonical_study.py run race plain growth    # the study
    python scripts/make_multicanonical_study.py run large                # long trainings
    python scripts/make_multicanonical_study.py exact                    # 6 x 6, a minute each
    python scripts/make_multicanonical_study.py finish                   # writes the files

`--share 3/16` runs every sixteenth job, beginning with the third; jobs that are done are skipped.
"""

import argparse
import os
import time
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
SEEDS = range(10, 15)  # and none of these was used before they were fixed
RACE = ((5, 200), (5, 20), (4, 100))
STEPS = (200, 400, 800)


def jobs(part: str) -> dict[str, dict]:
    """Arguments of :func:`.study.run` by name."""
    found: dict[str, dict] = {}
    if part == "rates":
        for rate in (3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2):
            for L, q in ((5, 200), (5, 20)):
                for arm in ARMS:
                    for seed in TRIALS:
                        name = f"rates/{L}-{q} {arm} {rate:g}/{seed}"
                        found[name] = dict(L=L, q=q, target=arm, steps=400, seed=seed, rate=rate)
    if part == "plain-rates":
        for rate in (1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2):
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
                    for arm in ARMS:
                        name = f"race/{L}-{q} {arm} {steps}/{seed}"
                        found[name] = dict(L=L, q=q, target=arm, steps=steps, seed=seed)
    if part == "plain":
        for seed in SEEDS[:3]:
            for steps in STEPS[::-1]:
                for arm in ARMS:
                    found[f"plain/5-20 {arm} {steps}/{seed}"] = dict(
                        L=5, q=20, target=arm, steps=steps, seed=seed, symmetric=False, hidden=96
                    )
    if part == "large-trial":
        for L, K in ((8, 40), (10, 60)):
            for arm in ARMS[1:]:
                for hidden in (32, 64):
                    windows = mc.energy_windows(L, 20, K)
                    found[f"large-trial/{L}-20 {arm} {hidden}/0"] = dict(
                        L=L, q=20, target=arm, steps=600, seed=0, windows=windows, hidden=hidden,
                        batch=1200, draws=24_000,
                    )  # fmt: skip
    return found


def work(name: str, arguments: dict) -> None:
    target = PARTIAL / f"{name}.npz"
    if target.exists():
        return
    begun = time.perf_counter()
    run = st.run(**arguments)
    target.parent.mkdir(parents=True, exist_ok=True)
    dos = run.dos
    result = {
        "ln_g": dos.ln_g, "error": dos.error, "ess": dos.ess, "hits": dos.hits,
        "colours": run.colours, "seconds": np.array(run.seconds), "loss": run.trained.loss,
    }  # fmt: skip
    if name.startswith("large"):
        result |= {f"weights/{key}": w for key, w in run.trained.decoder.weights.items()}
        if run.trained.windows is not None:
            result["centres"] = run.trained.windows.centres
            result["width"] = run.trained.windows.width
        result |= {"E": run.E.astype(np.float32), "ln_p": run.ln_p.astype(np.float32)}
    np.savez_compressed(target, **result)
    ess = (dos.ess / np.maximum(dos.hits, 1))[dos.hits > 0].mean()
    norm = mc.ln_z(dos.ln_g, 0.0) - arguments["L"] ** 2 * np.log(arguments["q"])
    print(
        f"{name}: {time.perf_counter() - begun:.0f} s, bins {(dos.hits > 0).sum()}, "
        f"colours {run.colours}, ess {ess:.2f}, norm {norm:.3f}", flush=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("run", "exact", "finish"))
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--share", default="0/1")
    options = parser.parse_args()
    first, every = map(int, options.share.split("/"))
    if options.command == "run":
        todo = [job for part in options.parts for job in jobs(part).items()]
        for name, arguments in todo[first::every]:
            work(name, arguments)


if __name__ == "__main__":
    main()
