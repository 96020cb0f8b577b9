"""Peer benchmark of `dy33lib.multicanonical`; run it with `python benchmarks/multicanonical.py`.

Two comparisons on one CPU, in CPU seconds.

- Chains: our Wang-Landau and multicanonical chains against straightforward ones in numba, which
  are in this file: steps a second, and the error of ln g(E) after as many steps.
- Networks: the free energy of the Ising model (q = 2) on 4 x 4 sites at its critical temperature,
  by ours and by the code of Wu, Wang and Zhang (2019), cloned into `.venv-peers/multicanonical`,
  against the exact density of states. Time includes the start of Python, and training only.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "multicanonical.json"
PEER_VENV = ROOT / ".venv-peers" / "multicanonical"
PEER_PACKAGES = ["torch==2.15.0", "torchvision", "numpy"]
PEER_SOURCE = "https://github.com/wdphy16/stat-mech-van"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "PYTHONPATH": str(ROOT),
}
BETA = float(np.log(1 + np.sqrt(2))) / 2  # of the Ising model with energy -sum s s
SEEDS = (1, 2, 3)
STEPS = {"ours": (50, 100, 200), "MADE": (250, 500, 1000, 2000), "PixelCNN": (250,)}
CASES = ((5, 20, 5_000_000), (5, 200, 5_000_000), (8, 20, 20_000_000))


def plain_chains():
    """Wang-Landau and multicanonical chains as one would write them down."""
    import numba

    @numba.njit
    def cost(s, L, i, j, colour):
        return (
            int(s[(i + 1) % L, j] == colour) + int(s[(i - 1) % L, j] == colour)
            + int(s[i, (j + 1) % L] == colour) + int(s[i, (j - 1) % L] == colour)
        )  # fmt: skip

    @numba.njit
    def wang_landau(L, q, steps, rng):
        s, bins = np.zeros((L, L), np.int64), 2 * L * L + 1
        E = -2 * L * L
        ln_g, visits, seen = np.zeros(bins), np.zeros(bins), np.zeros(bins, np.bool_)
        f, known, late = 1.0, 0, False
        for t in range(1, steps + 1):
            i, j = int(rng.random() * L), int(rng.random() * L)
            new = int(rng.random() * q)
            to = E - cost(s, L, i, j, new) + cost(s, L, i, j, s[i, j])
            if rng.random() < np.exp(ln_g[-E] - ln_g[-to]):
                s[i, j] = new
                E = to
            if not seen[-E]:
                seen[-E] = True
                known += 1
            ln_g[-E] += f
            visits[-E] += 1
            if not late and t % (100 * bins) == 0:
                if visits[seen].min() > 0.8 * visits[seen].mean():
                    f /= 2
                    visits[:] = 0
                late = f < known / t
            if late:
                f = known / t
        return ln_g[::-1], seen[::-1]

    @numba.njit
    def multicanonical(L, q, steps, rng, ln_g):
        s, E = np.zeros((L, L), np.int64), -2 * L * L
        visits = np.zeros(len(ln_g))
        for _ in range(steps):
            i, j = int(rng.random() * L), int(rng.random() * L)
            new = int(rng.random() * q)
            to = E - cost(s, L, i, j, new) + cost(s, L, i, j, s[i, j])
            if rng.random() < np.exp(ln_g[E + 2 * L * L] - ln_g[to + 2 * L * L]):
                s[i, j] = new
                E = to
            visits[E + 2 * L * L] += 1
        return visits

    return wang_landau, multicanonical


def chains() -> list[dict]:
    from dy33lib import multicanonical as mc

    plain_walk, plain_muca = plain_chains()
    rows = []
    for L, q, steps in CASES:
        if L < 6:
            exact = mc.exact_dos(L, q)
        else:
            rng = np.random.default_rng(0)
            exact = mc.muca(
                mc.wang_landau(L, q, 100_000_000, rng=rng).ln_g, q, 400_000_000, rng=rng
            ).ln_g
        there = np.isfinite(exact)
        total = L * L * np.log(q)

        def plain(seed, L=L, q=q, steps=steps, there=there, total=total):
            ln_g, seen = plain_walk(L, q, steps, np.random.default_rng(seed))
            found = np.where(seen, ln_g, -np.inf)
            return (found - np.logaddexp.reduce(found) + total)[there]

        def plain_fixed(seed, L=L, q=q, steps=steps, there=there, total=total, exact=exact):
            rng = np.random.default_rng(seed)
            visits = plain_muca(L, q, steps, rng, np.where(there, exact, 0.0))
            with np.errstate(divide="ignore"):
                found = np.where(there, exact + np.log(visits), -np.inf)
            return (found - np.logaddexp.reduce(found) + total)[there]

        def ours(seed, neighbour, L=L, q=q, steps=steps, there=there):
            rng = np.random.default_rng(seed)
            return mc.wang_landau(L, q, steps, neighbour=neighbour, rng=rng).ln_g[there]

        def ours_fixed(seed, neighbour, q=q, steps=steps, there=there, exact=exact):
            rng = np.random.default_rng(seed)
            return mc.muca(exact, q, steps, neighbour=neighbour, rng=rng).ln_g[there]

        methods = {
            "Wang-Landau, plain": plain,
            "Wang-Landau, ours, any colour": lambda seed, f=ours: f(seed, 0.0),
            "Wang-Landau, ours": lambda seed, f=ours: f(seed, 0.5),
            "multicanonical, plain": plain_fixed,
            "multicanonical, ours, any colour": lambda seed, f=ours_fixed: f(seed, 0.0),
            "multicanonical, ours": lambda seed, f=ours_fixed: f(seed, 0.5),
        }
        for name, run in methods.items():
            run(0)
            seconds, errors = [], []
            for seed in SEEDS:
                begun = time.process_time()
                found = run(seed)
                seconds.append(time.process_time() - begun)
                errors.append(float(np.sqrt(np.mean((found - exact[there]) ** 2))))
            rows.append({"L": L, "q": q, "steps": steps, "method": name,
                         "steps_per_second": steps / min(seconds), "errors": errors})  # fmt: skip
            print(f"| {L} x {L}, q = {q} | {name} | {steps / min(seconds) / 1e6:.1f} million/s |"
                  f" {' '.join(f'{e:.3f}' for e in errors)} |", flush=True)  # fmt: skip
    return rows


def ising_free_energy() -> float:
    """Exact, per site: E_Ising = 2 E_Potts + 2 N, with half of the temperature."""
    from dy33lib import multicanonical as mc

    return -(mc.ln_z(mc.exact_dos(4, 2), 2 * BETA) - 2 * BETA * 16) / (16 * BETA)


def ours() -> None:
    """Train, and print CPU time, the variational free energy per site and the unbiased one."""
    import jax

    from dy33lib import multicanonical as mc

    steps, seed = int(sys.argv[2]), int(sys.argv[3])
    one, two, three = jax.random.split(jax.random.key(seed), 3)
    run = mc.train(
        mc.Decoder(4, 2, key=one), "canonical", steps,
        batch=1000, beta=2 * BETA, rate=2.4e-2, key=two,
    )  # fmt: skip
    spent = time.process_time()
    z, _ = run.latent(10_000)
    _, E, ln_p = mc.sample(run.decoder, z, key=three)
    ln_w = -np.asarray(ln_p, float) - 2 * BETA * np.asarray(E, float)
    ln_z = np.logaddexp.reduce(ln_w) - np.log(len(ln_w))
    free = -(np.array([ln_w.mean(), ln_z]) - 2 * BETA * 16) / (16 * BETA)
    print(spent, *free)


def theirs(net: list[str], steps: int, seed: int) -> tuple[float, float]:
    """CPU time and variational free energy per site, mean of the last ten steps."""
    folder = PEER_VENV / "out"
    anneal = 0.01 ** (1 / (0.5 * steps))  # beta is right to 1 % half-way
    options = {
        "ham": "fm", "lattice": "sqr", "L": 4, "beta": BETA, "beta_anneal": anneal,
        "max_step": steps, "print_step": 1, "save_step": 0, "visual_step": 0, "seed": seed,
        "out_infix": f"{steps}_{seed}", "out_dir": folder,
    }  # fmt: skip
    command = [str(PEER_VENV / "bin" / "python"), "main.py", *net, "--bias", "--z2", "--no_stdout"]
    command += ["--clip_grad=1", "--clear_checkpoint", *(f"--{k}={v}" for k, v in options.items())]
    before = os.times()
    place = PEER_VENV / "stat-mech-van" / "src_ising"
    subprocess.run(command, cwd=place, env=os.environ | ENVIRONMENT, check=True)
    after = os.times()
    spent = sum(after[2:4]) - sum(before[2:4])
    log = max(folder.rglob("*.log"), key=lambda path: path.stat().st_mtime).read_text()
    return spent, float(np.mean([float(v) for v in re.findall(r"F = ([-\d.e]+),", log)][-10:]))


def networks() -> list[dict]:
    peer, code = PEER_VENV / "bin" / "python", PEER_VENV / "stat-mech-van"
    if not peer.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        subprocess.run([str(peer), "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
    if not code.exists():
        subprocess.run(["git", "clone", "-q", PEER_SOURCE, str(code)], check=True)
    exact, rows = ising_free_energy(), []
    kinds = {
        "ours": [],
        "MADE": ["--net=made", "--net_depth=3", "--net_width=4"],
        "PixelCNN": ["--net=pixelcnn", "--net_depth=3", "--net_width=64", "--half_kernel_size=3"],
    }
    for name, net in kinds.items():
        for steps in STEPS[name]:
            found = []
            for seed in SEEDS:
                if net:
                    found.append((*theirs(net, steps, seed), float("nan")))
                    continue
                command = [sys.executable, __file__, "--ours", str(steps), str(seed)]
                done = subprocess.run(
                    command, env=os.environ | ENVIRONMENT, check=True, text=True,
                    capture_output=True,
                )  # fmt: skip
                found.append(tuple(map(float, done.stdout.split())))
            seconds, bound, unbiased = np.array(found).T
            rows.append({
                "method": name, "steps": steps, "seconds": seconds.tolist(),
                "variational": (bound - exact).tolist(), "unbiased": (unbiased - exact).tolist(),
            })  # fmt: skip
            errors = " | ".join(" ".join(f"{v:.5f}" for v in x - exact) for x in (bound, unbiased))
            print(f"| {name}, {steps} steps | {seconds.mean():.1f} s | {errors} |", flush=True)
    return rows


def main() -> None:
    results = {"chains": chains(), "networks": networks(), "free_energy": ising_free_energy()}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    ours() if "--ours" in sys.argv else main()
