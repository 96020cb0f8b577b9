"""Collect the published numbers of chapter 2: means over seeds of ranges and counts.

    python scripts/make_criticality_published.py FOLDER

FOLDER is a copy of the repository of the talk's authors,
github.com/sahelazizpour/Finite-Observation-Dynamic-Range. Writes
`dy33lib/data/criticality_published.npz` with, for readers of all units (nu = 1, nine seeds) and of
a fifth (nu = 0.2, ten), at 21 integration times and 65 couplings 1 - 10^(-k/16):

- `decibel`, `number`: means over the seeds, shape (nu, T, lam), and `decibel_sd`, `number_sd`;
- `best_decibel`, `best_number`: mean over the seeds of the maximum, (nu, T), and `lam_decibel`,
  `lam_number`: of its place (the first, if there are several);
- `noise_lam_decibel`: the place for sigma = 0.005 and 0.02 (one seed, nu = 1), shape (sigma, T);
- `zero_*`, `infinite_*`: their two analytic limits, shape (lam,).
"""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

TARGET = Path(__file__).resolve().parent.parent / "dy33lib" / "data" / "criticality_published.npz"
NETWORK = "N=10000_K=100_mu=0.2"


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Integration times, and (seed, T, lam, column) with columns lam, decibel, number.

    The headers of the files name the last two in the other order.
    """
    found: dict[str, dict[float, np.ndarray]] = {}
    for path in folder.glob("results_simulation_seed=*_window=*.txt"):
        match = re.fullmatch(r"results_simulation_seed=(\d+)_window=([\d.]+)\.txt", path.name)
        assert match, path
        found.setdefault(match[1], {})[float(match[2])] = np.loadtxt(path)
    times = sorted(next(iter(found.values())))
    return np.array(times), np.array([[seed[t] for t in times] for seed in found.values()])


def best(table: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the seeds of the maximum and of its place."""
    values = np.nan_to_num(table[..., column], nan=-np.inf)
    place = np.take_along_axis(table[..., 0], values.argmax(axis=-1)[..., None], axis=-1)
    return values.max(axis=-1).mean(axis=0), place[..., 0].mean(axis=0)


def main(folder: Path) -> None:
    results = folder / "results"
    arrays: dict[str, Any] = {}
    for name in ("sigma=0.01_epsilon=0.1", "nu=0.2/sigma=0.01_epsilon=0.1"):
        times, table = read(results / name / NETWORK)
        arrays["T"] = times
        for column, key in ((1, "decibel"), (2, "number")):
            arrays.setdefault(key, []).append(table[..., column].mean(axis=0))
            arrays.setdefault(f"{key}_sd", []).append(table[..., column].std(axis=0, ddof=1))
            top, place = best(table, column)
            arrays.setdefault(f"best_{key}", []).append(top)
            arrays.setdefault(f"lam_{key}", []).append(place)
        print(f"{name}: {len(table)} seeds, {np.isnan(table).sum()} values missing")
    for sigma in ("0.005", "0.02"):
        table = read(results / f"sigma={sigma}_epsilon=0.1" / NETWORK)[1]
        arrays.setdefault("noise_lam_decibel", []).append(best(table, 1)[1])
    for limit, key in (("0", "zero"), ("inf", "infinite")):
        name = f"results_analytic_{limit}_N10000_mu0.2_epsilon0.1_sigma0.01.txt"
        _, arrays[f"{key}_decibel"], arrays[f"{key}_number"] = np.loadtxt(results / name).T
    packed = {k: np.asarray(v, np.float64 if k == "T" else np.float32) for k, v in arrays.items()}
    np.savez_compressed(TARGET, **packed)  # pyright: ignore[reportArgumentType]
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name, TARGET.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
