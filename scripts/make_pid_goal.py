"""Look for a goal of hidden neurons on the digits; writes dy33lib/data/pid_goal.npz.

    pip install cmaes==0.13.1
    python scripts/make_pid_goal.py search 100      # generations; hours of one core
    python scripts/make_pid_goal.py finish          # compares what was found, writes the file

CMA-ES over the 19 coefficients, each between -1 and 1, from the heuristic goal with a width of 0.3
and twelve goals a generation. A goal is worth the accuracy on 359 validation images of a network of
100 neurons that has learned from 1,079 others for 120 epochs, the mean of the last four records.
All goals of a generation have the same split, weights and random numbers, so that goals are
compared and not luck; the next generation has others, so that no split is fitted. The search can be
stopped at any time and goes on where it was: its log is replayed.

At the end the mean of the search distribution, after every tenth generation, and the published
goals are trained on four splits that the search has not had, as the chapter trains; the best of
those that were found is kept, and its step sizes are chosen on the same splits. Only then it is
trained with eight seeds and tested. Last, each coefficient of the published optimised goal is set
to zero, and four networks are judged on each of the four splits.

The shipped search was made when records still drew from the key that trains. A network of its log
that is trained again learns from other batches now, and differs as from seed to seed.
"""

import argparse
from pathlib import Path

import cmaes  # pyright: ignore[reportMissingImports]
import numpy as np

from dy33lib.datasets import load_shipped, load_vision
from dy33lib.pid.goals import GOALS, Goal
from dy33lib.pid.study import Size, local_accuracy, split_images, train_local, tuned
from dy33lib.pid.training import Rates

ROOT = Path(__file__).resolve().parents[1]
LOG = Path("pid_goal_log.npz")
RATES = Rates(hidden=0.012, output=0.003)
PUBLISHED = ("heuristic", "four terms", "optimised")
SOURCES = ("context", "lateral")
FIRST_SPLIT = 1000
HIDDEN, OUTPUT = (0.006, 0.012, 0.025, 0.05, 0.1), (0.003, 0.01, 0.03, 0.1)  # as for other goals


def validation_accuracy(gamma, *, seed: int, epochs: int) -> float:
    split = split_images(load_vision("digits"), test=359, validation=359, seed=seed)
    aim, size = Goal(SOURCES, tuple(map(float, gamma))), Size(epochs=epochs, batches=2)
    done = train_local(
        split.train, aim, RATES, seed=seed, size=size, every=10, monitor=split.validation
    )
    return float(np.mean(done.history.accuracy[-4:]))


def search(generations: int) -> None:
    bounds = np.tile([-1.0, 1.0], (19, 1))
    sampler = cmaes.CMA(np.array(GOALS["heuristic"].gamma), 0.3, bounds=bounds, seed=3)
    log = dict(np.load(LOG)) if LOG.exists() else {}
    tried, values = list(log.get("gammas", [])), list(log.get("values", []))
    means = []
    for number in range(generations):
        gammas = np.array([sampler.ask() for _ in range(sampler.population_size)])
        if number < len(values):
            assert np.array_equal(tried[number], gammas), "the log is of another search"
        else:
            tried.append(gammas)
            values.append(
                np.array(
                    [validation_accuracy(g, seed=FIRST_SPLIT + number, epochs=120) for g in gammas]
                )
            )
        sampler.tell(list(zip(gammas, -values[number], strict=True)))
        means.append(sampler.mean.copy())
        print(number, f"{values[number].mean():.4f} {values[number].max():.4f}", flush=True)
        if number + 1 >= len(values):
            np.savez(LOG, gammas=np.array(tried), values=np.array(values), means=np.array(means))


def validated(gamma, rates: Rates, networks: int = 1) -> list[float]:
    """Accuracies on the validation images of the four splits, each a mean over some networks."""
    images, aim = load_vision("digits"), Goal(SOURCES, tuple(map(float, gamma)))
    row = []
    for number in range(4):
        split = split_images(images, test=359, validation=359, seed=number)
        seeds = [number + 4 * k for k in range(networks)]
        found = [local_accuracy(split.train, split.validation, aim, rates, seed=s) for s in seeds]
        row.append(float(np.mean(found)))
    print(np.round(row, 4), f"{np.mean(row):.4f}", flush=True)
    return row


def finish() -> None:
    log = dict(np.load(LOG))
    found = log["means"][9::10]
    published = np.array([GOALS[name].gamma for name in PUBLISHED])
    setting = tuned(load_shipped("pid_digits"), "local: optimised").setting
    rates = Rates(hidden=setting["hidden"], output=setting["output"])
    rows = [validated(gamma, rates) for gamma in [*found, *published]]
    best = found[int(np.mean(rows[: len(found)], axis=1).argmax())]
    grid = [Rates(hidden=h, output=o) for h in HIDDEN for o in OUTPUT]
    tried = [validated(best, rates) for rates in grid]
    chosen = grid[int(np.mean(tried, axis=1).argmax())]
    split, aim = split_images(load_vision("digits"), test=359), Goal(SOURCES, tuple(best.tolist()))
    test = [local_accuracy(split.train, split.test, aim, chosen, seed=seed) for seed in range(8)]
    print("test", np.round(test, 4), chosen, flush=True)
    optimised = published[PUBLISHED.index("optimised")]
    full, *without = [
        validated(optimised * (np.arange(19) != i), rates, networks=4) for i in range(-1, 19)
    ]
    np.savez_compressed(
        ROOT / "dy33lib" / "data" / "pid_goal.npz",
        gammas=log["gammas"].astype(np.float32),
        values=log["values"].astype(np.float32),
        found=found,
        found_validation=np.array(rows[: len(found)]),
        published=np.array(PUBLISHED),
        published_validation=np.array(rows[len(found) :]),
        best=best,
        best_rates=np.array([chosen.hidden, chosen.output]),
        rates_validation=np.array(tried),
        test=np.array(test),
        full_validation=np.array(full),
        without_validation=np.array(without),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("search", "finish"))
    parser.add_argument("generations", type=int, nargs="?", default=0)
    chosen = parser.parse_args()
    if chosen.what == "search":
        search(chosen.generations)
    else:
        finish()
