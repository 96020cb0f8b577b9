r"""Spin waves of a ferromagnetic layer with two magnetic sites in a cell.

The chromium sites of CrSBr: A at the corner of a rectangular cell, B at its centre and displaced
by `dz` along c. With energies J S.S for each pair (J < 0 is ferromagnetic) linear spin-wave theory
of a ferromagnet with two equal sites is a matrix of two rows, and its modes are the in-phase and
the counter-phase precession of A and B:

.. math::
    E_\pm = \Delta + S\,[J_s - J_s(0) - J_o(0) \pm J_o]

where J_s and J_o, functions of (h, k), are the sums of J cos(phase) over the neighbours on the
same and the other sublattice. Energies are linear in the couplings: every mode has a row of
coefficients.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

BOLTZMANN = 0.08617333  # meV / K
Numbers = Float[Array, "..."] | Float[np.ndarray, "..."]


class Shell(NamedTuple):
    """Equivalent bonds: where they lead, in units of a and b, up to signs."""

    u: float
    v: float

    @property
    def same(self) -> bool:
        """Whether they join sites of one sublattice."""
        return float(self.u).is_integer()

    @property
    def bonds(self) -> Float[np.ndarray, "bonds 2"]:
        """All bonds of the shell that start at one site."""
        signs = [(x, y) for x in (1, -1)[: 1 + (self.u > 0)] for y in (1, -1)[: 1 + (self.v > 0)]]
        return np.array([(x * self.u, y * self.v) for x, y in signs], float)


# J1 to J7 as they are numbered for CrSBr, and J8, which a sample may have beyond them.
SHELLS = (
    Shell(1, 0),
    Shell(0.5, 0.5),
    Shell(0, 1),
    Shell(1.5, 0.5),
    Shell(1, 1),
    Shell(2, 0),
    Shell(0.5, 1.5),
    Shell(2, 1),
)


class Layer(eqx.Module):
    """What is known of the sample before neutrons come; defaults are those of CrSBr.

    Attributes:
        spin: S of a site.
        lattice: a, b, c in Angstrom.
        dz: height of the second sublattice above the first, as a part of c.
        gap: energy of the uniform precession (meV), from the anisotropy; too small to be resolved,
            and not fitted.
    """

    spin: float = 1.5
    lattice: tuple[float, float, float] = (3.50, 4.76, 7.96)
    dz: float = 0.257
    gap: float = 0.1

    def __check_init__(self):
        for name, values in (("spin", [self.spin]), ("lattice", self.lattice)):
            if not all(0 < v < float("inf") for v in values):
                raise ValueError(f"{name} must be positive and finite, got {values}")
        if not np.isfinite(self.dz):
            raise ValueError(f"dz must be finite, got {self.dz}")
        if not 0 <= self.gap < float("inf"):
            raise ValueError(f"gap must be at least 0 and finite, got {self.gap}")


def mode_rows(
    hk: Float[Array, "... 2"], count: int, layer: Layer
) -> tuple[Float[Array, "... n"], Float[Array, "... n"]]:
    """Coefficients of the couplings: E = gap + same @ J +- other @ J, in units of meV per meV.

    Args:
        hk: wave vectors in reciprocal lattice units.
        count: number of couplings n, the first of `SHELLS`.
        layer: gives the spin.
    """
    if not 1 <= count <= len(SHELLS):
        raise ValueError(f"J must have 1 to {len(SHELLS)} couplings, got {count}")
    same, other = [], []
    for shell in SHELLS[:count]:
        number = len(shell.bonds)  # signs of u and v are summed over: a product of two cosines
        h, k = 2 * jnp.pi * shell.u * hk[..., 0], 2 * jnp.pi * shell.v * hk[..., 1]
        wave = number * jnp.cos(h) * jnp.cos(k)
        nothing = jnp.zeros_like(wave)
        same.append(layer.spin * ((wave if shell.same else nothing) - number))
        other.append(layer.spin * (nothing if shell.same else wave))
    return jnp.stack(same, axis=-1), jnp.stack(other, axis=-1)


@jax.jit
def _bands(J: Float[Array, " n"], hk: Float[Array, "... 2"], layer: Layer):
    same, other = mode_rows(hk, J.shape[0], layer)
    middle, half = layer.gap + same @ J, jnp.abs(other @ J)
    return jnp.stack([middle - half, middle + half], axis=-1)


def bands(
    J: Float[Array, " n"], hk: Float[Array, "... 2"], layer: Layer | None = None
) -> Float[Array, "... 2"]:
    """Energies of both modes (meV), the lower first.

    Args:
        J: couplings (meV), the first n of `SHELLS`; negative is ferromagnetic.
        hk: wave vectors (h, k) in reciprocal lattice units.
        layer: the sample; by default CrSBr.

    Raises:
        ValueError: if J or hk is not finite, or a mode is soft (negative energy): then the
            ferromagnet is not the ground state.
    """
    finite("J", J)
    finite("hk", hk)
    energies = _bands(J, hk, Layer() if layer is None else layer)
    if not isinstance(energies, Tracer) and energies.size and float(energies.min()) < -1e-9:
        raise ValueError(
            f"J makes a mode soft: its lowest energy is {float(energies.min()):.4g} meV"
        )
    return energies


def polarisation(
    hk: Float[Array, "... 2"], L: float, layer: Layer
) -> tuple[Float[Array, "..."], float]:
    """What the wave vector (h, k, L) does to intensities.

    Neutrons see the components of the precession perpendicular to Q; the moments lie along b. The
    two sites of a cell interfere.

    Returns:
        The factor 1 + (Q_b/Q)^2, and the cosine c of 2 pi L dz. In-phase precession has the weight
        1 + c, counter-phase 1 - c.
    """
    a, b, c = layer.lattice
    square = (hk[..., 0] / a) ** 2 + (hk[..., 1] / b) ** 2 + (L / c) ** 2
    return 1 + (hk[..., 1] / b) ** 2 / square, float(np.cos(2 * np.pi * L * layer.dz))


def weights(
    J: Float[Array, " n"], hk: Float[Array, "... 2"], L: float, layer: Layer | None = None
) -> Float[Array, "... 2"]:
    """Intensities of both modes at zero temperature, in the order of :func:`bands`.

    S/2 (1 + (Q_b/Q)^2)(1 +- c), per site and without the magnetic form factor; + belongs to the
    in-phase mode, which is the lower one where J_o(h, k) < 0.

    Args:
        J: couplings (meV).
        hk: wave vectors (h, k) in reciprocal lattice units.
        L: third component of the wave vector, not zero.
        layer: the sample; by default CrSBr.

    Raises:
        ValueError: as in :func:`bands`; or if L is zero or not finite.
    """
    finite("J", J)
    finite("hk", hk)
    if not np.isfinite(L) or L == 0:
        raise ValueError(f"L must be finite and not zero, got {L}")
    layer = Layer() if layer is None else layer
    factor, c = polarisation(hk, L, layer)
    lower = -jnp.sign(mode_rows(hk, J.shape[0], layer)[1] @ J)
    return layer.spin / 2 * factor[..., None] * jnp.stack([1 + lower * c, 1 - lower * c], axis=-1)


def finite(name: str, values: Numbers) -> None:
    """Raise if concrete values are not all finite."""
    if not isinstance(values, Tracer) and not np.isfinite(np.asarray(values)).all():
        wrong = np.asarray(values)[~np.isfinite(np.asarray(values))]
        raise ValueError(f"{name} must be finite, got {wrong.flat[0]}")
