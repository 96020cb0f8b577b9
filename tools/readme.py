"""Write the README's table of chapters from the executed notebooks.

python -m tools.readme           # write
python -m tools.readme --check   # fail if it is not up to date
"""

import argparse
import sys

from tools.chapters import ROOT, read_chapters, session

README = ROOT / "README.md"
BEGIN, END = "<!-- chapters: made by tools/readme.py -->", "<!-- end of chapters -->"


def table() -> str:
    """The thirteen talks, with the verdicts of those that have a chapter."""
    ready = {c.number: c for c in read_chapters()}
    lines = ["| | chapter | question | verdict | CPU time, memory |", "|---|---|---|---|---|"]
    for talk in session():
        number = talk["number"]
        chapter = ready.get(number)
        if chapter is None:
            lines.append(f"| {number} | {talk['title']} | {talk['question']} | to come | |")
        else:
            title = f"[{chapter.title}](book/{chapter.name}.ipynb)"
            cost = f"{chapter.seconds:.0f} s, {chapter.mebibytes:.0f} MiB"
            lines.append(f"| {number} | {title} | {chapter.question} | {chapter.score} | {cost} |")
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        print(f"README.md lacks the marks {BEGIN} and {END}", file=sys.stderr)
        return 1
    fresh = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if not check:
        README.write_text(fresh)
        return 0
    if fresh != text:
        print("The README's table is out of date: run `make readme`", file=sys.stderr)
    return int(fresh != text)


if __name__ == "__main__":
    sys.exit(main())
