"""Peer benchmark of `dy33lib.hessian.hvp`; run it with `python benchmarks/hessian.py`.

Cross-entropy of ReLU perceptrons without biases on one CPU, three tasks: one product of the Hessian
with a vector, its ten largest eigenvalues in magnitude (SciPy's `eigsh` over that product, to
machine precision), and the full matrix. Two workers take turns within one run:

- `ours`, in this environment;
- `curvlinops`, in `.venv-peers/hessian`, which this script creates; with `functional`, the product
  written by hand with `torch.func`, compiled by nothing.

Everyone gets the same weights, inputs and vector from a file, warms up first, and is timed in CPU
seconds. A result that differs from ours by more than the tolerance voids the time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from peers import ask
from scipy.sparse.linalg import LinearOperator, eigsh

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "hessian.json"
PEER_VENV = ROOT / ".venv-peers" / "hessian"
PEER_PACKAGES = ["torch==2.15.0", "curvlinops-for-pytorch==3.0.1", "scipy==1.17.1"]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
PACKAGES = ("jax", "numpy", "scipy", "torch", "curvlinops-for-pytorch")
METHODS = ("ours", "curvlinops", "functional")
# widths, samples, type, tasks
CASES = (
    ((24, 16, 16, 10), 600, "float64", ("product", "eigenvalues", "matrix")),
    ((24, 20, 20, 10), 1797, "float64", ("product", "eigenvalues", "matrix")),
    ((64, 128, 128, 10), 1797, "float64", ("product", "eigenvalues")),
    ((784, 256, 256, 10), 1000, "float32", ("product",)),
    ((3072, 128, 128, 10), 6000, "float32", ("product",)),
)
ROUNDS, TOLERANCE = 5, {"float64": 1e-8, "float32": 1e-4}


def largest(matvec, P: int) -> np.ndarray:
    """Ten eigenvalues of largest magnitude, sorted."""
    operator = LinearOperator((P, P), matvec=matvec, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).normal(size=P)
    return np.sort(eigsh(operator, 10, which="LM", v0=start, return_eigenvectors=False))


def ours(data: dict, task: str):
    """A function of no arguments that does the task with this library."""
    import jax

    jax.config.update("jax_enable_x64", data["x"].dtype == np.float64)
    import equinox as eqx
    import jax.numpy as jnp
    from jax.tree_util import Partial

    from dy33lib.hessian import DenseNet, cross_entropy_loss, full_hessian, hvp

    weights = tuple(jnp.asarray(w) for w in data["weights"])
    sizes = (weights[0].shape[1], *(len(w) for w in weights))
    model = eqx.tree_at(
        lambda m: (m.weights, m.slope),
        DenseNet(sizes, slope=0.0, key=jax.random.key(0)),
        (weights, jnp.asarray(0, data["x"].dtype)),
    )
    labels = np.eye(10, dtype=data["x"].dtype)[data["labels"]]
    loss = Partial(cross_entropy_loss, X=jnp.asarray(data["x"]), Y=jnp.asarray(labels))
    v = jnp.asarray(data["v"])
    if task == "product":
        return lambda: np.asarray(hvp(loss, model, v))
    if task == "matrix":
        return lambda: full_hessian(loss, model)
    return lambda: largest(lambda u: np.asarray(hvp(loss, model, jnp.asarray(u.ravel()))), v.size)


def torch_peer(data: dict, task: str, method: str):
    """The same with curvlinops, or with `torch.func` alone."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.func import functional_call, grad, jvp  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    layers = []
    for w in data["weights"]:
        layer = torch.nn.Linear(w.shape[1], len(w), bias=False)
        layer.weight.data = torch.from_numpy(w.copy())
        layers += [layer, torch.nn.ReLU()]
    net, criterion = torch.nn.Sequential(*layers[:-1]), torch.nn.CrossEntropyLoss()
    x, y, v = (torch.from_numpy(data[k]) for k in ("x", "labels", "v"))
    if method == "curvlinops":
        from curvlinops import HessianLinearOperator  # pyright: ignore[reportMissingImports]

        def multiply(u):
            return operator @ u

        operator = HessianLinearOperator(
            net, criterion, list(net.parameters()), [(x, y)], check_deterministic=False
        )
    else:
        names = [name for name, _ in net.named_parameters()]
        values = [p.detach() for p in net.parameters()]

        def gradient(*params):
            def loss(params):
                output = functional_call(net, dict(zip(names, params, strict=True)), (x,))
                return criterion(output, y)

            return grad(loss)(params)

        def multiply(u):
            parts = torch.split(u, [p.numel() for p in values])
            parts = [part.view_as(p) for part, p in zip(parts, values, strict=True)]
            product = jvp(gradient, tuple(values), tuple(parts))[1]
            return torch.cat([p.reshape(-1) for p in product])

    if task == "product":
        return lambda: multiply(v).detach().numpy()
    if task == "matrix":
        if method == "functional":
            eye = torch.eye(len(v), dtype=v.dtype).split(32)
            return lambda: torch.cat([torch.func.vmap(multiply)(part) for part in eye]).numpy()
        eye = torch.eye(len(v), dtype=v.dtype).split(32, dim=1)
        return lambda: torch.cat([multiply(part) for part in eye], dim=1).detach().numpy()
    return lambda: largest(lambda u: multiply(torch.from_numpy(u.ravel())).detach().numpy(), len(v))


