"""The look of the figures: static ones as inline SVG, interactive ones in plotly.

A static figure is drawn by Matplotlib and shown as SVG inside the page, its colours replaced by the
page's own variables: it follows light and dark, scales with the screen and stays small. An
interactive one is a plotly figure that works in the built page without a network, in JupyterLab
and in Colab. Both carry a caption and a text alternative, and refuse to do without.
"""

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axis import Axis
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from plotly.offline import get_plotlyjs_version

# One colour for one thing through a chapter. Each is at least 3:1 against white and, in its second
# shade, against the dark page; the order keeps neighbours apart for colour-blind readers
# (after Okabe and Ito 2008, darkened where white needs it).
COLOURS = {
    "ink": ("#1b1b1b", "#e6e6e6"),
    "grey": ("#767676", "#9a9a9a"),
    "blue": ("#0072b2", "#56b4e9"),
    "vermillion": ("#d55e00", "#ff8c42"),
    "green": ("#00875f", "#35c99a"),
    "purple": ("#a8518a", "#e09ac6"),
    "gold": ("#a06a00", "#f0b93a"),
}
INK, GREY, BLUE, VERMILLION, GREEN, PURPLE, GOLD = (light for light, _ in COLOURS.values())
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, GOLD)
MARKERS = ("o", "s", "^", "D", "v")  # never colour alone

STYLE: Any = {
    "figure.figsize": (6.4, 3.6),
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.prop_cycle": cycler(color=CYCLE, marker=MARKERS),
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "errorbar.capsize": 2,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "path",  # the page then needs no font, and shows what was drawn
    "svg.hashsalt": "dy33",
    "image.cmap": "cividis",
}


def use_style() -> None:
    """Switch Matplotlib to the house style; a chapter calls it once, at the top."""
    matplotlib.rcParams.update(STYLE)


def log_ticks(axis: Axis, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis at the measured values, written out, and none between."""
    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


class Show:
    """A Matplotlib figure with its caption and text alternative.

    Args:
        figure: the figure; it is drawn at once, and may be closed afterwards.
        name: short and unique in its chapter; the page's anchor is `fig-<name>`.
        caption: what to see, in one or two sentences; `**bold**`, `*italic*` and `$x$` work.
        alt: what the figure shows, for those who do not see it.

    Raises:
        ValueError: if name, caption or alt is empty, or the name is not made of a-z, 0-9 and "-".
    """

    def __init__(self, figure: MatplotlibFigure, *, name: str, caption: str, alt: str):
        self.name, self.caption, self.alt = _labels(name, caption, alt)
        buffer = io.StringIO()
        with matplotlib.rc_context(STYLE):
            clean = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(buffer, format="svg", metadata=clean)
        self.svg = _themed(buffer.getvalue(), name)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        body = (
            f'<figure class="dy33-figure" id="fig-{self.name}">'
            f'<div class="dy33-image" role="img" aria-label="{html.escape(self.alt)}">'
            f"{self.svg}</div><figcaption>{_inline(self.caption)}</figcaption></figure>"
        )
        return {"text/html": body, "text/plain": f"Figure: {self.alt}"}


class Interactive:
    """A plotly figure that moves in the page, in JupyterLab and in Colab.

    On the page plotly's slider is replaced by the browser's own, which obeys the keyboard.

    Args:
        figure: a `plotly.graph_objects.Figure`; its template is dropped, its colours should be
            those of `COLOURS`.
        name: as in `Show`.
        caption: as in `Show`.
        alt: as in `Show`.
        digits: significant digits kept of each number: more would only swell the page.

    Raises:
        ValueError: as in `Show`.
    """

    def __init__(self, figure: Any, *, name: str, caption: str, alt: str, digits: int = 4):
        self.name, self.caption, self.alt = _labels(name, caption, alt)
        spec = json.loads(figure.to_json(engine="json"))
        spec.get("layout", {}).pop("template", None)
        self.spec = _rounded(spec, digits)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        data = json.dumps(self.spec, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
        body = (
            f'<figure class="dy33-figure dy33-interactive" id="fig-{self.name}">'
            f'<div class="dy33-plot" role="group" aria-label="{html.escape(self.alt)}"></div>'
            f'<script type="application/json">{data}</script>'
            f"<figcaption>{_inline(self.caption)}</figcaption></figure>"
            # The page's own script draws the figure there; elsewhere (Colab) plotly is fetched.
            "<script>if(!document.querySelector('script[data-dy33-figures]')){"
            "const f=document.currentScript.previousElementSibling,"
            "d=()=>{const s=JSON.parse(f.querySelector('script').textContent);"
            "Plotly.newPlot(f.querySelector('.dy33-plot'),s.data,s.layout,{responsive:true})};"
            "if(window.Plotly)d();else{const s=document.createElement('script');"
            f"s.src='https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js';s.onload=d;"
            "document.head.append(s)}}</script>"
        )
        return {
            "application/vnd.plotly.v1+json": self.spec,
            "text/html": body,
            "text/plain": f"Interactive figure: {self.alt}",
        }


class Table:
    """A small table of results with a caption.

    Args:
        header: column titles.
        rows: one sequence of texts a row; the first is the row's title.
        caption: what to see; as in `Show`.

    Raises:
        ValueError: if a row has another number of cells than the header, or the caption is empty.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str):
        if any(len(row) != len(header) for row in rows):
            raise ValueError(f"each row needs {len(header)} cells")
        if not caption.strip():
            raise ValueError("a table needs a caption")
        self.header, self.rows, self.caption = header, rows, " ".join(caption.split())

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        head = "".join(f'<th scope="col">{html.escape(t)}</th>' for t in self.header)
        body = "".join(
            f'<tr><th scope="row">{html.escape(row[0])}</th>'
            + "".join(f"<td>{html.escape(t)}</td>" for t in row[1:])
            + "</tr>"
            for row in self.rows
        )
        title = html.escape(re.sub(r"[*$]", "", self.caption).split(".")[0])
        page = (
            f'<div class="dy33-claims dy33-table" role="region" tabindex="0" aria-label="{title}">'
            f"<table><caption>{_inline(self.caption)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>"
        )
        lines = [" | ".join(row) for row in (self.header, *self.rows)]
        return {"text/html": page, "text/plain": "\n".join(lines)}


