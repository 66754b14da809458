"""The built book as one PDF: every page printed by Chromium with still figures, with cover, contents and page numbers.

Run as ``python -m ecglib.pdf``, or ``make pdf``; nothing is asked of any network.
"""

from __future__ import annotations

import functools
import html
import http.server
import io
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ecglib.errors import DataError, EcglibError
from ecglib.files import write_atomically
from ecglib.pages import chapters
from ecglib.source import BANNER, project_root

_A4 = {"format": "A4", "print_background": True}
_MARGIN = {"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"}
_STYLE = "<style>body{font:11pt/1.5 Arial,sans-serif;margin:0} a{color:inherit;text-decoration:none}</style>"

# A page is still once charts are drawn and formulas set
_STILL = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  return all("[id^=altair-viz]").every((place) => place.querySelector("canvas, svg.marks, .error"))
    && (!all(".math").length || all(".math mjx-container").length > 0);
}"""


def chromium() -> str:
    """Path of a Chromium on this machine."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise EcglibError("no Chromium on this machine; install the package 'chromium' and try again")
    return found


def write(html_folder: Path | None = None, out: Path | None = None, *, progress: bool = True) -> Path:
    """Print the built book.

    Parameters
    ----------
    html_folder : path, optional
        Folder of the built pages, ``_build/html`` of the checkout if not given.
    out : path, optional
        The PDF, ``_build/book.pdf`` if not given.

    Raises
    ------
    DataError
        The book was not built.
    EcglibError
        There is no Chromium, or nothing to steer it.
    """
    try:
        from playwright.sync_api import sync_playwright
        from pypdf import PdfReader, PdfWriter
    except ImportError as error:
        raise EcglibError("paper needs playwright and pypdf; install them with pip install 'ecglib[pdf]'") from error
    root = project_root()
    folder, out = html_folder or root / "_build" / "html", out or root / "_build" / "book.pdf"
    names = [n for n in chapters(root) if (folder / "book" / f"{n}.html").is_file()]
    if not names:
        raise DataError(f"no pages in {folder}; run 'make book' first")
    program, book = chromium(), PdfWriter()
    with served(folder) as url, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 900, "height": 1200}, color_scheme="light")
        parts = []
        for name in tqdm(names, desc="printing", disable=not progress):
            page.goto(f"{url}/book/{name}.html", wait_until="load", timeout=120_000)
            page.wait_for_function(_STILL, timeout=120_000)
            title = re.sub(r"\s*#$", "", page.inner_text("article h1").strip())
            parts.append((title, PdfReader(io.BytesIO(page.pdf(**_A4, margin=_MARGIN)))))  # type: ignore[arg-type]
        line = page.inner_text(".ecglib-provenance >> nth=0")
        simulated = "Built from Phantom" in line
        front = _print(page, _cover(page.title().split(" — ")[-1], line, simulated=simulated))
        lengths, taken = [len(p.pages) for _, p in parts], 1
        while True:  # until the contents take as many pages as they say that they take
            first = len(front.pages) + taken + 1
            entries = [(t, first + sum(lengths[:k])) for k, (t, _) in enumerate(parts)]
            contents = _print(page, _contents(entries))
            if len(contents.pages) == taken:
                break
            taken = len(contents.pages)
        total = len(front.pages) + len(contents.pages) + sum(lengths)
        numbers = _print(page, _numbers(total))
        browser.close()
    for reader in (front, contents, *(p for _, p in parts)):
        book.append(reader, import_outline=False)
    for k, sheet in enumerate(book.pages):
        if k >= len(front.pages):
            sheet.merge_page(numbers.pages[k])
    for title, number in entries:
        book.add_outline_item(title=title, page_number=number - 1)
    book.add_metadata({"/Title": "Interpreting Deep Networks for Single-Lead ECG", "/Subject": line})
    book.compress_identical_objects()
    buffer = io.BytesIO()
    book.write(buffer)
    write_atomically(out, buffer.getvalue())
    return out


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address at which the files of a folder are served to this machine, for as long as the block lasts."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


# Internals -----------------------------------------------------------------------------------------------------


def _print(page: Any, text: str) -> Any:
    from pypdf import PdfReader

    page.set_content(text)
    return PdfReader(io.BytesIO(page.pdf(**_A4)))


def _cover(title: str, line: str, *, simulated: bool) -> str:
    warning = f"<p><strong>{BANNER}</strong></p>" if simulated else ""
    return (
        f"{_STYLE}<div style='padding:70mm 25mm 0'><h1 style='font-size:30pt;line-height:1.2'>{html.escape(title)}</h1>"
        f"<p>{html.escape(line)}</p>{warning}<p>Research, no diagnosis.</p></div>"
    )


def _contents(entries: list[tuple[str, int]]) -> str:
    rows = "".join(
        f"<div style='display:flex;gap:4mm'><span style='flex:1'>{html.escape(t)}</span><span>{n}</span></div>"
        for t, n in entries
    )
    return f"{_STYLE}<div style='padding:20mm 25mm'><h1>Contents</h1>{rows}</div>"


def _numbers(total: int) -> str:
    sheet = "<div style='height:296mm;position:relative;break-after:page'><p style='{}'>{}</p></div>"
    place = "position:absolute;bottom:5mm;width:100%;text-align:center;font-size:9pt;color:#595959"
    sheets = "".join(sheet.format(place, k + 1) for k in range(total))
    return f"{_STYLE}<style>@page{{margin:0}}</style>{sheets}"


if __name__ == "__main__":
    try:
        print(f"The book is at {write(*map(Path, sys.argv[1:3]), progress=sys.stderr.isatty())}")
    except EcglibError as error:
        sys.exit(f"Error: {error}")
