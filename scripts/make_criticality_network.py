"""Simulate the quenched networks of chapter 2 for longer than a chapter may take.

    python scripts/make_criticality_network.py    # about 6 min on one core

Three networks of 10,000 units with 100 links each, at the inputs that are first told from none for
lambda = 0.9 and 0.99. Writes `dy33lib/data/criticality_network.npz` with

- `lam`, `h`: shape (lam,); `T`: integration times, shape (T,);
- `mean`, `var`: of the leaky average, shape (network, lam, T);
- `theory_mean`, `theory_var`: of the activity, from each network's weights, shape (network, lam).
"""

import hashlib
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402

from dy33lib import criticality as cr  # noqa: E402

TARGET = Path(__file__).resolve().parent.parent / "dy33lib" / "data" / "criticality_network.npz"
PAIRS, TIMES, SEEDS = ((0.9, 0.0136), (0.99, 0.00166)), (1.0, 10.0), (0, 1, 2)
STEPS, BURN = 100_000, 2_000


def main() -> None:
    rows = []
    for seed in SEEDS:
        rng = np.random.default_rng([2602, seed])
        network = cr.make_network(rng=rng)
        for lam, h in PAIRS:
            found = cr.simulate_network(
                network, lam, h, TIMES, STEPS, rng=rng, burn=BURN, every=STEPS
            )
            theory = cr.network_moments(network, lam, h)
            rows.append((found.mean[:, 0], found.var[:, 0], theory.mean, theory.var))
            print(seed, lam, found.var[0, 0] / theory.var, flush=True)
    mean, var, theory_mean, theory_var = (np.array(part) for part in zip(*rows, strict=True))
    shape = len(SEEDS), len(PAIRS)
    lams, hs = np.array(PAIRS).T
    np.savez_compressed(
        TARGET, lam=lams, h=hs, T=np.array(TIMES),
        mean=mean.reshape(*shape, -1), var=var.reshape(*shape, -1),
        theory_mean=theory_mean.reshape(shape), theory_var=theory_var.reshape(shape),
    )  # fmt: skip
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name, TARGET.stat().st_size)


if __name__ == "__main__":
    main()
