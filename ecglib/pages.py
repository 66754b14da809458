"""The pages of the book: MyST texts, and the notebooks that stand beside those that run."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat

from ecglib import source
from ecglib.errors import DataError
from ecglib.files import write_atomically


def chapters(root: Path | None = None) -> dict[str, Path]:
    """Pages of the table of contents by name, in order; those that run have a kernel in their header."""
    root = root or source.project_root()
    if not (root / "_toc.yml").is_file():
        raise DataError(f"no _toc.yml in {root}; run this inside a checkout of the book")
    files = re.findall(r"^\s*(?:-\s*)?(?:root|file):\s*(\S+)\s*$", (root / "_toc.yml").read_text(), flags=re.M)
    return {Path(f).name: root / f"{f}.md" for f in files}


def is_executable(page: Path) -> bool:
    """Whether a page is a notebook."""
    return bool(re.match(r"---\n.*?^kernelspec:.*?^---$", page.read_text(), flags=re.M | re.S))


def notebook(page: Path) -> nbformat.NotebookNode:
    """Notebook of a page, without outputs; the same text gives the same bytes (cell ids count the cells)."""
    book = jupytext.read(page)
    for number, cell in enumerate(book.cells):
        cell["id"] = f"{page.stem}-{number}"[:64]
    return book


def pair(root: Path | None = None, *, write: bool = True) -> list[Path]:
    """Bring each notebook ``book/<name>.ipynb`` in step with its text; returns those that were not."""
    stale = []
    for page in chapters(root).values():
        if not is_executable(page):
            continue
        target, text = page.with_suffix(".ipynb"), nbformat.writes(notebook(page)) + "\n"
        if not target.is_file() or target.read_text() != text:
            stale.append(target)
            if write:
                write_atomically(target, text)
    return stale
