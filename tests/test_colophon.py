"""What the book says of itself, and the page for addresses that lead nowhere."""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading

import pytest
import yaml

from ecglib import colophon
from ecglib.source import project_root

ROOT = project_root()


def notebook(path, seconds):
    run = {"papermill": {"duration": seconds, "start_time": "2026-11-25T10:00:00.1"}} if seconds else {}
    path.write_text(json.dumps({"metadata": run, "cells": []}))


@pytest.fixture
def small(tmp_path):
    """A book of two chapters, one of which ran for 61.4 s and says that it takes two minutes."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/a\n- file: book/b\n")
    (tmp_path / "book" / "index.md").write_text("# Index\n")
    (tmp_path / "book" / "a.md").write_text("# A\n\nRuns in: under two minutes.\n")
    (tmp_path / "book" / "b.md").write_text("# B\n")
    notebook(tmp_path / "book" / "a.ipynb", 61.4)
    notebook(tmp_path / "book" / "b.ipynb", None)
    return tmp_path


def test_stated_and_measured(small):
    assert colophon.stated("Runs in: under three minutes.") == 3
    assert colophon.stated("Runs in: under one minute.") == 1
    assert colophon.stated("Runs fast.") is None
    assert colophon.measured(small / "book" / "a.ipynb") == (61.4, "2026-11-25")
    assert colophon.measured(small / "book" / "b.ipynb") is None
    assert colophon.measured(small / "nowhere.ipynb") is None


def test_times(small):
    assert "| {doc}`a` | 2 min | 61 | 2026-11-25 |\n\nAll together 1 minutes" in colophon.times(small, small)
    assert "{doc}`b`" not in colophon.times(small, small)
    assert colophon.times(small, small / "nowhere").startswith("These pages were not made by `make book`")


def test_versions_are_those_of_the_lock():
    rows = dict(re.findall(r"^\| ([\w-]+) \| (\S+) \|$", colophon.versions(), flags=re.M))
    locked = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
    assert {"torch", "numpy", "altair", "jupyter-book", "papermill"} <= rows.keys()
    assert not {"pytest", "mypy", "dask"} & rows.keys()
    assert rows["altair"] == locked["altair"]


def test_bibtex_has_all_that_citation_cff_names():
    text, told = colophon.bibtex(ROOT), yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert re.findall(r"^@(\w+)\{(\w+),", text, flags=re.M) == [
        ("software", "ecglib"), ("inproceedings", "vijayarangan2020"), ("article", "moody2001"),
        ("article", "goldberger2000"),
    ]  # fmt: skip
    assert "author = {Moody, George B. and Mark, Roger G.}" in text
    assert all(other["title"] in text for other in told["references"])
    assert text.count("{") == text.count("}")


def test_fill_replaces_whole_lines_alone(small):
    (small / "CHANGELOG.md").write_text("# Changelog\n\n## 9.9\n")
    said = colophon.fill("a\n\n% ecglib: changelog\n\nas `% ecglib: changelog` says\n", root=small, built=small)
    assert said == "a\n\n# Changelog\n\n## 9.9\n\n\nas `% ecglib: changelog` says\n"


def test_the_title_of_the_page_for_what_is_not_there_is_text():
    assert "<title>Page not found · Hearts &lt;b&gt; &amp; signs</title>" in colophon.not_found("Hearts <b> & signs")


@pytest.mark.browser
@pytest.mark.parametrize("base", ["/", "/some/book/"])
@pytest.mark.parametrize("missing", ["nowhere", "book/nowhere.html", "a/b/c/"])
def test_the_page_for_what_is_not_there_finds_the_book(browser, tmp_path, base, missing):
    class Lost(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {f"{base}objects.inv": (200, b"")}
            status, body = known.get(self.path, (404, colophon.not_found("The book").encode()))
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Lost)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}{base}{missing}")
        page.wait_for_function("() => document.body.dataset.base !== undefined", timeout=20_000)
        assert page.get_attribute("a", "href") == f"{base}book/index.html"
        assert page.get_attribute("form", "action") == f"{base}search.html"
        page.close()
        server.shutdown()
