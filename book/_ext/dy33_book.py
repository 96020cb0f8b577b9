"""What the book adds to Jupyter Book: pages without outside requests, made from what was measured.

- copies plotly.js and MathJax out of installed wheels, so that pages work without a network;
- finds the repository's address, so that launch buttons open this copy of the book, or none;
- heads each chapter with what its run measured, and fills `dy33-gallery`, `dy33-scoreboard`,
  `dy33-session` and `dy33-colab` from the executed notebooks.
"""

import html
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dy33lib.claims import claims_table  # noqa: E402
from tools.chapters import BOOK, read_chapter, read_chapters, session  # noqa: E402

# ---------------------------------------------------------------------------------------------
# Where this copy of the book lives


def repository_url() -> str | None:
    """Web address of the repository, from the hosting CI's environment or from git; or None."""
    environment = os.environ
    if environment.get("GITHUB_REPOSITORY"):
        server = environment.get("GITHUB_SERVER_URL", "https://github.com")
        return f"{server}/{environment['GITHUB_REPOSITORY']}"
    if environment.get("CI_PROJECT_URL"):
        return environment["CI_PROJECT_URL"]
    command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    try:
        remote = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    remote = re.sub(r"^(ssh://git@([^:/]+)(:\d+)?/|git@([^:/]+):)", r"https://\2\4/", remote)
    remote = re.sub(r"^https://[^/@]*@", "https://", remote)  # never publish a token
    match = re.fullmatch(r"(https://[\w.-]+/[\w./-]+?)(\.git)?/?", remote)
    return match[1] if match else None


def set_repository(app, config) -> None:
    """Switch on the buttons that this copy's address allows."""
    url = repository_url()
    options = config.html_theme_options
    if url is None:
        options.pop("launch_buttons", None)
        return
    options.update(
        repository_url=url, use_repository_button=True, use_issues_button=True,
        repository_branch=os.environ.get("GITHUB_REF_NAME", "main"), path_to_docs="",
    )  # fmt: skip
    if not url.startswith("https://github.com/"):
        options.get("launch_buttons", {}).pop("colab_url", None)  # Colab opens GitHub only


# ---------------------------------------------------------------------------------------------
# Assets


def add_assets(app, pagename, templatename, context, doctree) -> None:
    """Load plotly where a page has an interactive figure, and drop doubled scripts."""
    if "dy33-interactive" in context.get("body", ""):
        app.add_js_file("plotly.min.js", loading_method="defer")
    seen, kept = set(), []
    for script in context.get("script_files", []):
        # Sphinx 7.4 lists some inline scripts twice; `const` twice is an error on each page.
        key = (
            getattr(script, "filename", script) or "",
            getattr(script, "attributes", {}).get("body"),
        )
        # thebe would fetch its script from outside; the book has no button for it.
        if key not in seen and "thebe" not in f"{key[0]}{key[1]}".lower():
            seen.add(key)
            kept.append(script)
    context["script_files"] = kept


def copy_assets(app, exception) -> None:
    """Copy what pages need from installed wheels; nothing large is kept in the repository."""
    if exception or app.builder.format != "html":
        return
    import plotly

    static = Path(app.outdir) / "_static"
    plotly_js = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    shutil.copy(plotly_js, static / "plotly.min.js")
    # That wheel's folder has a name that cannot be imported, so its list of files is asked.
    packed = metadata.files("sphinx-mathjax-offline") or []
    source = Path(str(next(f for f in packed if f.name == "tex-chtml.js").locate()))
    target = static / "mathjax"
    fonts = Path("output/chtml/fonts/woff-v2")
    (target / fonts).mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target / "tex-chtml.js")
    for font in (source.parent / fonts).glob("*.woff"):
        shutil.copy(font, target / fonts / font.name)


# ---------------------------------------------------------------------------------------------
# Pages made from the notebooks


def cost(chapter) -> str:
    """Reading time, and what running it takes, in words."""
    text = f"{chapter.minutes} min to read"
    if chapter.seconds is not None:
        text += f" · runs in {chapter.seconds:.0f} s on one core, {chapter.mebibytes:.0f} MiB"
    return text


