"""Peer benchmark of `dy33lib.pid`; run it with `python benchmarks/pid.py`.

Three tasks on one CPU. Two or three workers take turns within one run, `ours` in this environment,
the others in `.venv-peers/pid`, which this script creates, with the sources of SxPID and of the
authors' networks cloned beside it:

- `goal`: the published goal of 100 neurons with three classes of inputs on 719 samples, in 20 bins
  each, and its derivative by the probabilities of their answers, in single and double precision;
  against the layer of the authors;
- `step`: a whole training step of the digits' network, two passes through 100 hidden and ten output
  neurons, both goals, their derivatives and Adam, in single precision; against the same steps with
  layers of the authors;
- `atoms`: the 18 atoms of a distribution of three binary sources and a binary target in double
  precision; against SxPID and dit.

Everyone gets the same numbers from a file, warms up first, and is timed in CPU seconds. Goals,
derivatives and atoms that differ from ours by more than the tolerance have no time. The authors add
1e-10 to denominators, which is seen in double precision.
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

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "pid.json"
PEER_VENV = ROOT / ".venv-peers" / "pid"
SOURCES = {
    "sxpid": "https://github.com/Abzinger/SxPID",
    "authors": "https://github.com/Priesemann-Group/Infomorphic_Networks",
}
PEER_PACKAGES = ["torch==2.15.0", "dit==2.3.0", "tqdm", "prettytable", "setuptools<80",
                 "matplotlib", "scikit-learn"]  # fmt: skip
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
PACKAGES = ("jax", "numpy", "torch", "dit")
# task, type, tolerance, methods
CASES = (
    ("goal", "float32", 1e-6, ("ours", "authors")),
    ("goal", "float64", 1e-6, ("ours", "authors")),
    ("step", "float32", None, ("ours", "authors")),
    ("atoms", "float64", 1e-12, ("ours", "sxpid", "dit")),
)
NEURONS, SAMPLES, BINS, ROUNDS = 100, 719, 20, 5
STEPS = 20  # training steps of ours in one call


def ours(data: dict, task: str):
    """A function of no arguments that does the task with this library; a step is one of several."""
    import jax

    jax.config.update("jax_enable_x64", data["fields"].dtype == np.float64 or task == "atoms")
    import jax.numpy as jnp

    from dy33lib.pid import GOALS, InfomorphicNet, goal, pid, train
    from dy33lib.pid.samples import bin_fixed

    if task == "atoms":
        p = jnp.asarray(data["p"])
        compiled = jax.jit(pid)
        return lambda: np.asarray(compiled(p))
    if task == "goal":
        gamma = jnp.asarray(data["gamma"])

        @jax.jit
        def both(fields, theta):
            bins = bin_fixed(fields, -20.0, 20.0, BINS)
            return jax.value_and_grad(lambda t: goal(bins, t, gamma, BINS))(theta)

        fields, theta = jnp.asarray(data["fields"]), jnp.asarray(data["theta"])

        def value_and_slopes():
            value, slopes = both(fields, theta)
            return np.append(np.asarray(slopes).ravel(), float(value))

        return value_and_slopes
    net = InfomorphicNet(64, NEURONS, key=jax.random.key(0))
    x, y = jnp.asarray(data["x"]), jnp.asarray(data["y"])

    def run():
        done = train(
            net, x, y, aim=GOALS["optimised"], epochs=STEPS, batch=SAMPLES, every=STEPS,
            monitor=(x[:100], y[:100]), key=jax.random.key(1),
        )  # fmt: skip
        return np.asarray(done.net.output.biases[0])

    return run


def lattice_of_sxpid(n: int):
    """Antichains and Moebius inversion, made by SxPID itself: its file of them may be missing."""
    from sxpid import SxPID  # pyright: ignore[reportMissingImports]

    made = SxPID.Lattice(n, None)
    made.antichain()
    return SxPID, made._achains, made.compute_moebius_inversion()


def cells(p: np.ndarray) -> dict:
    return {cell: float(p[cell]) for cell in np.ndindex(p.shape)}


def peer_atoms(data: dict, method: str):
    """The 18 atoms by SxPID or dit, in our order."""
    chains = [tuple(tuple(map(int, a)) for a in text.split("|")) for text in data["order"]]
    table = cells(data["p"])
    if method == "sxpid":
        code, chains_of_code, moebius = lattice_of_sxpid(3)
        code.load_achains = lambda n: chains_of_code
        code.load_moebius_function = lambda n: np.array(moebius, int)

        def by_sxpid():
            atoms = code.pid(table, verbose=0)[1]
            sets = {frozenset(alpha): value[2] for alpha, value in atoms.items()}
            return np.array([sets[frozenset(alpha)] for alpha in chains])

        return by_sxpid
    import dit  # pyright: ignore[reportMissingImports]

    d = dit.Distribution(["".join(map(str, c)) for c in table], list(table.values()))
    names = [tuple(sorted(tuple(i - 1 for i in a) for a in alpha)) for alpha in chains]
    names = [tuple(sorted(a, key=lambda x: (len(x), x))) for a in names]

    def run():
        atoms = dit.pid.PID_SX(d, [[0], [1], [2]], [3])
        return np.array([float(atoms[name]) for name in names])

    return run


def authors(data: dict, task: str):
    """The same with layers of the authors."""
    import torch  # pyright: ignore[reportMissingImports]
    from im_net import im_model, prob_estim  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.from_numpy(data["fields"]).dtype)
    lattices = {n: lattice_of_sxpid(n)[1:] for n in (2, 3)}
    im_model.load_moebius_function = lambda n, device="cpu": (
        torch.tensor(lattices[n][1]),
        lattices[n][0],
    )
    kinds = "im_net.activation_functions"
    fixed = prob_estim.BinningFixedSize("cpu", [BINS] * 3, [[-20, 20]] * 3)
    hidden = im_model.IM_Layer(
        [64, 10, NEURONS], NEURONS, f"{kinds}.Schneider3SourceActivation", fixed,
        biases=[True] * 3, connections=[1, 1, 1 - torch.eye(NEURONS)],
        activation_params={"c1": 0.1, "c2": 0.1, "w1": 2.0, "w2": 2.0},
    )  # fmt: skip
    gamma = torch.from_numpy(data["gamma"])
    if task == "goal":
        fields = [torch.from_numpy(np.ascontiguousarray(f.T)) for f in data["fields"]]

        def value_and_slopes():
            theta = torch.from_numpy(np.ascontiguousarray(data["theta"].T)).requires_grad_()
            hidden.save_for_loss = (fields, torch.stack([1 - theta, theta], 2))
            loss = hidden.loss(gamma=gamma)
            loss.backward()
            return -np.append(theta.grad.numpy().T.ravel(), loss.item())

        return value_and_slopes
    adaptive = prob_estim.BinningAdaptiveSize(
        "cpu", [BINS] * 2, [[-20, 20]] * 2, normalize=True, symmetric=True
    )
    output = im_model.IM_Layer(
        [NEURONS, 10], 10, f"{kinds}.GraetzActivation", adaptive, biases=[True, False],
        connections=[1, torch.eye(10)], activation_params={"k1": 1.0},
    )  # fmt: skip
    gamma_output = torch.tensor([-0.2, 0.1, 1.0, 0.1, 0.0])
    adam = torch.optim.Adam(
        [{"params": hidden.parameters(), "lr": 2e-3, "weight_decay": 3.5e-4},
         {"params": output.parameters(), "lr": 3e-3, "weight_decay": 1.5e-4}]
    )  # fmt: skip
    x = torch.from_numpy(data["x"])
    y = torch.nn.functional.one_hot(torch.from_numpy(data["y"]).long(), 10).to(x.dtype)

    def run():
        adam.zero_grad()
        first = hidden([x, y, torch.zeros(SAMPLES, NEURONS)])
        output([hidden([x, y, first]), y])
        (hidden.loss(gamma=gamma) + output.loss(gamma=gamma_output)).backward()
        adam.step()
        return output.sources[0].bias.detach().numpy()

    return run


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
                    data = {k: archive[k] for k in archive.files}
                if method == "ours":
                    run = ours(data, task)
                else:
                    run = authors(data, task) if method == "authors" else peer_atoms(data, method)
                for _ in range(2):  # warms up; the second result is that of a warm call
                    np.save(result, run())
                ready[file, task, method] = run
            run, calls = ready[file, task, method], 0
            started = time.process_time()
            while time.process_time() - started < 1:
                run()
                calls += STEPS if (task, method) == ("step", "ours") else 1
            reply = {"seconds": (time.process_time() - started) / calls}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=replies, flush=True)


def numbers(file: str, task: str, dtype: str) -> None:
    """What all methods are given."""
    rng = np.random.default_rng(33)
    fields = np.array([3, 1, 2])[:, None, None] * rng.standard_normal((3, NEURONS, SAMPLES))
    arrays = {
        "p": rng.dirichlet(np.ones(16)).reshape(2, 2, 2, 2),
        "order": np.array(["1|2|3", "1|2", "1|3", "2|3", "1|23", "2|13", "3|12", "1", "2", "3",
                           "12|13|23", "12|13", "12|23", "13|23", "12", "13", "23", "123"]),
        "fields": fields.astype(dtype),
        "theta": (1 / (1 + np.exp(-fields.sum(axis=0) / 4))).astype(dtype),
        "gamma": rng.uniform(-1, 1, 19).astype(dtype),
        "x": rng.standard_normal((SAMPLES, 64)).astype(dtype),
        "y": rng.integers(0, 10, SAMPLES),
    }  # fmt: skip
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def measure(workers: dict, folder: str, case: tuple) -> dict:
    """Best CPU seconds of each method for one task."""
    task, dtype, tolerance, methods = case
    file = f"{folder}/{task}-{dtype}.npz"
    numbers(file, task, dtype)
    seconds, deviation, failed, reference = {}, {}, {}, None
    for round_number in range(ROUNDS):
        for method in methods:
            if method in failed:
                continue
            result = f"{folder}/{method}.npy"
            reply = ask(workers[method, dtype], file, task, method, result)
            if "error" in reply:
                failed[method] = reply["error"]
                continue
            if round_number == 0 and tolerance:
                found = np.load(result)
                reference = found if reference is None else reference
                scale = float(np.abs(reference).max())
                deviation[method] = float(np.abs(found - reference).max()) / scale
                if not deviation[method] < tolerance:
                    failed[method] = "wrong"
                    continue
            seconds[method] = min(reply["seconds"], seconds.get(method, float("inf")))
    rivals = [t for k, t in seconds.items() if k != "ours"]
    ratio = min(rivals) / seconds["ours"] if rivals and "ours" in seconds else float("nan")
    shown = ", ".join(
        f"{m} {seconds[m]:.6f}" if m in seconds else f"{m} {failed[m]}" for m in methods
    )
    print(f"| {task} | {dtype} | {shown} | {ratio:.1f} |", flush=True)
    return {"task": task, "dtype": dtype, "seconds": seconds, "ratio": ratio,
            "deviation": deviation, "failed": failed}  # fmt: skip


def main() -> None:
    """Create the environment of the peers if it is missing, measure, print, and save."""
    peer = str(PEER_VENV / "bin" / "python")
    if not PEER_VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        subprocess.run([peer, "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
    for name, address in SOURCES.items():
        if not (PEER_VENV / name).exists():
            subprocess.run(["git", "clone", "-q", address, str(PEER_VENV / name)], check=True)
    paths = {
        "ours": str(ROOT),
        "peer": os.pathsep.join([str(ROOT), *(str(PEER_VENV / name) for name in SOURCES)]),
    }
    pairs = sorted({(m, dtype) for _, dtype, _, methods in CASES for m in methods})
    workers = {
        (method, dtype): subprocess.Popen(
            [sys.executable if method == "ours" else peer, __file__, "--worker"],
            env=os.environ | ENVIRONMENT
            | {"PYTHONPATH": paths["ours" if method == "ours" else "peer"]},
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for method, dtype in pairs
    }  # fmt: skip
    versions = {d.name: d.version for d in metadata.distributions() if d.name in PACKAGES}
    listed = subprocess.check_output([peer, "-m", "pip", "list", "--format", "json"], text=True)
    installed = {package["name"]: package["version"] for package in json.loads(listed)}
    versions |= {f"peer {k}": v for k, v in installed.items() if k in PACKAGES}
    print("| task | type | CPU seconds | fastest peer / ours |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(workers, folder, case) for case in CASES]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")
    print("\nversions:", json.dumps(versions))
    for row in rows:
        print(row["task"], row["dtype"], "deviations:", row["deviation"])


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["--worker"] else main()
