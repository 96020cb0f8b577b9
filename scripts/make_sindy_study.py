"""Run the study of chapter 10 on all laws, six noise levels and 40 seeds.

    python scripts/make_sindy_study.py    # about 20 min on one core

Writes `dy33lib/data/sindy_study.npz`: one row an identification, one a fit of the true structure,
and one a search held against the enumeration of its library: for the six laws, and for laws drawn
at random from the library of 322 structures.
"""

import hashlib
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402

from dy33lib.sindy import (  # noqa: E402
    DESIGN,
    NU,
    SPECIES,
    TIMES,
    ZOO,
    Case,
    RateTerm,
    certify,
    fit_known,
    measure,
    run_case,
    simulate,
    study_library,
)

TARGET = Path(__file__).resolve().parent.parent / "dy33lib" / "data" / "sindy_study.npz"
SIGMAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
SEEDS = range(100, 140)
CERTIFIED_SIGMAS, CERTIFIED_SEEDS = (0.05, 0.1, 0.2), range(310, 320)
DRAWN_SIGMA, DRAWN_SEEDS = 0.05, range(320, 350)
KNOWN_SIGMAS, KNOWN_SEEDS = (0.01, 0.05, 0.1), 300
COLUMNS = ("law", "sigma", "seed", "exact", "weight", "p_value", "fits")
KNOWN_COLUMNS = (
    "law",
    "sigma",
    "seed",
    *(f"{n}_{i}" for n in ("error", "bound", "deviation") for i in range(4)),
)
CERTIFIED_COLUMNS = ("law", "sigma", "seed", "large", "optimal", "share")


def row(case: Case) -> tuple[list[float], str]:
    """The numbers of one identification in the order of `COLUMNS`, and the law found."""
    result = run_case(case)
    law = list(ZOO).index(case.law)
    numbers = [
        law, case.sigma, case.seed, result.exact, result.weight, result.p_value, result.fits
    ]  # fmt: skip
    return numbers, result.found.describe(SPECIES)


def drawn(seed: int) -> tuple[RateTerm, list[float]]:
    """A law of the library with constants at random, such that nothing falls below zero.

    Adsorption constants are log-uniform from 0.3 to 5; each numerator alone would give a rate of
    0.1 to 0.5 (backwards 0.03 to 0.15) mol/L/min at A = B = 1.5 and C = 0.5 mol/L.
    """
    rng = np.random.default_rng([10, seed])
    structures, c = study_library(reversible=True).structures(), np.array([1.5, 1.5, 0.5])
    while True:
        law = structures[rng.integers(len(structures))]
        K = np.exp(rng.uniform(np.log(0.3), np.log(5.0), len(law.adsorbed)))
        rates = (
            np.exp(rng.uniform(np.log(0.1), np.log(0.5), len(law.numerators)))
            * (1.0, 0.3)[: len(law.numerators)]
        )
        alone = [RateTerm((row,), law.orders, law.power)(c, [1.0, *K]) for row in law.numerators]
        values = [*(rates / alone).tolist(), *K.tolist()]
        try:
            simulate(law, values, DESIGN, NU, TIMES)
        except ValueError:  # the law does not vanish with what it consumes
            continue
        return law, values


def certified_rows(law: int, sigma: float, seed: int) -> list[list[float]]:
    """The numbers of two searches of one data set in the order of `CERTIFIED_COLUMNS`.

    The law is one of the six, or -1 for one that is drawn, from the larger library.
    """
    if law < 0:
        term, values = drawn(seed)
        experiments = measure(lambda c, t: float(term(c, values)), sigma, seed)
    else:
        experiments = measure(list(ZOO)[law], sigma, seed)
    return [
        [law, sigma, seed, c.start == "large", c.optimal, c.share]
        for c in certify(experiments, study_library(reversible=law < 0))
    ]


def known_row(law: int, sigma: float, seed: int) -> list[float]:
    """Errors, bounds and deviations of the true structure's constants; seeds differ by law."""
    seed += 10_000 * (1 + law)
    found = fit_known(list(ZOO)[law], sigma, seed)
    padded = np.full((3, 4), np.nan)
    padded[:, : found.shape[1]] = found
    return [law, sigma, seed, *padded.ravel().tolist()]


def main() -> None:
    started = time.process_time()
    runs, found, certified = [], [], []
    known = np.array(
        [
            known_row(law, sigma, seed)
            for law in range(3)
            for sigma in KNOWN_SIGMAS
            for seed in range(KNOWN_SEEDS)
        ]
    )
    for sigma in KNOWN_SIGMAS:
        rows = known[known[:, 1] == sigma, 3:].reshape(-1, 3, 4)
        errors, bounds, deviations = rows.swapaxes(0, 1)
        there = np.isfinite(errors)
        rms = np.sqrt(np.mean((errors / bounds)[there] ** 2))
        inside = np.mean(np.abs(errors / deviations)[there] < 1.645)
        print(f"sigma {sigma}: error over bound {rms:.3f}, inside {inside:.3f}", flush=True)
    for seed in DRAWN_SEEDS:
        certified += certified_rows(-1, DRAWN_SIGMA, seed)
    for number, law in enumerate(ZOO):
        for sigma in CERTIFIED_SIGMAS:
            for seed in CERTIFIED_SEEDS:
                certified += certified_rows(number, sigma, seed)
        for sigma in SIGMAS:
            part = [row(Case(law, sigma, seed)) for seed in SEEDS]
            runs += [numbers for numbers, _ in part]
            found += [name for _, name in part]
            exact = sum(numbers[3] for numbers, _ in part)
            print(f"{time.process_time() - started:6.0f} s {law} {sigma}: {exact}", flush=True)
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        TARGET,
        runs=np.array(runs, np.float64),
        found=np.array(found),
        columns=np.array(COLUMNS),
        known=known,
        known_columns=np.array(KNOWN_COLUMNS),
        certified=np.array(certified, np.float64),
        certified_columns=np.array(CERTIFIED_COLUMNS),
        laws=np.array(list(ZOO)),
    )
    shares = np.array(certified)
    for name, there in (("six laws", shares[:, 0] >= 0), ("drawn", shares[:, 0] < 0)):
        print(name, "optimal", shares[there, 4].mean(), "share", shares[there, 5].mean())
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name, file=sys.stderr)


if __name__ == "__main__":
    main()
