"""The adaptive search: a basis that grows and shrinks while it learns."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dy33lib.sindy.laws import Library, RateTerm

Structure = tuple[RateTerm, ...]  # one law a reaction


class Move(NamedTuple):
    """One improvement of the best structure.

    Attributes:
        what: what was done to which structure's law, in words.
        structure: the new best.
        bic: its score.
        fits: structures fitted so far.
    """

    what: str
    structure: Structure
    bic: float
    fits: int


class Path(NamedTuple):
    """How an adaptive search went.

    Attributes:
        structure: the best found.
        bic: its score.
        moves: from the start to the best, each an improvement of the one before.
        scores: every structure fitted, in order, with its score.
        rounds: batches of fits.
    """

    structure: Structure
    bic: float
    moves: tuple[Move, ...]
    scores: dict[Structure, float]
    rounds: int

    @property
    def fits(self) -> int:
        """Number of structures fitted."""
        return len(self.scores)


def adapt(
    score: Callable[[list[Structure]], Sequence[float]],
    libraries: Library | Sequence[Library],
    start: RateTerm | Structure,
    *,
    beam: int = 2,
    window: float = 6.0,
    adequate: Callable[[Structure], bool] | None = None,
    limit: int = 10_000,
) -> Path:
    """Grow, prune and swap until none of the best structures has a better neighbour.

    In each round the `beam` best structures so far, and all whose BIC is within a `window` of the
    best, are opened: all structures one move away (see :meth:`.Library.moves`) are fitted. The
    search ends when these are all open. With a beam of 1 and no window it goes straight downhill;
    a wider one passes over shallow barriers and collects rivals. If the
    best structure is not even adequate (its residuals are larger than the noise), the beam doubles
    and the search goes on, in the end over the whole library.

    Args:
        score: gives the BIC of each of a batch of structures, none of them twice.
        libraries: what the law of each reaction may be made of; a single one may stand alone.
        start: where to begin.
        beam: how many of the best structures are opened in any case.
        window: difference of BIC up to which more are opened; 6 is odds of 20 to 1.
        adequate: whether a structure explains the data; the best one is asked when the search
            would end.
        limit: give up after as many fits.

    Raises:
        ValueError: if the beam is not positive, the window is negative, the start is not in the
            libraries, or a score is NaN.
        RuntimeError: if the limit is reached.
    """
    libraries = (libraries,) if isinstance(libraries, Library) else tuple(libraries)
    start = (start,) if isinstance(start, RateTerm) else tuple(start)
    if beam < 1:
        raise ValueError(f"beam must be at least 1, got {beam}")
    if not window >= 0:
        raise ValueError(f"window must not be negative, got {window}")
    if len(start) != len(libraries):
        raise ValueError(f"start must have {len(libraries)} laws, got {len(start)}")
    for law, library in zip(start, libraries, strict=True):
        if law not in library:
            raise ValueError(f"start {law.describe(library.species)} is not in its library")
    scores: dict[Structure, float] = {}
    words = {start: "start"}
    moves: list[Move] = []
    opened: set[Structure] = set()
    batch, rounds = [start], 0
    while batch:
        if len(scores) + len(batch) > limit:
            raise RuntimeError(f"no end after {len(scores)} fits")
        found = [float(b) for b in score(batch)]
        if np.any(np.isnan(found)) or len(found) != len(batch):
            raise ValueError(f"score must give {len(batch)} numbers, got {found}")
        scores.update(zip(batch, found, strict=True))
        rounds += 1
        best = min(scores, key=scores.__getitem__)
        if not moves or scores[best] < moves[-1].bic:
            moves.append(Move(words[best], best, scores[best], len(scores)))
        batch = []
        leaders = sorted(scores, key=scores.__getitem__)
        while not batch:
            near = sum(scores[structure] <= scores[best] + window for structure in leaders)
            closed = [s for s in leaders[: max(beam, near)] if s not in opened]
            if not closed:
                if beam >= len(leaders) or adequate is None or adequate(best):
                    break
                beam *= 2
            for structure in closed:
                opened.add(structure)
                for new, what in _neighbours(structure, libraries):
                    if new not in words:
                        words[new] = what
                        batch.append(new)
    best = min(scores, key=scores.__getitem__)
    return Path(best, scores[best], tuple(moves), scores, rounds)


def _neighbours(structure: Structure, libraries: tuple[Library, ...]):
    """Structures one move away in one of the reactions, each with the move in words."""
    for r, library in enumerate(libraries):
        for law, what in library.moves(structure[r]).items():
            place = "" if len(libraries) == 1 else f"reaction {r + 1}: "
            yield (*structure[:r], law, *structure[r + 1 :]), place + what
