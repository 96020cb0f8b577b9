"""The built book in a real browser: it works, offline, for everybody, in light and dark."""

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tools.chapters import Chapter, notebooks, read_chapter

pytestmark = pytest.mark.built

ROOT = Path(__file__).resolve().parent.parent
HTML = Path(os.environ.get("DY33_HTML", ROOT / "_build" / "html"))
SHOTS = ROOT / "artifacts" / "screenshots"
LOOKS: dict[str, Any] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
PAGES = sorted(f"book/{path.name}" for path in HTML.glob("book/*.html")) or ["book/index.html"]
CHAPTERS = [path.stem for path in notebooks()]
CHAPTER = f"book/{CHAPTERS[0]}.html" if CHAPTERS else "book/index.html"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
CLAIMS = ".dy33-claims:not(.dy33-table)"
PICTURES = {  # what: (page, what to show; None for the top of the page)
    "index": ("book/index.html", None),
    "chapter": (CHAPTER, None),
    "interactive": (CHAPTER, "figure.dy33-interactive"),
    "claims": (CHAPTER, CLAIMS),
    "exercise": (CHAPTER, ".exercise"),
    "scoreboard": ("book/scoreboard.html", None),
    "api": ("book/api.html", None),
}

# Texts of our own that stand on the page or on our panels; SVG is coloured by fill, HTML by color.
TEXTS = {
    "text in figures": "figure.dy33-figure svg g[transform*='scale('] use",
    "text in charts": ".dy33-plot :is(.xtick, .ytick, .g-xtitle, .g-ytitle, .legendtext) text",
    "captions": "figure.dy33-figure figcaption",
    "verdicts": "[class*='dy33-verdict']",
    "text in cards": ".dy33-card svg g[transform*='scale('] use",
}

# Faults of the theme and of sphinxcontrib-bibtex that axe reports: {rule: (elements, reason)}. They
# are excused on these elements alone, none of which holds anything of ours but names and titles.
LIST = ".citation-list[role=list]"
ENTRY = ".citation-list > .citation[role=doc-biblioentry]"
ALLOWED = {
    "region": (
        ".sidebar-primary-item:has(> a.navbar-brand)",
        "the theme puts the book's name beside the sidebar's navigation, not into it",
    ),
    "aria-required-children": (LIST, "bibtex: its entries are no list items for ARIA 1.2"),
    "aria-allowed-role": (ENTRY, "bibtex: a role that ARIA 1.2 took from plain divisions"),
    "aria-deprecated-role": (ENTRY, "bibtex: the same role is deprecated"),
}

# axe needs seconds for each thousand elements. MathJax's own and the drawings, which are tested
# apart, go before it comes, and of each kind of token in code and signatures three stay.
THIN = """() => {
  document.querySelectorAll('mjx-container, .dy33-image svg, .dy33-card-picture svg, .main-svg')
    .forEach((e) => e.remove());
  const count = {};
  for (const e of document.querySelectorAll('.highlight span, dt.sig span')) {
    const kind = `${e.parentElement.className}|${e.className}`;
    if (e.children.length) continue;
    count[kind] = (count[kind] || 0) + 1;
    if (count[kind] > 3) e.replaceWith(e.textContent);
  }
}"""
AXE = """async (allowed) => {
  const options = {resultTypes: ['violations'], iframes: false, preload: false};
  const result = await axe.run(document, options);
  const left = [];
  for (const rule of result.violations) for (const node of rule.nodes) {
    const element = document.querySelector(node.target.at(-1));
    if (rule.id in allowed && element && element.matches(allowed[rule.id])) continue;
    const html = node.html.replace(/\\s+/g, ' ').slice(0, 160);
    left.push(`${rule.id} (${rule.help}): ${node.target.join(' ')}: ${html}`);
  }
  return left;
}"""
MATHS = """() => [...document.querySelectorAll('.bd-article .math')]
  .filter((e) => !e.querySelector('mjx-container') || e.querySelector('mjx-merror'))
  .map((e) => e.textContent.trim().slice(0, 100))"""
