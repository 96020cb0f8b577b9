"""What the executed notebooks say of themselves: claims, pictures, measured seconds and memory.

The page headers, the gallery, the scoreboard and the README's table are all made from this.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dy33lib.claims import MIME, Claim

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"


@dataclass(frozen=True)
class Chapter:
    """One executed chapter."""

    name: str
    title: str
    talk: str
    question: str
    card: str
    claims: tuple[Claim, ...]
    figures: dict[str, str]
    seconds: float | None
    mebibytes: float | None
    words: int

    @property
    def number(self) -> int:
        """Number of the talk."""
        return int(self.name[2:4])

    @property
    def minutes(self) -> int:
        """Minutes to read: 150 words a minute (there are formulas), rounded up to five."""
        return max(5, 5 * round(self.words / 150 / 5 + 0.49))

    @property
    def score(self) -> str:
        """How many claims hold, in words."""
        held = sum(c.holds for c in self.claims)
        return f"{held} of {len(self.claims)} claims hold"

    @property
    def headlines(self) -> tuple[Claim, ...]:
        """The claims quoted at the top."""
        return tuple(c for c in self.claims if c.headline)


def read_chapter(path: Path) -> Chapter:
    """Read one notebook.

    Raises:
        ValueError: if its metadata or its claims are missing.
    """
    notebook = json.loads(path.read_text())
    about: dict[str, Any] = notebook["metadata"].get("dy33", {})
    missing = {"talk", "question", "card"} - set(about)
    if missing:
        raise ValueError(f"{path.name} lacks metadata dy33: {', '.join(sorted(missing))}")
    claims: list[Claim] = []
    figures: dict[str, str] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if MIME in data:
                claims = [
                    Claim(**{**c, "samples": tuple(c["samples"])}) for c in data[MIME]["claims"]
                ]
            page = "".join(data.get("text/html", []))
            match = re.match(r'<figure class="dy33-figure" id="fig-([^"]+)"', page)
            if match:
                figures[match[1]] = page[page.index("<svg") : page.index("</svg>") + 6]
    if not claims:
        raise ValueError(f"{path.name} holds no claims: execute it with `make notebook`")
    if about["card"] not in figures:
        raise ValueError(f"{path.name} has no figure {about['card']!r} for its card")
    prose = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"]
    title = re.search(r"^# (.+)$", prose[0], re.M)
    run = notebook["metadata"].get("dy33_run", {})
    return Chapter(
        name=path.stem,
        title=title[1] if title else path.stem,
        talk=about["talk"],
        question=about["question"],
        card=about["card"],
        claims=tuple(claims),
        figures=figures,
        seconds=run.get("cpu_seconds"),
        mebibytes=run.get("peak_mebibytes"),
        words=sum(len(text.split()) for text in prose),
    )


def notebooks() -> list[Path]:
    """The chapters' notebooks in order."""
    return sorted(BOOK.glob("ch[0-9][0-9]-*.ipynb"))


def read_chapters() -> list[Chapter]:
    """All executed chapters in order."""
    return [read_chapter(path) for path in notebooks()]


def session() -> list[dict[str, Any]]:
    """The thirteen talks of the session, as listed in book/session.yml."""
    return yaml.safe_load((BOOK / "session.yml").read_text())["talks"]
