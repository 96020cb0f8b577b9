import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.figure import Figure

from dy33lib import figures
from dy33lib.figures import COLOURS, Interactive, Show, Table

STATIC = Path(__file__).parent.parent / "book" / "_static"


class Page(HTMLParser):
    """Elements with their attributes, and the texts by the element they stand in."""

    def __init__(self, page):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append((self.elements[-1][0], data))

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def drawing() -> Figure:
    """All that chapters use: clipped lines, markers, filled areas, an image, text and a legend."""
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure()
        left, right = figure.subplots(1, 2)
        x = np.linspace(0.1, 3, 50)
        for i in range(5):
            left.loglog(x, x ** (i / 3), label=f"<line> & {i}")
        left.fill_between(x, x, 2 * x, color=figures.GREY, alpha=0.3)
        left.errorbar([1, 2], [1, 2], [0.1, 0.2], color=figures.INK, marker="")
        left.legend()
        right.imshow(np.arange(12.0).reshape(3, 4))
        right.set_title("$\\gamma^2$")
        figure.text(0.3, 0.3, "turned", rotation=30, color=figures.PURPLE)
    return figure


def show(**options) -> Show:
    options = {"name": "one", "caption": "What to see.", "alt": "What it shows.", **options}
    return Show(options.pop("figure", None) or drawing(), **options)


def page(shown) -> str:
    return shown._repr_mimebundle_()["text/html"]


@pytest.fixture(scope="module")
def svg() -> str:
    return show().svg


# Labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"caption": ""}, "'one' needs a caption"),
        ({"caption": " \n"}, "'one' needs a caption"),
        ({"alt": ""}, "'one' needs a alt"),
        ({"alt": "\t "}, "'one' needs a alt"),
        ({"name": ""}, "name must be made of"),
        ({"name": "Two"}, "name must be made of"),
        ({"name": "a b"}, "name must be made of"),
        ({"name": 'a"b'}, "name must be made of"),
        ({"name": "a\n"}, "name must be made of"),
    ],
)
@pytest.mark.parametrize("kind", [Show, Interactive])
def test_figures_without_labels_are_refused(kind, options, message):
    options = {"name": "one", "caption": "c", "alt": "a", **options}
    with pytest.raises(ValueError, match=message):
        kind(Figure() if kind is Show else go.Figure(), **options)


def test_alt_and_caption_are_escaped():
    text = "<b>1 & 2</b> \"so\" 'it' is"
    interactive = Interactive(go.Figure(), name="one", caption=text, alt=text)
    for shown in (show(caption=text, alt=text), interactive):
        read = Page(page(shown))
        assert text in [a.get("aria-label") for _, a in read.elements]
        assert "".join(t for tag, t in read.texts if tag == "figcaption") == text
        assert not read.find("b")
        assert shown._repr_mimebundle_()["text/plain"].endswith(f"igure: {text}")


def test_text_of_several_lines_becomes_one():
    shown = show(caption="One\n  two", alt="three\n  four")
    assert (shown.caption, shown.alt) == ("One two", "three four")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a **b** c", "a <strong>b</strong> c"),
        ("a *b* c", "a <em>b</em> c"),
        ("**a** *b* **c**", "<strong>a</strong> <em>b</em> <strong>c</strong>"),
        ("$x$", r'<span class="math notranslate nohighlight">\(x\)</span>'),
        ("$a < b$", r'<span class="math notranslate nohighlight">\(a &lt; b\)</span>'),
        ("a < b & c", "a &lt; b &amp; c"),
        (
            "$N^*$ and *not* $M^*$",
            r'<span class="math notranslate nohighlight">\(N^*\)</span> and <em>not</em> '
            r'<span class="math notranslate nohighlight">\(M^*\)</span>',
        ),
    ],
)
def test_captions_know_a_little_markdown(text, expected):
    pages = page(show(caption=text, figure=Figure())), page(Table(["a"], [], caption=text))
    for tag, written in zip(("figcaption", "caption"), pages, strict=True):
        assert f"<{tag}>{expected}</{tag}>" in written.replace("&#42;", "*")


# Static figures ----------------------------------------------------------------------------------


def test_svg_is_the_same_each_time(svg):
    assert show().svg == svg
    shown = show()
    assert page(shown) == page(shown)


def test_svg_depends_on_no_setting_of_the_session(svg):
    with matplotlib.rc_context({"svg.hashsalt": None, "svg.fonttype": "none"}):
        assert show().svg == svg


def test_house_colours_are_variables(svg):
    used = set(re.findall(r"var\(--dy33-(\w+),(#\w+)\)", svg))
    # ink is the page's text colour, which pages other than ours have as well
    assert used == {(name, light) for name, (light, _) in COLOURS.items() if name != "ink"}
    assert "currentColor" in svg
    rest = re.sub(r"var\(--dy33-\w+,#\w+\)", "", svg).lower()
    assert not [light for light, _ in COLOURS.values() if light in rest]
    assert not re.search(r'(fill|stroke)="var', svg)  # attributes do not know variables