UNNAMED = """() => {
  const words = (id) => document.getElementById(id)?.textContent || '';
  return [...document.querySelectorAll('img, [role=img]')]
    .filter((e) => !e.closest('[aria-hidden=true]'))
    .filter((e) => !((e.tagName === 'IMG' ? e.alt : e.getAttribute('aria-label'))
                     || words(e.getAttribute('aria-labelledby'))).trim())
    .map((e) => e.outerHTML.slice(0, 160));
}"""
# Wider than the page, or reaching out of it although the theme would cut it off unseen.
WIDE = """() => {
  const page = document.scrollingElement, limit = page.clientWidth;
  const scrolls = (e) => e && e !== page &&
    (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const wide = [...document.querySelectorAll('.bd-article *')]
    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > limit + 1)
    .filter((e) => !scrolls(e.parentElement) && !e.closest('mjx-assistive-mml, svg'))
    .map((e) => `${e.tagName} ${e.id} ${e.className}: ${e.textContent.trim().slice(0, 60)}`);
  if (page.scrollWidth > limit) wide.unshift(`the page is ${page.scrollWidth} px wide`);
  return wide.slice(0, 12);
}"""
# Colour of each element that a selector finds, and of what lies behind it, as [r, g, b] in 0..255.
COLOURS = """(selector) => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const colour = (e) => getComputedStyle(e)[e instanceof SVGElement ? 'fill' : 'color'];
  return [...document.querySelectorAll(selector)]
    .filter((e) => e.checkVisibility() && colour(e).startsWith('rgb'))
    .map((e) => [parse(colour(e)).slice(0, 3), behind(e), e.outerHTML.slice(0, 120)]);
}"""
READY = """async () => {
  await window.MathJax?.startup?.promise;
  const plots = [...document.querySelectorAll('figure.dy33-interactive .dy33-plot')];
  for (let i = 0; i < 100 && plots.some((p) => !p.querySelector('.main-svg')); i++)
    await new Promise((done) => setTimeout(done, 50));
}"""


