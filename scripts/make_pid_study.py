"""Tune every method of chapter 3 on validation images, then test it.

    python scripts/make_pid_study.py digits tune      # an hour of one core; can be resumed
    python scripts/make_pid_study.py digits test
    python scripts/make_pid_study.py digits ship      # writes dy33lib/data/pid_digits.npz
    python scripts/make_pid_study.py mnist tune       # the same for MNIST, with DY33_DATA set

Digits: tuning trains on 1,079 images and looks at 359 validation images, on four splits of the same
1,438; testing trains on all 1,438, with eight seeds, and looks at the 359 test images, which tuning
has never seen. MNIST: 6,400 and 1,600 of 8,000, on two splits; then four seeds and 2,000 test
images. The best setting has the highest mean. The larger networks, with sparse lateral weights,
have one setting and three seeds.
"""

import argparse
import itertools
import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dy33lib.datasets import load_vision
from dy33lib.pid import study
from dy33lib.pid.goals import GOALS
from dy33lib.pid.training import Rates

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ("heuristic", "four terms", "optimised", "context, heuristic", "context, optimised",
         "lateral, heuristic", "lateral, optimised")  # fmt: skip
READOUT = {"rate": (0.003, 0.01, 0.03), "decay": (1.5e-4, 1.5e-3, 1.5e-2, 0.15)}
BACKPROP = {"rate": (0.003, 0.01, 0.03, 0.1), "decay": (0.0, 1e-5, 1e-4, 1e-3)}
HEBBIAN = {
    "rate": (0.003, 0.01, 0.03),
    "decay": (1.5e-3,),
    "learn": (0.01, 0.03, 0.3, 1.0),
    "temperature": (0.001, 0.003, 0.01),
}
RATES = {"hidden": (0.006, 0.012, 0.025, 0.05, 0.1), "output": (0.003, 0.01, 0.03, 0.1)}
SMALL = {"rate": (0.001, 0.003, 0.01), "decay": (0.0, 1e-5, 1e-4)}


class Plan(NamedTuple):
    """Images, how they are divided, and what is tried."""

    images: str
    test: int
    validation: int
    splits: int
    seeds: int
    size: study.Size
    grids: dict


PLANS = {
    "digits": Plan("digits", 359, 359, 4, 8, study.DIGITS, {
        **{f"local: {name}": RATES for name in LOCAL},
        "backprop": BACKPROP | {"deterministic": (False,)},
        "backprop, sign": BACKPROP | {"deterministic": (True,)},
        "readout only": READOUT,
        "frozen hidden layer": READOUT,
        "Hebbian, binary": HEBBIAN,
        "Hebbian, graded": HEBBIAN,
        "logistic regression": {"C": (0.03, 0.1, 0.3, 1.0, 3.0)},
    }),
    "mnist": Plan("mnist", 2000, 1600, 2, 4, study.Size(epochs=100, batches=8, draws=2), {
        **{f"local: {name}": {"hidden": (0.002, 0.006, 0.02), "output": (0.003, 0.01)}
           for name in LOCAL},
        "backprop": SMALL | {"deterministic": (False,)},
        "backprop, sign": SMALL | {"deterministic": (True,)},
        "readout only": {"rate": (0.001, 0.003, 0.01), "decay": (1.5e-4, 1.5e-3)},
        "frozen hidden layer": {"rate": (0.001, 0.003, 0.01), "decay": (1.5e-4, 1.5e-3)},
        "logistic regression": {"C": (0.001, 0.003, 0.01, 0.03)},
        **{f"local: {name}; {neurons} neurons, 100 laterals":
           {"hidden": (0.006,), "output": (0.003,)}
           for name, neurons in (("heuristic", 300), ("optimised", 300), ("optimised", 1000))},
    }),
}  # fmt: skip


