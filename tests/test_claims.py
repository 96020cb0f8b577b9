import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import nbformat
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

from dy33lib.claims import MIME, Claim, ClaimError, Ledger
from tools import chapters


def made(measured: Any = 2.0, *, statement="It is so", source="ours", **criterion) -> Claim:
    return Ledger("ch99").claim(statement, measured, source=source, **criterion)


class Cells(HTMLParser):
    """The texts of the cells of a table, row by row."""

    def __init__(self, page):
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


# Criteria: powers of two, so that the boundary is met without rounding ---------------------------

UP, DOWN = math.inf, -math.inf


@pytest.mark.parametrize(
    ("criterion", "last_good", "outwards"),
    [
        ({"reference": 4.0, "within": 0.5}, 4.5, UP),
        ({"reference": 4.0, "within": 0.5}, 3.5, DOWN),
        ({"reference": -4.0, "within": 0.5}, -4.5, DOWN),
        ({"reference": 4, "within": 0}, 4.0, UP),
        ({"reference": 4.0, "relative": 0.25}, 5.0, UP),
        ({"reference": 4.0, "relative": 0.25}, 3.0, DOWN),
        ({"reference": -4.0, "relative": 0.25}, -5.0, DOWN),
        ({"reference": -4.0, "relative": 0.25}, -3.0, UP),
        ({"low": 1.5}, 1.5, DOWN),
        ({"low": 0}, 0.0, DOWN),
        ({"high": 1.5}, 1.5, UP),
        ({"high": 0}, 0.0, UP),
        ({"low": -1.0, "high": 2.0}, 2.0, UP),
        ({"low": -1.0, "high": 2.0}, -1.0, DOWN),
        ({"low": 1.5, "reference": "at least one and a half"}, 1.5, DOWN),
    ],
)
def test_criteria_at_and_beyond_their_boundary(criterion, last_good, outwards):
    assert made(last_good, **criterion).holds
    assert not made(last_good + math.copysign(1e-9, outwards), **criterion).holds
    assert made([last_good] * 3, **criterion).holds


@pytest.mark.parametrize("measured", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "criterion",
    [
        {"low": -1e308},
        {"high": 1e308},
        {"low": -math.inf, "high": math.inf},
        {"reference": 0.0, "within": math.inf},
        {"reference": math.inf, "relative": 1.0},
    ],
)
def test_what_is_not_finite_never_holds(measured, criterion):
    assert not made(measured, **criterion).holds
    assert not made([1.0, 2.0, measured], **criterion).holds


@pytest.mark.parametrize("measured", [math.nan, [1.0, math.inf, 2.0]])
def test_a_failed_measurement_does_not_confirm_that_a_claim_fails(measured):
    ledger = Ledger("ch99")
    ledger.claim("It is not so", measured, source="talk", low=1, expected=False)
    with pytest.raises(ClaimError, match="It is not so"):
        ledger.close()


# Numbers -----------------------------------------------------------------------------------------


def test_samples_give_mean_and_standard_error():
    samples = [1.0, 2.0, 4.0, 9.0]
    claim = made(samples, low=0)
    squares = (1 - 4) ** 2 + (2 - 4) ** 2 + 0 + (9 - 4) ** 2
    assert claim.measured == 4
    assert claim.error == pytest.approx(math.sqrt(squares / 3 / 4), rel=1e-15)
    assert claim.samples == tuple(samples)
    assert made(samples, low=0, error=0.25).error == 0.25
    assert made(4, low=0).error == 0
    assert made(4, low=0, error=0.5).error == 0.5


def test_the_mean_is_judged_and_not_the_samples():
    assert made([0.0, 0.0, 6.0], reference=2, within=0).holds
    assert not made([3.0, 3.0, 0.0], low=2.5).holds


@pytest.mark.usefixtures("unchecked")
def test_samples_may_be_an_array():
    assert made(np.array([1.0, 2.0, 6.0]), low=0).measured == 3
    assert made(np.float64(2.0), low=0).samples == ()


