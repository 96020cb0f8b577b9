r"""From noisy concentrations to reaction extents, and from files to experiments.

With the initial concentrations known, all that the noisy samples y can say about the reactions
is their projection on the stoichiometry: the extents :math:`\hat\xi`, which conserve mass exactly.
What the projection leaves over is noise and nothing else. It measures the size of the noise without
any rate law, and it tells when the stoichiometry is wrong.
"""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from scipy.interpolate import CubicSpline, make_smoothing_spline

from dy33lib.sindy.kinetics import check_initial, check_stoichiometry, check_times


class Extents(NamedTuple):
    """Extents of reaction, estimated from noisy concentrations.

    Attributes:
        xi: estimates, mol/L.
        covariance: of the noise of the extents at one time.
        chi2: squared residual of the balances in units of the noise.
        dof: its degrees of freedom. Conservation of mass leaves at least one a sample.
    """

    xi: Float[np.ndarray, "E T R"]
    covariance: Float[np.ndarray, "R R"]
    chi2: float
    dof: int


def check_sigma(
    sigma: float | Sequence[float] | Float[np.ndarray, " S"], species: int
) -> Float[np.ndarray, " S"]:
    """Standard deviations of the noise, one a species.

    Raises:
        ValueError: if one is not positive and finite, or their number does not fit.
    """
    array = np.asarray(sigma, float)
    if array.shape not in ((), (species,)):
        raise ValueError(f"sigma must be a number or {species} numbers, got shape {array.shape}")
    if not (np.all(array > 0) and np.all(np.isfinite(array))):
        raise ValueError(f"sigma must be positive and finite, got {array.tolist()}")
    return np.broadcast_to(array, (species,))


def to_extent(
    y: Float[np.ndarray, "E T S"],
    c0: Float[np.ndarray, "E S"],
    nu: Float[np.ndarray, "S R"] | Sequence,
    sigma: float | Sequence[float] | Float[np.ndarray, " S"],
    *,
    used: Bool[np.ndarray, "E T"] | None = None,
) -> Extents:
    r"""Weighted least squares for the extents: :math:`y = c_0 + \nu\xi` + noise.

    For Gaussian noise of known size nothing about :math:`\xi` is lost (it is a sufficient
    statistic), and one reaction among three species gains a factor :math:`\sqrt 3` in noise.

    Args:
        y: measured concentrations, mol/L.
        c0: initial concentrations, taken as known.
        nu: stoichiometric coefficients.
        sigma: standard deviation of the noise, one for all species or one each.
        used: samples that count; all if left out.

    Raises:
        ValueError: if shapes do not match, a value is NaN or infinite, sigma is not positive, mass
            is not conserved, or a concentration lies more than 6 sigma below zero.
    """
    nu = check_stoichiometry(nu)
    c0 = check_initial(c0, len(nu))
    y, noise = np.asarray(y, float), check_sigma(sigma, len(nu))
    if y.ndim != 3 or y.shape[0] != len(c0) or y.shape[2] != len(nu):
        raise ValueError(f"y must have shape ({len(c0)}, samples, {len(nu)}), got {y.shape}")
    used = np.ones(y.shape[:2], bool) if used is None else np.asarray(used, bool)
    if used.shape != y.shape[:2]:
        raise ValueError(f"used must have shape {y.shape[:2]}, got {used.shape}")
    counted = y[used]
    if not np.all(np.isfinite(counted)):
        e, i, s = np.argwhere(~np.isfinite(y) & used[..., None])[0]
        raise ValueError(f"y must be finite, got y[{e}, {i}, {s}] = {y[e, i, s]}")
    if np.any(counted < -6 * noise):
        e, i, s = np.argwhere((y < -6 * noise) & used[..., None])[0]
        raise ValueError(
            f"y must not be negative beyond 6 sigma = {6 * noise[s]:.3g}, "
            f"got y[{e}, {i}, {s}] = {y[e, i, s]:.3g}"
        )
    scaled = nu / noise[:, None]
    covariance = np.linalg.inv(scaled.T @ scaled)
    moved = np.where(used[..., None], (y - c0[:, None]) / noise, 0.0)
    xi = moved @ scaled @ covariance
    left = moved - xi @ scaled.T
    return Extents(
        xi, covariance, float(np.sum(left**2)), int(used.sum()) * (len(nu) - nu.shape[1])
    )


