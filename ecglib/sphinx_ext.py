"""Sphinx extension of the book: pages that open without a network and say what they were built from.

It serves both ways of building, ``make book`` and plain ``jupyter-book build .``; the latter prepares records and
networks here, before any page runs.
"""

from __future__ import annotations

import json
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from ecglib import source


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
    snippet = (
        "window.vegaEmbed=vegaEmbed; window.vega=vega; window.vegaLite=vegaLite; "
        f"window.VEGA_DEBUG={json.dumps(versions)};"
    )
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
    app.add_js_file("vega-bundle.js", priority=100)
    app.add_css_file("book.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