def head_chapter(app, doctree) -> None:
    """Put the measured findings under the chapter's title."""
    path = BOOK / f"{Path(app.env.docname).name}.ipynb"
    if not re.match(r"book/ch\d\d-", app.env.docname) or not path.exists():
        return
    chapter = read_chapter(path)
    items = "".join(
        f'<li><span class="dy33-verdict-{"yes" if c.holds else "no"}">{c.verdict}</span> '
        f"{html.escape(c.statement)}: <strong>{html.escape(c.value)}</strong> "
        f"(should be {html.escape(c.target)})</li>"
        for c in chapter.headlines
    )
    box = (
        f'<p class="dy33-badge"><span>{html.escape(chapter.talk)}</span> '
        f"<span>{cost(chapter)}</span> <span>{chapter.score}</span></p>"
        '<aside class="admonition dy33-finding" aria-label="What this run measured">'
        f'<p class="admonition-title">What this run measured</p><ul>{items}</ul></aside>'
    )
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is not None:
        title.parent.insert(title.parent.index(title) + 1, nodes.raw("", box, format="html"))


class Generated(Directive):
    """A directive without content whose HTML comes from the executed notebooks."""

    def page(self) -> str:
        """The HTML."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Read the notebooks and note them as what the page depends on."""
        environment = self.state.document.settings.env
        for chapter in BOOK.glob("ch*.ipynb"):
            environment.note_dependency(str(chapter))
        return [nodes.raw("", self.page(), format="html")]


class Gallery(Generated):
    """One card per finished chapter: picture, question, verdict, minutes."""

    def page(self) -> str:
        """The HTML."""

        def picture(c):
            """The card's own copy of a figure: an id may stand only once in a page."""
            return re.sub(rf'(id="|#){re.escape(c.card)}', rf"\1card-{c.name}", c.figures[c.card])

        cards = [
            f'<a class="dy33-card" href="{c.name}.html"><div class="dy33-card-picture">'
            f'{picture(c)}</div><div class="dy33-card-text">'
            f'<p class="dy33-card-number">Chapter {c.number} · {html.escape(c.talk)}</p>'
            f"<h2>{html.escape(c.title)}</h2>"
            f"<p>{html.escape(c.question)}</p>"
            f'<p class="dy33-badge"><span>{c.score}</span> <span>{c.minutes} min</span></p>'
            "</div></a>"
            for c in read_chapters()
        ]
        return f'<div class="dy33-gallery">{"".join(cards)}</div>'


class Session(Generated):
    """The talks of the session that have no chapter yet."""

    def page(self) -> str:
        """The HTML."""
        ready = {c.number for c in read_chapters()}
        rows = "".join(
            f"<li><strong>{html.escape(t['title'])}</strong> (talk {t['number']}): "
            f"{html.escape(t['question'])}</li>"
            for t in session()
            if t["number"] not in ready
        )
        return f'<ul class="dy33-session">{rows}</ul>'


class Scoreboard(Generated):
    """All claims of all chapters, and what each chapter costs."""

    def page(self) -> str:
        """The HTML."""
        chapters = read_chapters()
        rows = "".join(
            f'<tr><th scope="row"><a href="{c.name}.html">{c.number}. {html.escape(c.title)}</a>'
            f"</th><td>{c.score}</td><td>{c.minutes} min</td><td>{c.seconds:.0f} s</td>"
            f"<td>{c.mebibytes:.0f} MiB</td></tr>"
            for c in chapters
        )
        summary = (
            '<div class="dy33-claims" role="region" tabindex="0" aria-label="Chapters"><table>'
            "<caption>Chapters: verdicts and measured costs</caption><thead><tr>"
            + "".join(
                f'<th scope="col">{t}</th>'
                for t in ("Chapter", "Claims", "To read", "CPU time", "Memory")
            )
            + f"</tr></thead><tbody>{rows}</tbody></table></div>"
        )
        tables = "".join(claims_table(c.claims, f"Chapter {c.number}: {c.title}") for c in chapters)
        return summary + tables


class Colab(Generated):
    """The line that installs this copy of the library on Colab."""

    def page(self) -> str:
        """The HTML."""
        address = repository_url() or "https://github.com/OWNER/REPOSITORY"
        line = html.escape(f'!pip install -q "dy33lib @ git+{address}"')
        return f"<pre><code>{line}</code></pre>"


def setup(app) -> dict:
    """Register everything with Sphinx."""
    for name, directive in (
        ("dy33-gallery", Gallery),
        ("dy33-session", Session),
        ("dy33-scoreboard", Scoreboard),
        ("dy33-colab", Colab),
    ):
        app.add_directive(name, directive)
    app.connect("config-inited", set_repository)
    app.connect("doctree-read", head_chapter)
    app.connect("html-page-context", add_assets, priority=900)
    app.connect("build-finished", copy_assets)
    # The figures' own boot script looks for this attribute and then leaves the page to us.
    app.add_js_file("figures.js", loading_method="defer", **{"data-dy33-figures": ""})
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
