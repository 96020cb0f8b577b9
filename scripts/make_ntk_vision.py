"""Run the headline of chapter 1 on MNIST and CIFAR-10, and for other output scales on the digits.

    DY33_DATA=folder python scripts/make_ntk_vision.py    # about 30 min on one core

Writes `dy33lib/data/ntk_vision.npz`: one row a run. The chapter shows these numbers beside its own;
`tests/test_ntk_study.py` repeats one of the runs where the images are at hand.
"""

import hashlib
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402

from dy33lib.ntk import Case, Run, run_case  # noqa: E402

TARGET = Path(__file__).resolve().parent.parent / "dy33lib" / "data" / "ntk_vision.npz"
SEEDS = (0, 1, 2)
COLUMNS = (
    "width", "samples", "gamma", "seed", "converged", "steps", "train_loss", "test_loss",
    "change", "alignment_before", "alignment_after",
)  # fmt: skip


# images, gamma, width of the data sweep, its sample numbers, widths of the model sweep, validation
# and test images; the model sweep uses the largest sample number.
POWERS = tuple(2**n for n in range(4, 13))  # 16 ... 4096
SWEEPS = (
    ("digits", 2.0, 256, POWERS[:6], POWERS[:5], 300, 400),
    ("digits", 4.0, 256, POWERS[:6], POWERS[:5], 300, 400),
    ("mnist", 1.0, 256, POWERS[::2], POWERS[:6], 1000, 2000),
    ("cifar10", 1.0, 256, POWERS[3:], POWERS[:5], 1000, 1500),
)


def cases() -> list[Case]:
    """Every run."""
    result = []
    for images, gamma, width, samples, widths, validation, test in SWEEPS:
        for n, d in sorted({(width, d) for d in samples} | {(n, samples[-1]) for n in widths}):
            for seed in SEEDS:
                case = Case(
                    width=n, samples=d, gamma=gamma, seed=seed, early_stopping=True, lr=1.0,
                    tol=1e-4, images=images, validation=validation, test=test,
                )  # fmt: skip
                result.append(case)
    return result


def row(run: Run) -> list[float]:
    """The numbers of one run in the order of `COLUMNS`."""
    c = run.case
    return [
        c.width, c.samples, c.gamma, c.seed, run.converged, run.steps, run.train_loss,
        run.test_loss, run.change, *run.alignment,
    ]  # fmt: skip


def main() -> None:
    started = time.process_time()
    rows, names = [], []
    for case in cases():
        run = run_case(case)
        rows.append(row(run))
        names.append(case.images)
        print(
            f"{time.process_time() - started:6.0f} s {case.images} N={case.width} "
            f"D={case.samples} gamma={case.gamma} seed={case.seed}: test {run.test_loss:.4f} "
            f"change {run.change:.4f} steps {run.steps} converged {run.converged}",
            flush=True,
        )
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        TARGET, images=np.array(names), runs=np.array(rows, np.float64), columns=np.array(COLUMNS)
    )
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name, file=sys.stderr)


if __name__ == "__main__":
    main()