@pytest.mark.parametrize(
    ("claim", "shown"),
    [
        ({"measured": 3.14159, "low": 0}, "3.14"),
        ({"measured": 3.14159, "low": 0, "digits": 2}, "3.1"),
        ({"measured": 3.14159, "low": 0, "error": 0.0234}, "3.14 ± 0.02"),
        ({"measured": 314.159, "low": 0, "error": 12.34}, "314 ± 12"),
        ({"measured": 31415.9, "low": 0}, "31400"),
        ({"measured": 0.000123, "low": 0}, "1.23·10⁻⁴"),
        ({"measured": 314159.0, "low": 0}, "3.14·10⁵"),
        ({"measured": 0, "low": 0}, "0"),
        ({"measured": 1e-12, "low": 0, "digits": 1}, "10⁻¹²"),
        ({"measured": -1.234, "low": -9, "error": 0.123}, "−1.23 ± 0.12"),
        ({"measured": 1.2, "low": 0, "error": 0.098}, "1.20 ± 0.10"),
        ({"measured": math.nan, "low": 0}, "nan"),
        ({"measured": -0.5, "low": -1}, "−0.5"),
    ],
)
def test_values_are_rounded(claim, shown):
    assert made(**claim).value == shown


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        ({"reference": 2.0, "within": 0.25}, "within 0.25"),
        ({"reference": 2.0, "relative": 0.05}, "within 5 %"),
        ({"reference": 2.0, "relative": 1e-6}, "within 0.0001 %"),
        ({"low": -1}, "≥ −1"),
        ({"high": 0.5}, "≤ 0.5"),
        ({"low": 0.1, "high": 3}, "≥ 0.1 and ≤ 3"),
    ],
)
def test_criteria_are_written_out(criterion, text):
    claim = made(**criterion)
    assert claim.criterion == text
    assert claim.reference == ("2" if "reference" in criterion else "")
    assert claim.target == (f"2, {text}" if "reference" in criterion else text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one criterion"),
        ({"reference": 2.0}, "exactly one criterion"),
        ({"reference": 2.0, "within": 1, "relative": 0.1}, "exactly one criterion"),
        ({"reference": 2.0, "within": 1, "low": 0}, "exactly one criterion"),
        ({"reference": 2.0, "relative": 1, "high": 0}, "exactly one criterion"),
        ({"within": 1.0}, "numeric reference, got None"),
        ({"reference": "about two", "relative": 0.1}, "numeric reference, got 'about two'"),
        ({"low": 1, "source": "hearsay"}, "talk, theory or ours, got 'hearsay'"),
        ({"low": 1, "measured": []}, "at least 3 samples, got 0"),
        ({"low": 1, "measured": [2.0]}, "at least 3 samples, got 1"),
        ({"low": 1, "measured": [2.0, 3.0]}, "at least 3 samples, got 2"),
    ],
)
def test_bad_claims_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**arguments)


def test_a_refused_claim_is_not_written_down():
    ledger = Ledger("ch99")
    with pytest.raises(ValueError, match="criterion"):
        ledger.claim("It is so", 1.0, source="ours")
    assert ledger.claims == []


# Closing -----------------------------------------------------------------------------------------


def test_a_ledger_closes_when_all_is_as_expected():
    ledger = Ledger("ch99")
    assert ledger.claim("up", 2, source="talk", low=1).verdict == "holds"
    assert ledger.claim("down", 2, source="talk", low=3, expected=False).verdict == "does not hold"
    ledger.close()


def test_a_cell_that_ends_with_a_claim_shows_nothing():
    """Its last digits would differ from machine to machine, and comparison would fail."""
    show = DisplayFormatter().format
    assert show(made(low=1)) == ({}, {})
    assert show(Ledger("ch99", [made(low=1)]))[0]


def test_many_values_are_summed_up():
    ledger = Ledger("ch99")
    ledger.claim("few", np.arange(20.0).tolist(), source="ours", low=0)
    ledger.claim("many", np.arange(21.0).tolist(), source="ours", low=0)
    page = ledger.to_html()
    assert "17, 18, 19<" in page
    assert "21 values, 0 to 20<" in page
    assert "17, 18, 19, 20" not in page


