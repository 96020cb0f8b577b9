"""What a spectrometer counts: two lines as broad as the resolution, background, Poisson noise."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int

from dy33lib.magnons.layer import BOLTZMANN, Layer, Numbers, finite, mode_rows, polarisation

PATH = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5), (0.0, 0.0), (0.5, 0.5))  # Γ X S Y Γ S


class Spectrometer(eqx.Module):
    """What is known of the instrument.

    Attributes:
        L: third component of all wave vectors; near 0.97 both modes are equally visible.
        sigma: resolution in energy, one standard deviation (meV).
        temperature: of the sample (K).
        layer: the sample.
    """

    L: float = 0.97
    sigma: float = 1.0
    temperature: float = 10.0
    layer: Layer = Layer()

    def __check_init__(self):
        for name in ("sigma", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not np.isfinite(self.L) or self.L == 0:
            raise ValueError(f"L must be finite and not zero, got {self.L}")


class Rows(NamedTuple):
    """Points (h, k, E) with everything about them that does not depend on the parameters.

    Attributes:
        points: (h, k) in reciprocal lattice units, E in meV.
        same: coefficients of the couplings in the mean energy of the modes.
        other: the same for half their distance.
        in_phase: weight of the in-phase mode, Bose factor included.
        counter: weight of the counter-phase mode.
        sigma: resolution (meV).
        gap: of the uniform precession (meV).
    """

    points: Float[Array, "N 3"]
    same: Float[Array, "N n"]
    other: Float[Array, "N n"]
    in_phase: Float[Array, " N"]
    counter: Float[Array, " N"]
    sigma: Float[Array, " N"]
    gap: Float[Array, " N"]

    def take(self, index: Int[Array, " k"]) -> "Rows":
        """Some of the points."""
        return Rows(*(part[index] for part in self))


def measurement_rows(
    points: Float[Array, "N 3"], count: int = 7, instrument: Spectrometer | None = None
) -> Rows:
    """Prepare points for :func:`intensity`.

    Args:
        points: (h, k, E), energies lost by the neutron (meV).
        count: number of couplings of the model.
        instrument: by default that of the chapter.

    Raises:
        ValueError: if a point is not finite or its energy is not positive; or if the model cannot
            have so many couplings.
    """
    finite("points", points)
    if not bool((points[:, 2] > 0).all()):
        raise ValueError(f"points must have energies above 0, got {float(points[:, 2].min())}")
    instrument = Spectrometer() if instrument is None else instrument
    hk, E = points[:, :2], points[:, 2]
    same, other = mode_rows(hk, count, instrument.layer)
    factor, c = polarisation(hk, instrument.L, instrument.layer)
    factor = factor / -jnp.expm1(-E / (BOLTZMANN * instrument.temperature))
    width, gap = (jnp.full(len(E), v) for v in (instrument.sigma, instrument.layer.gap))
    return Rows(points, same, other, factor * (1 + c), factor * (1 - c), width, gap)


def candidate_grid(
    wave_vectors: int = 61, energies: tuple[float, float, int] = (2.0, 53.0, 52)
) -> tuple[Float[Array, "C 3"], Float[np.ndarray, " Q"]]:
    """All points that may be measured: a path through the zone times a ladder of energies.

    Args:
        wave_vectors: number of them on the path Γ-X-S-Y-Γ-S, equally spaced in (h, k).
        energies: first, last and number (meV).

    Returns:
        Points (h, k, E), energies fastest; and the length of the path at each wave vector.
    """
    corners = np.array(PATH)
    legs = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    length = np.linspace(0, legs[-1], wave_vectors)
    hk = np.stack([np.interp(length, legs, corners[:, i]) for i in (0, 1)], axis=1)
    E = np.linspace(*energies)
    points = np.concatenate([np.repeat(hk, len(E), axis=0), np.tile(E, len(hk))[:, None]], axis=1)
    return jnp.asarray(points), length


def rates(theta: Float[Array, " d"], rows: Rows) -> Float[Array, " N"]:
    """:func:`intensity` without its checks, for use within transformations."""
    J, amplitude, background = theta[:-2], jnp.exp(theta[-2]), jnp.exp(theta[-1])
    middle, half = rows.gap + rows.same @ J, rows.other @ J

    def line(energy):
        return jnp.exp(-0.5 * ((rows.points[:, 2] - energy) / rows.sigma) ** 2)

    modes = rows.in_phase * line(middle + half) + rows.counter * line(middle - half)
    return amplitude * modes + background


def lowest_energy(theta: Float[Array, " d"], rows: Rows) -> Float[Array, ""]:
    """The smallest energy of a mode at some points (meV); negative if the model is unstable."""
    J = theta[:-2]
    return (rows.gap + rows.same @ J - jnp.abs(rows.other @ J)).min()


def intensity(theta: Float[Array, " d"], rows: Rows) -> Float[Array, " N"]:
    """Expected counts.

    A sum over both modes of A w (1 + n(E)) exp(-(E - E_mode)^2 / 2 sigma^2), plus a background b,
    with w = (1 + (Q_b/Q)^2)(1 +- cos 2 pi L dz) and the Bose factor 1 + n. So A is the number of
    counts at the top of a line of weight one.

    Args:
        theta: couplings (meV), log A, log b.
        rows: from :func:`measurement_rows`, for as many couplings.

    Raises:
        ValueError: if theta is not finite, has another number of couplings than the rows, or makes
            a mode soft at a point.
    """
    finite("theta", theta)
    if theta.shape[0] != rows.same.shape[1] + 2:
        raise ValueError(
            f"theta must have {rows.same.shape[1]} couplings and two numbers, got {theta.shape[0]}"
        )
    if not isinstance(theta, Tracer) and float(lowest_energy(theta, rows)) < -1e-9:
        lowest = float(lowest_energy(theta, rows))
        raise ValueError(f"theta makes a mode soft: its lowest energy is {lowest:.4g} meV")
    return rates(theta, rows)


def simulate_counts(expected: Float[Array, " N"], *, key: Array) -> Float[Array, " N"]:
    """Poisson counts.

    Args:
        expected: their means.
        key: for the noise.

    Raises:
        ValueError: if an expected number is negative or not finite.
    """
    finite("expected", expected)
    if not isinstance(expected, Tracer) and not bool((expected >= 0).all()):
        raise ValueError(f"expected must be at least 0, got {float(expected.min())}")
    return jax.random.poisson(key, expected).astype(float)


def log_poisson(counts: Float[Array, "..."], expected: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log probability of counts."""
    return counts * jnp.log(expected) - expected - gammaln(counts + 1)


def loglik(theta: Float[Array, " d"], rows: Rows, counts: Float[Array, " N"]) -> Float[Array, ""]:
    """Log likelihood of counts.

    Args:
        theta: as in :func:`intensity`.
        rows: the points.
        counts: whole numbers.

    Raises:
        ValueError: as in :func:`intensity`; or if a count is negative or not whole.
    """
    check_counts(counts)
    return log_poisson(counts, intensity(theta, rows)).sum()


def check_counts(counts: Numbers) -> None:
    """Raise if concrete counts are not whole numbers of at least 0."""
    finite("counts", counts)
    if isinstance(counts, Tracer):
        return
    values = np.asarray(counts)
    wrong = (values < 0) | (values != np.round(values))
    if wrong.any():
        raise ValueError(f"counts must be whole numbers of at least 0, got {values[wrong].flat[0]}")


def check_index(index: Int[np.ndarray, " N"], candidates: int) -> None:
    """Raise if a number does not name a candidate."""
    wrong = (np.asarray(index) < 0) | (np.asarray(index) >= candidates)
    if wrong.any():
        raise ValueError(
            f"index must name one of {candidates} candidates, got {np.asarray(index)[wrong][0]}"
        )
