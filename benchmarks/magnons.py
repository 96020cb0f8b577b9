"""Peer benchmark of `dy33lib.magnons`; run it with `python benchmarks/magnons.py`.

Two tasks on one CPU, in CPU seconds after warming up, the best of several rounds; peers run in
`.venv-peers/magnons`, which this script creates, and take turns with ours.

- `bands` and `intensities` at 2,000 random wave vectors, eight couplings: ours against pySpinW,
  which is general (any structure, any exchange) and always gives both. Their numbers are compared.
- `choice`: the next six of 3,172 points after 60 counts. Ours from 512 particles, adversary and map
  included; a log-Gaussian process of ours; and gpCAM, one training of its kernel aside.
"""

import json
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from peers import ask

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "magnons.json"
PEER_VENV = ROOT / ".venv-peers" / "magnons"
PEER_PACKAGES = ["pyspinw==1.1.0b2", "gpcam==8.6.1", "numpy", "scipy"]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
ROUNDS = 5


def best(run, calls: int) -> float:
    """Shortest CPU time of a call."""
    run()
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(calls):
            run()
        times.append((time.process_time() - start) / calls)
    return min(times)


def example() -> tuple[np.ndarray, np.ndarray]:
    """Sixty points in the plane of path and energy, and roots of counts."""
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(0, 2.7, 60) / 0.05, rng.uniform(2, 53, 60) / 1.5], axis=1)
    return points, 2 * np.sqrt(rng.poisson(5, 60) + 0.375)


def pyspinw() -> dict[str, float]:
    """Time of energies and intensities."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from make_magnons_reference import (  # pyright: ignore[reportMissingImports]
        Points,
        hamiltonian,
    )

    model, Q = hamiltonian(), np.random.default_rng(2026).uniform(-2, 2, (2000, 3))
    return {"pySpinW": best(lambda: model.energies_and_intensities(Points(Q)), 1)}


def gpcam() -> dict[str, float]:
    """Time of six points, one after the other; the kernel is trained before."""
    from gpcam import GPOptimizer  # pyright: ignore[reportMissingImports]

    x, y = example()
    plane = [np.array([q, E]) for q in np.linspace(0, 54, 61) for E in np.arange(2, 54) / 1.5]
    optimiser = GPOptimizer(x, y, noise_variances=np.ones(len(y)))
    optimiser.train(method="local")
    found = optimiser.get_hyperparameters()

    def choose():
        xs, ys = x, y
        for _ in range(6):
            noise = np.ones(len(ys))
            one = GPOptimizer(xs, ys, init_hyperparameters=found, noise_variances=noise)
            point = np.ravel(one.ask(plane, acquisition_function="ucb")["x"])[:2]
            guess = np.ravel(one.posterior_mean(point[None])["m(x)"])[0]
            xs, ys = np.vstack([xs, point]), np.append(ys, guess)

    return {"gpCAM": best(choose, 1)}


def worker() -> None:
    """What runs in the environment of the peers."""
    for line in sys.stdin:
        (task,) = json.loads(line)
        print(json.dumps(pyspinw() if task == "bands" else gpcam()), flush=True)


def ours() -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Times of both tasks, and the deviations from pySpinW's shipped numbers."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    from dy33lib import magnons as mg
    from dy33lib.datasets import load_shipped
    from dy33lib.magnons import study
    from dy33lib.magnons.campaign import next_batch

    stored = load_shipped("magnons_reference")
    J, hk, layer = jnp.asarray(stored["J"]), jnp.asarray(stored["Q"][:, :2]), mg.Layer(gap=0.0)
    strength = jax.jit(jax.vmap(lambda q, L: mg.weights(J, q, 1.0, layer)))
    bands = {
        "bands": best(lambda: mg.bands(J, hk, layer).block_until_ready(), 50),
        "bands and intensities": best(
            lambda: (mg.bands(J, hk, layer), strength(hk, hk[:, 0]).block_until_ready()), 50
        ),
    }
    energies = np.abs(np.asarray(mg.bands(J, hk, layer)) - stored["energies"]).max()
    exact = np.array([mg.weights(J, jnp.asarray(q[:2]), float(q[2]), layer) for q in stored["Q"]])
    deviations = {
        "energies (meV)": float(energies),
        "intensities (relative)": float(np.abs(exact / stored["intensities"] - 1).max()),
    }
    setup, settings = study.bench(), study.bench().settings(stop=True)
    beam = mg.Beam(setup.expected, key=jax.random.key(0))
    done = mg.run_campaign(
        beam, setup.rows, [setup.seven], 60, settings._replace(target=0.0), key=jax.random.key(1)
    )
    rival = study.rivals(setup, kappa=10.0)["log-GP"](0)
    rival(done.visited, done.counts)
    rng = np.random.default_rng(0)
    choice = {
        "ours": best(
            lambda: next_batch(
                done.particles,
                done.spectrum,
                setup.rows,
                setup.seven,
                done.visited,
                settings,
                rng=rng,
            ),
            5,
        ),
        "log-GP": best(lambda: rival(done.visited, done.counts), 5),
    }
    return bands, choice, deviations


def main() -> None:
    """Measure, print, and save."""
    os.environ.update(ENVIRONMENT)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if not PEER_VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        install = [str(PEER_VENV / "bin" / "pip"), "install", "-q", *PEER_PACKAGES]
        subprocess.run(install, check=True)
    command = [str(PEER_VENV / "bin" / "python"), __file__, "worker"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    bands, choice, deviations = ours()
    bands.update(ask(process, "bands"))
    choice.update(ask(process, "choice"))
    process.terminate()
    ratios = {
        "bands": bands["pySpinW"] / bands["bands"],
        "bands and intensities": bands["pySpinW"] / bands["bands and intensities"],
        "choice, log-GP": choice["log-GP"] / choice["ours"],
        "choice, gpCAM": choice["gpCAM"] / choice["ours"],
    }
    versions = {name: metadata.version(name) for name in ("jax", "numpy")}
    result = {"versions": versions, "peers": PEER_PACKAGES, "bands": bands, "choice": choice}
    result |= {"ratios": ratios, "deviations": deviations}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["worker"] else main()