def accuracy(plan: Plan, method: str, setting: dict, train_on, shown, seed: int) -> float:
    width, size = train_on[0].shape[1], plan.size
    if method.startswith("local: "):
        name, _, larger = method[7:].partition("; ")
        if larger:
            size = size._replace(neurons=int(larger.split()[0]), laterals=100)
        rates = Rates(hidden=setting["hidden"], output=setting["output"])
        return study.local_accuracy(train_on, shown, GOALS[name], rates, seed=seed, size=size)
    if method.startswith("backprop"):
        return study.backprop_accuracy(train_on, shown, seed=seed, size=size, **setting)
    if method == "logistic regression":
        return study.logistic_accuracy(train_on, shown, **setting)
    features = study.pixels
    if method.startswith("frozen"):
        features = study.frozen_features(width, seed=seed, size=size)
    if method.startswith("Hebbian"):
        features = study.hebbian_features(
            train_on[0], rate=setting["learn"], temperature=setting["temperature"],
            graded=method.endswith("graded"), seed=seed, size=size,
        )  # fmt: skip
    return study.readout_accuracy(
        train_on,
        shown,
        features,
        rate=setting["rate"],
        decay=setting["decay"],
        seed=seed,
        size=size,
    )


def settings(plan: Plan, method: str) -> list[dict]:
    grid = plan.grids[method]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def remember(plan: Plan, kind: str, method: str, setting: dict, make) -> list[float]:
    """Do something once, and keep what came out."""
    file = Path(f"pid_{plan.images}.json")
    store = json.loads(file.read_text()) if file.exists() else {}
    key = f"{kind}|{method}|{json.dumps(setting)}"
    if key not in store:
        store[key] = make()
        file.write_text(json.dumps(store, indent=0))
        print(key, np.round(np.mean(store[key]), 4), np.round(store[key], 4), flush=True)
    return store[key]


def tuned(plan: Plan, method: str) -> tuple[dict, np.ndarray]:
    """The best setting, and the validation accuracies of all, one row a setting."""
    tried = settings(plan, method)
    if len(tried) == 1:
        return tried[0], np.full((1, plan.splits), np.nan)
    images, parts = load_vision(plan.images), {"test": plan.test, "validation": plan.validation}
    splits = [study.split_images(images, **parts, seed=s) for s in range(plan.splits)]

    def validated(setting: dict) -> list[float]:
        return [
            accuracy(plan, method, setting, split.train, split.validation, seed)
            for seed, split in enumerate(splits)
        ]

    rows = [remember(plan, "tune", method, s, partial(validated, s)) for s in tried]
    return tried[int(np.argmax(np.mean(rows, axis=1)))], np.array(rows)


def tested(plan: Plan, method: str) -> list[float]:
    split = study.split_images(load_vision(plan.images), test=plan.test)
    best, _ = tuned(plan, method)
    seeds = range(3 if "laterals" in method else plan.seeds)
    return remember(plan, "test", method, best, lambda: [
        accuracy(plan, method, best, split.train, split.test, seed) for seed in seeds
    ])  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", choices=PLANS)
    parser.add_argument("what", choices=("tune", "test", "ship"))
    chosen = parser.parse_args()
    plan = PLANS[chosen.images]
    for method in plan.grids:
        if chosen.what == "tune":
            print(method, tuned(plan, method)[0], flush=True)
        elif chosen.what == "test":
            print(method, np.round(tested(plan, method), 4), flush=True)
    if chosen.what == "ship":
        arrays = {"methods": np.array(list(plan.grids))}
        for number, method in enumerate(plan.grids):
            arrays[f"settings_{number}"] = np.array([json.dumps(s) for s in settings(plan, method)])
            arrays[f"validation_{number}"] = tuned(plan, method)[1]
            arrays[f"test_{number}"] = np.array(tested(plan, method))
        np.savez_compressed(ROOT / "dy33lib" / "data" / f"pid_{plan.images}.npz", **arrays)  # pyright: ignore[reportArgumentType]
