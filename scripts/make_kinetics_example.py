"""Write the example file of chapter 10: seven simulated experiments in a batch reactor.

    python scripts/make_kinetics_example.py

Writes `dy33lib/data/kinetics_example.csv`. The law is a solution of an exercise; do not read on.
"""

import hashlib
import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402

from dy33lib.sindy import NU, RateTerm, simulate  # noqa: E402

TARGET = Path(__file__).resolve().parent.parent / "dy33lib" / "data" / "kinetics_example.csv"
LAW = RateTerm(((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (1.0, 0.0, 1.0), 2, (1, -1))
PARAMETERS = (6.0, 1.2, 1.8, 0.9)
SIGMA = 0.02
INITIAL = (
    (1.0, 1.0, 0.0), (2.0, 1.0, 0.0), (1.0, 2.0, 0.0), (0.5, 2.5, 0.0),
    (2.5, 0.5, 0.0), (0.6, 0.6, 1.5), (2.0, 2.0, 0.5),
)  # fmt: skip
SAMPLES = (32, 32, 28, 32, 25, 32, 30)


def text() -> str:
    """The file's contents."""
    rng = np.random.default_rng(2026)
    lines = ["experiment,time,c_A,c_B,c_C"]
    for number, (start, samples) in enumerate(zip(INITIAL, SAMPLES, strict=True), start=1):
        t = 0.25 * np.arange(1, samples + 1)
        c = simulate(LAW, PARAMETERS, np.array([start]), NU, t)[0]
        c += SIGMA * rng.normal(size=c.shape)
        table = np.column_stack([np.r_[0.0, t], np.vstack([start, c])])
        lines += [f"{number},{row[0]:g}," + ",".join(f"{x:.4f}" for x in row[1:]) for row in table]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name, file=sys.stderr)
