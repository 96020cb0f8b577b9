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

from dy33lib.claims import Ledger
from tools import chapters, execute, new_chapter, readme, twins

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
def environment():
    """The environment, put back after the tool has set its one core in it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["execute", *map(str, arguments)])
    return execute.main()


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook that the tool has executed as its own process, with what it printed."""
    path = write(
        tmp_path_factory.mktemp("executed") / "ch98-tiny.ipynb",
        text("# Tiny"),
        code("import os\nx = 2 + 3\nprint('printed', x)", {"text/plain": "old"}),
        code("from pathlib import Path\nx, Path.cwd().name, os.environ['OMP_NUM_THREADS']"),
        code("\nblock = bytearray(200 * 2**20)"),
        text("The end is text."),
        dy33_run={"cpu_seconds": 1e9},
        dy33=ABOUT,
    )
    command = [sys.executable, "-W", "error", "-m", "tools.execute", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "7"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path, done.stdout


def test_outputs_are_stored(executed):
    path, _ = executed
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == [
        "markdown", "code", "code", "code", "markdown",
    ]  # fmt: skip
    first, second, third = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert [o.text for o in first.outputs] == ["printed 5\n"]
    assert second.outputs[0].data["text/plain"] == f"(5, {path.parent.name!r}, '1')"
    assert third.outputs == []
    assert [cell.execution_count for cell in (first, second, third)] == [1, 2, 3]


def test_costs_are_recorded(executed):
    path, printed = executed
    run = nbformat.read(path, as_version=4).metadata.dy33_run
    assert set(run) == {"cpu_seconds", "peak_mebibytes"}
    assert 0.1 < run["cpu_seconds"] < 60
    assert 200 < run["peak_mebibytes"] < 1000
    assert f"{run['cpu_seconds']:.1f} CPU s, {run['peak_mebibytes']} MiB" in printed


def test_progress_is_printed(executed):
    path, printed = executed
    lines = printed.splitlines()
    assert lines[0] == f"{path.name}:"
    cells = [line for line in lines if re.match(r" +[\d.]+ s  ", line)]
    assert [line.split(" s  ")[1] for line in cells] == [
        "import os", "from pathlib import Path", "block = bytearray(200 * 2**20)",
    ]  # fmt: skip


def test_nothing_of_the_clock_stays_in_the_notebook(executed):
    notebook = nbformat.read(executed[0], as_version=4)
    assert all(not cell.metadata for cell in notebook.cells)
    assert "version" not in notebook.metadata.language_info
    assert notebook.metadata.dy33 == ABOUT


def test_an_error_in_a_cell_fails_and_leaves_the_notebook(tmp_path):
    path = write(tmp_path / "ch98-bad.ipynb", code("ready = 1"), code("1 / (ready - 1)"), text("x"))
    before = path.read_bytes()
    command = [sys.executable, "-m", "tools.execute", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    shown = re.sub(r"\x1b\[[\d;]*m", "", done.stderr)  # without its colours
    assert "1 / (ready - 1)" in shown
    assert "ZeroDivisionError: division by zero" in shown
    assert path.read_bytes() == before


@pytest.mark.usefixtures("environment")
def test_checking_compares_two_runs(tmp_path, monkeypatch, capsys):
    same = write(tmp_path / "ch98-same.ipynb", code("print({'a', 'b', 'c', 'd'})"))
    other = write(tmp_path / "ch98-other.ipynb", code("import random; random.random()"))
    before = same.read_bytes(), other.read_bytes()
    assert run(monkeypatch, "--check", same) == 0
    assert capsys.readouterr().err == ""
    assert run(monkeypatch, "--check", other) == 1
    printed = capsys.readouterr()
    assert printed.err == "ch98-other.ipynb gives other bytes when executed again\n"
    assert (same.read_bytes(), other.read_bytes()) == before


@pytest.fixture
def cheap(monkeypatch, tmp_path):
    """A notebook whose costs are known without a kernel: 12 s, 345 MiB."""
    path = write(tmp_path / "ch98-cheap.ipynb", code("1"))
    notebook = nbformat.read(path, as_version=4)
    monkeypatch.setattr(execute, "execute", lambda _: (notebook, 12.0, 345.0))
    return path


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_CPU_SECONDS", 11.5, "ch98-cheap.ipynb takes 12 CPU seconds, the limit is 11.5"),
        ("MAX_MEBIBYTES", 344, "ch98-cheap.ipynb takes 345 MiB, the limit is 344"),
        ("MAX_BYTES", 100, r"ch98-cheap.ipynb takes \d{3} bytes, the limit is 100"),
    ],
)
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_limits_are_enforced(monkeypatch, capsys, cheap, limit, value, message, check):
    assert run(monkeypatch, *check, cheap) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(execute, limit, value)
    assert run(monkeypatch, *check, cheap) == 1
    assert re.fullmatch(message + "\n", capsys.readouterr().err)


