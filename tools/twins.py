"""Check that each notebook in book/ says the same as its MyST twin in text/.

`jupytext --sync text/*.md` carries edits over in either direction; this reads and never writes.
"""

import sys
from pathlib import Path

import jupytext
import nbformat
from jupytext.config import load_jupytext_config

from tools.chapters import ROOT, notebooks

TEXT = ROOT / "text"


def twin_text(notebook: Path) -> str:
    """What the twin of a notebook has to say."""
    config = load_jupytext_config(str(notebook))
    return jupytext.writes(nbformat.read(notebook, as_version=4), fmt="md:myst", config=config)


def main() -> int:
    """Command line."""
    unpaired = {p.stem for p in notebooks()} ^ {p.stem for p in TEXT.glob("ch*.md")}
    different = [f"{stem} lacks its twin" for stem in sorted(unpaired)]
    for path in notebooks():
        text = TEXT / f"{path.stem}.md"
        if text.exists() and text.read_text() != twin_text(path):
            different.append(
                f"{path.name} and text/{text.name} differ: run `make notebook CH={path.stem[:4]}`"
            )
    print("\n".join(different) or f"{len(notebooks())} notebooks are in step with their twins")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