@pytest.mark.parametrize("width", [0.8, 1, 1.6])
def test_filled_marks_keep_the_ink(width):
    figure = Figure()
    axes = figure.subplots()
    axes.set_axis_off()
    axes.plot([1, 2], [1, 2], "o", color=figures.INK, markeredgewidth=width)
    assert "fill:currentColor" in show(figure=figure).svg
    axes.clear()
    axes.set_axis_off()
    axes.scatter([1, 2], [1, 2], color=figures.INK, linewidths=width)
    assert "fill:currentColor" in show(figure=figure).svg


def test_svg_carries_nothing_but_the_picture(svg):
    assert svg.startswith("<svg ")
    assert svg.endswith("</svg>")
    for word in (
        "doctype",
        "<?xml",
        "<metadata",
        "dc:",
        "rdf:",
        "xlink",
        "xmlns",
        "<!--",
        "<style",
    ):
        assert word not in svg.lower()
    assert not re.search(r"\d{4}-\d\d-\d\d", svg)  # no date
    assert "http" not in svg
    assert "\n" not in svg
    (root,) = Page(svg).find("svg")
    assert root["aria-hidden"] == "true"
    assert not {"width", "height"} & set(root)  # it scales
    assert root["viewbox"]


def test_svg_is_well_formed(svg):
    Page(svg)  # no attribute twice
    assert svg.count("<g ") + svg.count("<g>") == svg.count("</g>") + len(
        re.findall("<g[^>]*/>", svg)
    )


def test_ids_are_the_figures_own(svg):
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert ids
    assert len(ids) == len(set(ids))
    assert all(i.startswith("one-") for i in ids)
    references = re.findall(r'href="#([^"]*)"', svg) + re.findall(r"url\(#([^)]*)\)", svg)
    assert len(set(references)) > 5
    assert set(references) <= set(ids)
    hrefs = re.findall(r'href="([^"]*)"', svg)
    assert all(h.startswith(("#one-", "data:image/png;base64,")) for h in hrefs)
    assert any(h.startswith("data:") for h in hrefs)
    other = re.findall(r'\bid="([^"]*)"', show(name="two").svg)
    assert not set(ids) & set(other)


def test_numbers_are_short_but_transforms_are_not_touched(svg):
    long = r"\d+\.\d{4,}|\d{4,}\.\d|\d{2}\.\d{3}"
    for attribute in re.findall(r'\b(?:d|x|y|points)="([^"]*)"', svg):
        assert not re.search(long, attribute)
    buffer = io.StringIO()
    with matplotlib.rc_context(figures.STYLE):
        drawing().savefig(buffer, format="svg")
    transforms = re.findall(r'transform="([^"]*)"', svg)
    assert transforms == re.findall(r'transform="([^"]*)"', buffer.getvalue())
    assert any(re.search(r"\d\.\d{4}", t) for t in transforms)
    paths = [re.findall(r' d="([^"]*)"', s) for s in (svg, buffer.getvalue())]
    for short, full in zip(*paths, strict=True):
        numbers = [np.array(re.findall(r"-?[\d.]+(?:e[+-]\d+)?", p), float) for p in (short, full)]
        np.testing.assert_allclose(*numbers, rtol=6e-4, atol=5e-5)


def test_use_style_sets_the_house_style():
    with matplotlib.rc_context():
        figures.use_style()
        assert matplotlib.rcParams["svg.hashsalt"] == "dy33"
        assert matplotlib.rcParams["axes.edgecolor"] == figures.INK


# Colours -----------------------------------------------------------------------------------------


def variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--dy33-(\w+): (#[0-9a-f]{6});", block))


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_page_and_figures_share_their_colours():
    css = (STATIC / "book.css").read_text()
    light = re.search(r"^html \{(.*?)\}", css, re.S | re.M)
    dark = re.search(r'^html\[data-theme="dark"\] \{(.*?)\}', css, re.S | re.M)
    assert light
    assert dark
    for block, shade in ((light[1], 0), (dark[1], 1)):
        found = variables(block)
        assert {name: found[name] for name in COLOURS} == {n: c[shade] for n, c in COLOURS.items()}
    script = (STATIC / "figures.js").read_text()
    table = re.search(r"const light = \{(.*?)\};", script, re.S)
    assert table
    pairs = dict(re.findall(r'"(#[0-9a-f]{6})": "(\w+)"', table[1]))
    assert pairs == {light: name for name, (light, _) in COLOURS.items()}


def test_contrast_is_that_of_the_guideline():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize(("shade", "background"), [(0, "#ffffff"), (1, "#14181e")])
@pytest.mark.parametrize("name", COLOURS)
def test_colours_stand_out_from_the_page(name, shade, background):
    least = 4.5 if name == "ink" else 3
    assert contrast(COLOURS[name][shade], background) >= least


# Interactive figures -----------------------------------------------------------------------------


def interactive(*traces, digits=4, **layout) -> Interactive:
    figure = go.Figure(traces, layout)
    return Interactive(figure, name="one", caption="c", alt="What it shows.", digits=digits)


def embedded(shown) -> dict:
    """The figure that a browser reads out of the page."""
    read = Page(page(shown))
    first = next(text for tag, text in read.texts if tag == "script")

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(first, parse_constant=refuse)


@pytest.mark.parametrize("kind", [list, np.asarray, lambda v: np.asarray(v, np.float32)])
def test_numbers_are_rounded(kind):
    values = [1 / 3, -12345.678, 2e-9 / 3, 0.0, 5.0]
    shown = interactive(go.Scatter(x=kind(values), y=kind(values)))
    rounded = [0.3333, -12350.0, 6.667e-10, 0.0, 5.0]
    assert shown.spec["data"][0]["y"] == rounded
    assert embedded(shown)["data"][0]["x"] == rounded
    assert interactive(go.Scatter(y=kind(values)), digits=2).spec["data"][0]["y"][0] == 0.33


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "u4", "i8"])
def test_integers_stay_as_they_are(dtype):
    numbers = [1, 2, 100]
    shown = interactive(go.Scatter(x=np.array(numbers, dtype), y=numbers))
    assert shown.spec["data"][0]["x"] == numbers == shown.spec["data"][0]["y"]
    long = [1, 2, 1234567]
    assert interactive(go.Scatter(x=np.array(long))).spec["data"][0]["x"] == long


def test_arrays_keep_their_shape():
    z = np.arange(6).reshape(2, 3) / 7
    shown = interactive(go.Heatmap(z=z))
    np.testing.assert_allclose(shown.spec["data"][0]["z"], z, atol=1e-4)
    assert "bdata" not in page(shown)


@pytest.mark.parametrize("kind", [list, np.asarray])
@pytest.mark.parametrize("gap", [np.nan, np.inf])
def test_a_gap_is_null(kind, gap):
    shown = interactive(go.Scatter(y=kind([1.0, gap, 3.0])))
    assert embedded(shown)["data"][0]["y"] == [1.0, None, 3.0]


def test_the_template_is_dropped():
    shown = interactive(go.Scatter(y=[1, 2]), template="plotly_dark", title="x")
    bundle = shown._repr_mimebundle_()
    spec = bundle["application/vnd.plotly.v1+json"]
    assert "template" not in spec["layout"]
    assert spec["layout"]["title"]["text"] == "x"
    assert embedded(shown) == spec
    assert bundle["text/plain"] == "Interactive figure: What it shows."
    assert interactive()._repr_mimebundle_()["application/vnd.plotly.v1+json"]["data"] == []


def test_interactive_figures_are_the_same_each_time():
    traces = [go.Scatter(y=np.arange(4.0)), go.Bar(y=[1, 2])]
    assert page(interactive(*traces)) == page(interactive(*traces))


@pytest.mark.parametrize("title", ["</script><b>", "</SCRIPT >", "<!--<script>", "a & b <i>"])
def test_data_cannot_leave_its_script(title):
    shown = interactive(title=title)
    assert embedded(shown)["layout"]["title"]["text"] == title
    read = Page(page(shown))
    assert len(read.find("script")) == 2
    assert not read.find("b")
    inside = page(shown).partition('json">')[2].partition("</script>")[0]
    # `<!--` before `<script` would keep a browser from seeing the end of the script.
    assert not ("<!--" in inside and "<script" in inside)


# Tables ------------------------------------------------------------------------------------------


def test_tables_are_escaped_and_titled():
    table = Table(["a & b", "<c>"], [["1 < 2", "&"], ["x", "<i>y</i>"]], caption="What. Why.")
    read = Page(page(table))
    texts = [(tag, t) for tag, t in read.texts if tag in ("th", "td")]
    assert texts == [
        ("th", "a & b"), ("th", "<c>"), ("th", "1 < 2"), ("td", "&"), ("th", "x"),
        ("td", "<i>y</i>"),
    ]  # fmt: skip
    assert [a["scope"] for a in read.find("th")] == ["col", "col", "row", "row"]
    (region,) = read.find("div")
    assert (region["role"], region["aria-label"], region["tabindex"]) == ("region", "What", "0")
    plain = table._repr_mimebundle_()["text/plain"]
    assert plain == "a & b | <c>\n1 < 2 | &\nx | <i>y</i>"


@pytest.mark.parametrize("rows", [[["1"]], [["1", "2"], ["1", "2", "3"]], [[]]])
def test_tables_of_ragged_rows_are_refused(rows):
    with pytest.raises(ValueError, match="each row needs 2 cells"):
        Table(["a", "b"], rows, caption="c")


def test_tables_without_caption_are_refused():
    with pytest.raises(ValueError, match="needs a caption"):
        Table(["a"], [["1"]], caption=" ")