def noise_level(
    y: Float[np.ndarray, "E T S"],
    c0: Float[np.ndarray, "E S"],
    nu: Float[np.ndarray, "S R"] | Sequence,
    *,
    used: Bool[np.ndarray, "E T"] | None = None,
) -> tuple[float, int]:
    """Standard deviation of equal noise on all species, from the balances alone.

    Returns:
        The estimate, unbiased in its square, and its degrees of freedom.

    Raises:
        ValueError: as in :func:`.to_extent`.
    """
    nu = check_stoichiometry(nu)
    scale = float(np.max(c0))  # any unit will do: the estimate is scaled back
    found = to_extent(y, c0, nu, scale, used=used)
    return scale * float(np.sqrt(found.chi2 / found.dof)), found.dof


@dataclass(frozen=True)
class Experiments:
    """Samples of some batch reactors with one stoichiometry.

    Attributes:
        species: their names.
        nu: stoichiometric coefficients (S, R).
        t: sampling times after 0; padded experiments go on increasing.
        y: measured concentrations, mol/L.
        c0: initial concentrations, taken as known.
        used: samples that count; False where a shorter experiment was padded. An experiment
            without any does not count at all.

    Raises:
        ValueError: if the shapes do not match, times do not increase, mass is not conserved, or
            there are fewer than 5 samples in an experiment (the smoothing needs them).
    """

    species: tuple[str, ...]
    nu: Float[np.ndarray, "S R"]
    t: Float[np.ndarray, "E T"]
    y: Float[np.ndarray, "E T S"]
    c0: Float[np.ndarray, "E S"]
    used: Bool[np.ndarray, "E T"] | None = None

    def __post_init__(self):
        nu = check_stoichiometry(self.nu)
        c0 = check_initial(self.c0, len(nu))
        t, y = check_times(self.t, len(c0)), np.asarray(self.y, float)
        if len(self.species) != len(nu):
            raise ValueError(f"species must be {len(nu)} names, got {self.species}")
        if y.shape != (*t.shape, len(nu)):
            raise ValueError(f"y must have shape {(*t.shape, len(nu))}, got {y.shape}")
        used = np.ones(t.shape, bool) if self.used is None else np.asarray(self.used, bool)
        if used.shape != t.shape:
            raise ValueError(f"used must have shape {t.shape}, got {used.shape}")
        counts = used.sum(axis=1)
        if not counts.any() or counts[counts > 0].min() < 5:
            raise ValueError(f"need 5 samples an experiment, got {counts.tolist()}")
        for name, value in (("nu", nu), ("c0", c0), ("t", t), ("y", y), ("used", used)):
            object.__setattr__(self, name, value)

    def __add__(self, other: "Experiments") -> "Experiments":
        """Both sets of experiments; the shorter ones are padded.

        Raises:
            ValueError: if species or stoichiometry differ.
        """
        if self.species != other.species or not np.array_equal(self.nu, other.nu):
            raise ValueError(f"species and nu must agree, got {self.species} and {other.species}")
        T = max(self.t.shape[1], other.t.shape[1])
        a, b = _padded(self, 0, T - self.t.shape[1]), _padded(other, 0, T - other.t.shape[1])
        joined = (
            np.concatenate([getattr(a, name), getattr(b, name)])
            for name in ("t", "y", "c0", "used")
        )
        return Experiments(self.species, self.nu, *joined)

    @property
    def samples(self) -> int:
        """How many numbers were measured, samples times species."""
        return int(self.used.sum()) * len(self.species)  # pyright: ignore


class Curves(NamedTuple):
    """What the screen and the fits need of the experiments.

    Attributes:
        experiments: the measured data, padded to round numbers of experiments and samples.
        sigma: standard deviation of the noise of each species.
        sigma_dof: degrees of freedom of its estimate; infinite if it was given.
        xi: extents divided by their noise and made independent, 0 where not used.
        whiten: the matrix that does so, `xi = whiten @ extents`.
        smooth: smoothed concentrations at time 0 and at the sampling times.
        integral: cumulative integrals from values at these times, by cubic splines.
        imbalance: chi2 and degrees of freedom of the balances under the given sigma.
    """

    experiments: Experiments
    sigma: Float[np.ndarray, " S"]
    sigma_dof: float
    xi: Float[np.ndarray, "E T R"]
    whiten: Float[np.ndarray, "R R"]
    smooth: Float[np.ndarray, "E T1 S"]
    integral: Float[np.ndarray, "E T T1"]
    imbalance: tuple[float, int]