def test_the_limits_are_those_promised():
    assert (execute.MAX_CPU_SECONDS, execute.MAX_MEBIBYTES) == (180, 1536)
    assert execute.MAX_BYTES == 1_000_000


# Chapters ----------------------------------------------------------------------------------------


def figure(name: str) -> dict:
    page = f'<figure class="dy33-figure" id="fig-{name}"><div><svg>{name}</svg></div></figure>'
    return {"text/html": page}


def claims() -> dict:
    ledger = Ledger("ch01")
    ledger.claim("It is so", 1.0, source="ours", low=0, headline=True)
    ledger.claim("It is not", 1.0, source="ours", high=0, expected=False)
    return json.loads(json.dumps(ledger._repr_mimebundle_()))


def chapter(path: Path, *cells, about=ABOUT, run=None) -> Path:
    standard = (
        text("# The title\n\nSome prose."),
        code("1", figure("one"), figure("two"), claims()),
    )
    run = {"cpu_seconds": 12.34, "peak_mebibytes": 345} if run is None else run
    return write(path, *(cells or standard), dy33=about, dy33_run=run)


def test_chapters_are_read(tmp_path):
    found = chapters.read_chapter(chapter(tmp_path / "ch07-tiny.ipynb"))
    assert (found.name, found.number, found.title) == ("ch07-tiny", 7, "The title")
    assert (found.talk, found.question, found.card) == ("DY 33.1", "Why?", "one")
    assert found.figures == {"one": "<svg>one</svg>", "two": "<svg>two</svg>"}
    assert found.score == "1 of 2 claims hold"
    assert [c.statement for c in found.headlines] == ["It is so"]
    assert (found.seconds, found.mebibytes, found.words) == (12.34, 345, 5)
    assert found.minutes == 5
    fresh = chapters.read_chapter(chapter(tmp_path / "ch07-fresh.ipynb", run={}))
    assert (fresh.seconds, fresh.mebibytes) == (None, None)


@pytest.mark.parametrize(("words", "minutes"), [(1, 5), (740, 5), (760, 10), (3000, 20)])
def test_reading_takes_time(tmp_path, words, minutes):
    cells = text(" ".join(["word"] * words)), code("1", figure("one"), claims())
    assert chapters.read_chapter(chapter(tmp_path / "ch07-x.ipynb", *cells)).minutes == minutes


@pytest.mark.parametrize("key", ABOUT)
def test_chapters_need_their_metadata(tmp_path, key):
    about = {k: v for k, v in ABOUT.items() if k != key}
    with pytest.raises(ValueError, match=f"ch07-x.ipynb lacks metadata dy33: {key}"):
        chapters.read_chapter(chapter(tmp_path / "ch07-x.ipynb", about=about))
    bare = write(tmp_path / "ch07-y.ipynb", text("# T"))
    with pytest.raises(ValueError, match="lacks metadata dy33: card, question, talk"):
        chapters.read_chapter(bare)


def test_chapters_need_claims(tmp_path):
    path = chapter(tmp_path / "ch07-x.ipynb", text("# T"), code("1", figure("one")))
    with pytest.raises(ValueError, match="holds no claims"):
        chapters.read_chapter(path)