def worker() -> None:
    """Answer requests [case file, task, method, result file], one JSON line each."""
    replies, sys.stdout = sys.stdout, sys.stderr
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ready = {}
    for line in sys.stdin:
        file, task, method, result = json.loads(line)
        try:
            if (file, task, method) not in ready:
                with np.load(file) as archive:
                    data = {k: archive[k] for k in ("x", "labels", "v")}
                    data["weights"] = [archive[k] for k in ("w0", "w1", "w2")]
                make = ours if method == "ours" else torch_peer
                run = make(data, task, *(() if method == "ours" else (method,)))
                np.save(result, run())  # warms up
                ready[file, task, method] = run
            run, calls = ready[file, task, method], 0
            started = time.process_time()
            while time.process_time() - started < 0.2:
                run()
                calls += 1
            reply = {"seconds": (time.process_time() - started) / calls}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=replies, flush=True)


def measure(workers: dict, folder: str, case: tuple) -> list[dict]:
    """Best CPU seconds of each method for each task of one network."""
    widths, samples, dtype, tasks = case
    rng = np.random.default_rng(sum(widths))
    arrays = {"x": rng.standard_normal((samples, widths[0])).astype(dtype)}
    for i, shape in enumerate(zip(widths[1:], widths, strict=False)):
        arrays[f"w{i}"] = (rng.standard_normal(shape) * np.sqrt(2 / shape[1])).astype(dtype)
    P = sum(arrays[f"w{i}"].size for i in range(3))
    arrays["v"] = rng.standard_normal(P).astype(dtype)
    arrays["labels"] = rng.integers(0, 10, samples)
    file, rows = f"{folder}/{P}.npz", []
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    for task in tasks:
        seconds, deviation, failed, reference = {}, {}, {}, None
        for round_number in range(ROUNDS):
            for method in METHODS:
                if method in failed:
                    continue
                result = f"{folder}/{task}-{method}.npy"
                reply = ask(workers[method], file, task, method, result)
                if "error" in reply:
                    failed[method] = reply["error"]
                    continue
                if round_number == 0:
                    found = np.load(result)
                    reference = found if reference is None else reference
                    scale = float(np.abs(reference).max())
                    deviation[method] = float(np.abs(found - reference).max()) / scale
                    if not deviation[method] < TOLERANCE[dtype]:
                        failed[method] = "wrong"
                        continue
                seconds[method] = min(reply["seconds"], seconds.get(method, float("inf")))
        rivals = [t for k, t in seconds.items() if k != "ours"]
        ratio = min(rivals) / seconds["ours"] if rivals and "ours" in seconds else float("nan")
        rows.append(
            {"widths": widths, "P": P, "samples": samples, "dtype": dtype, "task": task,
             "seconds": seconds, "ratio": ratio, "deviation": deviation, "failed": failed}
        )  # fmt: skip
        cells = [f"{seconds[m]:.5f}" if m in seconds else failed[m] for m in METHODS]
        name = "-".join(map(str, widths))
        print(f"| {name} | {samples} | {dtype} | {task} |", " | ".join(cells), f"| {ratio:.2f} |")
    return rows


def main() -> None:
    """Create the environment of the peers if it is missing, measure, print, and save."""
    peer = str(PEER_VENV / "bin" / "python")
    if not PEER_VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        subprocess.run([peer, "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
    workers = {
        method: subprocess.Popen(
            [sys.executable if method == "ours" else peer, __file__, "--worker"],
            env=os.environ | ENVIRONMENT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for method in METHODS
    }  # fmt: skip
    versions = {d.name: d.version for d in metadata.distributions() if d.name in PACKAGES}
    listed = subprocess.check_output([peer, "-m", "pip", "list", "--format", "json"], text=True)
    installed = {package["name"]: package["version"] for package in json.loads(listed)}
    versions |= {f"peer {k}": v for k, v in installed.items() if k in PACKAGES}
    print("| network | samples | type | task |", " | ".join(METHODS), "| fastest peer / ours |")
    print("|---" * (len(METHODS) + 5) + "|")
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for case in CASES for row in measure(workers, folder, case)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")
    print("\nversions:", json.dumps(versions))
    for dtype in TOLERANCE:
        worst = max(max(r["deviation"].values()) for r in rows if r["dtype"] == dtype)
        print(f"largest deviation in {dtype}: {worst:.1e}")


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["--worker"] else main()
