"""Every link of the built book leads somewhere, and no page loads anything from outside."""

import functools
import importlib
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.built

ROOT = Path(__file__).resolve().parent.parent
HTML = Path(os.environ.get("DY33_HTML", ROOT / "_build" / "html"))
OUTSIDE = re.compile(r"(https?:)?//")
# Where a tag's address is fetched as soon as the page is opened; a plain link is not.
LOADS = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src",
    "audio": "src", "embed": "src", "object": "data", "use": "href", "image": "href",
}  # fmt: skip
LOADED_RELATIONS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "icon"}
# sphinx-exercise gives each exercise's and each solution's body the same id; nothing links there.
DOUBLED = {"exercise-content", "solution-content"}


class Page(HTMLParser):
    """What a page links to, loads and defines."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.ids: Counter[str] = Counter()
        self.names: set[str] = set()
        self.headings = 0
        self.draws_figures = False  # by our own script, which the figures' fallback asks for
        self.open: list[tuple[str, bool]] = []  # tags, and whether they are for print only
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def __str__(self) -> str:
        return self.path.relative_to(HTML).as_posix()

    @property
    def anchors(self) -> set[str]:
        return set(self.ids) | self.names | {"", "top"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = {name: value or "" for name, value in attrs}
        printed = "onlyprint" in at.get("class", "").split()
        if tag in ("div", "script", "style"):
            self.open.append((tag, printed))
        if tag == "h1" and not any(printed for _, printed in self.open):
            self.headings += 1
        self.draws_figures |= tag == "script" and "data-dy33-figures" in at
        if at.get("id"):
            self.ids[at["id"]] += 1
        if tag == "a" and at.get("name"):
            self.names.add(at["name"])
        loaded = at.get(LOADS.get(tag, "")) or at.get(
            "xlink:href" if tag in ("use", "image") else ""
        )
        if tag == "link" and LOADED_RELATIONS & set(at.get("rel", "").split()):
            loaded = at.get("href", "")
        if loaded:
            self.loads.append(loaded)
        self.loads += [part.split()[0] for part in at.get("srcset", "").split(",") if part.strip()]
        self.links += [at[name] for name in ("href", "src", "action", "data") if at.get(name)]
        if tag == "meta" and at.get("http-equiv", "").lower() == "refresh":
            self.links.append(at["content"].partition("url=")[2])
        if at.get("style"):
            self.styles.append(at["style"])

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag == self.open[-1][0]:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][0] in ("script", "style"):
            (self.scripts if self.open[-1][0] == "script" else self.styles).append(data)


@functools.cache
def page(path: Path) -> Page:
    return Page(path)


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    if not (HTML / "index.html").is_file():
        pytest.fail(f"There is no built book in {HTML}: type `make book` first.")
    inside = (path.relative_to(HTML) for path in sorted(HTML.rglob("*.html")))
    return [page(HTML / p) for p in inside if p.parts[0] not in ("_sources", "_static")]


def is_page(one: Page) -> bool:
    """Not one of those that only send the reader on."""
    return one.headings > 0 or bool(one.scripts)


def failures(lines: list[str], what: str) -> None:
    if lines:
        pytest.fail(f"{len(lines)} × {what}:\n  " + "\n  ".join(lines), pytrace=False)


def fault(one: Page, link: str) -> str | None:
    """Why a link leads nowhere, or None."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    if parts.path.startswith("/"):
        return "starts at the server's root, where a published book need not be"
    target = (one.path.parent / unquote(parts.path)).resolve() if parts.path else one.path
    if not target.is_relative_to(HTML.resolve()) and target != one.path:
        return "leads out of the built book"
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "no such file"
    fragment = unquote(parts.fragment)
    if target.suffix == ".html" and fragment not in page(target).anchors:
        return f"no anchor #{fragment} there"
    return None


def test_every_link_inside_the_book_resolves(pages):
    assert len(pages) > 5, f"only {len(pages)} pages in {HTML}: was the whole book built?"
    dead = {
        f"{one}: {link}: {why}" for one in pages for link in one.links if (why := fault(one, link))
    }
    failures(sorted(dead), "dead link (page: link: why)")


def test_no_page_loads_anything_from_outside(pages):
    outside = [f"{one}: {link}" for one in pages for link in one.loads if OUTSIDE.match(link)]
    failures(outside, "resource loaded from outside (page: address); ship it in _static")


def test_no_style_loads_anything_from_outside(pages):
    pattern = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")
    texts = [(str(one), style) for one in pages for style in one.styles]
    texts += [
        (p.relative_to(HTML).as_posix(), p.read_text("utf-8")) for p in sorted(HTML.rglob("*.css"))
    ]
    outside = [f"{where}: {link}" for where, text in texts for link in pattern.findall(text)]
    failures(outside, "style that loads from outside (file: address)")


def test_no_inline_script_names_an_outside_script(pages):
    """But for the figures' own fallback, which leaves pages with our figures.js alone."""
    guard = "if(!document.querySelector('script[data-dy33-figures]'))"
    outside = []
    for one in pages:
        for script in one.scripts:
            if script.startswith(guard) and one.draws_figures:
                continue
            found = re.findall(r"""["'`](https?://[^"'`\s]+\.m?js[^"'`\s]*)""", script)
            outside += [f"{one}: {link}" for link in found]
    failures(outside, "address of an outside script in an inline script (page: address)")


def test_ids_are_unique(pages):
    doubled = [
        f"{one}: #{name} stands {count} times"
        for one in pages
        for name, count in one.ids.items()
        if count > 1 and name not in DOUBLED
    ]
    failures(doubled, "doubled id: links to it lead to the first one only")


def test_each_page_has_one_title(pages):
    """The theme's copy of the title that only goes to the printer is not counted."""
    wrong = [f"{one}: {one.headings}" for one in pages if is_page(one) and one.headings != 1]
    failures(wrong, "page whose number of h1 headings is not 1 (page: number)")


def test_launch_buttons_open_this_copy_or_nothing(pages, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    address = importlib.import_module("dy33_book").repository_url()
    repository = urlsplit(address or "").path.strip("/")
    hosts = re.compile(r"https://(mybinder\.org|colab\.research\.google\.com)/(.+)")
    wrong = []
    for one in pages:
        for link in one.links:
            match = hosts.match(link)
            if not match or "/" not in match[2]:
                continue
            notebook = re.search(r"book/ch\d\d-[\w-]+\.ipynb", unquote(link))
            there = notebook and (ROOT / notebook[0]).is_file()
            if not repository or repository not in unquote(link) or not there:
                wrong.append(f"{one}: {link}")
    known = f"repository {repository}" if repository else "no known repository"
    failures(wrong, f"launch link that does not open a notebook of this copy ({known})")