def test_an_empty_ledger_does_not_close():
    with pytest.raises(ClaimError, match="ch99 makes no claim"):
        Ledger("ch99").close()


def test_closing_names_each_claim_that_turned_out_otherwise():
    ledger = Ledger("ch99")
    ledger.claim("The sky is blue", 450.0, source="theory", reference=460, within=20)
    ledger.claim("The sea is green", 1.25, source="ours", reference=1.0, within=0.125)
    with pytest.raises(ClaimError) as caught:
        ledger.close()
    assert str(caught.value) == ("1 of 2 claims:\n  FAILS: The sea is green: 1.25, within 0.125")
    ledger.claim("Grass is red", [5.0, 6.0, 7.0], source="talk", low=4, expected=False)
    with pytest.raises(ClaimError) as caught:
        ledger.close()
    message = str(caught.value)
    assert message.startswith("2 of 3 claims:\n")
    assert "UNEXPECTEDLY HOLDS: Grass is red: 6.0 ± 0.6, ≥ 4" in message
    assert "blue" not in message


# Output ------------------------------------------------------------------------------------------


def ledger_of_everything() -> Ledger:
    ledger = Ledger("ch99")
    ledger.claim("a < b & c", 0.5, source="talk", reference="p < 0.05 & more", low=0, headline=True)
    ledger.claim("seeds agree", [1.0, 2.0, 4.5], source="ours", reference=2.5, relative=0.1)
    ledger.claim("no", 3.0, source="theory", high=2.0, expected=False, error=0.25, digits=2)
    return ledger


def test_the_three_forms_say_the_same():
    ledger = ledger_of_everything()
    bundle = ledger._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain", MIME}
    assert bundle["text/html"] == ledger.to_html()
    head, *rows = Cells(bundle["text/html"]).rows
    lines = bundle["text/plain"].splitlines()
    assert bundle[MIME]["chapter"] == "ch99"
    assert len(rows) == len(lines) == len(bundle[MIME]["claims"]) == 3
    assert head == ["Claim", "Source", "Should be", "Measured", "Verdict"]
    for row, line, data in zip(rows, lines, bundle[MIME]["claims"], strict=True):
        claim = Claim(**data)
        measured = claim.value + ("each: 1, 2, 4.5" if claim.samples else "")
        assert row == [claim.statement, claim.source, claim.target, measured, claim.verdict]
        for text in (claim.statement, claim.source, claim.target, claim.value, claim.verdict):
            assert text in line
    assert ledger_of_everything()._repr_mimebundle_() == bundle


def test_html_is_escaped():
    page = ledger_of_everything().to_html()
    assert "a &lt; b &amp; c" in page
    assert "p &lt; 0.05 &amp; more" in page
    assert not re.search(r"&(?!\w+;|#\d+;|#x\w+;)", page)
    page = Ledger("ch99", [made(statement="<script>alert(1)</script>", low=0)]).to_html()
    assert "<script" not in page


def test_claims_come_back_from_the_notebook(tmp_path):
    ledger = ledger_of_everything()
    bundle = json.loads(json.dumps(ledger._repr_mimebundle_()))
    figure = {"text/html": '<figure class="dy33-figure" id="fig-one"><svg></svg></figure>'}
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Title"),
            nbformat.v4.new_code_cell(
                "x",
                outputs=[nbformat.v4.new_output("display_data", d) for d in (figure, bundle)],
            ),
        ],
        metadata={"dy33": {"talk": "DY 33.1", "question": "Why?", "card": "one"}},
    )
    nbformat.write(notebook, tmp_path / "ch99-x.ipynb")
    chapter = chapters.read_chapter(tmp_path / "ch99-x.ipynb")
    assert chapter.claims == tuple(ledger.claims)
    assert chapter.headlines == (ledger.claims[0],)
    assert chapter.score == "2 of 3 claims hold"
