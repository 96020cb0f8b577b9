"""Tune every method of chapter 3 on validation images, then test it; writes pid_digits.npz.

    python scripts/make_pid_digits.py tune      # half an hour of one core; can be resumed
    python scripts/make_pid_digits.py test
    python scripts/make_pid_digits.py ship

Tuning trains on 1,079 digits and looks at 359 validation images, on four splits of the same 1,438
images. The best setting has the highest mean. Testing trains on all 1,438, with eight seeds, and
looks at the 359 test images, which tuning has never seen.
"""

import argparse
import itertools
import json
from functools import partial
from pathlib import Path

import numpy as np

from dy33lib.datasets import load_vision
from dy33lib.pid import study
from dy33lib.pid.goals import GOALS
from dy33lib.pid.training import Rates

ROOT = Path(__file__).resolve().parents[1]
STORE = Path("pid_digits.json")
SPLITS, SEEDS = range(4), range(8)
LOCAL = ("heuristic", "four terms", "optimised", "context, heuristic", "context, optimised",
         "lateral, heuristic", "lateral, optimised")  # fmt: skip
READOUT = {"rate": (0.003, 0.01, 0.03), "decay": (1.5e-4, 1.5e-3, 1.5e-2)}
BACKPROP = {"rate": (0.003, 0.01, 0.03), "decay": (0.0, 1e-5, 1e-4, 1e-3)}
HEBBIAN = {"decay": (1.5e-3,), "learn": (0.03, 0.3), "temperature": (0.003, 0.01, 0.03)}
GRIDS = {
    **{
        f"local: {name}": {"hidden": (0.006, 0.012, 0.025, 0.05), "output": (0.003, 0.01)}
        for name in LOCAL
    },
    "backprop": BACKPROP | {"deterministic": (False,)},
    "backprop, sign": BACKPROP | {"deterministic": (True,)},
    "readout only": READOUT,
    "frozen hidden layer": READOUT,
    "Hebbian, binary": {"rate": (0.01,)} | HEBBIAN,
    "Hebbian, graded": {"rate": (0.01, 0.03)} | HEBBIAN,
    "logistic regression": {"C": (0.01, 0.03, 0.1, 0.3, 1.0)},
}


def accuracy(method: str, setting: dict, train_on, shown, seed: int) -> float:
    width = train_on[0].shape[1]
    if method.startswith("local: "):
        rates = Rates(hidden=setting["hidden"], output=setting["output"])
        return study.local_accuracy(train_on, shown, GOALS[method[7:]], rates, seed=seed)
    if method.startswith("backprop"):
        return study.backprop_accuracy(train_on, shown, seed=seed, **setting)
    if method == "logistic regression":
        return study.logistic_accuracy(train_on, shown, **setting)
    features = study.pixels
    if method.startswith("frozen"):
        features = study.frozen_features(width, seed=seed)
    if method.startswith("Hebbian"):
        features = study.hebbian_features(
            train_on[0], rate=setting["learn"], temperature=setting["temperature"],
            graded=method.endswith("graded"), seed=seed,
        )  # fmt: skip
    return study.readout_accuracy(
        train_on, shown, features, rate=setting["rate"], decay=setting["decay"], seed=seed
    )


def settings(method: str) -> list[dict]:
    grid = GRIDS[method]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def remember(kind: str, method: str, setting: dict, make) -> list[float]:
    """Do something once, and keep what came out."""
    store = json.loads(STORE.read_text()) if STORE.exists() else {}
    key = f"{kind}|{method}|{json.dumps(setting)}"
    if key not in store:
        store[key] = make()
        STORE.write_text(json.dumps(store, indent=0))
        print(key, np.round(np.mean(store[key]), 4), np.round(store[key], 4), flush=True)
    return store[key]


def tuned(method: str) -> tuple[dict, np.ndarray]:
    """The best setting, and the validation accuracies of all, one row a setting."""
    images = load_vision("digits")
    splits = [study.split_images(images, test=359, validation=359, seed=s) for s in SPLITS]

    def validated(setting: dict) -> list[float]:
        return [
            accuracy(method, setting, split.train, split.validation, seed)
            for seed, split in zip(SPLITS, splits, strict=True)
        ]

    rows = [
        remember("tune", method, setting, partial(validated, setting))
        for setting in settings(method)
    ]
    return settings(method)[int(np.argmax(np.mean(rows, axis=1)))], np.array(rows)


def tested(method: str) -> list[float]:
    split = study.split_images(load_vision("digits"), test=359)
    best, _ = tuned(method)
    return remember("test", method, best, lambda: [
        accuracy(method, best, split.train, split.test, seed) for seed in SEEDS
    ])  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tune", "test", "ship"))
    chosen = parser.parse_args()
    for method in GRIDS:
        if chosen.what == "tune":
            print(method, tuned(method)[0], flush=True)
        elif chosen.what == "test":
            print(method, np.round(tested(method), 4), flush=True)
    if chosen.what == "ship":
        arrays = {"methods": np.array(list(GRIDS))}
        for number, method in enumerate(GRIDS):
            arrays[f"settings_{number}"] = np.array([json.dumps(s) for s in settings(method)])
            arrays[f"validation_{number}"] = tuned(method)[1]
            arrays[f"test_{number}"] = np.array(tested(method))
        np.savez_compressed(ROOT / "dy33lib" / "data" / "pid_digits.npz", **arrays)  # pyright: ignore[reportArgumentType]