def _labels(name: str, caption: str, alt: str) -> tuple[str, str, str]:
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ValueError(f"name must be made of a-z, 0-9 and '-', got {name!r}")
    for label, text in (("caption", caption), ("alt", alt)):
        if not text.strip():
            raise ValueError(f"figure {name!r} needs a {label}")
    return name, " ".join(caption.split()), " ".join(alt.split())


def _inline(text: str) -> str:
    """The little Markdown of captions as HTML; MathJax finds the mathematics by its class."""
    text = html.escape(text, quote=False)

    def formula(match: re.Match) -> str:
        body = match[1].replace("*", "&#42;")  # no emphasis inside
        return rf'<span class="math notranslate nohighlight">\({body}\)</span>'

    text = re.sub(r"\$(.+?)\$", formula, text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)


def _themed(svg: str, name: str) -> str:
    """Matplotlib's SVG made fit for a page: named colours, short numbers, ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)
    width = re.search(r'width="([\d.]+)pt"', svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    limit = f"max-width:{float(width[1]) / 0.72:.0f}px;" if width else ""
    limit += "fill:currentColor"  # for what names no fill of its own
    svg = svg.replace("<svg ", f'<svg aria-hidden="true" style="width:100%;{limit}" ', 1)
    svg = re.sub(r' xmlns:?\w*="[^"]*"', "", svg)
    svg = svg.replace(INK, "currentColor")  # the page's text colour, here and in JupyterLab
    for colour, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--dy33-{colour},{light})")
    # Presentation attributes do not know variables, so what is not yet in a style moves there.
    svg = re.sub(r'\b(fill|stroke)="(var\([^"]*\))"', r'style="\1:\2"', svg)
    svg = re.sub(r"xlink:href=", "href=", svg)
    used = dict.fromkeys(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    short = {"".join(key): f"{name}-{number}" for number, key in enumerate(used)}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{short[m[1]]}"' if m[1] in short else "", svg)
    svg = re.sub(r'href="#([^"]+)"', lambda m: f'href="#{short[m[1]]}"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{short[m[1]]})", svg)
    svg = re.sub(r'style="[^"]*"', lambda m: m[0].replace(": ", ":").replace("; ", ";"), svg)
    # A tick repeats the style of the mark that it uses.
    svg = re.sub(r' style="fill:currentColor;stroke:currentColor;stroke-width:0\.[68]"', "", svg)
    svg = svg.replace("stroke-linejoin:miter;", "").replace(";stroke-linecap:square", "")

    def shorten(match: re.Match) -> str:
        return re.sub(r"-?\d+\.\d{2,}", lambda m: f"{float(m[0]):.4g}", match[0])

    svg = re.sub(r'\b(d|x|y|points)="[^"]*"', shorten, svg)
    return re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").strip()


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None  # a gap; JSON has no NaN
    if isinstance(value, float):
        return float(np.format_float_scientific(value, precision=digits - 1)) if value else 0.0
    if isinstance(value, dict):
        if "bdata" in value:  # plotly packs NumPy arrays as base64; numbers can be rounded
            flat = np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]))
            shape = [int(n) for n in str(value.get("shape", flat.size)).split(",")]
            return _rounded(flat.reshape(shape).tolist(), digits)
        return {k: _rounded(v, digits) for k, v in value.items()}
    return [_rounded(v, digits) for v in value] if isinstance(value, list) else value
