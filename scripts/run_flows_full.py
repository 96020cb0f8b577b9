"""The published study at full scale, one phase and one flow; for a GPU.

    python scripts/run_flows_full.py                              # solid, the published flow
    python scripts/run_flows_full.py --phase liquid --flow pair
    python scripts/run_flows_full.py --small                      # does it run? On a CPU

Samples the reference state, trains a flow over the whole range of temperature and pressure, and
prints effective draws of held-out replicas on a grid, and one difference of free energies beside
Bennett's estimate from two simulations and the number in the authors' notebook. The numbers of the
full profile are those of that notebook (Schebek et al. 2024, github.com/maxschebek/flow_diagrams).
"""

import argparse
import time
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dy33lib import flows
from dy33lib.flows import study
from dy33lib.flows.coupling import CouplingFlow
from dy33lib.flows.training import train
from dy33lib.particles import Configs, Samples

# Of the solid, per particle and k_B T; -ln of the integral of exp(-(U + P V) / T) V^N over s and V,
# so without momenta, which is what our weights give, too.
PUBLISHED = -0.1391


@dataclass(frozen=True)
class Profile:
    """Sizes of a run.

    Attributes:
        cells: of the crystal. The authors' box of 180 is of the same crystal but nearly cubic.
        reference: temperature and pressure that are sampled.
        other: the state that Bennett's estimate samples, too.
        T: range of temperatures.
        P: range of pressures.
        replicas: of each simulation.
        frames: configurations of each replica.
        every: sweeps between.
        warmup: sweeps before.
        steps: of the optimiser.
        batch: configurations of a step.
        rate: of learning.
        longest: gradients are clipped to this length.
        settings: of the published flow.
        grid: states along each side of the map of effective draws.
    """

    cells: tuple[int, int, int] = (3, 3, 5)
    reference: tuple[float, float] = (1.2, 8.5555)
    other: tuple[float, float] = (1.3, 8.5555)
    T: tuple[float, float] = (0.6, 1.6)
    P: tuple[float, float] = (4.0, 20.0)
    replicas: int = 40
    frames: int = 25
    every: int = 20
    warmup: int = 500
    steps: int = 525  # 75 epochs of 7 batches
    batch: int = 128
    rate: float = 5e-5
    longest: float = 1e4
    settings: tuple[tuple[str, int], ...] = (
        ("rounds", 1), ("blocks", 1), ("width", 32), ("heads", 1), ("bins", 16), ("frequencies", 8),
    )  # fmt: skip
    grid: int = 8

    @classmethod
    def full(cls, flow: str) -> "Profile":
        """Of the notebook, with a thousand configurations; the pair flow learns at its own rate."""
        return cls() if flow == "published" else cls(rate=1e-2, longest=100.0)

    @classmethod
    def small(cls, flow: str) -> "Profile":
        """Everything once, in about a minute of one core; results mean nothing."""
        return replace(
            cls.full(flow), cells=(3, 3, 3), replicas=10, frames=8, every=4, warmup=150, steps=20,
            batch=8,
        )  # fmt: skip


def configs(run: Samples, replicas: slice) -> Configs:
    """Frames of some replicas, the first ones of all before the second ones."""
    s, L = run.s[..., replicas], run.L[..., replicas]
    return Configs(
        jnp.moveaxis(s, 0, -2).reshape(*s.shape[1:3], -1), jnp.moveaxis(L, 0, -2).reshape(3, -1)
    )


class Uniform(eqx.Module):
    """Temperatures and pressures of a rectangle."""

    T: tuple[float, float] = eqx.field(static=True)
    P: tuple[float, float] = eqx.field(static=True)

    def __call__(self, key, n: int):
        """As many of each."""
        k1, k2 = jax.random.split(key)
        T = jax.random.uniform(k1, (n,), jnp.float32, *self.T)
        return T, jax.random.uniform(k2, (n,), jnp.float32, *self.P)


def bennett(runs: list[Samples], states: list[tuple[float, float]]) -> flows.Difference:
    """Difference of free energies of two states that were both sampled."""

    def u(run: Samples, T: float, P: float):  # less N ln V, which both states share
        V = np.prod(np.asarray(run.L, float), axis=1)
        return (np.asarray(run.U, float) + P * V) / T

    forward, backward = (
        u(run, *there) - u(run, *here)
        for run, here, there in ((runs[0], *states), (runs[1], *reversed(states)))
    )
    return flows.bar(forward, backward)


