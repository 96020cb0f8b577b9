"""Run the campaigns of chapter 11 that take too long for the chapter.

    python scripts/make_magnons_study.py run race    # and: missing null prior travel tune margin
    pip install gpcam==8.6.1                               # a peer; only for the next line
    python scripts/make_magnons_study.py run gpcam
    python scripts/make_magnons_study.py finish            # collects, writes the file

About two hours of one core. Writes `dy33lib/data/magnons_study.npz`, whose arrays are named
`<part>/<arm>/<what>`, with the seeds along the first axis:

- `reached`: points until all couplings are known to 0.02 meV (infinite: not within the limit);
- `alarms`: points at which the small and the large model were given up (infinite: never);
- `lost`: how often particles had to be replaced (see `Campaign`);
- `N`, `worst`: points and worst standard deviation of a coupling after each batch (then NaN);
- `mean`, `sd`, `low`, `high`: of the posterior at the end; `truth`: what was to be found;
- `known_low`, `known_high`: ends of the intervals when all couplings were known (NaN: never);
- `minutes`, `sorted`: until then, with the points of a batch as chosen, and in the best order (only
  `travel`);
- `variance`: sum of the couplings' variances at 102 points.

Parts: `race` (strategies on the couplings of the chapter), `missing` (samples with more than the
model), `null` (samples drawn from the prior: false alarms, calibration), `prior` (other priors),
`travel` (counting for 1 or 5 minutes; moves are free or dear in the choice), `tune` (what the
settings of ours and of the rivals were chosen by), `margin` (noise of the evidence).
"""

import argparse
import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402

from dy33lib import magnons as mg  # noqa: E402
from dy33lib.magnons import study as st  # noqa: E402
from dy33lib.magnons.campaign import Chooser  # noqa: E402

TARGET = Path(__file__).resolve().parents[1] / "dy33lib" / "data" / "magnons_study.npz"
PARTIAL = Path(__file__).resolve().parents[1] / "_build" / "magnons_study_parts"
SEEDS = range(300, 310)  # none of them was used before the settings were fixed
TRIALS = range(14)  # these were
LIMIT, ROOM, KAPPA = 150, 480, 10.0
SETUP = st.bench()
COSTS = {m: mg.Travel(counting=m, h=10.0, k=10.0, E=0.1) for m in (1.0, 5.0)}
Record = dict[str, np.ndarray]


def record(campaign: mg.Campaign, truth, models: int) -> Record:
    last, batches, points = campaign.batches[-1], campaign.batches, campaign.points
    alarms = np.full(2, np.inf)
    alarms[2 - models :][: len(campaign.alarms)] = campaign.alarms
    middle = [(b.sd[:7] ** 2).sum() for b, n in zip(batches, points, strict=True) if n == 102]
    reached = campaign.reached(st.TARGET, models)
    known = [b for b, n in zip(batches, points, strict=True) if n == reached]
    low, high = (known[0].low, known[0].high) if known else np.full((2, len(last.mean)), np.nan)
    return {
        "reached": np.array(reached),
        "known_low": low,
        "known_high": high,
        "alarms": alarms,
        "N": points.astype(float),
        "worst": np.array([b.sd[:7].max() for b in batches]),
        "variance": np.append(middle, np.nan)[0],
        "mean": last.mean,
        "sd": last.sd,
        "low": last.low,
        "high": last.high,
        "truth": np.asarray(truth),
        "lost": np.array(float(len(campaign.lost))),
        "converged": np.array(all(b.converged for b in batches), float),
    }


def minutes(campaign: mg.Campaign, cost: mg.Travel) -> Record:
    """Until the couplings are known, from the first point on: as chosen, and in the best order."""
    stops = np.asarray(SETUP.rows.points)[campaign.visited]
    plain, quick = [stops[0]], [stops[0]]
    for first, last in pairwise([0, *campaign.points]):
        plain.extend(stops[first:last])
        quick.extend(stops[first:last][cost.order(quick[-1], stops[first:last])])
    ways = [[cost.minutes(a, b[None])[0] for a, b in pairwise(tour)] for tour in (plain, quick)]
    first, second = np.sum(ways, axis=1)
    never = np.isinf(campaign.reached(st.TARGET, 2))
    return {"minutes": np.where(never, np.inf, first), "sorted": np.where(never, np.inf, second)}


def save(part: str, arm: str, rows: list[Record]) -> None:
    PARTIAL.mkdir(exist_ok=True)
    arrays = {}
    for name in rows[0]:
        longest = max(np.size(row[name]) for row in rows)
        parts = [np.atleast_1d(row[name]) for row in rows]
        parts = [np.pad(v, (0, longest - len(v)), constant_values=np.nan) for v in parts]
        arrays[f"{part}/{arm}/{name}"] = np.squeeze(np.array(parts), 1) if longest == 1 else parts
    np.savez(PARTIAL / f"{part}-{arm}.npz".replace(" ", "_"), **arrays)
    reached, alarms = (arrays[f"{part}/{arm}/{name}"] for name in ("reached", "alarms"))
    alarms = np.array(alarms)[:, 1]
    print(part, arm, "| reached", list(reached), "| alarms", list(alarms), flush=True)


