import itertools
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dy33lib import progress as module
from dy33lib.progress import progress


class Line:
    """Stands in for a notebook's display handle and keeps what was shown."""

    def __init__(self):
        self.shown: list[str] = []

    def display(self, message):
        self.shown.append(message)
        return self

    def update(self, message):
        self.shown.append(message.data)


@pytest.fixture
def line(monkeypatch):
    """A line in a notebook, on a clock that advances two seconds whenever it is read."""
    fake = Line()
    monkeypatch.setattr(module, "_display", fake.display)
    clock = SimpleNamespace(monotonic=itertools.count(step=2).__next__)
    monkeypatch.setattr(module, "time", clock)
    return fake


@pytest.mark.parametrize("count", [0, 1, 5])
def test_items_pass_in_order(count):
    assert list(progress(range(count), count)) == list(range(count))
    assert list(progress((c for c in "abc"[:count]), count)) == list("abc"[:count])


def test_items_pass_one_by_one(line):
    started = []

    def work():
        for i in range(3):
            started.append(i)
            yield i

    for i in progress(work(), 3):
        assert started == list(range(i + 1))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_line_ends_as_it_began(line, count):
    assert list(progress(range(count), count, "networks")) == list(range(count))
    assert line.shown[0] == line.shown[-1] == f"{count} networks"
    assert len(line.shown) == count + 2


def test_the_line_tells_what_is_left(line):
    list(progress("abcd", 4))
    assert line.shown == [
        "4 runs",
        "1 of 4 runs, about 6 s left",
        "2 of 4 runs, about 4 s left",
        "3 of 4 runs, about 2 s left",
        "4 of 4 runs, about 0 s left",
        "4 runs",
    ]


def test_the_line_is_not_rewritten_all_the_time(line, monkeypatch):
    clock = SimpleNamespace(monotonic=itertools.count(step=0.125).__next__)
    monkeypatch.setattr(module, "time", clock)
    list(progress(range(20), 20))
    assert 3 <= len(line.shown) - 2 <= 5


def test_nothing_is_shown_outside_a_notebook(capsys):
    assert module._display("4 runs") is None
    list(progress(range(4), 4))
    assert capsys.readouterr() == ("", "")


def test_nothing_is_shown_in_a_terminal_of_ipython(monkeypatch, capsys):
    terminal = SimpleNamespace()
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: terminal)
    assert module._display("4 runs") is None
    assert capsys.readouterr() == ("", "")


def test_a_notebook_gets_a_line(monkeypatch, capsys):
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: SimpleNamespace(kernel=1))
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda m, **o: shown.append((m.data, o)) or 7)
    assert module._display("4 runs") == 7
    assert shown == [("4 runs", {"display_id": True})]


def test_ipython_is_not_needed():
    code = (
        "import sys; sys.modules['IPython'] = None\n"
        "from dy33lib.progress import progress\n"
        "assert list(progress('abc', 3)) == ['a', 'b', 'c']"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
