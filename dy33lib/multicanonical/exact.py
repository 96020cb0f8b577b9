"""What is known exactly: the density of states of small lattices, and Baxter's infinite one.

`exact_dos` counts colourings by transfer, site by site. The colours of the first row are fixed, all
others are told apart only by where they occur, and configurations that differ in the first row by a
permutation of colours, a rotation or a reflection are counted once.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from dy33lib.multicanonical.potts import check_size

LARGEST = 6

Words = Int[np.ndarray, "S L"]


def _words(L: int, fixed: int) -> Words:
    """All rows of L sites over `fixed` colours with names and others in order of appearance."""
    words, others = np.zeros((1, 0), int), np.zeros(1, int)
    for _ in range(L):
        choices = fixed + others + 1
        new = np.concatenate([np.arange(c) for c in choices])
        words = np.column_stack([np.repeat(words, choices, axis=0), new])
        others = np.repeat(others, choices)
        others = others + (new == fixed + others)
    return words


def _others(words: Words, fixed: int) -> Int[np.ndarray, " S"]:
    """How many colours without a name each row has."""
    return np.maximum(words.max(axis=1) + 1 - fixed, 0)


def _in_order(words: Words, fixed: int) -> Words:
    """Rows with their other colours numbered in order of appearance."""
    S, L = words.shape
    names = np.full((S, fixed + 2 * L + 2), -1)
    names[:, :fixed] = np.arange(fixed)
    following, every, out = np.full(S, fixed), np.arange(S), np.empty_like(words)
    for i in range(L):
        fresh = names[every, words[:, i]] < 0
        names[every[fresh], words[fresh, i]] = following[fresh]
        following += fresh
        out[:, i] = names[every, words[:, i]]
    return out


def _transfers(
    words: Words, fixed: int, q: int, first: Int[np.ndarray, " L"] | None = None
) -> list[dict]:
    """For each column the matrices that put a new site there, by the number of bonds gained.

    Args:
        words: the possible frontiers: the last L sites, column by column.
        fixed: number of colours with a name.
        q: number of colours.
        first: the first row, if the new site is in the last one.
    """
    S, L = words.shape
    others, place = _others(words, fixed), (fixed + L + 1) ** np.arange(L)
    order = np.argsort(words @ place)
    codes = (words @ place)[order]
    columns = []
    for i in range(L):
        entries: dict[int, list] = {}
        for colour in range(fixed + int(others.max()) + 1):
            ways = np.where(colour == fixed + others, q - fixed - others, 1)
            source = np.flatnonzero((colour <= fixed + others) & (ways > 0))
            new = words[source]
            gained = (new[:, i] == colour).astype(int)
            new[:, i] = colour
            gained += (new[:, i - 1] == colour) if i else 0
            gained += (new[:, 0] == colour) if i == L - 1 else 0
            gained += 0 if first is None else int(first[i] == colour)
            target = order[np.searchsorted(codes, _in_order(new, fixed) @ place)]
            for b in np.unique(gained):
                at = gained == b
                entries.setdefault(int(b), []).append((target[at], source[at], ways[source[at]]))
        matrices = {}
        for b, parts in entries.items():
            to, start, ways = (np.concatenate(part) for part in zip(*parts, strict=True))
            matrices[b] = sparse.csr_matrix((ways.astype(float), (to, start)), (S, S))
        columns.append(matrices)
    return columns


def exact_dos(L: int, q: int) -> Float[np.ndarray, " E"]:
    """Logarithm of the number of configurations of each energy, from -2N to 0; -inf if none.

    Sums of positive numbers in double precision: relative errors are about 1e-14. 4 x 4 sites take
    a tenth of a second, 5 x 5 a second or two, 6 x 6 a minute and 1 GB, for any number of colours.

    Raises:
        ValueError: if L is below 3 or above 6, or q below 2.
    """
    check_size(L, q)
    if L > LARGEST:
        raise ValueError(f"L must be at most {LARGEST}, got {L}")
    rows, orbits = _words(L, 0), {}
    for row in rows:
        images = np.array([np.roll(row[::step], by) for step in (1, -1) for by in range(L)])
        name = min(map(tuple, _in_order(images, 0).tolist()))
        orbits[name] = orbits.get(name, 0) + 1
    total, ready = np.zeros(2 * L * L + 1), (0, rows, [])
    for name in sorted(orbits, key=max):
        first, fixed = np.array(name), max(name) + 1
        if fixed > q:
            continue
        if ready[0] != fixed:
            words = _words(L, fixed)
            words = words[_others(words, fixed) <= q - fixed]
            ready = fixed, words, _transfers(words, fixed, q)
        _, words, middle = ready
        ways = np.zeros((len(words), 2 * L * L + 1))
        start = (words == first[None]).all(axis=1)
        ways[start, (first == np.roll(first, 1)).sum()] = 1
        for matrices in (L - 2) * middle + _transfers(words, fixed, q, first):
            moved = np.zeros_like(ways)
            for b, matrix in matrices.items():
                moved[:, b:] += matrix @ ways[:, : ways.shape[1] - b]
            ways = moved
        colourings = np.prod(q - np.arange(fixed, dtype=float))
        total += orbits[name] * colourings * ways.sum(axis=0)
    with np.errstate(divide="ignore"):
        return np.log(total[::-1])


class Baxter(NamedTuple):
    """The infinite lattice at its first-order transition, per site.

    Attributes:
        beta: inverse temperature, ln(1 + sqrt q).
        e_disordered: energy of the disordered phase.
        e_ordered: energy of the ordered phases.
        latent_heat: their difference.
        correlation_length: of the disordered phase.
        interface_tension: between an ordered and the disordered phase, times beta.
        ln_z: logarithm of the partition function.
    """

    beta: float
    e_disordered: float
    e_ordered: float
    latent_heat: float
    correlation_length: float
    interface_tension: float
    ln_z: float


def baxter(q: int) -> Baxter:
    """Exact results for q > 4.

    Energies and partition function: Baxter (1973), J. Phys. C 6, L445. Correlation length:
    Buffenoir and Wallon (1993), J. Phys. A 26, 3045; the interface tension is half of its inverse
    (Borgs and Janke 1992, J. Phys. I 2, 2011).

    Raises:
        ValueError: if q is not above 4: then the transition is continuous.
    """
    if q <= 4:
        raise ValueError(f"q must be above 4 for a first-order transition, got {q}")
    root = np.sqrt(q)
    theta, n = np.arccosh(root / 2), np.arange(1, 4000)
    middle = -(1 + 1 / root)
    latent = 2 * (1 + 1 / root) * np.tanh(theta / 2) * np.prod(np.tanh(n * theta) ** 2)
    rate = np.pi**2 / (2 * np.log((np.sqrt(root + 2) + np.sqrt(root - 2)) / 2))
    x = np.minimum((n - 0.5) * rate, 700.0)
    inverse = 4 * np.sum(2 * np.arctanh(1 / (np.sqrt(2) * np.cosh(x))))
    series = np.sum(np.exp(-n * theta) / n * np.tanh(n * theta))
    values = (
        np.log(1 + root), middle + latent / 2, middle - latent / 2, latent,
        1 / inverse, inverse / 2, np.log(q) / 2 + theta + 2 * series,
    )  # fmt: skip
    return Baxter(*(float(v) for v in values))
