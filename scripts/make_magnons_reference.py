"""Energies and intensities of pySpinW for chapter 11; writes dy33lib/data/magnons_reference.npz.

    python -m venv .venv-peers/magnons && .venv-peers/magnons/bin/pip install pyspinw==1.1.0b2
    .venv-peers/magnons/bin/python scripts/make_magnons_reference.py

The layer of `dy33lib.magnons` with eight couplings and no gap, all bonds written out by their
cells, at 2,000 random wave vectors: `J` (8,), `Q` (2000, 3), `energies` (2000, 2) in meV, the lower
first, and `intensities` (2000, 2), the part perpendicular to Q, for one cell.
"""

import hashlib
from itertools import product
from pathlib import Path

import numpy as np
import pyspinw as ps  # pyright: ignore[reportMissingImports]

TARGET = Path(__file__).resolve().parents[1] / "dy33lib" / "data" / "magnons_reference.npz"
J = np.array([-1.903, -3.380, -1.670, -0.093, -0.090, 0.365, -0.292, -0.150])
# Steps (u, v) of each shell: half of the bonds within a sublattice, all between the two.
STEPS = ((1, 0), (0.5, 0.5), (0, 1), (1.5, 0.5), (1, 1), (2, 0), (0.5, 1.5), (2, 1))


class Points(ps.Path):
    """Scattered wave vectors instead of a path."""

    def __init__(self, points: np.ndarray):
        super().__init__(points)
        self.points = points

    def q_points(self) -> np.ndarray:
        """The wave vectors, in reciprocal lattice units."""
        return self.points


def hamiltonian() -> ps.Hamiltonian:
    cell = ps.UnitCell(3.50, 4.76, 7.96)
    sites = [ps.Site(0, 0, 0, 0, 1.5, 0, name="A"), ps.Site(0.5, 0.5, 0.257, 0, 1.5, 0, name="B")]
    exchanges = []
    for coupling, (u, v) in zip(J, STEPS, strict=True):
        bonds = {(x * u, y * v) for x, y in product((1, -1), repeat=2)}
        if float(u).is_integer():
            half = [b for b in bonds if b > (0, 0)]
            pairs = [(site, site, b) for site in sites for b in half]
        else:
            pairs = [(*sites, (x - 0.5, y - 0.5)) for x, y in bonds]
        for one, two, (m, n) in pairs:
            offset = (int(m), int(n), 0)
            exchanges.append(ps.HeisenbergExchange(one, two, coupling, cell_offset=offset))
    structure = ps.Structure(sites, cell, show_unit_cell_warning=False)
    return ps.Hamiltonian(structure, exchanges)


def calculate(Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies and intensities of the two modes of positive energy."""
    energies, intensities = hamiltonian().energies_and_intensities(Points(Q))[:2]
    energies, intensities = np.asarray(energies), np.asarray(intensities)
    order = np.argsort(energies, axis=1)[:, -2:]
    return np.take_along_axis(energies, order, 1), np.take_along_axis(intensities, order, 1)


def main() -> None:
    rng = np.random.default_rng(2026)
    Q = rng.uniform(-2, 2, (2000, 3))
    energies, intensities = calculate(Q)
    np.savez_compressed(TARGET, J=J, Q=Q, energies=energies, intensities=intensities)
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name)


if __name__ == "__main__":
    main()
