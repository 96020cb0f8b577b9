"""Rate laws as sparse expressions, and the libraries of structures that are searched."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

EXPONENTS = (0.0, 0.5, 1.0, 2.0)
MAX_NUMERATORS = 2
MAX_POWER = 3

Exponents = tuple[float, ...]


class IdentifiabilityError(ValueError):
    """The data leave a combination of parameters undetermined; the message names it."""


@dataclass(frozen=True)
class RateTerm:
    r"""The structure of one rate law, its constants left open.

    .. math::
        r(c) = \frac{\sum_j \pm k_j \prod_s c_s^{a_{js}}}{\bigl(1 + \sum_s K_s c_s^{g_s}\bigr)^n} .

    The constants :math:`k_j > 0` of the numerators and the adsorption constants :math:`K_s > 0`
    are its parameters, in this order, those of absent species left out. A half order in the
    denominator is a species that splits in two when it adsorbs (Hougen and Watson, Ind. Eng.
    Chem. 35, 529 (1943)).

    Attributes:
        numerators: exponents :math:`a_{js}`, one tuple over the species for each numerator.
        orders: exponents :math:`g_s` over the species; 0 for a species that does not adsorb.
        power: the number n of sites that the slow step takes; 0 if nothing adsorbs.
        signs: +1 for a forward, -1 for a backward numerator; the first is forward.

    Raises:
        ValueError: if an exponent is not in `EXPONENTS`, the lengths or the power do not fit, a
            numerator appears twice, or the first sign is not +1.
    """

    numerators: tuple[Exponents, ...]
    orders: Exponents
    power: int = 0
    signs: tuple[int, ...] = ()

    def __post_init__(self):
        if not self.signs:
            object.__setattr__(self, "signs", (1,) * len(self.numerators))
        if not 1 <= len(self.numerators) <= MAX_NUMERATORS:
            raise ValueError(
                f"numerators must be 1 to {MAX_NUMERATORS} in number, got {len(self.numerators)}"
            )
        for row in (*self.numerators, self.orders):
            if len(row) != len(self.orders) or any(e not in EXPONENTS for e in row):
                raise ValueError(
                    f"exponents must be {len(self.orders)} numbers out of {EXPONENTS}, got {row}"
                )
        if len(set(self.numerators)) < len(self.numerators):
            raise ValueError(f"numerators must differ, got {self.numerators}")
        if len(self.signs) != len(self.numerators) or self.signs[0] != 1:
            raise ValueError(f"signs must be +1 and then one a numerator, got {self.signs}")
        if any(sign not in (-1, 1) for sign in self.signs):
            raise ValueError(f"signs must be +1 or -1, got {self.signs}")
        known = self.power in range(MAX_POWER + 1)  # a fraction is not
        if not known or (self.power == 0) != (not any(self.orders)):
            raise ValueError(
                f"power must be 1 to {MAX_POWER} with a denominator and 0 without, "
                f"got {self.power} with orders {self.orders}"
            )

    @property
    def adsorbed(self) -> tuple[int, ...]:
        """Indices of the species in the denominator."""
        return tuple(s for s, order in enumerate(self.orders) if order)

    @property
    def count(self) -> int:
        """Number of parameters."""
        return len(self.numerators) + len(self.adsorbed)

    def __call__(
        self, c: Float[np.ndarray, "*batch S"], values: Sequence[float] | Float[np.ndarray, " P"]
    ) -> Float[np.ndarray, "*batch"]:
        """The rate at concentrations c (mol/L), given the parameters (see :func:`.check_values`).

        Raises:
            ValueError: if the shapes do not match or a concentration is negative.
        """
        c, values = np.asarray(c, float), check_values(self, values)
        if c.shape[-1:] != (len(self.orders),) or not np.all(c >= 0):
            raise ValueError(
                f"c must be non-negative with {len(self.orders)} species last, "
                f"got shape {c.shape}, smallest value {np.min(c, initial=np.inf):.3g}"
            )
        j = len(self.numerators)
        top = sum(
            sign * k * np.prod(c ** np.asarray(row), axis=-1)
            for sign, k, row in zip(self.signs, values[:j], self.numerators, strict=True)
        )
        bottom = 1 + sum(
            K * c[..., s] ** self.orders[s] for K, s in zip(values[j:], self.adsorbed, strict=True)
        )
        return np.asarray(top / bottom**self.power)

    def names(self, species: Sequence[str]) -> tuple[str, ...]:
        """Names of the parameters, such as ("k", "K_A")."""
        ks = ("k",) if len(self.numerators) == 1 else ("k_1", "k_2")
        return (*ks, *(f"K_{species[s]}" for s in self.adsorbed))

    def describe(self, species: Sequence[str]) -> str:
        """The law in one line, such as "A·√B / (1 + A + √B)²", without its constants."""
        top = ""
        for sign, row in zip(self.signs, self.numerators, strict=True):
            top += (" + " if sign > 0 else " − ") if top else ""
            top += "·".join(_factor(species[s], e) for s, e in enumerate(row) if e) or "1"
        if not self.power:
            return top
        bottom = " + ".join(["1", *(_factor(species[s], self.orders[s]) for s in self.adsorbed)])
        top = f"({top})" if len(self.numerators) > 1 else top
        return f"{top} / ({bottom}){('', '²', '³')[self.power - 1]}"


def _factor(name: str, exponent: float) -> str:
    return {0.5: f"√{name}", 1.0: name, 2.0: f"{name}²"}[exponent]


def check_values(
    term: RateTerm, values: Sequence[float] | Float[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """Parameters as an array: the k of each numerator, then the K of each adsorbed species.

    Raises:
        ValueError: if their number does not fit, or one is not positive and finite.
    """
    array = np.asarray(values, float)
    if array.shape != (term.count,):
        raise ValueError(f"expected {term.count} parameters, got shape {array.shape}")
    if not (np.all(array > 0) and np.all(np.isfinite(array))):
        raise ValueError(f"parameters must be positive and finite, got {array.tolist()}")
    return array


def enumerate_structures(
    species: Sequence[str],
    numerators: Sequence[Sequence[float]],
    orders: Sequence[Sequence[float]],
    powers: Sequence[int] = (1, 2),
    *,
    reverse: Sequence[Sequence[float]] = (),
    parallel: bool = False,
) -> tuple[RateTerm, ...]:
    """All rate laws of a library, in a fixed order and without duplicates.

    Args:
        species: their names.
        numerators: exponents over the species of each forward numerator.
        orders: for each species the exponents that it may have in the denominator; 0 (absent) is
            always among them.
        powers: powers of the denominator.
        reverse: exponents of numerators that may be subtracted (the step backwards).
        parallel: whether two forward numerators may be added (two routes over the same surface).

    Raises:
        ValueError: if the lengths do not match the species, or an exponent or power is unknown.
    """
    return Library(
        tuple(species),
        tuple(map(tuple, numerators)),
        tuple(map(tuple, orders)),
        tuple(powers),
        tuple(map(tuple, reverse)),
        parallel,
    ).structures()


@dataclass(frozen=True)
class Library:
    """What a rate law may be made of; the arguments are those of :func:`.enumerate_structures`."""

    species: tuple[str, ...]
    numerators: tuple[Exponents, ...]
    orders: tuple[Exponents, ...]
    powers: tuple[int, ...] = (1, 2)
    reverse: tuple[Exponents, ...] = ()
    parallel: bool = False

    def __post_init__(self):
        n = len(self.species)
        if not n or not self.numerators:
            raise ValueError("a library needs species and at least one numerator")
        if len(self.orders) != n:
            raise ValueError(f"orders must list {n} species, got {len(self.orders)}")
        if not self.powers or any(p not in range(1, MAX_POWER + 1) for p in self.powers):
            raise ValueError(f"powers must be out of 1 to {MAX_POWER}, got {self.powers}")
        for row in (*self.numerators, *self.reverse):
            RateTerm((row,), (0.0,) * n)
        for s, row in enumerate(self.orders):
            if any(e not in EXPONENTS for e in row):
                raise ValueError(f"orders of {self.species[s]} must be in {EXPONENTS}, got {row}")

    def tops(self) -> tuple[tuple[tuple[Exponents, ...], tuple[int, ...]], ...]:
        """All admissible sets of numerators with their signs."""
        forward = tuple(dict.fromkeys(self.numerators))
        backward = tuple(dict.fromkeys(self.reverse))
        tops = [((a,), (1,)) for a in forward]
        tops += [((a, b), (1, -1)) for a in forward for b in backward if a != b]
        if self.parallel:
            tops += [(pair, (1, 1)) for pair in combinations(forward, 2)]
        return tuple(tops)

    def structures(self) -> tuple[RateTerm, ...]:
        """Every structure of the library, the smallest denominators first."""
        bottoms = [
            (row, n)
            for row in product(*(sorted({0.0, *map(float, o)}) for o in self.orders))
            for n in (sorted(set(self.powers)) if any(row) else (0,))
        ]
        return tuple(RateTerm(a, row, n, signs) for a, signs in self.tops() for row, n in bottoms)

    def __contains__(self, term: object) -> bool:
        return (
            isinstance(term, RateTerm)
            and (term.numerators, term.signs) in self.tops()
            and (not term.power or term.power in self.powers)
            and all(g in (0, *allowed) for g, allowed in zip(term.orders, self.orders, strict=True))
        )

    def moves(self, term: RateTerm) -> dict[RateTerm, str]:
        """Structures one move away, each with what the move did, in words.

        A move adds a species to the denominator, removes one, changes its order or the power,
        adds or removes a second numerator, or replaces a numerator by one whose exponents differ
        for one species. Two moves join laws that differ in form and hardly in value: the last one
        may come with a factor less or more in the denominator; and a species may rise in a
        numerator and enter the denominator at once, or fall and leave it.

        Raises:
            ValueError: if the structure is not in the library.
        """
        if term not in self:
            raise ValueError(f"{term.describe(self.species)} is not in the library")
        found: dict[RateTerm, str] = {}
        powers = sorted(set(self.powers))
        for s, allowed in enumerate(self.orders):
            for g in sorted({0.0, *map(float, allowed)} - {term.orders[s]}):
                row = (*term.orders[:s], g, *term.orders[s + 1 :])
                here = f"{_factor(self.species[s], g or term.orders[s])}"
                word = "grow" if not term.orders[s] else "swap" if g else "prune"
                options = (0,) if not any(row) else (term.power,) if term.power else powers
                for n in options:
                    new = RateTerm(term.numerators, row, n, term.signs)
                    found[new] = f"{word}: {here} in the denominator" + (
                        f", power {n}" if not term.power else ""
                    )
        for n in powers:
            if term.power and n != term.power:
                found[RateTerm(term.numerators, term.orders, n, term.signs)] = f"swap: power {n}"
        for numerators, signs in self.tops():
            if _distance(term, numerators, signs) != 1:
                continue
            grown = len(numerators) - len(term.numerators)
            word = {1: "grow", -1: "prune", 0: "swap"}[grown]
            plain = RateTerm(numerators, (0.0,) * len(term.orders), 0, signs)
            what = f"{word}: numerator {plain.describe(self.species)}"
            found[RateTerm(numerators, term.orders, term.power, signs)] = what
            if len(numerators) != len(term.numerators):
                continue
            (old,) = set(term.numerators) - set(numerators)
            (new,) = set(numerators) - set(term.numerators)
            change = np.subtract(new, old)
            s = int(np.argmax(np.abs(change)))
            # Where the surface is full of A, a factor A/(1 + K A) is a constant.
            for n in powers if len(numerators) == 1 else ():
                if n != term.power and change[s] == (n - term.power) * term.orders[s]:
                    found[RateTerm(numerators, term.orders, n, signs)] = f"{what}, power {n}"
            # Where it is half full, A/(1 + K A) grows like a lower order; as K grows the limit
            # may be exact.
            if (change[s] > 0) == (term.orders[s] > 0):
                continue
            for g in sorted(set(map(float, self.orders[s])) - {0.0}) if change[s] > 0 else (0.0,):
                row = (*term.orders[:s], g, *term.orders[s + 1 :])
                here = _factor(self.species[s], g or term.orders[s])
                for n in (0,) if not any(row) else (term.power,) if term.power else powers:
                    found[RateTerm(numerators, row, n, signs)] = (
                        f"{what}, {here} {'into' if g else 'out of'} the denominator"
                        + (f", power {n}" if not term.power else "")
                    )
        return found


def _distance(term: RateTerm, numerators: tuple[Exponents, ...], signs: tuple[int, ...]) -> int:
    """Steps between two sets of numerators: one for each that differs; large if far apart."""
    old = set(zip(term.numerators, term.signs, strict=True))
    new = set(zip(numerators, signs, strict=True))
    lost, gained = old - new, new - old
    if len(old) != len(new):
        return len(lost) + len(gained)
    if len(lost) != 1:
        return 2 * len(lost)
    ((a, sign_a),), ((b, sign_b),) = lost, gained
    differing = sum(x != y for x, y in zip(a, b, strict=True))
    return 1 if sign_a == sign_b and differing == 1 else 2


class Encoded(NamedTuple):
    """Structures as arrays of one shape, so that one compiled program serves them all.

    Attributes:
        top: positions in `EXPONENTS`, shape (M, J, S).
        sign: signs of the numerators, 0 for absent ones, shape (M, J).
        order: positions in `EXPONENTS`, 0 for absent species, shape (M, S).
        power: shape (M,).
    """

    top: Int[np.ndarray, "M J S"]
    sign: Float[np.ndarray, "M J"]
    order: Int[np.ndarray, "M S"]
    power: Int[np.ndarray, " M"]


def encode(terms: Sequence[RateTerm]) -> Encoded:
    """The arrays of some structures."""
    S = len(terms[0].orders)
    index = {e: i for i, e in enumerate(EXPONENTS)}
    top = np.zeros((len(terms), MAX_NUMERATORS, S), np.int32)
    sign = np.zeros((len(terms), MAX_NUMERATORS))
    for m, term in enumerate(terms):
        for j, row in enumerate(term.numerators):
            top[m, j], sign[m, j] = [index[e] for e in row], term.signs[j]
    order = np.asarray([[index[e] for e in term.orders] for term in terms], np.int32)
    power = np.asarray([term.power for term in terms], np.int32)
    return Encoded(top, sign, order, power)


def pad_values(term: RateTerm, values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " F"]:
    """Parameters at their places among all numerators and all species; 1 where absent."""
    full = np.ones(MAX_NUMERATORS + len(term.orders))
    full[places(term)] = values
    return full


def places(term: RateTerm) -> list[int]:
    """Where the parameters of a structure lie among all numerators and all species."""
    return [*range(len(term.numerators)), *(MAX_NUMERATORS + s for s in term.adsorbed)]