def prepare(experiments: Experiments, sigma: float | Sequence[float] | None = None) -> Curves:
    """Project on the extents, measure the noise, and smooth.

    Args:
        experiments: measured data.
        sigma: standard deviation of the noise; measured from the balances if left out.

    Raises:
        ValueError: as in :func:`.to_extent` and :func:`.noise_level`.
    """
    # Round numbers, so that compiled programs serve again.
    ex = _padded(experiments, -len(experiments.c0) % 8, -experiments.t.shape[1] % 8)
    dof = np.inf
    if sigma is None:
        level, dof = noise_level(ex.y, ex.c0, ex.nu, used=ex.used)
        if not level > 1e-12 * ex.c0.max():
            raise ValueError("sigma is needed: the data balance exactly, so they tell no noise")
        sigma = level
    noise = check_sigma(sigma, len(ex.species))
    found = to_extent(ex.y, ex.c0, ex.nu, noise, used=ex.used)
    whiten = np.linalg.inv(np.linalg.cholesky(found.covariance))
    smooth = np.stack(
        [
            _smooth(t, xi, used, np.diag(found.covariance))
            for t, xi, used in zip(ex.t, found.xi, ex.used, strict=True)  # pyright: ignore
        ]
    )
    return Curves(
        ex,
        noise,
        dof,
        np.where(ex.used[..., None], found.xi @ whiten.T, 0.0),  # pyright: ignore
        whiten,
        ex.c0[:, None] + smooth @ ex.nu.T,
        np.stack([_cumulative(t.tobytes()) for t in ex.t]),
        (found.chi2, found.dof),
    )


def _padded(ex: Experiments, experiments: int, samples: int) -> Experiments:
    """The same with so many more experiments and samples that do not count."""
    t = ex.t
    if samples:
        step = t[:, -1:] - (t[:, -2:-1] if t.shape[1] > 1 else 0.0)
        t = np.concatenate([t, t[:, -1:] + step * np.arange(1, samples + 1)], axis=1)
    pad = (0, experiments), (0, samples)
    return Experiments(
        ex.species,
        ex.nu,
        np.pad(t, (pad[0], (0, 0)), mode="edge"),
        np.pad(ex.y, (*pad, (0, 0)), mode="edge"),
        np.pad(ex.c0, (pad[0], (0, 0)), mode="edge"),
        np.pad(ex.used, pad),  # pyright: ignore
    )


def _smooth(t, xi, used, variance):
    """Smoothing spline through 0 at time 0, its stiffness by Mallows' C_p; values at 0 and t."""
    if not used.any():
        return np.zeros((len(t) + 1, xi.shape[1]))
    rows = np.ascontiguousarray(t[used])
    smoothers = _smoothers(rows.tobytes())
    values = np.einsum("lqt,tr->lqr", smoothers, xi[used])
    error = np.sum((values[:, 1:] - xi[used]) ** 2, axis=1) / variance
    freedom = np.trace(smoothers[:, 1:], axis1=1, axis2=2)
    best = np.argmin(error + 2 * freedom[:, None], axis=0)
    chosen = np.stack([values[b, :, r] for r, b in enumerate(best)], axis=1)
    known = np.concatenate([[0.0], rows])  # samples that do not count are interpolated
    times = np.concatenate([[0.0], t])
    return np.stack([np.interp(times, known, column) for column in chosen.T], axis=1)


@lru_cache(maxsize=256)
def _smoothers(times: bytes):
    """Linear smoothers on these times, from loose to stiff: shape (L, 1 + T, T)."""
    t = np.concatenate([[0.0], np.frombuffer(times)])
    weights = np.ones(len(t))
    weights[0] = 1e6  # the extent at time 0 is known
    stiffness = np.median(np.diff(t)) ** 3 * np.geomspace(1e-4, 1e5, 28)
    unit = np.eye(len(t))[:, 1:]
    return np.stack([make_smoothing_spline(t, unit, weights, lam=lam)(t) for lam in stiffness])


@lru_cache(maxsize=256)
def _cumulative(times: bytes):
    """Matrix (T, 1 + T): integrals from 0 to each time of the cubic spline through values."""
    t = np.concatenate([[0.0], np.frombuffer(times)])
    spline = CubicSpline(t, np.eye(len(t))).antiderivative()
    return spline(t[1:]) - spline(0.0)


# Files -------------------------------------------------------------------------------------------


def parse_reactions(text: str) -> tuple[tuple[str, ...], Float[np.ndarray, "S R"]]:
    """Species and stoichiometry of reactions such as "A + B -> C" or "2 A -> B; A -> C".

    Species are listed in the order of their first appearance; "<->" and "=" are read as "->".

    Raises:
        ValueError: if a reaction cannot be read, or mass is not conserved.
    """
    species: list[str] = []
    columns: list[dict[str, float]] = []
    for part in filter(str.strip, text.split(";")):
        sides = re.split(r"<->|->|=", part)
        if len(sides) != 2:
            raise ValueError(f"a reaction needs one arrow, got {part.strip()!r}")
        column: dict[str, float] = {}
        for side, sign in zip(sides, (-1, 1), strict=True):
            for item in side.split("+"):
                match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)?\s*([A-Za-z]\w*)\s*", item)
                if not match:
                    raise ValueError(f"cannot read {item.strip()!r} in {part.strip()!r}")
                name = match[2]
                if name not in species:
                    species.append(name)
                column[name] = column.get(name, 0.0) + sign * float(match[1] or 1)
        columns.append(column)
    if not columns:
        raise ValueError(f"no reaction in {text!r}")
    nu = np.array([[column.get(name, 0.0) for column in columns] for name in species])
    return tuple(species), check_stoichiometry(nu)