def ours(
    seed: int, settings: mg.Settings, expected=None, truth=None, models=None, cost=None
) -> Record:
    models = [SETUP.three, SETUP.seven] if models is None else models
    expected = SETUP.expected if expected is None else expected
    beam = mg.Beam(expected, key=jax.random.key(seed))
    key = jax.random.key(5000 + seed)
    found = mg.run_campaign(beam, SETUP.rows, models, LIMIT, settings, key=key)
    result = record(found, SETUP.theta if truth is None else truth, len(models))
    return result if cost is None else result | minutes(found, cost)


def rival(seed: int, make: Callable[[int], Chooser], theta=None, limit: int = ROOM) -> Record:
    theta = SETUP.theta if theta is None else theta
    settings = SETUP.settings(mapped=False, size=ROOM)
    beam = mg.Beam(mg.intensity(theta, SETUP.rows), key=jax.random.key(seed))
    key, models = jax.random.key(5000 + seed), [SETUP.seven]
    found = mg.run_campaign(beam, SETUP.rows, models, limit, settings, key=key, chooser=make(seed))
    return record(found, theta, 1)


def race() -> None:
    arms = {
        "full": SETUP.settings(),
        "without adversary": SETUP.settings(adversary=0),
        "without map": SETUP.settings(mapped=False),
        "to the limit": SETUP.settings(target=0.0),  # never satisfied: for the efficiency
        "least certain": SETUP.settings(rule="spectrum"),
    }
    for arm, settings in arms.items():
        models = None if settings.mapped else [SETUP.seven]
        save("race", arm, [ours(seed, settings, models=models) for seed in SEEDS])
    one = [SETUP.seven]
    save("race", "without growth", [ours(s, SETUP.settings(), models=one) for s in SEEDS])
    for arm, make in st.rivals(SETUP, kappa=KAPPA, size=ROOM).items():
        save("race", arm, [rival(seed, make) for seed in SEEDS])


def missing() -> None:
    arms = {
        "with adversary": SETUP.settings(stop=False),
        "without adversary": SETUP.settings(adversary=0, stop=False),
        "at random": SETUP.settings(blind=True, stop=False),
    }
    for arm, settings in arms.items():
        for J8 in (0.1, 0.2, 0.3):
            expected = st.with_j8(SETUP, J8)
            save("missing", f"J8 {J8} {arm}", [ours(s, settings, expected) for s in SEEDS])
        for height in (5.0, 10.0):
            rows = []
            for seed in SEEDS:
                energy = np.random.default_rng([7, seed]).uniform(8, 45)
                rows.append(ours(seed, settings, st.with_flat_mode(SETUP, energy, height)))
            save("missing", f"flat {height:g} {arm}", rows)


def null() -> None:
    settings = SETUP.settings(stop=False)
    arms = {
        "seven": (SETUP.seven, [SETUP.seven]),
        "three": (SETUP.three, [SETUP.three]),
        "whole": (SETUP.seven, None),
    }
    for arm, (model, models) in arms.items():
        rows = []
        for seed in range(2000, 2100):
            theta = st.prior_truth(SETUP, model, rng=np.random.default_rng([13, seed]))
            rows.append(ours(seed, settings, mg.intensity(theta, SETUP.rows), theta, models))
        save("null", arm, rows)


def prior() -> None:
    for arm, shift, width in (("up", 1.0, 1.0), ("down", -1.0, 1.0), ("wide", 0.0, 1.5)):
        setup = st.bench(shift=shift, width=width)
        models = [setup.three, setup.seven]
        save("prior", arm, [ours(s, setup.settings(), models=models) for s in SEEDS])


def travel() -> None:
    for counting, cost in COSTS.items():
        for arm, pace in (("free", None), ("dear", cost)):
            rows = [ours(s, SETUP.settings(travel=pace), cost=cost) for s in SEEDS]
            save("travel", f"{counting:g} min {arm}", rows)


def tune() -> None:
    truths = [st.prior_truth(SETUP, rng=np.random.default_rng([11, t])) for t in TRIALS]
    for caution, adversary in ((0.0, 1), (0.3, 1), (1.0, 1), (1.0, 2)):
        settings, rows = SETUP.settings(caution=caution, adversary=adversary, stop=False), []
        for trial, theta in zip(TRIALS, truths, strict=True):
            energy = np.random.default_rng([12, trial]).uniform(8, 45)
            expected = st.with_flat_mode(SETUP, energy, 10.0, theta)
            rows.append(ours(trial, settings, expected, theta))
        save("tune", f"caution {caution} adversary {adversary}", rows)
    for kappa in (1.0, 3.0, 10.0, 30.0, 100.0):
        make = st.rivals(SETUP, kappa=kappa, size=ROOM)["GP-UCB"]
        rows = [rival(t, make, truths[t], limit=240) for t in range(4)]
        save("tune", f"kappa {kappa:g}", rows)
        print("worst at the end", [row["worst"][-1].round(3) for row in rows], flush=True)


