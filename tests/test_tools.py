import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from dy33lib.claims import Ledger
from tools import chapters, execute, readme, twins

ROOT = Path(__file__).parent.parent
ABOUT = {"talk": "DY 33.1", "question": "Why?", "card": "one"}


def code(source: str, *outputs) -> nbformat.NotebookNode:
    data = [nbformat.v4.new_output("display_data", d) for d in outputs]
    return nbformat.v4.new_code_cell(source, outputs=data)


def text(source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source)


def write(path: Path, *cells, **metadata) -> Path:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=list(cells), metadata={"kernelspec": kernel, **metadata}
    )
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    nbformat.write(notebook, path)
    return path


# Execute -----------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """The environment, put back after the tool has set its one core in it."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["execute", *map(str, arguments)])
    return execute.main()
