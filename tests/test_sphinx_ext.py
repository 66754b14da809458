"""The book's Sphinx extension: what it puts on pages, takes from them, and connects, with a small stand-in for Sphinx."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from altair.vegalite.v6 import display

from ecglib import colophon, source, sphinx_ext


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (tmp_path / "book").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def app(root):
    config = SimpleNamespace(
        html_static_path=["_static"], html_theme_options={"a": 1}, project="A small book", ecglib_line="Built from it"
    )
    return SimpleNamespace(
        config=config, srcdir=str(root), outdir=str(root / "out"), builder=SimpleNamespace(format="html")
    )


def test_the_script_of_a_page_holds_the_versions_that_charts_ask_for():
    """A function around it all keeps its names apart; charts load nothing where VEGA_DEBUG says that all is there."""
    script = sphinx_ext.vega_bundle()
    assert script.startswith("(function(){")
    assert script.endswith("})();")
    versions = {
        "vega_version": display.VEGA_VERSION,
        "vegalite_version": display.VEGALITE_VERSION,
        "vegaembed_version": display.VEGAEMBED_VERSION,
    }
    for name, version in versions.items():
        assert re.search(rf'["\']?{name}["\']?\s*:\s*["\']{re.escape(version)}["\']', script), name
    assert "Save or inspect this chart" in script
    assert "graphics-object" in script
    assert len(script) > 500_000
    assert "window.vegaEmbed" in script


@pytest.mark.parametrize("database", ["phantom", "mitdb"])
def test_a_build_prepares_records_and_writes_the_script_once(database, app, root, monkeypatch):
    found = source.Source(database, root, ("100", "101"))
    monkeypatch.setattr(source, "prepare", lambda: found)
    monkeypatch.setattr(sphinx_ext, "vega_bundle", lambda: "script 1")
    sphinx_ext._configure(app, app.config)
    script = root / "_build" / "ecglib" / "static" / "vega-bundle.js"
    assert app.config.html_static_path == ["_static", str(script.parent)]
    assert app.config.ecglib_line == found.line
    announced = {"announcement": source.BANNER} if database == "phantom" else {}
    assert app.config.html_theme_options == {"a": 1} | announced
    assert script.read_text() == "script 1"
    script.touch()
    before = script.stat().st_mtime_ns
    sphinx_ext._configure(app, app.config)
    assert script.stat().st_mtime_ns == before  # else every page would be written anew
    monkeypatch.setattr(sphinx_ext, "vega_bundle", lambda: "script 2")
    sphinx_ext._configure(app, app.config)
    assert script.read_text() == "script 2"


def page(function, app, name="book/a", **context):
    function(app, name, "page.html", context, None)
    return context


def test_every_page_says_what_it_was_built_from_once(app):
    assert page(sphinx_ext._say_source, app, body="<p>a</p>")["body"] == (
        '<p>a</p><p class="ecglib-provenance">Built from it</p>'
    )
    said = '<p class="ecglib-provenance">Built from a cell</p>'
    assert page(sphinx_ext._say_source, app, body=said)["body"] == said
    assert page(sphinx_ext._say_source, app) == {}  # a page without a text, such as the search
    assert page(sphinx_ext._say_source, app, body="")["body"].startswith("<p class")


def test_texts_are_filled_in(app, root):
    (root / "CHANGELOG.md").write_text("## 9.9\n")
    content = ["# Changes\n\n% ecglib: changelog\n"]
    sphinx_ext._fill(app, "book/changelog", content)
    assert content == ["# Changes\n\n## 9.9\n\n"]


def test_pages_that_change_by_themselves_are_always_read():
    env = SimpleNamespace(found_docs={"book/status", "book/changelog", "book/cam"})
    assert sphinx_ext._always(None, env, set(), set(), set()) == ["book/status", "book/changelog"]


def test_roles_that_the_bibliography_does_not_fill_go():
    body = (
        '<div class="citation-list" role="list"><div role="doc-biblioentry" id="a">A</div></div>'
        '<p role="note">role="list" in a text</p>'
    )
    assert page(sphinx_ext._mend_roles, None, body=body)["body"] == (
        '<div class="citation-list"><div id="a">A</div></div><p role="note">role="list" in a text</p>'
    )
    other = '<ul role="list"></ul>'
    assert page(sphinx_ext._mend_roles, None, body=other)["body"] == other
    assert page(sphinx_ext._mend_roles, None) == {}


def test_the_text_of_a_chapter_is_offered_beside_its_notebook(app, root):
    (root / "book" / "a.md").write_text("# A – text\n")

    def offered(name, sourcename):
        first = {"label": "download-source-button"}
        groups = [{"label": "repository-buttons", "buttons": []}, {"label": "download-buttons", "buttons": [first, {}]}]
        page(
            sphinx_ext._offer_text, app, name, sourcename=sourcename, header_buttons=groups,
            pathto=lambda path, raw: f"../{path}",
        )  # fmt: skip
        assert groups[0]["buttons"] == []
        return groups[1]["buttons"]

    buttons = offered("book/a", "book/a.ipynb")
    assert [b.get("label") for b in buttons] == ["download-source-button", "download-text-button", None]
    assert (buttons[1]["url"], buttons[1]["text"], buttons[1]["type"]) == ("../_sources/book/a.md", ".md", "link")
    assert (root / "out" / "_sources" / "book" / "a.md").read_text() == "# A – text\n"
    assert len(offered("book/a", "book/a.md")) == 2  # its source is the text
    assert len(offered("book/b", "book/b.ipynb")) == 2  # it has none
    assert len(offered("search", None)) == 2
    assert page(sphinx_ext._offer_text, app, sourcename="book/a.ipynb").keys() == {"sourcename"}


def test_the_page_for_what_is_not_there_is_written_after_a_build(app, root):
    there = root / "out" / "404.html"
    there.parent.mkdir()
    sphinx_ext._write_not_found(app, RuntimeError("failed"))
    app.builder.format = "latex"
    sphinx_ext._write_not_found(app, None)
    assert not there.exists()
    app.builder.format = "html"
    sphinx_ext._write_not_found(app, None)
    assert there.read_text() == colophon.not_found("A small book")
    app.config.project = ""
    sphinx_ext._write_not_found(app, None)
    assert "<title>Page not found · the book</title>" in there.read_text()


def test_scripts_that_come_twice_stay_once():
    def script(body, **more):
        return SimpleNamespace(attributes={"body": body, **more})

    file, inline, twin = SimpleNamespace(attributes={"src": "a.js"}), script("run()"), script("run()", defer=True)
    other, plain, bare = script("walk()"), "b.js", SimpleNamespace(attributes=None)
    given = [file, inline, plain, twin, file, other, bare, bare]
    kept = page(sphinx_ext._drop_repeated_scripts, None, script_files=given)["script_files"]
    assert kept == [file, inline, plain, file, other, bare, bare]  # files are Sphinx's to keep apart
    assert page(sphinx_ext._drop_repeated_scripts, None)["script_files"] == []


def test_all_of_it_is_connected_in_order():
    """The banner and the line must be settled before a page asks; buttons exist only once the theme has made them."""
    events, files, values = {}, [], []
    app = SimpleNamespace(
        add_config_value=lambda *given: values.append(given),
        connect=lambda event, function, priority=500: events.setdefault(event, []).append((function, priority)),
        add_js_file=lambda name, priority=500: files.append((name, priority)),
        add_css_file=lambda name: files.append((name, None)),
    )
    assert sphinx_ext.setup(app) == {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
    assert values == [("ecglib_line", "", "")]
    assert files == [("vega-bundle.js", 100), ("book.js", 500), ("book.css", None)]
    assert {name: functions for name, functions in events.items() if name != "html-page-context"} == {
        "config-inited": [(sphinx_ext._configure, 900)],
        "source-read": [(sphinx_ext._fill, 500)],
        "env-get-outdated": [(sphinx_ext._always, 500)],
        "build-finished": [(sphinx_ext._write_not_found, 500)],
    }
    assert set(events["html-page-context"]) == {
        (sphinx_ext._say_source, 500), (sphinx_ext._drop_repeated_scripts, 900), (sphinx_ext._mend_roles, 500),
        (sphinx_ext._offer_text, 950),
    }  # fmt: skip
    here = Path(sphinx_ext.__file__).parent.parent / "book" / "_static"
    assert all((here / name).is_file() for name, _ in files[1:])