def test_chapters_need_their_card(tmp_path):
    path = chapter(tmp_path / "ch07-x.ipynb", text("# T"), code("1", figure("two"), claims()))
    with pytest.raises(ValueError, match=r"ch07-x.ipynb has no figure 'one' for its card"):
        chapters.read_chapter(path)


# Twins -------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A book of one chapter, its twin, the list of talks and a README."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("book", "text"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "book" / "session.yml", tmp_path / "book")
    monkeypatch.setattr(chapters, "BOOK", tmp_path / "book")
    monkeypatch.setattr(twins, "TEXT", tmp_path / "text")
    monkeypatch.setattr(readme, "README", tmp_path / "README.md")
    notebook = chapter(tmp_path / "book" / "ch01-tiny.ipynb")
    (tmp_path / "text" / "ch01-tiny.md").write_text(twins.twin_text(notebook))
    (tmp_path / "README.md").write_text(f"# Top\n\n{readme.BEGIN}\n{readme.END}\n\nBottom\n")
    return tmp_path


def test_twins_in_step_pass(project, capsys):
    twin = (project / "text" / "ch01-tiny.md").read_text()
    assert "# The title" in twin
    assert "```{code-cell}" in twin
    assert "cpu_seconds" not in twin
    assert twins.main() == 0
    assert capsys.readouterr().out == "1 notebooks are in step with their twins\n"


@pytest.mark.parametrize(
    ("old", "new"), [("Some prose", "Other prose"), ("\n1\n", "\n2\n"), ("Why?", "How?")]
)
def test_an_edited_twin_is_found(project, capsys, old, new):
    path = project / "text" / "ch01-tiny.md"
    edited = path.read_text().replace(old, new)
    assert edited != path.read_text()
    path.write_text(edited)
    assert twins.main() == 1
    assert "ch01-tiny.ipynb and text/ch01-tiny.md differ: run `make" in capsys.readouterr().out
    assert path.read_text() == edited


def test_an_edited_notebook_is_found(project):
    path = project / "book" / "ch01-tiny.ipynb"
    path.write_text(path.read_text().replace("Some prose", "Other prose"))
    assert twins.main() == 1


def test_what_a_run_adds_does_not_count(project):
    chapter(project / "book" / "ch01-tiny.ipynb", run={"cpu_seconds": 99})
    assert twins.main() == 0


def test_a_missing_twin_is_found(project, capsys):
    (project / "text" / "ch01-tiny.md").rename(project / "text" / "ch02-tiny.md")
    assert twins.main() == 1
    assert capsys.readouterr().out == "ch01-tiny lacks its twin\nch02-tiny lacks its twin\n"


# README ------------------------------------------------------------------------------------------


