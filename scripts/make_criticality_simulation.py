"""Simulate chapter 2 where no shape of the law can be taken for granted: close to criticality.

    python scripts/make_criticality_simulation.py    # about 12 min on one core

512 annealed networks of 10,000 units for each of six pairs of coupling and input, at which the
first input is about to be told from none. Writes `dy33lib/data/criticality_simulation.npz` with

- `lam`, `h`: the pairs, shape (pair,); `T`: five integration times, shape (T,);
- `confusion`: probability of taking the input for none, shape (group, pair, T), for eight groups of
  64 networks;
- `mean`, `var`, `third`: central moments of the average over all 512, shape (pair, T).
"""

import hashlib
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402

from dy33lib import criticality as cr  # noqa: E402

TARGET = Path(__file__).resolve().parent.parent / "dy33lib" / "data" / "criticality_simulation.npz"
PAIRS = (
    (0.99, 1.5e-3),
    (0.999, 2.5e-4),
    (0.999, 1.6e-4),
    (0.9999, 1.3e-4),
    (0.9999, 1.1e-4),
    (0.9999, 7e-5),
)
TIMES = (1.0, 10.0, 100.0, 1e3, 1e4)
STEPS = {0.99: 100_000, 0.999: 150_000, 0.9999: 250_000}
BURN = {0.99: 50_000, 0.999: 50_000, 0.9999: 100_000}
CHAINS, GROUPS, SEED = 512, 8, 2026


def run(lam: float, h: float, steps: int, burn: int, rng: np.random.Generator):
    """Confusions (group, T) with no input, and three moments (T,) each."""
    found = cr.simulate_annealed(lam, h, TIMES, steps, rng=rng, chains=CHAINS, burn=burn, every=50)
    silent = cr.reference(0.0, cr.Params())
    groups = np.split(found.samples, GROUPS, axis=2)
    confusion = [
        [cr.overlap_error(silent, cr.empirical_pmf(g[:, i])) for i in range(len(TIMES))]
        for g in groups
    ]
    moments = (m.mean(axis=1) for m in (found.mean, found.var, found.third))
    return np.array(confusion), *moments


def main() -> None:
    found = []
    for number, (lam, h) in enumerate(PAIRS):
        rng = np.random.default_rng([SEED, number])
        found.append(run(lam, h, STEPS[lam], BURN[lam], rng))
        print(lam, h, found[-1][0].mean(axis=0).round(4), flush=True)
    confusion, mean, var, third = (np.array(part) for part in zip(*found, strict=True))
    lams, hs = np.array(PAIRS).T
    np.savez_compressed(
        TARGET, lam=lams, h=hs, T=np.array(TIMES), confusion=confusion.transpose(1, 0, 2),
        mean=mean, var=var, third=third,
    )  # fmt: skip
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name, TARGET.stat().st_size)


if __name__ == "__main__":
    main()
