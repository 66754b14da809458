"""Sphinx extension of the book: pages that open without a network and say what they were built from.

It serves both ways of building, ``make book`` and plain ``jupyter-book build .``; the latter prepares records and
networks here, before any page runs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from ecglib import colophon, source

#: vegaEmbed, which afterwards gives names to what Vega leaves without one: the button of the menu, and groups of marks
_NAMED = """
window.vegaEmbed = Object.assign((...all) => vegaEmbed(...all).then((drawn) => {
  const place = drawn.view.container().closest(".vega-embed") ?? drawn.view.container();
  place.querySelector("summary")?.setAttribute("aria-label", "Save or inspect this chart");
  for (const g of place.querySelectorAll("g.role-mark[role=graphics-symbol]:not([aria-label])"))
    g.setAttribute("role", "graphics-object");
  return drawn;
}), vegaEmbed);
"""


def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, at the versions that Altair's charts ask for.

    Altair's page template loads nothing from elsewhere when ``VEGA_DEBUG`` says that these versions are there.  The
    function around the bundle keeps its names apart from those of other scripts on the page.
    """
    import vl_convert
    from altair.vegalite.v6 import display

    versions = {
        "vega_version": display.VEGA_VERSION,
        "vegalite_version": display.VEGALITE_VERSION,
        "vegaembed_version": display.VEGAEMBED_VERSION,
    }
    snippet = f"{_NAMED} window.vega=vega; window.vegaLite=vegaLite; window.VEGA_DEBUG={json.dumps(versions)};"
    return "(function(){" + vl_convert.javascript_bundle(snippet) + "})();"


def _configure(app: Sphinx, config: Config) -> None:
    found = source.prepare()
    static = source.work_folder() / "static"
    static.mkdir(parents=True, exist_ok=True)
    script, text = static / "vega-bundle.js", vega_bundle()
    if not script.is_file() or script.read_text() != text:
        script.write_text(text)
    config.html_static_path = [*config.html_static_path, str(static)]
    if found.simulated:
        config.html_theme_options = {**config.html_theme_options, "announcement": source.BANNER}
    config.ecglib_line = found.line


def _say_source(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Pages whose cells did not say what they were built from (the bibliography, say) get the line here."""
    body = context.get("body")
    if body is not None and "ecglib-provenance" not in body:
        context["body"] = f'{body}<p class="ecglib-provenance">{app.config.ecglib_line}</p>'


def _fill(app: Sphinx, page: str, content: list[str]) -> None:
    """Put times, versions and files of the project where a text asks for them by ``% ecglib: name``."""
    content[0] = colophon.fill(content[0], root=source.project_root(), built=Path(app.srcdir))


def _always(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages that change though their text does not."""
    return [page for page in ("book/status", "book/cite", "book/changelog") if page in env.found_docs]


def _mend_roles(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take from the bibliography roles that are none any more, and that its entries do not fill."""
    if "citation-list" in (context.get("body") or ""):
        context["body"] = re.sub(r' role="(list|doc-biblioentry)"(?=[^>]*>)', "", context["body"])


def _offer_text(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Offer the text of a chapter beside its notebook, in the menu of downloads."""
    text = source.project_root() / f"{page}.md"
    if not (context.get("sourcename") or "").endswith(".ipynb") or not text.is_file():
        return
    for group in context.get("header_buttons", []):
        if group.get("label") == "download-buttons":
            target = Path(app.outdir) / "_sources" / f"{page}.md"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.read_bytes())
            link = {"type": "link", "url": f"{context['pathto']('_sources', 1)}/{page}.md", "text": ".md"}
            link |= {"tooltip": "Download the text", "icon": "fas fa-file-lines", "label": "download-text-button"}
            group["buttons"].insert(1, link)


def _write_not_found(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        (Path(app.outdir) / "404.html").write_text(colophon.not_found(app.config.project or "the book"))


def _drop_repeated_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Keep one of the inline scripts that jupyter-book's extensions add twice: the second is an error in the console."""
    seen: set[str] = set()
    kept = []
    for script in context.get("script_files", []):
        body = (getattr(script, "attributes", None) or {}).get("body") or ""
        if body not in seen or not body:
            kept.append(script)
        seen.add(body)
    context["script_files"] = kept


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("ecglib_line", "", "")
    app.connect("config-inited", _configure, priority=900)
    app.connect("html-page-context", _say_source)
    app.connect("html-page-context", _drop_repeated_scripts, priority=900)
    app.connect("html-page-context", _mend_roles)
    app.connect("html-page-context", _offer_text, priority=950)
    app.connect("source-read", _fill)
    app.connect("env-get-outdated", _always)
    app.connect("build-finished", _write_not_found)
    app.add_js_file("vega-bundle.js", priority=100)
    app.add_js_file("book.js")
    app.add_css_file("book.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
