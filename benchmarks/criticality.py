"""Benchmark of the quenched step of `dy33lib.criticality`; run `python benchmarks/criticality.py`.

One synchronous step of a network of 10,000 units with 100 links each, in three states: few, some
and most units active. The peer is the way of the talk's authors, written here from its description:
one product of SciPy's sparse matrix with the state, a random number for each unit that can be
reached, then the external spikes. Both get the same network and start, and take turns within one
run on one CPU. Times are CPU seconds of a step, the best of several batches; both means are shown
with the exact one as a check of numbers.
"""

import json
import os
import time
from importlib import metadata
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", JAX_PLATFORMS="cpu")

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402

from dy33lib import criticality as cr  # noqa: E402

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "criticality.json"
CASES = ((0.9, 0.0136), (0.9, 0.3), (0.99, 1.0))
STEPS, ROUNDS = 400, 5


def peer(network: cr.Network, lam: float, h: float, steps: int, rng: np.random.Generator) -> float:
    """Mean activity over some steps by full sparse products, after a hundred for settling."""
    weights = lam * network.rows
    driven, p = np.flatnonzero(network.driven), -np.expm1(-h)
    x = (rng.random(network.params.n) < float(cr.mean_activity(lam, h))).astype(float)
    total = 0.0
    for t in range(-100, steps):
        recurrent = np.clip(weights @ x, 0, 1)
        reached = np.flatnonzero(recurrent)
        x[:] = 0
        x[reached[rng.random(len(reached)) < recurrent[reached]]] = 1
        x[driven[rng.random(len(driven)) < p]] = 1
        total += x.mean() if t >= 0 else 0.0
    return total / steps


def ours(network: cr.Network, lam: float, h: float, steps: int, rng: np.random.Generator) -> float:
    """The same with `simulate_network`, whose filter and record are included."""
    run = cr.simulate_network(network, lam, h, [1e-3], steps, rng=rng, burn=100, every=steps)
    return float(run.mean[0, 0])


def main() -> None:
    """Measure, print, and save."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    network = cr.make_network(rng=np.random.default_rng(0))
    rows = []
    print("| λ | h | activity | ours (ms) | product (ms) | ratio | means: ours, peer, exact |")
    print("|---|---|---|---|---|---|---|")
    for lam, h in CASES:
        best, means = {"ours": np.inf, "peer": np.inf}, {"ours": [], "peer": []}
        for seed in range(ROUNDS):
            for name, run in (("ours", ours), ("peer", peer)):
                start = time.process_time()
                means[name].append(run(network, lam, h, STEPS, np.random.default_rng(seed)))
                best[name] = min(best[name], (time.process_time() - start) / (STEPS + 100))
        exact = cr.network_moments(network, lam, h).mean
        row = {"seconds": best, "ratio": best["peer"] / best["ours"], "means": means}
        rows.append({"lam": lam, "h": h, "exact": exact, **row})
        times = " | ".join(f"{1e3 * t:.3f}" for t in best.values())
        shown = ", ".join(f"{np.mean(m):.4f}" for m in (*means.values(), exact))
        print(f"| {lam} | {h} | {exact:.3f} | {times} | {row['ratio']:.2f} | {shown} |")
    versions = {name: metadata.version(name) for name in ("numpy", "scipy", "jax")}
    RESULTS.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")
    print("versions:", json.dumps(versions))


if __name__ == "__main__":
    main()
