"""Start a chapter from the template, in a form that already passes every check.

python -m tools.new_chapter ch02 dynamic-range
"""

import argparse
import re
import sys
from pathlib import Path

from tools.chapters import ROOT, session

ANSWERS = '''"""Answers for chapter NUMBER."""

import numpy as np

from dy33lib.exercises import Exercise, Mistake

EXERCISES = {
    "CHAPTER.ex1": Exercise(
        answer=lambda: np.pi * (4 - np.pi) / 0.001**2,
        mistakes=(
            Mistake(
                lambda: np.pi * (4 - np.pi) / 0.001,
                "The error falls with the root of the number of points.",
            ),
        ),
        hint="What is the variance of a single point?",
    ),
}
'''


def new_chapter(chapter: str, slug: str, root: Path = ROOT) -> list[Path]:
    """Write a chapter's text and answers and enter it in the table of contents.

    Raises:
        ValueError: if the name or the slug is not of the form ch02, dynamic-range; if there is
            no such talk; or if the chapter exists.
    """
    if not re.fullmatch(r"ch\d\d", chapter) or not re.fullmatch(r"[a-z0-9-]+", slug):
        raise ValueError(f"expected names like ch02 and dynamic-range, got {chapter!r}, {slug!r}")
    talks = {talk["number"]: talk for talk in session()}
    number = int(chapter[2:])
    if number not in talks:
        raise ValueError(f"the session has no talk {number}")
    text = root / "text" / f"{chapter}-{slug}.md"
    answers = root / "dy33lib" / "answers" / f"{chapter}.py"
    taken = [p.name for p in root.glob(f"text/{chapter}-*.md")] + [answers.name] * answers.exists()
    if taken:
        raise ValueError(f"chapter {chapter} exists: {', '.join(taken)}")

    def filled(template: str) -> str:
        words = {
            "CHAPTER": chapter,
            "NUMBER": str(number),
            "TITLE": talks[number]["title"],
            "QUESTION": talks[number]["question"],
        }
        return re.sub("|".join(words), lambda m: words[m[0]], template)

    text.write_text(filled((ROOT / "tools" / "template.md").read_text()))
    answers.write_text(filled(ANSWERS))
    toc = root / "_toc.yml"
    lines = toc.read_text().splitlines()
    entry = f"      - file: book/{chapter}-{slug}"
    before = [i for i, line in enumerate(lines) if "file: book/ch" in line and line < entry]
    lines.insert(max(before) + 1, entry)
    toc.write_text("\n".join(lines) + "\n")
    return [text, answers, toc]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("chapter")
    parser.add_argument("slug")
    arguments = parser.parse_args()
    try:
        written = new_chapter(arguments.chapter, arguments.slug)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for path in written:
        print(f"wrote {path.relative_to(ROOT)}")
    print(f"next: make notebook CH={arguments.chapter}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