@dataclass
class Visit:
    """What one page showed in one look."""

    where: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    theme: str = ""
    maths: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)
    axe: list[str] = field(default_factory=list)
    texts: dict[str, list[Any]] = field(default_factory=dict)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no news."""


class Reader:
    """A browser that reads the book in several looks and keeps account of what it met."""

    def __init__(self, browser: Any, base: str):
        import axe_playwright_python

        self.base = base
        self.axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.visits: dict[tuple[str, str], Visit] = {}
        self.contexts = {}
        for look, options in LOOKS.items():
            context = browser.new_context(**options, reduced_motion="reduce")
            context.set_default_timeout(60_000)  # a busy machine is no fault of a page
            context.route(lambda url: not url.startswith(base), self.refuse)
            self.contexts[look] = context

    def refuse(self, route: Any) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def hear(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    @contextlib.contextmanager
    def open(self, look: str, path: str) -> Iterator[Any]:
        """A fresh page, drawn and typeset; errors and outside requests are noted from here on."""
        self.errors, self.outside = [], []
        page = self.contexts[look].new_page()
        page.on("console", self.hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"{self.base}/{path}", wait_until="load")
        page.evaluate(READY)
        yield page
        page.evaluate("localStorage.clear()")
        page.close()

    def visit(self, look: str, path: str) -> Visit:
        if (look, path) not in self.visits:
            seen = Visit(f"{path} ({look})")
            with self.open(look, path) as page:
                for what, (where, selector) in PICTURES.items():
                    if where == path:
                        target = page.locator(selector).first if selector else page
                        if not selector or target.count():
                            target.screenshot(path=SHOTS / f"{what}-{look}.png")
                page.evaluate("scrollTo(0, document.body.scrollHeight)")
                seen.theme = page.evaluate("document.documentElement.dataset.theme")
                seen.maths = page.evaluate(MATHS)
                seen.unnamed = page.evaluate(UNNAMED)
                seen.wide = page.evaluate(WIDE)
                for what, selector in TEXTS.items():
                    seen.texts[what] = page.evaluate(COLOURS, selector)
                seen.errors, seen.outside = self.errors, self.outside
                if look != "phone":
                    page.evaluate(THIN)
                    page.evaluate(self.axe)
                    allowed = {rule: selector for rule, (selector, _) in ALLOWED.items()}
                    seen.axe = page.evaluate(AXE, allowed)
            self.visits[look, path] = seen
        return self.visits[look, path]


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    if not (HTML / "index.html").is_file():
        pytest.fail(f"There is no built book in {HTML}: type `make book` first.")
    server = Server(("127.0.0.1", 0), partial(Quiet, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def reader(base: str) -> Iterator[Reader]:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        ask = "No Chromium here; install it (Debian, Ubuntu: apt install chromium) or set CHROMIUM."
        (pytest.fail if os.environ.get("CI") in ("true", "1") else pytest.skip)(ask)
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield Reader(browser, base)
        browser.close()


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=PAGES)
def seen(request: pytest.FixtureRequest, look: str, reader: Reader) -> Visit:
    return reader.visit(look, request.param)


@pytest.fixture
def chapter() -> Chapter:
    assert CHAPTERS, "there is no book/ch??-*.ipynb: type `make notebook CH=ch01`"
    return read_chapter(notebooks()[0])


def nothing(found: list[str], where: str, advice: str) -> None:
    if found:
        pytest.fail(f"{where}: {advice}:\n  " + "\n  ".join(dict.fromkeys(found)), pytrace=False)


# Every page, in every look ---------------------------------------------------------------------


def test_no_errors_in_the_console(seen):
    nothing(seen.errors, seen.where, "open the browser's console on this page")


def test_no_request_leaves_the_machine(seen):
    nothing(seen.outside, seen.where, "loads from outside; ship these files in _static")


def test_maths_is_typeset(seen):
    nothing(seen.maths, seen.where, "MathJax left this as it is, or could not read it")


def test_pictures_have_words(seen):
    nothing(seen.unnamed, seen.where, "give these a text alternative (alt or aria-label)")


def test_nothing_is_wider_than_the_page(seen):
    nothing(seen.wide, seen.where, "sticks out to the right; let it shrink, wrap or scroll")


def test_axe_finds_nothing(seen):
    nothing(seen.axe, seen.where, "axe-core's rule, element and where to look")


def test_the_page_follows_the_system_theme(seen, look):
    wanted = "dark" if look == "dark" else "light"
    assert seen.theme == wanted, f"{seen.where}: html[data-theme] is {seen.theme!r}"


# Colours ---------------------------------------------------------------------------------------


def luminance(colour: list[float]) -> float:
    """Relative luminance of an sRGB colour, as WCAG 2 defines it."""
    parts = (c / 255 for c in colour)
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([118, 118, 118], [255, 255, 255]) == pytest.approx(4.54, abs=0.01)


def test_our_texts_stand_out(seen):
    for what, found in seen.texts.items():
        faint = [
            f"{contrast(ink, paper):.2f}: rgb{tuple(ink)} on rgb{tuple(paper)}: {element}"
            for ink, paper, element in found
            if contrast(ink, paper) < 4.5
        ]
        nothing(faint[:5], seen.where, f"{what} below 4.5:1; see figures.COLOURS and book.css")


@pytest.mark.parametrize("what", TEXTS)
def test_there_are_such_texts(reader, look, what):
    """Or the test above would look at nothing."""
    path = "book/index.html" if "cards" in what else CHAPTER
    assert reader.visit(look, path).texts[what], f"{path}: nothing matches {TEXTS[what]}"


# What the reader can do ------------------------------------------------------------------------

INK = """() => ({
  theme: document.documentElement.dataset.theme,
  ink: getComputedStyle(document.documentElement).getPropertyValue('--dy33-ink').trim(),
  figure: getComputedStyle(
    document.querySelector("figure.dy33-figure svg g[transform*='scale('] use")).fill,
  chart: getComputedStyle(document.querySelector('.dy33-plot .xtick text')).fill,
})"""


def test_theme_button_turns_the_page_and_its_figures(reader):
    with reader.open("light", CHAPTER) as page:
        drawn = page.locator(".dy33-plot .xtick text").count()
        assert drawn, f"{CHAPTER}: no chart is drawn; see figures.js and the browser's console"
        before = page.evaluate(INK)
        page.locator(".theme-switch-button:visible").first.click()
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        page.wait_for_timeout(300)
        after = page.evaluate(INK)
        nothing(reader.errors, CHAPTER, "console errors after a change of theme")
    assert (before["theme"], after["theme"]) == ("light", "dark")
    for what in ("ink", "figure", "chart"):
        assert before[what] != after[what], f"{what} stays {before[what]} when the page turns dark"


STATE = """(figure) => ({
  visible: figure.querySelector('.dy33-plot').data.map((trace) => trace.visible),
  drawn: [...figure.querySelectorAll('.scatterlayer .js-line')].map((p) => p.getAttribute('d')),
  told: figure.querySelector('output').textContent,
  value: figure.querySelector('input[type=range]').value,
  spoken: figure.querySelector('input[type=range]').getAttribute('aria-valuetext'),
})"""


def test_slider_obeys_the_keyboard(reader):
    with reader.open("light", CHAPTER) as page:
        figure = page.locator("figure.dy33-interactive").filter(has=page.locator("input")).first
        assert figure.count(), f"{CHAPTER}: no slider in any chart; see figures.js"
        slider = figure.locator("input[type=range]")
        label = slider.evaluate("(e) => e.labels.length && e.labels[0].textContent.trim()")
        assert label, f"{CHAPTER}: the slider has no label"
        states = [figure.evaluate(STATE)]
        slider.focus()
        for key in ("ArrowRight", "ArrowLeft", "Home"):
            page.keyboard.press(key)
            page.wait_for_timeout(200)
            states.append(figure.evaluate(STATE))
        nothing(reader.errors, CHAPTER, "console errors from the slider")
    start, right, back, home = states
    for what in ("visible", "drawn", "told", "value", "spoken"):
        assert right[what] != start[what], f"{CHAPTER}: ArrowRight leaves {what} as {start[what]}"
        assert back[what] == start[what], f"{CHAPTER}: ArrowLeft does not bring {what} back"
    assert home["value"] == "0", f"{CHAPTER}: Home leads to step {home['value']}"
    assert right["told"] == right["spoken"], "screen and screen reader are told different values"


def test_solutions_open_by_mouse_and_keyboard(reader):
    with reader.open("light", CHAPTER) as page:
        solution = page.locator(".solution.dropdown").first
        assert solution.count(), f"{CHAPTER}: no solution with :class: dropdown"
        text, button = solution.locator("section p").first, solution.locator("button").first
        assert not text.is_visible(), f"{CHAPTER}: the solution stands open from the start"
        for way in ("click", "Enter", "Space"):
            for visible in (True, False):
                if way == "click":
                    solution.locator(".admonition-title").first.click()
                else:
                    button.focus()
                    page.keyboard.press(way)
                page.wait_for_timeout(300)
                still = f"still {'closed' if visible else 'open'} after {way}"
                assert text.is_visible() == visible, f"{CHAPTER}: the solution is {still}"


def test_folded_cells_open_by_mouse_and_keyboard(reader):
    with reader.open("light", CHAPTER) as page:
        cells = page.locator("details.hide")
        assert cells.count() > 1, f"{CHAPTER}: no folded code cells (tag hide-input)"
        for cell, way in ((cells.nth(0), "click"), (cells.nth(1), "Enter")):
            code, summary = cell.locator("pre").first, cell.locator("summary")
            assert not code.is_visible(), f"{CHAPTER}: the cell stands open from the start"
            if way == "click":
                summary.click()
            else:
                summary.focus()
                page.keyboard.press(way)
            assert code.is_visible(), f"{CHAPTER}: the folded cell does not open by {way}"


def test_chapter_shows_what_its_run_measured(reader, chapter):
    with reader.open("light", CHAPTER) as page:
        rows = page.locator(f"{CLAIMS} tbody tr").count()
        verdicts = page.locator(f"{CLAIMS} tbody td:last-child").all_inner_texts()
        badge = page.locator(".bd-article .dy33-badge").first.inner_text()
        box = page.locator(".dy33-finding")
        title, points = box.locator(".admonition-title").inner_text(), box.locator("li").count()
    assert rows == len(chapter.claims), f"{rows} rows for {len(chapter.claims)} claims"
    for shown, claim in zip(verdicts, chapter.claims, strict=True):
        assert claim.verdict in shown, f"{claim.statement}: the page says {shown!r}"
    assert chapter.seconds is not None, "the notebook lacks dy33_run: `make notebook CH=ch01`"
    assert f"{chapter.seconds:.0f} s on one core" in badge, f"no CPU seconds in: {badge}"
    assert "What this run measured" in title, f"the box at the top is called {title!r}"
    assert points == len(chapter.headlines) > 0, f"{points} points, {len(chapter.headlines)} found"


def test_search_opens_by_keyboard(reader):
    with reader.open("light", CHAPTER) as page:
        page.keyboard.press("Control+k")
        field = page.locator("#pst-search-dialog[open] input[name=q]")
        field.wait_for(state="visible")
        assert field.evaluate("(e) => e === document.activeElement"), "Ctrl+K: field lacks focus"


def test_search_finds_the_first_chapter(reader):
    with reader.open("light", "search.html?q=tangent+kernel") as page:
        page.locator("#search-results .search-summary, #search-results p").first.wait_for()
        page.wait_for_timeout(1000)
        found = page.locator("#search-results li a").evaluate_all("(a) => a.map((e) => e.href)")
        nothing(reader.errors + reader.outside, "search.html", "console errors, outside requests")
    assert any(CHAPTER in link for link in found), f"'tangent kernel' finds only {found}"


def test_gallery_has_every_chapter(reader):
    with reader.open("light", "book/index.html") as page:
        cards = page.locator("a.dy33-card")
        links = cards.evaluate_all("(a) => a.map((e) => e.getAttribute('href'))")
        assert links == [f"{name}.html" for name in CHAPTERS], f"the gallery's cards open {links}"
        cards.first.click()
        page.wait_for_load_state()
        assert page.url.endswith(CHAPTER), f"the first card opens {page.url}"
        assert page.locator("article h1").count() == 1, f"{page.url} is not a chapter"


def test_root_leads_to_the_book(reader):
    page = reader.contexts["light"].new_page()
    page.goto(f"{reader.base}/index.html")
    page.wait_for_url(re.compile(r"/book/index\.html$"))
    page.close()


@pytest.mark.parametrize("what", PICTURES)
def test_screenshots_are_there(reader, look, what):
    path, selector = PICTURES[what]
    if path in PAGES:
        reader.visit(look, path)
    shot = SHOTS / f"{what}-{look}.png"
    assert shot.is_file(), f"{path}: nothing matches {selector}, so there is no {shot.name}"
