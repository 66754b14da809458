"""The book on paper, on three pages made by hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ecglib import pdf
from ecglib.errors import DataError, EcglibError

PAGE = """<!DOCTYPE html><title>{name} — A small book</title><article><h1>{name}<a href="#">#</a></h1>
<p class="ecglib-provenance">Built from {source}</p>{body}</article>"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "_build" / "html" / "book"
    folder.mkdir(parents=True)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/a\n- file: book/b\n")
    long = "<p style='height:300mm'>long</p><p>its end</p>"
    for name, body in (("index", ""), ("a", long), ("b", "<p>last</p>")):
        (folder / f"{name}.html").write_text(PAGE.format(name=f"Chapter {name}", source="Phantom", body=body))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.browser
def test_cover_contents_numbers_and_outline(small):
    from pypdf import PdfReader

    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no Chromium is installed")
    subprocess.run([sys.executable, "-m", "ecglib.pdf"], cwd=small, check=True, timeout=120)
    book = PdfReader(small / "_build" / "book.pdf")
    said = [sheet.extract_text() for sheet in book.pages]
    assert len(said) == 6  # cover, contents, index, two of a, b
    assert "A small book" in said[0]
    assert "Simulated records" in said[0]
    assert [line.split() for line in said[1].splitlines() if line.startswith("Chapter")] == [
        ["Chapter", "index", "3"], ["Chapter", "a", "4"], ["Chapter", "b", "6"],
    ]  # fmt: skip
    assert [text.split()[-1] for text in said[1:]] == ["2", "3", "4", "5", "6"]
    assert [(o.title, book.get_destination_page_number(o)) for o in book.outline] == [
        ("Chapter index", 2), ("Chapter a", 3), ("Chapter b", 5),
    ]  # fmt: skip
    assert list((small / "_build").glob("*.part")) == []


def test_without_a_book_or_a_browser_it_says_so(small, monkeypatch, one_line):
    with pytest.raises(DataError) as caught:
        pdf.write(small / "nowhere")
    one_line(caught, "no pages in", "make book")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EcglibError) as caught:
        pdf.write()
    one_line(caught, "no Chromium", "install")
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(EcglibError) as caught:
        pdf.write()
    one_line(caught, "playwright", "ecglib[pdf]")