def read_experiments(source: str | os.PathLike | io.TextIOBase, reactions: str) -> Experiments:
    """Read a CSV file with the columns `time, c_A, c_B, ...` of one or more experiments.

    A column `experiment` tells them apart; without it, a new experiment starts at each row of
    time 0. That row holds the initial concentrations, which are taken as known. Experiments may
    have different times and lengths.

    Args:
        source: a path, or an open text file.
        reactions: the stoichiometry, as in :func:`.parse_reactions`.

    Raises:
        ValueError: naming the row (1 is the header) and the column of what cannot be read: a
            missing or doubled column, a value that is not a number, a time that does not increase,
            an experiment that does not start at time 0 or has too few samples.
        FileNotFoundError: if there is no such file.
    """
    species, nu = parse_reactions(reactions)
    text = source.read() if isinstance(source, io.TextIOBase) else Path(source).read_text("utf-8")
    rows = list(csv.reader(io.StringIO(text.lstrip("\ufeff"))))
    header = [name.strip() for name in rows[0]] if rows else []
    wanted = ["time", *(f"c_{name}" for name in species)]
    for name in wanted:
        if header.count(name) != 1:
            raise ValueError(f"row 1 must name the column {name!r} once, got {header}")
    if header.count("experiment") > 1:
        raise ValueError(f"row 1 must name the column 'experiment' at most once, got {header}")
    for name in header:
        if name not in (*wanted, "experiment"):
            raise ValueError(f"row 1: column {name!r} is none of {(*wanted, 'experiment')}")
    place = [header.index(name) for name in wanted]
    label_place = header.index("experiment") if "experiment" in header else None

    groups: dict[str, list[tuple[int, list[float]]]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise ValueError(f"row {number} must have {len(header)} cells, got {len(row)}")
        values = []
        for name, column in zip(wanted, place, strict=True):
            try:
                values.append(float(row[column]))
            except ValueError:
                values.append(np.nan)
            if not np.isfinite(values[-1]):
                raise ValueError(
                    f"row {number}, column {name!r}: expected a number, got {row[column]!r}"
                )
        if label_place is not None:
            label = row[label_place].strip()
        else:
            label = str(len(groups) + (values[0] == 0 or not groups) - 1)
        group = groups.setdefault(label, [])
        if not group and values[0] != 0:
            raise ValueError(
                f"row {number}, column 'time': experiment {label!r} must start at 0, got "
                f"{values[0]:g}"
            )
        if group and values[0] <= group[-1][1][0]:
            raise ValueError(
                f"row {number}, column 'time': must increase, got {values[0]:g} after "
                f"{group[-1][1][0]:g}"
            )
        if not group and min(values[1:]) < 0:
            name = wanted[1 + int(np.argmin(values[1:]))]
            raise ValueError(
                f"row {number}, column {name!r}: an initial concentration must not be negative, "
                f"got {min(values[1:]):g}"
            )
        group.append((number, values))
    if not groups:
        raise ValueError("the file has a header and no samples")
    for label, group in groups.items():
        if len(group) < 6:
            raise ValueError(
                f"row {group[-1][0]}: experiment {label!r} must have time 0 and at least 5 "
                f"samples, got {len(group) - 1} after time 0"
            )
    longest = max(map(len, groups.values())) - 1
    t, y, used = [], [], []
    for group in groups.values():
        table = np.array([values for _, values in group])
        extra = longest - len(table) + 1
        step = table[-1, 0] - table[-2, 0]
        t.append(np.concatenate([table[1:, 0], table[-1, 0] + step * np.arange(1, extra + 1)]))
        y.append(np.concatenate([table[1:, 1:], np.repeat(table[-1:, 1:], extra, axis=0)]))
        used.append(np.arange(longest) < len(table) - 1)
    c0 = np.array([group[0][1][1:] for group in groups.values()])
    return Experiments(species, nu, np.stack(t), np.stack(y), c0, np.stack(used))


def imbalance_p_value(curves: Curves) -> float:
    """Probability of balances as bad as these if noise and stoichiometry are right.

    Not a number if the noise was itself measured from the balances.
    """
    chi2, dof = curves.imbalance
    if np.isfinite(curves.sigma_dof):
        return np.nan
    return float(stats.chi2.sf(chi2, dof))
