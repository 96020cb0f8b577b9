"""Peer benchmark of `dy33lib.ntk.empirical_ntk`; run it with `python benchmarks/ntk.py`.

The kernel, summed over 10 outputs, of a bias-free ReLU perceptron 64-N-N-10 in float32 on one CPU.
Two workers take turns within one run:

- `locked`, the JAX of this environment: ours, and the contraction of `jax.jacrev`;
- `peer`, neural-tangents with a JAX that it works with (it does not import on a new one), in
  `.venv-peers/ntk`, which this script creates: its three implementations, and ours again.

Everyone gets the same weights and inputs from a file, compiles first, and is timed in CPU seconds.
A kernel that differs from ours on the locked JAX by more than 1e-4 of its maximum voids the time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from peers import ask

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ntk.json"
PEER_VENV = ROOT / ".venv-peers" / "ntk"
PEER_PACKAGES = [
    "neural-tangents==0.6.5", "jax==0.4.20", "jaxlib==0.4.20", "numpy==1.26.4", "scipy==1.12.0",
    "equinox==0.11.3", "jaxtyping==0.2.25", "optax==0.1.9", "chex==0.1.85", "scikit-learn==1.5.2",
]  # fmt: skip
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
PACKAGES = ("jax", "jaxlib", "numpy", "equinox", "neural-tangents")
METHODS = [
    "locked:ours", "locked:jacobian", "peer:ours", "peer:JACOBIAN_CONTRACTION",
    "peer:NTK_VECTOR_PRODUCTS", "peer:STRUCTURED_DERIVATIVES",
]  # fmt: skip
LEAN = ("ours", "STRUCTURED_DERIVATIVES")  # the others hold the Jacobian about twice
MEMORY = 8e9  # bytes that they may take
WIDTHS, SAMPLES, INPUTS, OUTPUTS = (256, 512, 1024, 2048), (64, 128, 256), 64, 10
ROUNDS, BATCHES, BATCH_SECONDS, SLOW, TOLERANCE = 5, 3, 0.05, 1.0, 1e-4  # above SLOW: timed once


def build(method: str, weights: list[np.ndarray], x: np.ndarray):
    """A function of no arguments that computes the kernel with `method`."""
    import jax
    import jax.numpy as jnp

    inputs, root2 = jnp.asarray(x), np.float32(np.sqrt(2))
    if method == "ours":
        import equinox as eqx

        from dy33lib.ntk import MLP, empirical_ntk

        model = MLP((x.shape[1], *(len(w) for w in weights)), key=jax.random.PRNGKey(0))
        model = eqx.tree_at(lambda m: m.weights, model, tuple(jnp.asarray(w) for w in weights))
        return lambda: empirical_ntk(model, inputs)

    def network(params, z):
        for i, w in enumerate(params):
            h = z @ w * np.float32(1 / np.sqrt(len(w)))
            z = root2 * jnp.maximum(h, 0) if i < len(params) - 1 else h
        return z

    # Transposed: with `z @ w.T` in the network, the structured derivatives of neural-tangents
    # find no structure and take as long as the Jacobian.
    params = [jnp.asarray(np.ascontiguousarray(w.T)) for w in weights]
    if method == "jacobian":

        @jax.jit
        def contraction(params, z):
            jacobian = jax.vmap(jax.jacrev(network), (None, 0))(params, z)
            return sum(jnp.einsum("mkij,nkij->mn", j, j) for j in jacobian)

        return lambda: contraction(params, inputs)
    import neural_tangents as nt  # pyright: ignore[reportMissingImports]

    mean = nt.empirical_ntk_fn(
        network, trace_axes=(-1,), vmap_axes=0, implementation=nt.NtkImplementation[method]
    )  # over the outputs, where we sum
    kernel = jax.jit(lambda z, params: OUTPUTS * mean(z, None, params))
    return lambda: kernel(inputs, params)


def worker() -> None:
    """Answer requests [case file, method, kernel file], one JSON line each, until stdin closes."""
    replies, sys.stdout = sys.stdout, sys.stderr
    if hasattr(os, "sched_setaffinity"):
        # One CPU instead of XLA flags for one thread: those make the old JAX about half as fast,
        # and leave the new one two threads, whose time the clock of the process reads too low.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ready = {}

    def seconds(run, calls: int) -> float:
        start = time.process_time()
        for _ in range(calls):
            run().block_until_ready()
        return (time.process_time() - start) / calls

    def measure(case: str, method: str, kernel_file: str) -> float:
        if (case, method) not in ready:
            for key in [key for key in ready if key[0] != case]:  # of the case before
                del ready[key]
            data = np.load(case)
            run = build(method, [data["w0"], data["w1"], data["w2"]], data["x"])
            np.save(kernel_file, np.asarray(run()))  # compiles
            if (once := seconds(run, 1)) > SLOW:
                return once
            ready[case, method] = run, max(1, round(BATCH_SECONDS / once))
        return min(seconds(*ready[case, method]) for _ in range(BATCHES))

    versions = {d.name: d.version for d in metadata.distributions() if d.name in PACKAGES}
    for line in sys.stdin:
        try:
            request = json.loads(line)
            reply = {"seconds": measure(*request)} if request else versions
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=replies, flush=True)


def run_case(workers: dict, folder: str, width: int, samples: int) -> dict:
    """Best CPU seconds of each method, or why there are none, and the deviation of its kernel."""
    rng = np.random.default_rng(width + samples)
    shapes = {"w0": (width, INPUTS), "w1": (width, width), "w2": (OUTPUTS, width)}
    jacobian = 4 * samples * OUTPUTS * sum(a * b for a, b in shapes.values())  # bytes
    shapes["x"] = (samples, INPUTS)
    case, file = f"{folder}/{width}-{samples}.npz", f"{folder}/kernel.npy"
    arrays: Any = {k: rng.standard_normal(shapes[k]).astype(np.float32) for k in shapes}
    np.savez(case, **arrays)
    seconds, deviation, failed, reference = {}, {}, {}, None
    for name in METHODS * ROUNDS:
        side, method = name.split(":")
        if method not in LEAN and 2 * jacobian > MEMORY:
            failed[name] = "memory"
        if name in failed or seconds.get(name, 0) > SLOW:
            continue
        reply = ask(workers[side], case, method, file)
        if "error" in reply:
            failed[name] = reply["error"]
            continue
        if name not in deviation:
            kernel = np.load(file).astype(np.float64)
            reference = kernel if reference is None else reference
            deviation[name] = float(np.abs(kernel - reference).max() / np.abs(reference).max())
        if not deviation[name] < TOLERANCE:
            failed[name] = "wrong"
            continue
        seconds[name] = min(reply["seconds"], seconds.get(name, float("inf")))
    ratio = {}
    for ours, rivals in (("locked:ours", ("locked:", "peer:")), ("peer:ours", ("peer:",))):
        times = [t for k, t in seconds.items() if k.startswith(rivals) and "ours" not in k]
        ratio[ours] = min(times) / seconds[ours] if times and ours in seconds else float("nan")
    return {"N": width, "m": samples, "seconds": seconds, "ratio": ratio,
            "deviation": deviation, "failed": failed}  # fmt: skip


def main() -> None:
    """Create the environment of the peer if it is missing, measure, print, and save."""
    peer_python = str(PEER_VENV / "bin" / "python")
    if not PEER_VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        subprocess.run([peer_python, "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
    workers = {
        side: subprocess.Popen(
            [python, __file__, "--worker"], env=os.environ | ENVIRONMENT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for side, python in (("locked", sys.executable), ("peer", peer_python))
    }  # fmt: skip
    print("| N | m |", " | ".join(METHODS), "| ratio, each on its JAX | ratio, both on the old |")
    print("|---" * (len(METHODS) + 4) + "|")
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for width, samples in [(n, m) for n in WIDTHS for m in SAMPLES]:
            case = run_case(workers, folder, width, samples)
            text = {k: f"{t:.4f}" for k, t in case["seconds"].items()} | case["failed"]
            cells = [text[k] for k in METHODS]
            cells += [f"{r:.2f}" for r in case["ratio"].values()]
            print(f"| {width} | {samples} |", " | ".join(cells), "|", flush=True)
            cases.append(case)
    versions = {side: ask(process) for side, process in workers.items()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n")
    deviation = max(max(case["deviation"].values()) for case in cases)
    print(f"\nversions: {json.dumps(versions)}\nlargest deviation: {deviation:.1e}")
    print("smallest ratios:", [min(c["ratio"][k] for c in cases) for k in cases[0]["ratio"]])


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["--worker"] else main()
