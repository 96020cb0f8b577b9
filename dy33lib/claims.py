"""A ledger of what a chapter measured, held against what it should be.

Each claim states a number that the present run has measured, the number it is held against, and a
criterion fixed before the run. A claim that is expected to hold and does not, or that is expected
to fail and holds, makes `Ledger.close` raise: the chapter does not execute, and the book does not
build. The page, the scoreboard and the README read the ledger from the notebook's output; nobody
types a verdict.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

MIME = "application/vnd.dy33.claims+json"


class ClaimError(AssertionError):
    """A claim turned out other than expected."""


@dataclass(frozen=True)
class Claim:
    """One measured statement.

    Attributes:
        statement: what is claimed, a full sentence without the number.
        source: whose claim it is: "talk", "theory" or "ours".
        measured: the number from this run.
        error: its standard error; 0 for a deterministic result.
        reference: what it is held against, in words or a number.
        criterion: the condition, as it was checked.
        holds: whether the condition is met.
        expected: whether it should be.
        samples: the values behind the number, one a seed.
        headline: whether the claim is quoted at the top of the chapter.
        digits: significant digits shown.
    """

    statement: str
    source: str
    measured: float
    error: float
    reference: str
    criterion: str
    holds: bool
    expected: bool
    samples: tuple[float, ...] = ()
    headline: bool = False
    digits: int = 3

    @property
    def value(self) -> str:
        """The measured number and its standard error, rounded to the error's leading digit."""
        return _with_error(self.measured, self.error, self.digits)

    @property
    def target(self) -> str:
        """Reference and criterion in one phrase."""
        return f"{self.reference}, {self.criterion}" if self.reference else self.criterion

    @property
    def verdict(self) -> str:
        """The outcome in two or three words."""
        if not math.isfinite(self.measured):
            return "FAILS"
        if self.holds == self.expected:
            return "holds" if self.holds else "does not hold"
        return "UNEXPECTEDLY HOLDS" if self.holds else "FAILS"

    def _ipython_display_(self) -> None:
        """Nothing under a cell that ends with a claim: last digits differ between machines."""


@dataclass
class Ledger:
    """The claims of one chapter.

    Args:
        chapter: short name, such as "ch01".

    Displayed in a notebook it is a table; its machine-readable twin goes with it.
    """

    chapter: str
    claims: list[Claim] = field(default_factory=list)

    def claim(
        self,
        statement: str,
        measured: float | Sequence[float],
        *,
        source: str,
        reference: float | str | None = None,
        within: float | None = None,
        relative: float | None = None,
        low: float | None = None,
        high: float | None = None,
        error: float | None = None,
        expected: bool = True,
        headline: bool = False,
        digits: int = 3,
    ) -> Claim:
        """Check one statement and write it down.

        The criterion is one of: `within` an absolute distance of a numeric reference, within a
        `relative` distance of it, or between `low` and `high` (either may be left out). The mean
        is what has to meet it.

        Args:
            statement: what is claimed, without the number.
            measured: a number, or one number a seed: the mean is then held against the criterion
                and its standard error is shown. Statistical claims need at least three.
            source: "talk", "theory" or "ours".
            reference: the number, or the words, that the result is held against.
            within: largest distance from the reference.
            relative: largest distance from the reference, as a fraction of it.
            low: smallest value that meets the claim.
            high: largest value that meets the claim.
            error: standard error, where the samples do not give it.
            expected: False for a claim that we report as not holding.
            headline: quote it at the top of the chapter.
            digits: significant digits to show.

        Raises:
            ValueError: if the criterion is missing or doubled, the source is unknown, or there
                are two samples (one is a number, three are statistics).
        """
        samples = () if isinstance(measured, int | float) else tuple(float(v) for v in measured)
        if not isinstance(measured, int | float) and len(samples) < 3:
            raise ValueError(f"need a number or at least 3 samples, got {len(samples)}")
        if source not in ("talk", "theory", "ours"):
            raise ValueError(f"source must be talk, theory or ours, got {source!r}")
        mean = math.fsum(samples) / len(samples) if samples else float(measured)  # pyright: ignore
        if samples and error is None:
            spread = math.fsum((v - mean) ** 2 for v in samples) / (len(samples) - 1)
            error = math.sqrt(spread / len(samples))
        bounded = low is not None or high is not None
        if (within is not None) + (relative is not None) + bounded != 1:
            raise ValueError("give exactly one criterion: within, relative, or low and/or high")
        if bounded:
            holds = (low is None or mean >= low) and (high is None or mean <= high)
            criterion = " and ".join(
                f"{sign} {_number(v, 4)}" for sign, v in (("≥", low), ("≤", high)) if v is not None
            )
        else:
            if not isinstance(reference, int | float):
                raise ValueError(f"within and relative need a numeric reference, got {reference!r}")
            if relative is not None:
                reach, criterion = abs(reference) * relative, f"within {_percent(relative)}"
            else:
                reach = within or 0.0
                criterion = f"within {_number(reach, 4)}"
            holds = abs(mean - reference) <= reach
        holds = holds and math.isfinite(mean)
        shown = "" if reference is None else reference
        entry = Claim(
            statement, source, mean, error or 0.0,
            shown if isinstance(shown, str) else _number(shown, 4),
            criterion, holds, expected, samples, headline, digits,
        )  # fmt: skip
        self.claims.append(entry)
        return entry

    def close(self) -> None:
        """Raise if any claim turned out other than expected, or none was made.

        Raises:
            ClaimError: naming each such claim and its numbers.
        """
        if not self.claims:
            raise ClaimError(f"{self.chapter} makes no claim")
        wrong = [c for c in self.claims if c.holds != c.expected or not math.isfinite(c.measured)]
        if wrong:
            lines = [f"  {c.verdict}: {c.statement}: {c.value}, {c.criterion}" for c in wrong]
            raise ClaimError(f"{len(wrong)} of {len(self.claims)} claims:\n" + "\n".join(lines))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/html": self.to_html(),
            "text/plain": self.to_text(),
            MIME: {"chapter": self.chapter, "claims": [asdict(c) for c in self.claims]},
        }

    def to_text(self) -> str:
        """The ledger as plain lines."""
        return "\n".join(
            f"[{c.verdict}] {c.statement} ({c.source}): {c.value}; should be {c.target}"
            for c in self.claims
        )

    def to_html(self) -> str:
        """The ledger as an HTML table; no styles, the page brings them."""
        return claims_table(self.claims)


