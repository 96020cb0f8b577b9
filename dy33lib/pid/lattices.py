"""Antichains of sources, their order, and what turns redundancies into atoms."""

from functools import cache, reduce
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Antichain = tuple[tuple[int, ...], ...]

# The order in which Schneider et al. (2025) list the coefficients of a goal.
_PUBLISHED: dict[int, tuple[Antichain, ...]] = {
    2: (((1,),), ((2,),), ((1,), (2,)), ((1, 2),)),
    3: (
        ((1,), (2,), (3,)),
        ((1,), (2,)),
        ((1,), (3,)),
        ((2,), (3,)),
        ((1,), (2, 3)),
        ((2,), (1, 3)),
        ((3,), (1, 2)),
        ((1,),),
        ((2,),),
        ((3,),),
        ((1, 2), (1, 3), (2, 3)),
        ((1, 2), (1, 3)),
        ((1, 2), (2, 3)),
        ((1, 3), (2, 3)),
        ((1, 2),),
        ((1, 3),),
        ((2, 3),),
        ((1, 2, 3),),
    ),
}


class Lattice(NamedTuple):
    """The redundancy lattice of n sources.

    Attributes:
        antichains: its A nodes, in the order of every vector of atoms in this package.
        subsets: the 2^n - 1 sets of sources, the smaller ones first.
        union: signs of inclusion and exclusion: the probability that all sources of at least one
            set of an antichain agree is the sum of the probabilities that all sources of a subset
            agree, with these coefficients.
        order: one where the column's antichain is below the row's or equal to it.
        moebius: the inverse of `order`; atoms are this matrix times redundancies.
    """

    antichains: tuple[Antichain, ...]
    subsets: tuple[tuple[int, ...], ...]
    union: Int[np.ndarray, "A S"]
    order: Int[np.ndarray, "A A"]
    moebius: Int[np.ndarray, "A A"]


def antichains(n: int) -> tuple[Antichain, ...]:
    """All sets of sets of sources 1 to n in which no set contains another.

    There are 4, 18 and 166 for two, three and four sources. Those of two and three come in the
    order of Schneider et al. (2025), those of four from the bottom of the lattice to its top.

    Raises:
        ValueError: if n is not 2, 3 or 4.
    """
    if n not in (2, 3, 4):
        raise ValueError(f"n must be 2, 3 or 4 sources, got {n}")
    if n in _PUBLISHED:
        return _PUBLISHED[n]
    # The sets that contain a member of an antichain determine it, and are built up one by one.
    sets = _subsets(n)
    above = [frozenset(b for b in sets if set(a) <= set(b)) for a in sets]
    closed = reduce(lambda found, up: found | {old | up for old in found}, above, {frozenset()})
    minimal = [
        tuple(sorted(a for a in up if not any(set(b) < set(a) for b in up)))
        for up in closed - {frozenset()}
    ]
    return tuple(sorted(minimal, key=lambda alpha: (sum(_below(b, alpha) for b in minimal), alpha)))


@cache
def lattice(n: int) -> Lattice:
    """The redundancy lattice of n sources (Williams and Beer 2010, arXiv:1004.2515).

    An antichain β is below α if every set of α contains some set of β.

    Raises:
        ValueError: if n is not 2, 3 or 4.
    """
    nodes, sets = antichains(n), _subsets(n)
    union = np.zeros((len(nodes), len(sets)), np.int64)
    for row, alpha in zip(union, nodes, strict=True):
        for size in range(1, len(alpha) + 1):
            for chosen in combinations(alpha, size):
                row[sets.index(tuple(sorted(set(chain(*chosen)))))] += (-1) ** (size + 1)
    order = np.array([[_below(beta, alpha) for beta in nodes] for alpha in nodes], np.int64)
    moebius = np.rint(np.linalg.inv(order)).astype(np.int64)
    return Lattice(nodes, sets, union, order, moebius)


def hasse(n: int) -> tuple[Float[np.ndarray, "A 2"], list[tuple[int, int]]]:
    """Where to draw the antichains, and which of them to join.

    Returns:
        For each antichain its place across, centred at zero, and its height, the length of the
        longest chain down to the bottom; and all pairs (lower, upper) with nothing between them.

    Raises:
        ValueError: if n is not 2, 3 or 4.
    """
    below = lattice(n).order - np.eye(len(antichains(n)), dtype=np.int64)
    edges = (below > 0) & (below @ below == 0)
    height = np.zeros(len(below), np.int64)
    for i in np.argsort(below.sum(axis=1), kind="stable"):  # whatever is below comes earlier
        height[i] = 1 + height[below[i] > 0].max(initial=-1)
    place = np.zeros((len(below), 2))
    for level in range(height.max() + 1):
        members = np.flatnonzero(height == level)
        under = [place[edges[i], 0].mean() if level else 0.0 for i in members]
        members = members[np.argsort(np.round(under, 9), kind="stable")]  # few lines then cross
        place[members, 0] = np.arange(len(members)) - (len(members) - 1) / 2
        place[members, 1] = level
    return place, [(int(low), int(up)) for up, low in zip(*np.nonzero(edges), strict=True)]


def name(alpha: Antichain, letters: str = "1234") -> str:
    """An antichain as it is written, such as {1}{23}, or {F}{CL} with the letters "FCL"."""
    return "".join("{" + "".join(letters[i - 1] for i in a) + "}" for a in alpha)


def _subsets(n: int) -> tuple[tuple[int, ...], ...]:
    sources = range(1, n + 1)
    return tuple(chain.from_iterable(combinations(sources, size) for size in sources))


def _below(beta: Antichain, alpha: Antichain) -> bool:
    return all(any(set(b) <= set(a) for b in beta) for a in alpha)