def gpcam(acquisitions: tuple[str, ...] = ("ucb", "variance")) -> None:
    """The peer on roots of counts: its own kernel, trained after every 60 points.

    Without bounds its training may find no signal at all in few counts, and then stay at one point.
    """
    from gpcam import GPOptimizer  # pyright: ignore[reportMissingImports]

    plane = np.stack(
        [np.repeat(SETUP.length, st.ENERGIES) / 0.05, np.asarray(SETUP.rows.points[:, 2]) / 1.5], 1
    )
    candidates = list(plane)

    def make(seed: int, acquisition: str) -> Chooser:
        rng, trained = np.random.default_rng(seed), [0, None]

        def choose(index, counts):
            if len(index) == 0:
                return rng.integers(len(plane), size=6)
            x, y, chosen = plane[index], mg.ROOT.value(counts), []
            for _ in range(6):
                optimiser = GPOptimizer(
                    x, y, init_hyperparameters=trained[1], noise_variances=np.ones(len(y))
                )
                if len(index) >= trained[0]:
                    bounds = np.array([[1.0, 20.0], [0.3, 5.0], [0.3, 5.0]])
                    start = np.array([3.5, 1.0, 1.0])  # as the prior of the model has it
                    optimiser.train(bounds, init_hyperparameters=start, method="local")
                    trained[:] = len(index) + 60, optimiser.hyperparameters
                point = optimiser.ask(candidates, acquisition_function=acquisition)["x"]
                place = int(np.argmin(((plane - np.ravel(point)[0:2]) ** 2).sum(axis=1)))
                guess = optimiser.posterior_mean(plane[place][None])["m(x)"]
                x, y = np.vstack([x, plane[place]]), np.append(y, np.ravel(guess)[0])
                chosen.append(place)
            return np.array(chosen)

        return choose

    for acquisition in acquisitions:  # seconds a point: three seeds only
        rows = []
        for seed in SEEDS[:3]:
            rows.append(rival(seed, lambda s, a=acquisition: make(s, a)))
            save("race", f"gpCAM {acquisition}", rows)


def margin() -> None:
    """Evidence of the same counts, from 20 sets of new particles each."""
    evidence = []
    for seed in SEEDS:
        beam = mg.Beam(SETUP.expected, key=jax.random.key(seed))
        key = jax.random.key(5000 + seed)
        models, settings = [SETUP.three, SETUP.seven], SETUP.settings()
        found = mg.run_campaign(beam, SETUP.rows, models, LIMIT, settings, key=key)
        data = mg.pack(SETUP.rows, found.visited, found.counts, settings.size)
        for again in jax.random.split(jax.random.key(9000 + seed), 20):
            start, run = jax.random.split(again)
            cloud = mg.sample_prior(SETUP.seven, settings.particles, key=start)
            cloud = mg.smc_update(cloud, data, 0 * data.weight, SETUP.seven, key=run)
            evidence.append(float(cloud.log_evidence))
    values = np.reshape(evidence, (len(SEEDS), 20))
    PARTIAL.mkdir(exist_ok=True)
    arrays: Record = {"margin/again/log_evidence": values}
    np.savez(PARTIAL / "margin.npz", **arrays)  # pyright: ignore[reportArgumentType]
    print("sd of the log evidence", values.std(axis=1, ddof=1).round(2), flush=True)
    print("below the best", (values.max(axis=1)[:, None] - values).max(axis=1).round(2))


ARMS = {
    "race": 12,  # how many there must be of each part, gpCAM included
    "missing": 15,
    "null": 3,
    "prior": 3,
    "travel": 4,
    "tune": 9,
    "margin": 1,
}


def finish() -> None:
    arrays = {}
    for path in sorted(PARTIAL.glob("*.npz")):
        arrays.update(np.load(path))
    names = {name.rsplit("/", 1)[0] for name in arrays}
    for part, number in ARMS.items():
        there = sorted(name for name in names if name.startswith(part + "/"))
        if len(there) != number:
            raise SystemExit(f"{part} should have {number} arms, but there are {there}")
    small = {k: v.astype(np.float32) for k, v in arrays.items()}
    np.savez_compressed(TARGET, **small)
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name, TARGET.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "finish"])
    parser.add_argument("parts", nargs="*")
    arguments = parser.parse_args()
    known = {f.__name__: f for f in (race, missing, null, prior, travel, tune, margin, gpcam)}
    if arguments.what == "finish":
        finish()
    for part in arguments.parts:
        known[part]()


if __name__ == "__main__":
    main()