MANY = 20  # values are listed up to here; the machine-readable twin has them all


def claims_table(claims: Sequence[Claim], caption: str = "What this run measured") -> str:
    """An accessible HTML table of claims."""
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Claim", "Source", "Should be", "Measured", "Verdict")
    )
    rows = []
    for c in claims:
        kind = {"holds": "yes", "does not hold": "no"}.get(c.verdict, "wrong")
        seeds = ""
        if c.samples:
            few = len(c.samples) <= MANY
            values = ", ".join(_number(v, c.digits) for v in c.samples)
            low, high = (_number(f(c.samples), c.digits) for f in (min, max))
            each = f"each: {values}" if few else f"{len(c.samples)} values, {low} to {high}"
            seeds = f'<br><span class="dy33-samples">{each}</span>'
        middle = [f"<td>{html.escape(t)}</td>" for t in (c.source, c.target)]
        middle.append(f'<td><span class="dy33-value">{html.escape(c.value)}</span>{seeds}</td>')
        rows.append(
            f'<tr><th scope="row">{html.escape(c.statement)}</th>{"".join(middle)}'
            f'<td class="dy33-verdict-{kind}">{c.verdict}</td></tr>'
        )
    return (
        '<div class="dy33-claims" role="region" tabindex="0" '
        f'aria-label="{html.escape(caption)}"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _number(value: float, digits: int) -> str:
    """A number as it is printed in a book: a true minus sign, powers of ten written out."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{max(digits - 1, 0)}e}".split("e")
        power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        mantissa = f"{float(mantissa):g}"
        text = f"10{power}" if mantissa == "1" else f"{mantissa}·10{power}"
    else:
        text = f"{float(f'{value:.{digits}g}'):.10g}"
    return text.replace("-", "−")


def _with_error(value: float, error: float, digits: int) -> str:
    """Value and error with as many decimals as the leading digit of the error has (two for 1)."""
    if not error or not math.isfinite(error) or not math.isfinite(value):
        return _number(value, digits)
    places = -math.floor(math.log10(error))
    if round(error * 10**places, 6) < 2:
        places += 1
    places = max(places, 0)
    return f"{value:.{places}f} ± {error:.{places}f}".replace("-", "−")
