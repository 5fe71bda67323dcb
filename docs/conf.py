"""Sphinx's configuration: Markdown as it is, one theme, and nothing from another host."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent

project = "al-charge"
author = "the al-charge authors"
copyright = author
release = importlib.metadata.version("al-charge")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["Thumbs.db"]
myst_heading_anchors = 4
# Examples in tables and shells are no languages.
highlight_language = "none"
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = "al-charge"
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_rtype = False
# Names of Python are those of other packages, or of insides; links between pages are all checked.
nitpick_ignore_regex = [("py:.*", ".*")]

LISTS = ("index", "decisions/README")
"""Pages whose links under each heading are the site's table of contents."""
ELSEWHERE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"} | {
    "db/README.md": "server.md"
}
"""Pages that stand for Markdown outside of this folder."""


def contents(text: str) -> dict[str, list[str]]:
    """Return the pages that a page links to in lists and tables, under each of its headings.

    Parameters
    ----------
    text
        The page, in Markdown.

    Returns
    -------
    dict[str, list[str]]
        Paths without ``.md`` by heading, in order.
    """
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    headings = zip(["", *parts[1::2]], parts[::2], strict=True)
    found = {
        heading: re.findall(r"^[-|] \[[^]]+\]\(([\w./-]+)\.md\)", part, re.MULTILINE)
        for heading, part in headings
    }
    return {heading: pages for heading, pages in found.items() if pages}


def requests(text: str) -> list[str]:
    """Return what a page or a style sheet would load from another host.

    Parameters
    ----------
    text
        HTML or CSS. Links that a reader may follow load nothing.

    Returns
    -------
    list[str]
        The addresses.
    """
    outside = r"""((?:https?:)?//[^"'\s)>]+)"""
    tags = r"""<(?!a\b)[a-z]+\b[^>]*?\b(?:src|href|srcset|data|action)=["']?""" + outside
    sheets = r"""(?:url\(|@import\s+)["']?""" + outside
    return re.findall(tags, text) + re.findall(sheets, text)


def prepare(app: Any, page: str, source: list[str]) -> None:
    """Add a page's table of contents, and lead links out of this folder to pages of the site."""

    def inside(link: re.Match[str]) -> str:
        text, path, fragment = link.groups("")
        target = (DOCS / page).parent / path
        if target.is_dir():
            return str(text)
        name = target.resolve().relative_to(DOCS.parent).as_posix()
        return f"[{text}]({ELSEWHERE.get(name, path)}{fragment})"

    source[0] = re.sub(r"\[([^]]*)\]\((\.\./[^)#\s]*)(#\S+)?\)", inside, source[0])
    if page in LISTS:
        for heading, pages in contents(source[0]).items():
            listed = "\n".join(pages)
            caption = f":caption: {heading}\n" if heading else ""
            source[0] += f"\n```{{toctree}}\n:hidden:\n{caption}\n{listed}\n```\n"


def refuse_requests(app: Any, error: Exception | None) -> None:
    """Fail if a built page would load anything from another host."""
    from sphinx.errors import ExtensionError

    for path in sorted(Path(app.outdir).rglob("*")):
        if error is None and path.suffix in (".html", ".css"):
            for address in requests(path.read_text()):
                raise ExtensionError(f"{path}: it would load {address}")


def setup(app: Any) -> None:
    """Register both."""
    app.connect("source-read", prepare)
    app.connect("build-finished", refuse_requests)