def test_the_readme_has_its_table(project, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["readme"])
    assert readme.main() == 0
    written = (project / "README.md").read_text()
    assert written.startswith("# Top\n\n")
    assert written.endswith("\n\nBottom\n")
    rows = [line for line in written.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 13
    assert rows[0] == (
        "| 1 | [The title](book/ch01-tiny.ipynb) | Why? | 1 of 2 claims hold | 12 s, 345 MiB |"
    )
    assert all(row.endswith("| to come | |") for row in rows[1:])
    monkeypatch.setattr(sys, "argv", ["readme", "--check"])
    assert readme.main() == 0
    assert capsys.readouterr() == ("", "")

    edited = written.replace("1 of 2 claims", "2 of 2 claims")
    (project / "README.md").write_text(edited)
    assert readme.main() == 1
    assert "run `make readme`" in capsys.readouterr().err
    assert (project / "README.md").read_text() == edited
    monkeypatch.setattr(sys, "argv", ["readme"])
    assert readme.main() == 0
    assert (project / "README.md").read_text() == written


@pytest.mark.parametrize("mark", [readme.BEGIN, readme.END])
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_readme_without_marks_is_refused(project, monkeypatch, capsys, mark, check):
    path = project / "README.md"
    path.write_text(path.read_text().replace(mark, ""))
    before = path.read_text()
    monkeypatch.setattr(sys, "argv", ["readme", *check])
    assert readme.main() == 1
    assert "README.md lacks the marks" in capsys.readouterr().err
    assert path.read_text() == before


# The address of the book -------------------------------------------------------------------------


@pytest.fixture
def extension(monkeypatch, tmp_path):
    """The book's Sphinx extension, in a repository without a remote and outside any CI."""
    path = ROOT / "book" / "_ext" / "dy33_book.py"
    spec = importlib.util.spec_from_file_location("dy33_book_under_test", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "CI_PROJECT_URL", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    subprocess.run(["git", "init", "-q", "-b", "main", tmp_path], check=True)
    return module


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:owner/book.git", "https://github.com/owner/book"),
        ("git@gitlab.example.org:group/sub/book.git", "https://gitlab.example.org/group/sub/book"),
        ("ssh://git@github.com/owner/book.git", "https://github.com/owner/book"),
        ("ssh://git@git.example.org:2222/owner/book.git", "https://git.example.org/owner/book"),
        ("https://github.com/owner/book", "https://github.com/owner/book"),
        ("https://github.com/owner/book.git", "https://github.com/owner/book"),
        ("https://github.com/owner/book/", "https://github.com/owner/book"),
        ("https://github.com/owner/book.git/", "https://github.com/owner/book"),
        ("https://github.com/owner/my.book", "https://github.com/owner/my.book"),
        ("https://x-access-token:secret@github.com/owner/book", "https://github.com/owner/book"),
        ("https://secret@github.com/owner/book.git", "https://github.com/owner/book"),
        ("/srv/git/book.git", None),
        ("../book", None),
        ("file:///srv/git/book.git", None),
        ("http://localhost:8080/book", None),
    ],
)
def test_the_address_comes_from_git(extension, tmp_path, remote, address):
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
    assert extension.repository_url() == address


def test_without_remote_there_is_no_address(extension, monkeypatch):
    assert extension.repository_url() is None
    monkeypatch.setenv("PATH", "")
    assert extension.repository_url() is None


def test_the_hosts_environment_comes_first(extension, monkeypatch, tmp_path):
    remote = "https://github.com/owner/book"
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
    monkeypatch.setenv("CI_PROJECT_URL", "https://gitlab.example.org/group/book")
    assert extension.repository_url() == "https://gitlab.example.org/group/book"
    monkeypatch.setenv("GITHUB_REPOSITORY", "other/book")
    assert extension.repository_url() == "https://github.com/other/book"
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example.org")
    assert extension.repository_url() == "https://github.example.org/other/book"


def test_a_new_chapter_is_filled_in_and_entered_in_order(tmp_path):
    for folder in ("text", "dy33lib/answers"):
        (tmp_path / folder).mkdir(parents=True)
    lines = (ROOT / "_toc.yml").read_text().splitlines(keepends=True)
    first = [line for line in lines if "book/ch" not in line or "book/ch01" in line]
    (tmp_path / "_toc.yml").write_text("".join(first))
    for chapter, slug in (("ch10", "sparse-identification"), ("ch02", "dynamic-range")):
        text, answers, toc = new_chapter.new_chapter(chapter, slug, tmp_path)
        for word in ("CHAPTER", "NUMBER", "TITLE", "QUESTION"):
            assert word not in text.read_text() + answers.read_text()
        compile(answers.read_text(), answers.name, "exec")
    listed = [line.split("/")[1] for line in toc.read_text().splitlines() if "book/ch" in line]
    assert [name[:4] for name in listed] == ["ch01", "ch02", "ch10"]
    with pytest.raises(ValueError, match="ch02 exists"):
        new_chapter.new_chapter("ch02", "again", tmp_path)
    with pytest.raises(ValueError, match="no talk 14"):
        new_chapter.new_chapter("ch14", "none", tmp_path)
    with pytest.raises(ValueError, match="expected names like"):
        new_chapter.new_chapter("two", "dynamic-range", tmp_path)