def main(phase: str, flow_name: str, profile: Profile, seed: int) -> None:
    begun = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begun:6.1f} s] {text}", flush=True)

    k1, k2, k3, k4 = jax.random.split(jax.random.key(seed), 4)
    N, B = 4 * int(np.prod(profile.cells)), profile.replicas
    states = [profile.reference, profile.other]
    say(f"{jax.devices()[0].device_kind}; {profile}")
    runs = [
        study.reference(
            phase, B, profile.frames, state=state, cells=profile.cells, every=profile.every,
            warmup=profile.warmup, key=key,
        )
        for state, key in zip(states, (k1, k2), strict=True)
    ]  # fmt: skip
    direct = bennett(runs, states)
    say(f"sampled {N} particles at {states}, V/N = {float(np.prod(runs[0].L, 1).mean()) / N:.4f}")

    cut = int(0.7 * B)
    learn, held = configs(runs[0], slice(cut)), configs(runs[0], slice(cut, None))
    if flow_name == "published":
        flow = CouplingFlow(
            learn, *profile.reference, T_max=profile.T[1], P_max=profile.P[1], key=k3,
            **dict(profile.settings),
        )  # fmt: skip
    else:
        flow = flows.ConditionalFlow(learn, *profile.reference, key=k3)
    count = sum(w.size for w in jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array)))
    say(f"{flow_name} flow with {count} parameters, {learn.L.shape[1]} configurations to learn on")
    found = train(
        flow, learn, profile.reference, Uniform(profile.T, profile.P), steps=profile.steps,
        batch=profile.batch, rate=profile.rate, longest=profile.longest, key=k4,
    )  # fmt: skip
    losses = np.array([part.mean() for part in np.array_split(np.asarray(found.losses), 5)])
    say(f"trained {profile.steps} steps; loss / N by fifths: {np.round(losses / N, 3)}")

    @eqx.filter_jit
    def look(flow, configs: Configs, state):
        T, P = (jnp.full_like(configs.L[0], value) for value in state)
        return flows.log_weights(flow, *configs, profile.reference, T, P)

    def table(flow, configs: Configs, T: float, P: float) -> np.ndarray:
        return np.asarray(look(flow, configs, jnp.array([T, P])), float).reshape(profile.frames, -1)

    Ts, Ps = (np.linspace(*span, profile.grid) for span in (profile.T, profile.P))
    share = [[flows.ess(table(found.flow, held, T, P)) for P in Ps] for T in Ts]
    say(f"effective draws of {held.L.shape[1]} held out, in percent; rows T, columns P")
    print("     T " + "".join(f"{P:7.2f}" for P in Ps))
    for T, row in zip(Ts, share, strict=True):
        print(f"{T:6.2f} " + "".join(f"{100 * e:7.2f}" for e in row))
    print(f"median {100 * np.median(share):.2f}, largest {100 * np.max(share):.2f}, and none is")
    print(f"below {100 / held.L.shape[1]:.2f} by definition")

    say(f"Delta f / N from {states[0]} to {states[1]}")
    for name, used, which in (
        ("flow, held out", found.flow, held), ("flow, training", found.flow, learn),
        ("no flow, held out", None, held),
    ):  # fmt: skip
        value = flows.lfep(table(used, which, *profile.other))
        print(
            f"  {name:18s} {value.value / N:8.4f} +- {value.error / N:.4f}, effective draws "
            f"{100 * value.ess:.1f} %"
        )
    print(f"  {'Bennett':18s} {direct.value / N:8.4f} +- {direct.error / N:.4f}")
    if phase == "solid":
        print(f"  {'published':18s} {PUBLISHED:8.4f}, of 180 particles")
    say("done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phase", choices=study.PHASES, default="solid")
    parser.add_argument("--flow", choices=("published", "pair"), default="published")
    parser.add_argument("--small", action="store_true", help="a small system, on a CPU")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sizes = (Profile.small if chosen.small else Profile.full)(chosen.flow)
    if chosen.steps is not None:
        if chosen.steps < 5:
            parser.error(f"--steps must be at least 5, got {chosen.steps}")
        sizes = replace(sizes, steps=chosen.steps)
    main(chosen.phase, chosen.flow, sizes, chosen.seed)
