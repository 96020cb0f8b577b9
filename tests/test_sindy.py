import re
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad, solve_ivp
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares, nnls

from dy33lib import sindy as si
from dy33lib.sindy import likelihood

# Fits and simulations are compiled for each shape: all tests of one reaction keep to these.
NU, DESIGN, TIMES = si.NU, si.DESIGN, si.TIMES
SIGMA = 0.05
E, T = len(DESIGN), len(TIMES)

# The laws of the study once more, in NumPy's words.
RATES = {
    "Langmuir-Hinshelwood": lambda A, B, C, k, KA, KB: k * A * B / (1 + KA * A + KB * B) ** 2,
    "dissociative": lambda A, B, C, k, KA, KB: k * A * root(B) / (1 + KA * A + KB * root(B)) ** 2,
    "product inhibition": lambda A, B, C, k, KA, KB, KC: (
        k * A * B / (1 + KA * A + KB * B + KC * C) ** 2
    ),
    "Eley-Rideal": lambda A, B, C, k, KA: k * A * B / (1 + KA * A),
    "unimolecular": lambda A, B, C, k, KA: k * A / (1 + KA * A),
    "power law": lambda A, B, C, k: k * A * B,
}
REVERSIBLE = si.RateTerm(((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (1.0, 0.0, 0.0), 1, (1, -1))
# Two reactions at once, A + B -> C and A -> D.
NU_TWO = np.array([[-1.0, -1.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
LAWS_TWO = (
    si.RateTerm(((1.0, 1.0, 0.0, 0.0),), (1.0, 0.0, 0.0, 0.0), 1),
    si.RateTerm(((1.0, 0.0, 0.0, 0.0),), (0.0, 1.0, 0.0, 0.0), 2),
)
PARAMS_TWO = ((1.2, 0.8), (0.5, 0.4))
C0_TWO = np.array(
    [
        [1.0, 1.5, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0], [1.5, 2.5, 0.0, 0.0],
        [0.8, 0.3, 0.5, 0.0], [2.5, 2.0, 0.0, 0.4],
    ]
)  # fmt: skip
TIMES_TWO = np.linspace(0.4, 8.0, 20)


def rates_two(A, B, C, D, k1=1.2, KA=0.8, k2=0.5, KB=0.4):
    return [k1 * A * B / (1 + KA * A), k2 * A / (1 + KB * B) ** 2]


def root(x):
    return np.sqrt(np.maximum(x, 0.0))


def zoo_rate(name, values=None):
    values = si.ZOO[name][1] if values is None else values
    return lambda *c: [RATES[name](*c, *values)]


def reference(rates, c0, nu, t):
    """Concentrations by SciPy, one experiment after the other."""
    nu = np.asarray(nu, float)
    found = []
    for start, times in zip(c0, np.broadcast_to(t, (len(c0), np.shape(t)[-1])), strict=True):
        solution = solve_ivp(
            lambda _, c: nu @ np.asarray(rates(*c)), (0.0, times[-1]), start, method="DOP853",
            rtol=1e-11, atol=1e-13, t_eval=times,
        )  # fmt: skip
        assert solution.success
        found.append(solution.y.T)
    return np.stack(found)


def data(clean, sigma: Any = 0.0, seed=0, nu=NU, c0=DESIGN, t=TIMES, **options):
    """Experiments with noise on clean concentrations."""
    noise = np.random.default_rng([7, seed]).normal(size=clean.shape)
    species = ("A", "B", "C", "D")[: clean.shape[2]]
    t = np.array(np.broadcast_to(t, clean.shape[:2]))
    return si.Experiments(species, nu, t, clean + sigma * noise, c0, **options)


@pytest.fixture(scope="module")
def clean():
    """The laws of the study, integrated by SciPy with the true square root."""
    return {name: reference(zoo_rate(name), DESIGN, NU, TIMES) for name in si.ZOO}


@pytest.fixture(scope="module")
def noisy(clean):
    """Langmuir-Hinshelwood data with noise, prepared."""
    return si.prepare(data(clean["Langmuir-Hinshelwood"], SIGMA), SIGMA)


@pytest.fixture(scope="module")
def clean_two():
    return reference(rates_two, C0_TWO, NU_TWO, TIMES_TWO)


# Rate laws ---------------------------------------------------------------------------------------


def test_rate_is_the_formula(rng):
    c = rng.uniform(0, 3, size=(4, 5, 3))
    A, B, C = np.moveaxis(c, -1, 0)
    for name, (law, values) in si.ZOO.items():
        np.testing.assert_allclose(law(c, values), RATES[name](A, B, C, *values), rtol=1e-13)
    term = si.RateTerm(((1.0, 0.5, 0.0), (0.0, 2.0, 1.0)), (2.0, 0.0, 0.5), 3, (1, -1))
    expected = (2 * A * np.sqrt(B) - 3 * B**2 * C) / (1 + 0.5 * A**2 + 0.7 * np.sqrt(C)) ** 3
    np.testing.assert_allclose(term(c, [2, 3, 0.5, 0.7]), expected, rtol=1e-13)
    plus = si.RateTerm(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (0.0, 0.0, 0.0))
    np.testing.assert_allclose(plus(c, [2, 3]), 2 * A + 3 * B, rtol=1e-13)
    assert plus.signs == (1, 1)


def test_laws_tell_what_they_are():
    law, _ = si.ZOO["dissociative"]
    assert law.describe("ABC") == "A·√B / (1 + A + √B)²"
    assert law.names("ABC") == ("k", "K_A", "K_B")
    assert (law.count, law.adsorbed) == (3, (0, 1))
    term = si.RateTerm(((1.0, 1.0, 0.0), (0.0, 0.0, 2.0)), (0.0, 0.0, 2.0), 3, (1, -1))
    assert term.describe(("A", "B", "Cl")) == "(A·B − Cl²) / (1 + Cl²)³"
    assert term.names(("A", "B", "Cl")) == ("k_1", "k_2", "K_Cl")
    assert (term.count, term.adsorbed) == (3, (2,))
    both = si.RateTerm(((1.0, 0.0), (0.0, 0.0)), (0.0, 0.0))
    assert both.describe("AB") == "A + 1"
    assert si.RateTerm(((0.0, 1.0),), (1.0, 0.0), 1).describe("AB") == "B / (1 + A)"
    assert hash(law) == hash(si.ZOO["dissociative"][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numerators": ()}, "numerators must be 1 to 2 in number, got 0"),
        ({"numerators": ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))}, "1 to 2 in number, got 3"),
        ({"numerators": ((1.0,),)}, "exponents must be 2 numbers"),
        ({"numerators": ((1.0, 3.0),)}, r"got \(1.0, 3.0\)"),
        ({"numerators": ((1.0, float("nan")),)}, "exponents"),
        ({"orders": (1.0, -1.0), "power": 1}, r"got \(1.0, -1.0\)"),
        ({"numerators": ((1.0, 0.0), (1.0, 0.0))}, "numerators must differ"),
        ({"signs": (1, 1)}, r"one a numerator, got \(1, 1\)"),
        ({"signs": (-1,)}, r"got \(-1,\)"),
        ({"numerators": ((1.0, 0.0), (0.0, 1.0)), "signs": (1, 2)}, "must be \\+1 or -1"),
        ({"power": 1}, "got 1 with orders"),
        ({"orders": (1.0, 0.0)}, "power must be 1 to 3 with a denominator"),
        ({"orders": (1.0, 0.0), "power": 4}, "got 4"),
        ({"orders": (1.0, 0.0), "power": -1}, "got -1"),
        # fails: it is accepted, and the compiled programs count 1.5 as 1
        ({"orders": (1.0, 0.0), "power": 1.5}, "got 1.5"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_structures_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        si.RateTerm(**{"numerators": ((1.0, 0.0),), "orders": (0.0, 0.0), **options})


@pytest.mark.usefixtures("unchecked")
def test_rate_refuses_bad_input():
    law, values = si.ZOO["Eley-Rideal"]
    one = np.ones(3)
    with pytest.raises(ValueError, match=r"expected 2 parameters, got shape \(3,\)"):
        law(one, [1, 2, 3])
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive and finite"):
            law(one, [1, bad])
    with pytest.raises(ValueError, match="3 species last"):
        law(np.ones(2), values)
    with pytest.raises(ValueError, match=r"smallest value -0\.1"):
        law(np.array([1.0, -0.1, 0.0]), values)
    with pytest.raises(ValueError, match="non-negative"):
        law(np.array([1.0, np.nan, 0.0]), values)


# Libraries ---------------------------------------------------------------------------------------


def brute_force(numerators, orders, powers, reverse=(), parallel=False):
    """All structures as plain tuples, by trying everything that could be written down."""
    found = set()
    pairs = list(product(numerators, (*numerators, *reverse)))
    tops = [((a,), (1,)) for a in numerators]
    tops += [((a, b), (1, -1)) for a, b in pairs if b in reverse]
    tops += [((a, b), (1, 1)) for a, b in pairs if parallel and b in numerators]
    for (top, signs), row, n in product(tops, product(*orders), (0, *powers)):
        if (n > 0) == any(row) and len(set(top)) == len(top):
            found.add((frozenset(zip(top, signs, strict=True)), row, n))
    return found


def plain(term):
    signed = frozenset(zip(term.numerators, term.signs, strict=True))
    return signed, term.orders, term.power


AB, HALF, A1, B1, BH, A2, B2, C1 = (
    (1.0, 1.0, 0.0), (1.0, 0.5, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.5, 0.0),
    (2.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 1.0),
)  # fmt: skip
TOPS = (AB, HALF, A1, B1, BH, A2, B2)
ORDERS = ((0.0, 1.0), (0.0, 0.5, 1.0), (0.0, 1.0))


def test_libraries_hold_every_structure_once():
    plain_library, reversible = si.study_library(), si.study_library(reversible=True)
    for library, reverse, count in ((plain_library, (), 161), (reversible, (C1,), 322)):
        terms = library.structures()
        expected = brute_force(TOPS, ORDERS, (1, 2), reverse)
        assert len(terms) == len(set(terms)) == len(expected) == count
        assert {plain(term) for term in terms} == expected
        assert all(term in library for term in terms)
    found = si.enumerate_structures(
        "ABC", [*TOPS[:3], AB], [[1.0], [], [0.0, 2.0]], (3,),
        reverse=[C1, A1], parallel=True,
    )  # fmt: skip
    expected = brute_force(TOPS[:3], ((0.0, 1.0), (0.0,), (0.0, 2.0)), (3,), (C1, A1), True)
    assert len(found) == len(expected)
    assert {plain(term) for term in found} == expected


@pytest.mark.parametrize(
    "library",
    [
        si.study_library(),
        si.study_library(reversible=True),
        si.Library(si.SPECIES, TOPS, ((1.0,), (0.5,), ()), (1, 3), (C1, B1), True),
    ],
)
def test_moves_go_both_ways_and_reach_everything(library):
    terms = library.structures()
    moves = {term: library.moves(term) for term in terms}
    for a, neighbours in moves.items():
        assert a not in neighbours
        for b in neighbours:
            assert b in moves
            assert a in moves[b]
    reached, todo = {terms[0]}, [terms[0]]
    while todo:
        new = set(moves[todo.pop()]) - reached
        reached |= new
        todo += new
    assert reached == set(terms)


def test_moves_change_one_thing():
    library = si.study_library(reversible=True)
    law, _ = si.ZOO["Langmuir-Hinshelwood"]
    moves = library.moves(law)
    words = {term.describe("ABC"): what for term, what in moves.items()}
    assert words == {
        "A·B / (1 + B)²": "prune: A in the denominator",
        "A·B / (1 + A)²": "prune: B in the denominator",
        "A·B / (1 + A + √B)²": "swap: √B in the denominator",
        "A·B / (1 + A + B + C)²": "grow: C in the denominator",
        "A·B / (1 + A + B)": "swap: power 1",
        "(A·B − C) / (1 + A + B)²": "grow: numerator A·B − C",
        "A·√B / (1 + A + B)²": "swap: numerator A·√B",
        "A / (1 + A + B)²": "swap: numerator A",
        "B / (1 + A + B)²": "swap: numerator B",
        # one factor of the numerator and one of the denominator
        "A / (1 + A + B)": "swap: numerator A, power 1",
        "B / (1 + A + B)": "swap: numerator B, power 1",
        # lower orders instead of a saturation
        "A·√B / (1 + A)²": "swap: numerator A·√B, B out of the denominator",
        "A / (1 + A)²": "swap: numerator A, B out of the denominator",
        "B / (1 + B)²": "swap: numerator B, A out of the denominator",
    }
    empty = si.RateTerm((AB,), (0.0, 0.0, 0.0))
    words = {term.describe("ABC"): what for term, what in library.moves(empty).items()}
    half = si.RateTerm((HALF,), (0.0, 0.0, 0.0))
    assert library.moves(half)[si.RateTerm((AB,), (0.0, 1.0, 0.0), 2)] == (
        "swap: numerator A·B, B into the denominator, power 2"
    )
    assert words["A·B / (1 + √B)²"] == "grow: √B in the denominator, power 2"
    assert words["A·B / (1 + A)"] == "grow: A in the denominator, power 1"
    assert library.moves(REVERSIBLE)[si.RateTerm((AB,), (1.0, 0.0, 0.0), 1)].startswith("prune")


@pytest.mark.usefixtures("unchecked")
def test_libraries_refuse_bad_input():
    def library(species=("A", "B"), numerators=((1.0, 0.0),), orders=((1.0,), ()), **options):
        return si.enumerate_structures(species, numerators, orders, **options)

    for options in ({"species": (), "orders": ()}, {"numerators": ()}):
        with pytest.raises(ValueError, match="species and at least one numerator"):
            library(**options)
    with pytest.raises(ValueError, match="orders must list 2 species, got 1"):
        library(orders=((1.0,),))
    for powers in ((), (0,), (1, 4), (1.5,)):
        with pytest.raises(ValueError, match="powers must be out of 1 to 3"):
            library(powers=powers)
    with pytest.raises(ValueError, match="exponents must be 2 numbers"):
        library(numerators=((1.0, 0.0), (1.0,)))
    with pytest.raises(ValueError, match="exponents must be 2 numbers"):
        library(reverse=((0.0, 1.5),))
    with pytest.raises(ValueError, match="orders of B must be in"):
        library(orders=((1.0,), (1.5,)))
    small = si.study_library()
    assert "A" not in small
    assert REVERSIBLE not in small
    assert si.RateTerm((AB,), (1.0, 0.0, 0.0), 3) not in small
    assert si.RateTerm((AB,), (0.5, 0.0, 0.0), 1) not in small
    assert si.RateTerm((C1,), (0.0, 0.0, 0.0)) not in small
    with pytest.raises(ValueError, match="is not in the library"):
        small.moves(REVERSIBLE)


# Reactors ----------------------------------------------------------------------------------------


def test_simulation_is_the_closed_form():
    values = (8.0, 3.0, 2.0)
    c = si.simulate(si.ZOO["Langmuir-Hinshelwood"][0], values, DESIGN, NU, TIMES)
    compared = 0
    for start, curve in zip(DESIGN, c, strict=True):
        a, b = start[:2].tolist()
        if a != b:
            # an error in the extent is the error in time times the rate
            times = si.extent_closed_form_lh2(a - curve[:, 0], values, (a, b))
            rate = RATES["Langmuir-Hinshelwood"](*curve.T, *values)
            assert np.max(np.abs(times - TIMES) * rate) < 1e-8
            compared += 1
    assert compared >= 4


def test_closed_form_is_the_integral():
    for k, KA, KB, a, b in ((8.0, 3.0, 2.0, 1.0, 1.5), (0.7, 0.2, 5.0, 2.0, 0.5)):
        for xi in (0.1, 0.3, 0.499):
            expected = quad(
                lambda x, p=(a, b, k, KA, KB): (
                    1 / RATES["Langmuir-Hinshelwood"](p[0] - x, p[1] - x, 0, *p[2:])
                ),
                0,
                xi,
                epsabs=1e-12,
            )[0]
            found = si.extent_closed_form_lh2(np.array([xi]), (k, KA, KB), (a, b))
            assert found[0] == pytest.approx(expected, rel=1e-9)
    assert si.extent_closed_form_lh2(np.zeros(1), (1.0, 1.0, 1.0), (1.0, 2.0))[0] == 0


@pytest.mark.usefixtures("unchecked")
def test_closed_form_refuses_bad_input():
    for params, c0 in (((1, 1, 1), (1, 1)), ((0, 1, 1), (1, 2)), ((1, 1, 1), (0, 2))):
        with pytest.raises(ValueError, match="need positive parameters and a != b"):
            si.extent_closed_form_lh2(np.array([0.1]), params, c0)
    for xi in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"xi must be in \[0, 1\)"):
            si.extent_closed_form_lh2(np.array([xi]), (1, 1, 1), (1, 2))


@pytest.mark.parametrize("name", sorted(RATES))
def test_simulation_is_scipy(clean, name):
    c = si.simulate(*si.ZOO[name], DESIGN, NU, TIMES)
    # The half order is replaced by a parabola below 0.001 of the largest concentration.
    tolerance = 5e-4 if name == "dissociative" else 1e-7
    np.testing.assert_allclose(c, clean[name], atol=tolerance, rtol=0)
    if name == "dissociative":
        # where everything is well above, there is no difference
        plenty = np.array([[1.0, 1.5, 0.0], [1.0, 2.5, 0.0], [0.7, 1.5, 0.8]] * 3)[:E]
        c = si.simulate(*si.ZOO[name], plenty, NU, TIMES)
        np.testing.assert_allclose(
            c, reference(zoo_rate(name), plenty, NU, TIMES), atol=1e-8, rtol=0
        )


def test_every_order_of_every_species_is_scipy():
    law = si.RateTerm(((2.0, 0.5, 0.0), (0.0, 0.0, 0.5)), (0.5, 2.0, 1.0), 3, (1, -1))
    c0 = np.linspace(0.6, 2.0, 3 * E).reshape(3, E).T[:, [2, 0, 1]]

    def rate(A, B, C):
        top = 3.0 * A**2 * np.sqrt(B) - 0.7 * np.sqrt(C)
        return [top / (1 + 0.3 * np.sqrt(A) + 0.2 * B**2 + 0.4 * C) ** 3]

    c = si.simulate(law, (3.0, 0.7, 0.3, 0.2, 0.4), c0, NU, TIMES)
    np.testing.assert_allclose(c, reference(rate, c0, NU, TIMES), atol=1e-8, rtol=0)


def test_half_orders_go_on_as_a_parabola():
    # Below 0.001 of the largest concentration: the parabola through 0 that joins the square root
    # with its slope.
    floor = 1e-3 * 2.0
    law = si.RateTerm(((0.5, 0.0, 0.0),), (0.0, 0.5, 0.0), 1)
    c0 = np.array([[floor * (0.3 + 0.3 * e), floor * (0.4 + 0.4 * e), 0.0] for e in range(E)])
    c0[-1] = [0.5, 2.0, 0.0]

    def half(x):
        low = 1.5 * x / floor**0.5 - 0.5 * x**2 / floor**1.5
        return np.where(x > floor, root(x), low)

    def rate(A, B, C):
        return [0.01 * half(A) / (1 + 3.0 * half(B))]

    c = si.simulate(law, (0.01, 3.0), c0, NU, TIMES)
    np.testing.assert_allclose(c, reference(rate, c0, NU, TIMES), atol=1e-5 * floor, rtol=0)


def test_a_reversible_law_ends_in_equilibrium():
    params = (2.0, 0.5, 1.0)

    def rate(A, B, C):
        return [(2.0 * A * B - 0.5 * C) / (1 + 1.0 * A)]

    c = si.simulate(REVERSIBLE, params, DESIGN, NU, TIMES)
    np.testing.assert_allclose(c, reference(rate, DESIGN, NU, TIMES), atol=1e-6, rtol=0)
    A, B, C = si.simulate(REVERSIBLE, params, DESIGN, NU, 10 * TIMES, substeps=40)[:, -1].T
    np.testing.assert_allclose(2.0 * A * B, 0.5 * C, rtol=1e-8)
    assert np.all(C > 0.1)


def test_two_reactions_are_scipy(clean_two):
    c = si.simulate(LAWS_TWO, PARAMS_TWO, C0_TWO, NU_TWO, TIMES_TWO)
    np.testing.assert_allclose(c, clean_two, atol=1e-6, rtol=0)
    # A + C + D and B + C do not change
    for masses in ([1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]):
        np.testing.assert_allclose(
            c @ np.array(masses), np.tile(C0_TWO @ masses, (20, 1)).T, atol=1e-12, rtol=0
        )


def test_each_experiment_has_its_times(rng):
    t = np.cumsum(rng.uniform(0.05, 0.4, size=(E, T)), axis=1)
    c = si.simulate(*si.ZOO["product inhibition"], DESIGN, NU, t)
    expected = reference(zoo_rate("product inhibition"), DESIGN, NU, t)
    np.testing.assert_allclose(c, expected, atol=1e-7, rtol=0)


def test_order_of_convergence_is_four(clean):
    """Halving the step divides the error by 16; another order changes the exponent by 1."""
    name = "Langmuir-Hinshelwood"
    errors = [
        np.max(np.abs(si.simulate(*si.ZOO[name], DESIGN, NU, TIMES, substeps=n) - clean[name]))
        for n in (1, 2, 4)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 4, atol=0.4)


def test_mass_is_conserved_to_rounding():
    for law, values in (*si.ZOO.values(), (REVERSIBLE, (2.0, 0.5, 1.0))):
        c = si.simulate(law, values, DESIGN, NU, TIMES, substeps=2)
        for masses in ([1.0, 0.0, 1.0], [0.0, 1.0, 1.0]):
            kept = c @ np.array(masses) - (DESIGN @ masses)[:, None]
            assert np.max(np.abs(kept)) < 1e-12


def test_stoichiometry_may_be_a_vector_or_a_list():
    law, values = si.ZOO["power law"]
    expected = si.simulate(law, values, DESIGN, NU, TIMES)
    np.testing.assert_array_equal(
        si.simulate([law], [values], DESIGN, [-1, -1, 1], TIMES), expected
    )


@pytest.mark.usefixtures("unchecked")
def test_simulation_refuses_bad_input():
    law, values = si.ZOO["power law"]

    def simulate(laws=law, params=values, c0=DESIGN, nu=NU, t=TIMES, **options):
        return si.simulate(laws, params, c0, nu, t, **options)

    bad = [
        ({"laws": (law, law)}, "one law for each of 1 reactions, got 2"),
        ({"params": ((0.3,), (0.3,))}, "parameters for 1 laws, got 2"),
        ({"params": (0.3, 0.1)}, "expected 1 parameters"),
        ({"params": (-0.3,)}, r"positive and finite, got \[-0.3\]"),
        ({"c0": DESIGN[:, :2]}, r"c0 must have shape \(experiments, 3\), got \(8, 2\)"),
        ({"c0": DESIGN[0]}, "c0 must have shape"),
        ({"c0": DESIGN[:0]}, "c0 must have shape"),
        ({"c0": -DESIGN}, "c0 must be finite and not negative, smallest -2.5"),
        ({"c0": 0 * DESIGN}, "c0 must be finite and not negative"),
        ({"c0": np.where(DESIGN == 0.5, np.nan, DESIGN)}, "c0 must be finite"),
        ({"nu": [-1, -1, 0]}, "does not conserve mass"),
        ({"nu": [-1, -1]}, "does not conserve mass"),
        ({"nu": [[-1, -2], [-1, -2], [1, 2]]}, "independent columns"),
        ({"nu": [0, 0, 0]}, "independent columns"),
        ({"nu": [-1, np.nan, 1]}, "nu must be finite"),
        ({"nu": []}, "nu must be finite of shape"),
        ({"nu": [[[1.0]]]}, "nu must be finite of shape"),
        ({"t": TIMES[::-1]}, r"t must increase from above 0, got t\[0, 1\] = 7.75"),
        ({"t": TIMES - 0.25}, r"got t\[0, 0\] = 0"),
        ({"t": np.where(TIMES > 7, np.nan, TIMES)}, "t must be finite"),
        ({"t": np.ones((2, 5))}, r"t must have shape \(T,\) or \(8, T\), got \(2, 5\)"),
        ({"t": TIMES[:0]}, "t must have shape"),
        ({"substeps": 0}, "substeps must be at least 1, got 0"),
        ({"params": (500.0,), "substeps": 1}, "below zero.* 1 substeps are too few"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message):
            simulate(**options)
    with pytest.raises(ValueError, match="one law for each of 2 reactions"):
        si.simulate(law, values, C0_TWO, NU_TWO, TIMES_TWO)


# Sensitivities and information -------------------------------------------------------------------


def differences(rates, values, c0, nu, t, step=2e-4):
    """Derivatives of the concentrations by ln of each parameter, from SciPy's solutions."""
    found = []
    for p in range(len(values)):
        moved = [
            reference(rates(np.asarray(values) * np.exp(s * (np.arange(len(values)) == p))),
                      c0, nu, t)
            for s in (step, -step)
        ]  # fmt: skip
        found.append((moved[0] - moved[1]) / (2 * step))
    return np.stack(found, axis=-1)


@pytest.mark.parametrize("name", ["product inhibition", "unimolecular"])
def test_sensitivities_and_fisher_are_finite_differences(name):
    law, values = si.ZOO[name]
    slopes = differences(lambda v: zoo_rate(name, v), values, DESIGN, NU, TIMES)
    s = si.sensitivities(law, values, DESIGN, NU, TIMES)
    assert s.shape == (E, T, 1, len(values))
    np.testing.assert_allclose(s[:, :, 0], slopes[:, :, 2], atol=2e-7, rtol=0)
    sigma = (0.05, 0.02, 0.1)
    expected = np.zeros((len(values), len(values)))
    for e, i, species in product(range(E), range(T), range(3)):
        slope = slopes[e, i, species]
        expected += np.outer(slope, slope) / sigma[species] ** 2
    found = si.fisher(law, values, DESIGN, NU, TIMES, sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(si.crb(found), np.sqrt(np.diag(np.linalg.inv(found))), rtol=1e-9)


def test_sensitivities_of_half_orders_and_backward_steps():
    # only A adsorbs as a half, B in halves on top, and all concentrations stay well above zero
    law = si.RateTerm(((2.0, 0.5, 0.0), (0.0, 0.0, 1.0)), (0.5, 2.0, 0.0), 3, (1, -1))
    values = (3.0, 0.7, 0.3, 0.2)
    c0 = np.linspace(0.6, 2.0, 3 * E).reshape(3, E).T

    def rates(v):
        return lambda A, B, C: [
            (v[0] * A**2 * np.sqrt(B) - v[1] * C) / (1 + v[2] * np.sqrt(A) + v[3] * B**2) ** 3
        ]

    slopes = differences(rates, values, c0, NU, TIMES)
    s = si.sensitivities(law, values, c0, NU, TIMES)
    np.testing.assert_allclose(s[:, :, 0], slopes[:, :, 2], atol=2e-7, rtol=0)


def test_sensitivities_of_two_reactions_are_finite_differences():
    values = (1.2, 0.8, 0.5, 0.4)
    slopes = differences(lambda v: lambda *c: rates_two(*c, *v), values, C0_TWO, NU_TWO, TIMES_TWO)
    s = si.sensitivities(LAWS_TWO, PARAMS_TWO, C0_TWO, NU_TWO, TIMES_TWO)
    # C counts the first reaction, D the second
    np.testing.assert_allclose(s, slopes[:, :, 2:], atol=1e-6, rtol=0)
    found = si.fisher(LAWS_TWO, PARAMS_TWO, C0_TWO, NU_TWO, TIMES_TWO, (0.05, 0.02, 0.1, 0.03))
    weighted = slopes / np.array([0.05, 0.02, 0.1, 0.03])[:, None]
    np.testing.assert_allclose(found, np.einsum("etsp,etsq->pq", weighted, weighted), rtol=1e-4)


def test_equal_amounts_of_the_reactants_hide_their_difference():
    # With A = B the denominator holds (K_A + K_B) A only: a change of ln K_A by K_B and of ln K_B
    # by -K_A goes unseen.
    law, values = si.ZOO["Langmuir-Hinshelwood"]
    c0 = np.linspace(0.5, 2.5, E)[:, None] * np.array([1.0, 1.0, 0.0])
    found = si.fisher(law, values, c0, NU, TIMES, SIGMA)
    null = np.array([0.0, values[2], -values[1]])
    null /= np.linalg.norm(null)
    assert null @ found @ null < 1e-10 * np.trace(found)
    with pytest.raises(si.IdentifiabilityError) as error:
        si.crb(found, law.names("ABC"))
    named = re.fullmatch(
        r"the data do not determine the combination (-?) ?(\S+) ln K_A ([+-]) (\S+) ln K_B",
        str(error.value),
    )
    assert named is not None
    assert {named[1] or "+", named[3]} == {"+", "-"}
    assert (float(named[2]), float(named[4])) == (round(null[1], 2), round(-null[2], 2))
    # The same with a single experiment in which they differ is enough.
    c0[0, 1] *= 2
    assert np.all(np.isfinite(si.crb(si.fisher(law, values, c0, NU, TIMES, SIGMA))))


def test_experiments_with_product_determine_its_adsorption():
    law, values = si.ZOO["product inhibition"]
    without = np.where(DESIGN[:, 2:] > 0, [1e-9, 1e-9, 0.0], DESIGN)  # as good as dropped
    assert np.sum(without[:, 0] < 1e-6) == 2
    bounds = [si.crb(si.fisher(law, values, c0, NU, TIMES, SIGMA)) for c0 in (DESIGN, without)]
    assert bounds[1][3] > 1.1 * bounds[0][3]


@pytest.mark.usefixtures("unchecked")
def test_bounds_refuse_bad_input():
    law, values = si.ZOO["power law"]
    for sigma, message in (
        (0.0, "positive and finite"),
        (float("nan"), "positive and finite"),
        ((0.1, 0.1), "a number or 3 numbers"),
        ((0.1, -0.1, 0.1), "positive and finite"),
    ):
        with pytest.raises(ValueError, match=message):
            si.fisher(law, values, DESIGN, NU, TIMES, sigma)
    with pytest.raises(ValueError, match="t must increase"):
        si.sensitivities(law, values, DESIGN, NU, -TIMES)
    for matrix in (np.ones((2, 3)), np.ones(3), np.ones((0, 0))):
        with pytest.raises(ValueError, match="must be square"):
            si.crb(matrix)
    with pytest.raises(ValueError, match="square for 3 names"):
        si.crb(np.eye(2), ["a", "b", "c"])
    for matrix in (np.array([[1.0, 0.5], [0.4, 1.0]]), np.diag([1.0, np.nan])):
        with pytest.raises(ValueError, match="finite and symmetric"):
            si.crb(matrix)
    with pytest.raises(si.IdentifiabilityError, match=r"combination 1\.00 ln θ_1$"):
        si.crb(np.diag([1.0, 1e-9]))
    for singular in (np.zeros((2, 2)), np.diag([1e9, 1.0])):
        with pytest.raises(si.IdentifiabilityError):
            si.crb(singular)
    np.testing.assert_allclose(si.crb(np.diag([1e-10, 4e-10])), [1e5, 5e4], rtol=1e-12)
    np.testing.assert_allclose(si.crb(np.diag([4.0, 1e-7])), [0.5, 1e7**0.5], rtol=1e-12)


# Extents -----------------------------------------------------------------------------------------


def test_extents_without_noise_are_exact(clean, clean_two):
    found = si.to_extent(clean["power law"], DESIGN, NU, SIGMA)
    np.testing.assert_allclose(
        found.xi[..., 0], DESIGN[:, :1] - clean["power law"][..., 0], atol=1e-10
    )
    assert found.chi2 < 1e-15
    assert found.dof == E * T * 2
    found = si.to_extent(clean_two, C0_TWO, NU_TWO, SIGMA)
    np.testing.assert_allclose(found.xi, clean_two[..., 2:] - C0_TWO[:, None, 2:], atol=1e-9)
    assert found.dof == clean_two[..., 0].size * 2


def test_extents_are_weighted_least_squares(rng):
    sigma = np.array([0.05, 0.02, 0.2, 0.1])
    y = C0_TWO[:, None] + rng.normal(size=(5, 20, 2)) @ NU_TWO.T + 3.0
    used = rng.uniform(size=(5, 20)) < 0.8
    found = si.to_extent(y, C0_TWO, NU_TWO, sigma, used=used)
    scaled, chi2 = NU_TWO / sigma[:, None], 0.0
    for e, i in np.argwhere(used):
        target = (y[e, i] - C0_TWO[e]) / sigma
        xi, residual, *_ = np.linalg.lstsq(scaled, target)
        np.testing.assert_allclose(found.xi[e, i], xi, rtol=1e-9, atol=1e-12)
        chi2 += residual[0]
    assert found.chi2 == pytest.approx(chi2, rel=1e-10)
    assert found.dof == 2 * used.sum()
    np.testing.assert_allclose(found.covariance, np.linalg.inv(scaled.T @ scaled), rtol=1e-12)


def test_noise_of_the_extents_and_its_measurement(clean):
    """40 data sets of 256 samples: relative errors of 1/sqrt(2 * 10240) = 0.7 % in the noise of the
    extents, of 0.5 % in the noise measured from two balances. Extents from one species alone, or
    a wrong number of degrees of freedom, are off by 20 % or more.
    """
    truth, spread, levels, chi2 = clean["Eley-Rideal"], [], [], []
    for seed in range(40):
        y = truth + SIGMA * np.random.default_rng(seed).normal(size=truth.shape)
        found = si.to_extent(y, DESIGN, NU, SIGMA)
        spread.append(found.xi[..., 0] - (DESIGN[:, :1] - truth[..., 0]))
        chi2.append(found.chi2 / found.dof)
        assert found.covariance[0, 0] == pytest.approx(SIGMA**2 / 3, rel=1e-12)
        level, dof = si.noise_level(y, DESIGN, NU)
        assert dof == found.dof == 2 * E * T
        levels.append(level**2)
    assert np.std(spread) == pytest.approx(SIGMA / np.sqrt(3), rel=0.03)
    assert np.mean(levels) == pytest.approx(SIGMA**2, rel=0.03)
    # one chi2 per dof scatters by sqrt(2 / 512) = 6 %, so does their spread by a ninth
    assert np.mean(chi2) == pytest.approx(1, abs=0.04)
    assert np.std(chi2) == pytest.approx(np.sqrt(2 / 512), rel=0.5)


@pytest.mark.usefixtures("unchecked")
def test_extents_refuse_bad_input(clean):
    y = clean["power law"]

    def extent(y=y, c0=DESIGN, nu=NU, sigma: Any = SIGMA, **options):
        return si.to_extent(y, c0, nu, sigma, **options)

    def changed(value):
        bad = y.copy()
        bad[2, 3, 1] = value
        return bad

    bad = [
        ({"y": y[:, 0]}, r"y must have shape \(8, samples, 3\), got \(8, 3\)"),
        ({"y": y[:3]}, "y must have shape"),
        ({"y": y[..., :2]}, "y must have shape"),
        ({"y": changed(np.nan)}, r"y must be finite, got y\[2, 3, 1\] = nan"),
        ({"y": changed(np.inf)}, r"y\[2, 3, 1\] = inf"),
        ({"y": changed(-6.1 * SIGMA)}, r"6 sigma = 0.3, got y\[2, 3, 1\] = -0.305"),
        ({"c0": DESIGN[:, :2]}, "c0 must have shape"),
        ({"c0": -DESIGN}, "c0 must be finite and not negative"),
        ({"nu": [-1, -1, 0]}, "conserve mass"),
        ({"nu": [[-1, -2], [-1, -2], [1, 2]]}, "independent columns"),
        ({"sigma": 0.0}, r"sigma must be positive and finite, got 0.0"),
        ({"sigma": -0.1}, "sigma must be positive"),
        ({"sigma": np.nan}, "sigma must be positive"),
        ({"sigma": (0.1, 0.1)}, r"a number or 3 numbers, got shape \(2,\)"),
        # fails: an IndexError
        ({"used": np.ones((E, T - 1), bool)}, "used"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message):
            extent(**options)
    extent(y=changed(-5.9 * SIGMA))
    extent(y=changed(-5.9 * SIGMA), sigma=(10.0, SIGMA, 10.0))
    with pytest.raises(ValueError, match="6 sigma"):
        extent(y=changed(-6.1 * SIGMA), sigma=(10.0, SIGMA, 10.0))
    # what is not used may be anything
    unused = np.ones((E, T), bool)
    unused[2, 3] = False
    for value in (np.nan, -1.0):
        assert extent(y=changed(value), used=unused).xi[2, 3] == 0
    with pytest.raises(ValueError, match="y must be finite"):
        si.noise_level(changed(np.nan), DESIGN, NU)
    with pytest.raises(ValueError, match="conserve mass"):
        si.noise_level(y, DESIGN, [-1, -1, 0])


# Experiments -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_experiments_refuse_bad_input(clean):
    good = {
        "species": si.SPECIES, "nu": NU, "t": np.tile(TIMES, (E, 1)), "y": clean["power law"],
        "c0": DESIGN, "used": np.ones((E, T), bool),
    }  # fmt: skip
    assert si.Experiments(**good).samples == E * T * 3
    few = np.ones((E, T), bool)
    few[3, 4:] = False
    bad = [
        ({"species": ("A", "B")}, "species must be 3 names"),
        ({"nu": [-1, -1, 0]}, "conserve mass"),
        ({"t": good["t"][:, ::-1]}, "t must increase"),
        ({"t": good["t"][:3]}, "t must have shape"),
        ({"t": good["t"] * np.nan}, "t must be finite"),
        ({"y": good["y"][:, :5]}, r"y must have shape \(8, 32, 3\), got \(8, 5, 3\)"),
        ({"y": good["y"][..., :2]}, "y must have shape"),
        ({"c0": DESIGN[:, :2]}, "c0 must have shape"),
        ({"used": few[:, :3]}, "used must have shape"),
        ({"used": few}, r"need 5 samples an experiment, got .*32, 4, 32"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message):
            si.Experiments(**{**good, **options})


def test_prepared_curves_are_what_they_say(noisy, clean):
    ex = noisy.experiments
    found = si.to_extent(ex.y, DESIGN, NU, SIGMA)
    np.testing.assert_allclose(noisy.sigma, [SIGMA] * 3)
    np.testing.assert_allclose(noisy.xi, found.xi * np.sqrt(3) / SIGMA, rtol=1e-12)
    assert np.isinf(noisy.sigma_dof)
    assert noisy.imbalance == (found.chi2, found.dof)
    assert si.imbalance_p_value(noisy) == pytest.approx(stats.chi2.sf(found.chi2, found.dof))
    # the smoothed curves start where the experiments do, and conserve mass
    np.testing.assert_allclose(noisy.smooth[:, 0], DESIGN, atol=1e-5)
    left = noisy.smooth @ np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(left, np.tile(left[:, :1], (1, T + 1, 1)), atol=1e-12)
    # Smoothing halves the noise of the extents (0.31 to 0.53 of it over 10 seeds). Without it the
    # ratio is 1, and a line through all is off by far more.
    error = noisy.smooth[:, 1:, 2] - clean["Langmuir-Hinshelwood"][..., 2]
    assert np.sqrt(np.mean(error**2)) < 0.7 * SIGMA / np.sqrt(3)
    # integrals of cubics are exact
    t = np.concatenate([[0.0], TIMES])
    cubic = 1 - 2 * t + 0.3 * t**2 + 0.1 * t**3
    integral = t - t**2 + 0.1 * t**3 + 0.025 * t**4
    np.testing.assert_allclose(noisy.integral @ cubic, np.tile(integral[1:], (E, 1)), rtol=1e-9)


def test_curves_of_two_reactions_are_white():
    sigma = (0.05, 0.02, 0.1, 0.03)
    y = 5 + np.random.default_rng(0).normal(size=(5, 20, 4))
    curves = si.prepare(data(y, nu=NU_TWO, c0=C0_TWO, t=TIMES_TWO), sigma)
    scaled = NU_TWO / np.array(sigma)[:, None]
    np.testing.assert_allclose(curves.whiten.T @ curves.whiten, scaled.T @ scaled, rtol=1e-10)
    found = si.to_extent(y, C0_TWO, NU_TWO, sigma)
    expected = found.xi @ curves.whiten.T
    np.testing.assert_allclose(curves.xi[:5, :20], expected, rtol=1e-9, atol=1e-9)
    assert not np.any(curves.xi[5:]) and not np.any(curves.xi[:, 20:])  # padding


def test_noise_is_measured_when_left_out(clean):
    ex = data(clean["Langmuir-Hinshelwood"], SIGMA)
    level, dof = si.noise_level(ex.y, DESIGN, NU)
    curves = si.prepare(ex)
    np.testing.assert_allclose(curves.sigma, [level] * 3, rtol=1e-12)
    assert curves.sigma_dof == dof == 2 * E * T
    assert np.isnan(si.imbalance_p_value(curves))
    assert curves.imbalance[0] == pytest.approx(dof)
    with pytest.raises(ValueError, match="sigma is needed: the data balance exactly"):
        si.prepare(data(si.simulate(*si.ZOO["power law"], DESIGN, NU, TIMES)))


def test_a_wrong_stoichiometry_is_noticed(clean):
    """A p-value is uniform if all is right (below 1e-6 once in a million); here C is lost."""
    ex = data(clean["power law"] * [1.0, 1.0, 0.9], SIGMA)
    assert si.imbalance_p_value(si.prepare(ex, SIGMA)) < 1e-6
    right = [
        si.imbalance_p_value(si.prepare(data(clean["power law"], SIGMA, seed), SIGMA))
        for seed in range(20)
    ]
    assert stats.kstest(right, "uniform").pvalue > 1e-3


@pytest.fixture(scope="module")
def padded(clean):
    """Some experiments end earlier: what was not measured is made up, differently each time."""
    used = np.ones((E, T), bool)
    used[1, 20:] = used[6, 16:] = False

    def make(fill):
        ex = data(clean["Langmuir-Hinshelwood"], SIGMA)
        return si.Experiments(
            ex.species, NU, ex.t, np.where(used[..., None], ex.y, fill), DESIGN, used
        )

    return used, make


def test_what_is_not_used_changes_nothing(padded, rng):
    used, make = padded
    law, values = si.ZOO["Langmuir-Hinshelwood"]
    results = []
    for fill in (0.0, rng.normal(size=(E, T, 3)) * 100, np.nan):
        curves = si.prepare(make(fill))
        assert curves.experiments.samples == used.sum() * 3
        assert curves.sigma_dof == used.sum() * 2
        screened = si.screen([law], curves)
        fit = si.refine([law], [values], curves)[0]
        assert fit.dof == used.sum() - 3
        results.append([*screened.params[0], screened.bic[0], *fit.params[0], fit.chi2, fit.bic])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-12)
    # SciPy knows the used samples alone
    ex = make(0.0)
    sigma = si.noise_level(ex.y, DESIGN, NU, used=used)[0]
    found = scipy_fit("Langmuir-Hinshelwood", ex, sigma, used)
    np.testing.assert_allclose(results[0][4:7], np.exp(found.x), rtol=1e-3)


def test_a_missing_sample_in_the_middle_does_no_harm(clean):
    # Fails: `_smooth` gives samples in the middle that are not used the value at the end.
    # A sample in the middle that is not used must not bend the curve under the integral.
    law, _ = si.ZOO["Langmuir-Hinshelwood"]
    used = np.ones((E, T), bool)
    used[:, 5] = False
    ex = data(clean["Langmuir-Hinshelwood"], 1e-3, used=used)
    found = si.screen([law], si.prepare(ex, 1e-3))
    complete = si.screen([law], si.prepare(data(clean["Langmuir-Hinshelwood"], 1e-3), 1e-3))
    np.testing.assert_allclose(found.params[0], complete.params[0], rtol=0.05)


# Files -------------------------------------------------------------------------------------------


def test_reactions_are_read():
    species, nu = si.parse_reactions("A + B -> C")
    assert species == ("A", "B", "C")
    np.testing.assert_array_equal(nu, [[-1], [-1], [1]])
    species, nu = si.parse_reactions(" 2 H2+ O2 <-> 2H2O ; H2 + 0.5 O2 = X_1;")
    assert species == ("H2", "O2", "H2O", "X_1")
    np.testing.assert_array_equal(nu, [[-2, -1], [-1, -0.5], [2, 0], [0, 1]])
    species, nu = si.parse_reactions("A + A + K -> B + K")
    np.testing.assert_array_equal(nu, [[-2], [0], [1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no reaction in ''"),
        (" ; ", "no reaction"),
        ("A + B", "one arrow, got 'A \\+ B'"),
        ("A -> B -> C", "one arrow"),
        ("A + -> B", "cannot read '' in"),
        ("A -> 2B3 + 1x!", "cannot read '1x!'"),
        ("-> B", "cannot read ''"),
        ("A -> A + B", "conserve mass"),
        ("A -> A", "independent columns"),
        ("A -> B; 2 A -> 2 B", "independent columns"),
    ],
)
def test_bad_reactions_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        si.parse_reactions(text)


def table(times, c, label=None):
    """Lines of a file, the columns shuffled."""
    return [
        ",".join([repr(float(row[2])), repr(float(time)), *([label] if label else []),
                  repr(float(row[0])), repr(float(row[1]))])
        for time, row in zip(times, c, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("as_file", [True, False])
def test_files_are_read_as_written(tmp_path, rng, labelled, as_file):
    lengths, blocks, lines = (9, 6, 8), [], []
    for n, length in enumerate(lengths):
        times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.1, 1, length - 1))])
        blocks.append((times, rng.uniform(0.1, 2, size=(length, 3))))
        lines.append(table(*blocks[-1], label=f"run {n}" if labelled else None))
    if labelled:  # the rows of experiments may be mixed
        rows = [line for group in zip(*(x[:6] for x in lines), strict=True) for line in group]
        rows += lines[0][6:] + lines[2][6:]
    else:
        rows = [line for group in lines for line in group]
    header = "c_C, time," + ("experiment," if labelled else "") + "c_A,c_B"
    text = "\n".join(["\ufeff" + header, *rows, "", " , , , " if not labelled else ""])
    path = tmp_path / "data.csv"
    path.write_text(text, "utf-8")
    if as_file:
        ex = si.read_experiments(path, "A + B -> C")
    else:
        with path.open(encoding="utf-8") as file:
            ex = si.read_experiments(file, "A + B -> C")
    assert ex.species == ("A", "B", "C")
    np.testing.assert_array_equal(ex.nu, NU)
    assert ex.t.shape == (3, 8)
    assert ex.used is not None
    for e, (times, c) in enumerate(blocks):
        n = len(times) - 1
        np.testing.assert_array_equal(ex.c0[e], c[0])
        np.testing.assert_array_equal(ex.t[e, :n], times[1:])
        np.testing.assert_array_equal(ex.y[e, :n], c[1:])
        np.testing.assert_array_equal(ex.used[e], np.arange(8) < n)
    assert np.all(np.diff(ex.t, axis=1) > 0)
    assert np.all(np.isfinite(ex.y))


GOOD = ["time,c_A,c_B", "0,1,0", "1,0.9,0.1", "2,0.8,0.2", "3,0.7,0.3", "4,0.6,0.4", "5,0.5,0.5"]


def replaced(number, line):
    return [*GOOD[: number - 1], line, *GOOD[number:]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "row 1 must name the column 'time' once"),
        ([""], "row 1 must name the column 'time' once"),
        (GOOD[:1], "no samples"),
        (replaced(1, "time,c_A"), "row 1 must name the column 'c_B' once"),
        (replaced(1, "time,c_A,c_A"), "row 1 must name the column 'c_A' once"),
        (["time,c_A,c_B,T", *(f"{row},300" for row in GOOD[1:])], "row 1: column 'T' is none of"),
        (replaced(4, "2,0.8"), "row 4 must have 3 cells, got 2"),
        (replaced(4, "2,0.8,0.2,1"), "row 4 must have 3 cells, got 4"),
        (replaced(4, "2,0.8,n/a"), "row 4, column 'c_B': expected a number, got 'n/a'"),
        (replaced(4, "2,nan,0.2"), "row 4, column 'c_A': expected a number, got 'nan'"),
        (replaced(4, "2,,0.2"), "row 4, column 'c_A': expected a number, got ''"),
        (replaced(4, "inf,0.8,0.2"), "row 4, column 'time': expected a number"),
        (replaced(5, "2,0.7,0.3"), "row 5, column 'time': must increase, got 2 after 2"),
        (replaced(5, "1.5,0.7,0.3"), "row 5, column 'time': must increase, got 1.5 after 2"),
        (replaced(2, "0.5,1,0"), "row 2, column 'time': experiment '0' must start at 0, got 0.5"),
        (replaced(2, "0,1,-0.1"), "row 2, column 'c_B': an initial concentration must not be"),
        (GOOD[:6], "row 6: experiment '0' must have time 0 and at least 5 samples, got 4"),
        ([*GOOD, "0,1,0", "1,0.9,0.1"], "row 9: experiment '1' must have time 0 and at least 5"),
        # fails: it is accepted, though the docstring refuses doubled columns
        (
            ["experiment,experiment,time,c_A,c_B", *(f"1,2,{row}" for row in GOOD[1:])],
            "row 1 must name the column 'experiment' at most once",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, lines, message):
    path = tmp_path / "data.csv"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match=message):
        si.read_experiments(path, "A -> B")


def test_bad_labels_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["experiment,time,c_A,c_B", "x,1,1,0"]), "utf-8")
    with pytest.raises(ValueError, match="row 2, column 'time': experiment 'x' must start at 0"):
        si.read_experiments(path, "A -> B")
    with pytest.raises(FileNotFoundError):
        si.read_experiments(tmp_path / "nothing.csv", "A -> B")


# The integral form -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Eley-Rideal", "unimolecular", "power law"])
def test_the_screen_finds_the_constants_of_slow_laws(clean, name):
    law, values = si.ZOO[name]
    found = si.screen([law], si.prepare(data(clean[name]), 0.01))
    # Of 256 samples: all that is left is the error of the smoothing spline and its integral.
    assert found.chi2[0] < 50
    np.testing.assert_allclose(found.params[0], values, rtol=0.02)
    assert found.edge == (False,)


def integral_fit(curves, tops, bottom, start):
    """The same problem by SciPy: splines, non-negative rate constants, trust regions."""
    ex = curves.experiments
    xi = ((ex.y - ex.c0[:, None]) @ NU[:, 0] / 3).reshape(-1)
    A, B, C = np.moveaxis(np.maximum(curves.smooth, 0), -1, 0)
    t = np.concatenate([[0.0], TIMES])
    deviation = SIGMA / np.sqrt(3)

    def rates(log_K):
        D = bottom(A, B, C, *np.exp(log_K))
        basis = np.stack(
            [CubicSpline(t, top(A, B, C) / D, axis=1).antiderivative()(TIMES).reshape(-1)
             for top in tops], axis=1,
        )  # fmt: skip
        return basis, nnls(basis, xi)[0]

    def residual(log_K):
        basis, k = rates(log_K)
        return (basis @ k - xi) / deviation

    found = least_squares(residual, np.log(start), xtol=1e-12, ftol=1e-12, gtol=1e-12)
    return 2 * found.cost, np.concatenate([rates(found.x)[1], np.exp(found.x)])


def test_the_screen_is_scipy(noisy):
    # Polynomials of degree 15 stand for the samples, which changes chi2 by less than 0.05 %.
    def backwards(A, B, C):
        return [(2.0 * A * B - 0.5 * C) / (1 + 1.0 * A)]

    back = si.prepare(data(reference(backwards, DESIGN, NU, TIMES), SIGMA), SIGMA)
    cases = [
        (noisy, si.ZOO["Langmuir-Hinshelwood"][0], [lambda A, B, C: A * B],
         lambda A, B, C, KA, KB: (1 + KA * A + KB * B) ** 2, (3.0, 2.0)),
        (noisy, si.RateTerm((HALF,), (0.0, 0.5, 1.0), 1), [lambda A, B, C: A * np.sqrt(B)],
         lambda A, B, C, KB, KC: 1 + KB * np.sqrt(B) + KC * C, (3.0, 2.0)),
        (noisy, si.RateTerm((A1, B2), (1.0, 0.0, 0.0), 2),
         [lambda A, B, C: A, lambda A, B, C: B**2], lambda A, B, C, KA: (1 + KA * A) ** 2, (3.0,)),
        (back, REVERSIBLE, [lambda A, B, C: A * B, lambda A, B, C: -C],
         lambda A, B, C, KA: 1 + KA * A, (3.0,)),
        # here the step backwards comes out with the wrong sign, and is left out
        (noisy, si.RateTerm((AB, C1), (2.0, 2.0, 0.0), 3, (1, -1)),
         [lambda A, B, C: A * B, lambda A, B, C: -C],
         lambda A, B, C, KA, KB: (1 + KA * A**2 + KB * B**2) ** 3, (1.0, 1.0)),
    ]  # fmt: skip
    for curves, law, *problem in cases:
        found = si.screen([law], curves)
        chi2, params = integral_fit(curves, *problem)
        assert found.chi2[0] == pytest.approx(chi2, rel=5e-4)
        np.testing.assert_allclose(found.params[0], params, rtol=0.02, atol=1e-3)
        assert found.bic[0] == pytest.approx(found.chi2[0] + law.count * np.log(3 * E * T))


def test_the_screen_of_two_reactions_finds_both(clean_two):
    curves = si.prepare(data(clean_two, nu=NU_TWO, c0=C0_TWO, t=TIMES_TWO), 0.01)
    for r, (law, values) in enumerate(zip(LAWS_TWO, PARAMS_TWO, strict=True)):
        found = si.screen([law], curves, r)
        assert found.chi2[0] < 50
        np.testing.assert_allclose(found.params[0], values, rtol=0.06)


def test_the_screen_scores_each_structure_alone(noisy):
    structures = si.study_library().structures()
    together = si.screen(structures, noisy)
    backwards = si.screen(structures[::-1], noisy)
    for m in (0, 23, 24, 100, 160):
        alone = si.screen([structures[m]], noisy)
        for other, place in ((together, m), (backwards, 160 - m)):
            assert alone.bic[0] == pytest.approx(other.bic[place], rel=1e-10)
            assert alone.edge[0] == other.edge[place]
            np.testing.assert_allclose(alone.params[0], other.params[place], rtol=1e-6)
    assert len(together.params) == len(together.edge) == len(together.chi2) == 161
    # the truth is among the best, and a constant without influence is told by its edge
    truth = structures.index(si.ZOO["Langmuir-Hinshelwood"][0])
    assert np.sum(together.bic < together.bic[truth] - 1e-9) < 10
    assert any(together.edge)
    assert not together.edge[truth]


@pytest.mark.usefixtures("unchecked")
def test_the_screen_refuses_bad_input(noisy):
    law, _ = si.ZOO["power law"]
    with pytest.raises(ValueError, match="need structures"):
        si.screen([], noisy)
    for starts in ((), (0.0, 1.0), (-1.0,)):
        with pytest.raises(ValueError, match="positive starts"):
            si.screen([law], noisy, starts=starts)
    with pytest.raises(ValueError, match="structures must have 3 species, got 4"):
        si.screen([law, LAWS_TWO[0]], noisy)
    five = si.RateTerm((AB, C1), (1.0, 1.0, 1.0), 1, (1, -1))
    one = data(noisy.experiments.y[:1, :5], c0=DESIGN[:1], t=TIMES[:5])
    with pytest.raises(ValueError, match="samples must outnumber the 5 parameters, got 5"):
        si.screen([law, five], si.prepare(one, SIGMA))
    with pytest.raises(ValueError, match="samples must outnumber 5 parameters, got 5"):
        si.refine([five], [(1.0,) * 5], si.prepare(one, SIGMA))


# Fits along trajectories -------------------------------------------------------------------------


def scipy_fit(name, ex, sigma, used=None):
    """Maximum likelihood on all concentrations, trajectories by SciPy."""
    used = np.ones(ex.t.shape, bool) if used is None else used
    weight = used[..., None] / np.asarray(sigma)

    def residual(log_values):
        # all experiments at once, which is faster
        def slope(_, xi):
            c = ex.c0 + xi[:, None] * NU[:, 0]
            return RATES[name](*c.T, *np.exp(log_values))

        found = solve_ivp(
            slope, (0.0, TIMES[-1]), np.zeros(E), method="DOP853", rtol=1e-9, atol=1e-11,
            t_eval=TIMES,
        )  # fmt: skip
        c = ex.c0[:, None] + found.y[..., None] * NU[:, 0]
        return ((c - ex.y) * weight).reshape(-1)

    start = np.log(si.ZOO[name][1])
    return least_squares(residual, start, x_scale=1.0, xtol=1e-10, ftol=1e-12, diff_step=1e-5)


def test_a_fit_is_scipy_s(noisy):
    law, _ = si.ZOO["Langmuir-Hinshelwood"]
    found = scipy_fit("Langmuir-Hinshelwood", noisy.experiments, SIGMA)
    (fit,) = si.refine([law], [[1.0, 1.0, 1.0]], noisy, substeps=8)
    assert fit.laws == (law,)
    assert fit.converged
    assert fit.dof == E * T - 3
    bounds = si.crb(fit.fisher)
    # A fit ends when chi2 would fall by less than 1e-4: a hundredth of a standard error.
    assert np.all(np.abs(np.log(fit.params[0]) - found.x) < 0.01 * bounds)
    # all concentrations leave the imbalance on top
    assert fit.chi2 + noisy.imbalance[0] == pytest.approx(2 * found.cost, abs=2e-4)
    assert fit.bic == pytest.approx(fit.chi2 + 3 * np.log(3 * E * T))
    np.testing.assert_allclose(fit.fisher, found.jac.T @ found.jac, rtol=0.01)
    information = si.fisher(law, tuple(fit.params[0]), DESIGN, NU, TIMES, SIGMA)
    np.testing.assert_allclose(fit.fisher, information, rtol=1e-6)
    c = si.simulate(law, tuple(fit.params[0]), DESIGN, NU, TIMES)
    np.testing.assert_allclose(fit.extents[..., 0], DESIGN[:, :1] - c[..., 0], atol=1e-9)


@pytest.mark.parametrize("name", sorted(RATES))
def test_data_without_noise_give_the_constants_back(clean, name):
    law, values = si.ZOO[name]
    curves = si.prepare(data(clean[name]), 1e-6)
    start = si.screen([law], curves).params
    (fit,) = si.refine([law], [start], curves, substeps=8)
    assert fit.converged
    np.testing.assert_allclose(fit.params[0], values, rtol=1e-4)


def test_two_reactions_are_fitted_together(clean_two):
    curves = si.prepare(data(clean_two, nu=NU_TWO, c0=C0_TWO, t=TIMES_TWO), 1e-5)
    (fit,) = si.refine([LAWS_TWO], [((1.0, 1.0), (1.0, 1.0))], curves, substeps=8)
    assert fit.converged
    for found, values in zip(fit.params, PARAMS_TWO, strict=True):
        np.testing.assert_allclose(found, values, rtol=1e-4)
    assert fit.dof == clean_two[..., 0].size * 2 - 4
    sigma = (0.05, 0.02, 0.1, 0.03)
    ex = data(clean_two, np.array(sigma), nu=NU_TWO, c0=C0_TWO, t=TIMES_TWO)
    (fit,) = si.refine([LAWS_TWO], [PARAMS_TWO], si.prepare(ex, sigma))
    information = si.fisher(
        LAWS_TWO, tuple(tuple(p) for p in fit.params), C0_TWO, NU_TWO, TIMES_TWO, sigma
    )
    np.testing.assert_allclose(fit.fisher, information, rtol=1e-3)
    # chi2 of 196 degrees of freedom scatters by 20; a reaction left out, or the noise of one
    # species taken for another's, is off by hundreds
    assert abs(fit.chi2 - fit.dof) < 4 * np.sqrt(2 * fit.dof)


def test_errors_are_as_large_as_the_bounds_say(clean):
    """Over 30 data sets chi2 scatters by sqrt(2 dof / 30) = 4 around dof = 253, the sum of squared
    errors in units of the bounds by sqrt(6 / 30) = 0.45 around 3. Noise that is off by 10 % shifts
    chi2 by 50, errors that are off by a factor of 2 the second by 9.
    """
    law, values = si.ZOO["Langmuir-Hinshelwood"]
    chi2, errors = [], []
    for seed in range(30):
        curves = si.prepare(data(clean["Langmuir-Hinshelwood"], SIGMA, seed), SIGMA)
        (fit,) = si.refine([law], [values], curves)
        assert fit.converged
        chi2.append(fit.chi2)
        off = np.log(fit.params[0] / np.array(values))
        errors.append(off @ fit.fisher @ off)
    assert np.mean(chi2) == pytest.approx(253, abs=20)
    assert np.mean(errors) == pytest.approx(3, abs=1.8)


def test_fits_do_not_depend_on_their_neighbours(noisy):
    structures = si.study_library().structures()[3:23]
    starts = [[1.0] * law.count for law in structures]
    together = si.refine(structures, starts, noisy)
    for m in (0, 7, 8, 19):
        (alone,) = si.refine([structures[m]], [starts[m]], noisy)
        assert alone.chi2 == pytest.approx(together[m].chi2, rel=1e-8)
        assert alone.converged == together[m].converged
        np.testing.assert_allclose(alone.params[0], together[m].params[0], rtol=1e-5)
    # What a small law explains, a larger one can explain as well. (Those that are far off are not
    # fitted to the end.)
    by_law = {fit.laws[0]: fit.chi2 for fit in together}
    compared = 0
    for small, large in combinations(by_law, 2):
        if small.power == large.power and all(
            a in (0, b) for a, b in zip(small.orders, large.orders, strict=True)
        ):
            if by_law[small] < 2 * E * T:
                assert by_law[large] < by_law[small] + 0.1
                compared += 1
    assert compared > 0


def test_a_fit_that_was_cut_short_says_so(noisy, monkeypatch):
    law, _ = si.ZOO["Langmuir-Hinshelwood"]
    (end,) = si.refine([law], [[0.5, 0.1, 8.0]], noisy)
    assert end.converged
    monkeypatch.setattr(likelihood, "FIRST", 1)
    (cut,) = si.refine([law], [[0.5, 0.1, 8.0]], noisy, iterations=2)
    assert not cut.converged
    assert cut.chi2 > end.chi2 + 1
    (whole,) = si.refine([law], [[0.5, 0.1, 8.0]], noisy)
    assert whole.converged
    assert whole.chi2 == pytest.approx(end.chi2, abs=1e-3)


def test_a_fit_makes_no_more_iterations_than_it_was_given(noisy):
    # Fails: `iterations` below `likelihood.FIRST` = 8 are ignored, 8 are made.
    law, _ = si.ZOO["Langmuir-Hinshelwood"]
    (fit,) = si.refine([law], [[0.5, 0.1, 8.0]], noisy, iterations=1)
    assert not fit.converged


@pytest.mark.parametrize("start", [[8.0, 0.0, 2.0], [4.0, 0.0, 1.0]])
def test_a_fit_that_went_nowhere_has_not_converged(noisy, start):
    # Fails: each component of a step is clipped on its own, the clipped step points uphill, and a
    # negative gain counts as converged; the parameters have not moved and chi2 is 70000.
    law, values = si.ZOO["Langmuir-Hinshelwood"]
    (fit,) = si.refine([law], [start], noisy)
    (best,) = si.refine([law], [values], noisy)
    assert not fit.converged or fit.chi2 < best.chi2 + 1


@pytest.mark.usefixtures("unchecked")
def test_fits_refuse_bad_input(noisy):
    law, values = si.ZOO["Langmuir-Hinshelwood"]
    with pytest.raises(ValueError, match="one start a candidate, got 1 for 2"):
        si.refine([law, law], [values], noisy)
    with pytest.raises(ValueError, match="one start a candidate"):
        si.refine([], [], noisy)
    with pytest.raises(ValueError, match="one law for each of 1 reactions, got 2"):
        si.refine([(law, law)], [(values, values)], noisy)
    with pytest.raises(ValueError, match=r"[Ss]hape|parameters"):
        si.refine([law], [(1.0, 1.0)], noisy)


# Weights and p-values ----------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_weights_and_p_values():
    weights = si.bic_weights([1010.0, 1000.0, 1002.0, np.inf])
    expected = np.exp([-5.0, 0.0, -1.0, -np.inf])
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-12)
    bad: Any
    for bad in ([], [np.inf], [1.0, np.nan], [1.0, -np.inf]):
        with pytest.raises(ValueError, match="bic must hold finite numbers"):
            si.bic_weights(bad)
    assert si.misfit_p_value(70.0, 50) == pytest.approx(stats.chi2.sf(70, 50), rel=1e-12)
    assert si.misfit_p_value(70.0, 50, 30) == pytest.approx(stats.f.sf(1.4, 50, 30), rel=1e-12)
    # noise measured by many balances is as good as known
    assert si.misfit_p_value(70.0, 50, 10**8) == pytest.approx(stats.chi2.sf(70, 50), rel=1e-4)
    for bad in ((-1.0, 5), (np.nan, 5), (1.0, 0), (1.0, 5, 0.0), (1.0, 5, np.nan)):
        with pytest.raises(ValueError, match="chi2 >= 0 and positive dof"):
            si.misfit_p_value(*bad)


# The search --------------------------------------------------------------------------------------


class Landscape:
    """A score for each structure, which refuses to be asked twice."""

    def __init__(self, heights):
        self.heights, self.asked = heights, set()

    def __call__(self, structures):
        assert len(set(structures)) == len(structures)
        assert not self.asked & set(structures)
        self.asked.update(structures)
        return [self.heights[s] for s in structures]


def neighbours(libraries, structure):
    return [
        (*structure[:r], law, *structure[r + 1 :])
        for r, library in enumerate(libraries)
        for law in library.moves(structure[r])
    ]


def check_path(path, landscape, start):
    assert landscape.asked == set(path.scores)
    assert path.fits == len(landscape.asked)
    assert path.scores == {s: landscape.heights[s] for s in landscape.asked}
    assert path.bic == min(path.scores.values()) == landscape.heights[path.structure]
    assert path.moves[0] == si.Move("start", start, landscape.heights[start], 1)
    assert path.moves[-1].structure == path.structure
    for before, after in zip(path.moves, path.moves[1:], strict=False):
        assert after.bic < before.bic
        assert after.fits > before.fits
    for move in path.moves:
        assert move.bic == landscape.heights[move.structure]


@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_that_finds_nothing_adequate_sees_everything(rng, beam):
    library = si.study_library(reversible=True)
    terms = library.structures()
    heights = {(t,): h for t, h in zip(terms, rng.normal(size=len(terms)), strict=True)}
    landscape = Landscape(heights)
    path = si.adapt(landscape, library, terms[5], beam=beam, adequate=lambda s: False)
    check_path(path, landscape, (terms[5],))
    assert landscape.asked == set(heights)
    assert path.structure == min(heights, key=heights.__getitem__)


@pytest.mark.parametrize("refusals", [0, 2])
@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_search_ends_when_the_best_are_open(rng, beam, refusals):
    library = si.study_library(reversible=True)
    terms = library.structures()
    for start in (0, 99):
        heights: dict[si.Structure, float] = {
            (t,): h for t, h in zip(terms, rng.normal(size=len(terms)), strict=True)
        }
        landscape = Landscape(heights)
        asked_whether = []

        def adequate(structure, asked=asked_whether):
            asked.append(structure)
            return len(asked) > refusals

        path = si.adapt(
            landscape, library, (terms[start],), beam=beam, window=0.0, adequate=adequate
        )
        check_path(path, landscape, (terms[start],))
        assert len(asked_whether) == refusals + 1
        assert asked_whether[-1] == path.structure
        final = beam * 2**refusals  # it doubles each time
        leaders = sorted(path.scores, key=path.scores.__getitem__)[:final]
        for structure in leaders:
            assert set(neighbours((library,), structure)) <= landscape.asked
        if not refusals:
            again = Landscape(heights)
            assert si.adapt(again, library, terms[start], beam=beam, window=0.0) == path
        # it did not open more: replay the rounds
        opened: set[si.Structure] = set()
        seen: set[si.Structure] = {(terms[start],)}
        rounds, width = 1, beam
        while True:
            best = sorted(seen, key=heights.__getitem__)[:width]
            new = {n for s in best if s not in opened for n in neighbours((library,), s)} - seen
            if not new and opened >= set(best):
                if width == final:
                    break
                width *= 2
            opened |= set(best)
            seen |= new
            rounds += bool(new)
        assert seen == landscape.asked
        assert rounds == path.rounds


def test_a_search_opens_all_within_the_window(rng):
    library = si.study_library()
    heights: dict[si.Structure, float] = {
        (t,): h for t, h in zip(library.structures(), rng.normal(size=161), strict=True)
    }
    start = (library.structures()[0],)
    path = si.adapt(Landscape(heights), library, start, window=0.7)
    near = [s for s in path.scores if path.scores[s] <= path.bic + 0.7]
    assert len(near) > 1
    for structure in near:
        assert set(neighbours((library,), structure)) <= set(path.scores)
    wide = si.adapt(Landscape(heights), library, start, window=100.0)
    assert set(wide.scores) == set(heights)  # everything is within reach
    with pytest.raises(ValueError, match="window must not be negative, got -1"):
        si.adapt(Landscape(heights), library, start, window=-1.0)


def test_a_search_goes_straight_down_a_funnel():
    library = si.study_library(reversible=True)
    target = (si.ZOO["product inhibition"][0],)
    start = (si.RateTerm((A2,), (1.0, 0.5, 1.0), 2),)
    distance: dict[si.Structure, int] = {target: 0}
    todo: list[si.Structure] = [target]
    for structure in todo:  # grows while it is read
        for new in neighbours((library,), structure):
            if new not in distance:
                distance[new] = distance[structure] + 1
                todo.append(new)
    landscape = Landscape(distance)
    path = si.adapt(landscape, library, start, beam=1, window=0.0)
    check_path(path, landscape, start)
    assert path.structure == target
    assert [move.bic for move in path.moves] == list(range(distance[start], -1, -1))
    assert path.rounds == distance[start] + 1 + 1  # the last one sees that nothing is better
    for before, after in zip(path.moves, path.moves[1:], strict=False):
        assert after.what == library.moves(before.structure[0])[after.structure[0]]


def test_a_search_moves_one_reaction_at_a_time(rng):
    libraries = (
        si.Library(tuple("AB"), ((1.0, 0.0), (2.0, 0.0)), ((1.0,), ())),
        si.Library(tuple("AB"), ((0.0, 1.0), (0.0, 0.5)), ((), (1.0,)), (1,)),
    )
    structures = list(product(*(library.structures() for library in libraries)))
    heights = dict(zip(structures, rng.normal(size=len(structures)), strict=True))
    landscape = Landscape(heights)
    path = si.adapt(landscape, libraries, structures[3], beam=1, adequate=lambda s: False)
    check_path(path, landscape, structures[3])
    assert landscape.asked == set(structures)
    words = [move.what for move in path.moves[1:]]
    assert words
    assert all(re.match("reaction [12]: (grow|swap|prune): ", what) for what in words)


@pytest.mark.usefixtures("unchecked")
def test_the_search_refuses_bad_input():
    library = si.study_library()
    start = library.structures()[0]

    def flat(structures):
        return [0.0] * len(structures)

    with pytest.raises(ValueError, match="beam must be at least 1, got 0"):
        si.adapt(flat, library, start, beam=0)
    with pytest.raises(ValueError, match="start must have 1 laws, got 2"):
        si.adapt(flat, library, (start, start))
    with pytest.raises(ValueError, match="is not in its library"):
        si.adapt(flat, library, REVERSIBLE)
    with pytest.raises(ValueError, match="score must give 1 numbers"):
        si.adapt(lambda s: [float("nan")], library, start)
    with pytest.raises(ValueError, match="score must give 1 numbers"):
        si.adapt(lambda s: [0.0, 1.0], library, start)
    with pytest.raises(RuntimeError, match="no end after 1 fits"):
        si.adapt(flat, library, start, limit=5)
    with pytest.raises(RuntimeError, match="no end"):
        si.adapt(flat, library, start, adequate=lambda s: False, limit=160)
    assert si.adapt(flat, library, start, adequate=lambda s: False, limit=161).fits == 161


# The next experiment -----------------------------------------------------------------------------


def made_fit(law, k, information, bic):
    return si.Fit(
        (law,), (np.array([k]),), 0.0, 1, bic, np.array([[information]]), True, np.zeros((E, T, 1))
    )


def test_worth_of_two_laws_is_the_formula():
    sigma = (0.05, 0.1, 0.04)
    first = made_fit(si.RateTerm((AB,), (0.0,) * 3), 0.3, 40.0, 10.0)
    second = made_fit(si.RateTerm((A1,), (0.0,) * 3), 0.4, 25.0, 11.5)
    design = np.array([[0.55 + 0.1 * e, 1.0, 0.1 * e] for e in range(E)])
    found = si.next_experiment(design, [first, second], NU, TIMES, sigma)
    noise = 1 / np.sum(1 / np.array(sigma) ** 2)
    w = 1 / (1 + np.exp(-0.75))
    ends = []
    for e, (a, b, _) in enumerate(design):
        decay = a * np.exp(-0.4 * TIMES)  # of the law k A

        def extent(k, a=a, b=b):  # of the law k A B
            grown = np.exp((b - a) * k * TIMES)
            return a * b * (grown - 1) / (b * grown - a)

        # B may be used up, which the law k A does not know
        over = a - decay > b
        gap = extent(0.3) - np.where(over, b, a - decay)
        slopes = (
            (extent(0.3 * np.exp(1e-5)) - extent(0.3 * np.exp(-1e-5))) / 2e-5,
            np.where(over, 0.0, 0.4 * TIMES * decay),
        )
        covariance = 2 * noise * np.eye(T)
        for slope, information in zip(slopes, (40.0, 25.0), strict=True):
            covariance += np.outer(slope, slope) / (information + 1 / 9)
        expected = w * (1 - w) * gap @ np.linalg.solve(covariance, gap)
        assert found.worth[e] == pytest.approx(expected, rel=1e-5)
        ends.append(over.any())
    assert any(ends) and not all(ends)
    assert found.best == np.argmax(found.worth)


def test_worth_counts_pairs():
    rivals = [
        made_fit(si.RateTerm((AB,), (0.0,) * 3), 0.3, 40.0, 10.0),
        made_fit(si.RateTerm((HALF,), (0.0,) * 3), 0.35, 25.0, 11.5),
        made_fit(si.RateTerm((A2,), (0.0,) * 3), 0.2, 30.0, 12.0),
    ]
    design = np.array([[1.0, 1.5, 0.1 * e] for e in range(E)])
    twins = si.next_experiment(design, [rivals[0], rivals[0]], NU, TIMES, SIGMA)
    np.testing.assert_allclose(twins.worth, 0, atol=1e-20)
    total = np.zeros(E)
    weights = si.bic_weights([fit.bic for fit in rivals])
    for i, j in combinations(range(3), 2):
        pair = si.next_experiment(design, [rivals[i], rivals[j]], NU, TIMES, SIGMA)
        two = si.bic_weights([rivals[i].bic, rivals[j].bic])
        total += weights[i] * weights[j] * pair.worth / np.prod(two)
    found = si.next_experiment(design, rivals, NU, TIMES, SIGMA)
    np.testing.assert_allclose(found.worth, total, rtol=1e-9)
    # more noise, or constants that are known less well, are worth less
    worse = si.next_experiment(design, rivals, NU, TIMES, 2 * SIGMA)
    assert np.all(worse.worth < found.worth)


@pytest.mark.usefixtures("unchecked")
def test_the_next_experiment_refuses_bad_input():
    fit = made_fit(si.RateTerm((AB,), (0.0,) * 3), 0.3, 40.0, 10.0)

    def choose(
        candidates: Any = DESIGN, rivals: Any = (fit, fit), nu: Any = NU, t: Any = TIMES,
        sigma: Any = SIGMA,
    ):  # fmt: skip
        return si.next_experiment(candidates, rivals, nu, t, sigma)

    for options, message in (
        ({"rivals": (fit,)}, "rivals must be at least 2, got 1"),
        ({"candidates": DESIGN[:0]}, "c0 must have shape"),
        ({"candidates": -DESIGN}, "not negative"),
        ({"nu": [-1, -1, 0]}, "conserve mass"),
        ({"t": -TIMES}, "t must increase"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"rivals": (fit, fit._replace(bic=np.nan))}, "bic must hold finite"),
    ):
        with pytest.raises(ValueError, match=message):
            choose(**options)
