"""Every page of the built book in Chromium: weight, how soon its charts are drawn, what axe-core finds; results/pages.json.

    make pages

Each page is opened by a browser that knows none of its files, at 1280 x 900 pixels; times are from the request on, over
a local server.  axe sees the page as tests/test_axe.py shows it: of what repeats thousands of times a few stand for all.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ecglib.pages import chapters
from ecglib.pdf import chromium, served

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from test_axe import FEW, RUN, TALLEST  # noqa: E402
from test_charts import charts  # noqa: E402
from test_pages import STILL, WATCH  # noqa: E402


def look(browser: Any, address: str, axe: str, scheme: str) -> tuple[list[float], list[str]]:
    """When each chart was drawn, s, and what axe finds, of a page that a browser sees for the first time."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme) as reader:
        page = reader.new_page()
        page.add_init_script(WATCH)
        page.goto(address, wait_until="load", timeout=120_000)
        page.wait_for_function(STILL, timeout=120_000)
        drawn = [round(float(t), 2) for t in page.evaluate("drawn")]
        nameless = page.evaluate(FEW, TALLEST)
        page.evaluate(axe)
        found = [f"{impact}: {rule}, {scheme}" for impact, rule, _ in page.evaluate(RUN)]
        return drawn, [*found, *(f"serious: {name}" for name in nameless)]


def main() -> None:
    from playwright.sync_api import sync_playwright

    html = ROOT / "_build" / "html"
    axe = (Path(str(find_spec("axe_playwright_python").origin)).parent / "axe.min.js").read_text()  # type: ignore[union-attr]
    names = [n for n in chapters(ROOT) if (html / "book" / f"{n}.html").is_file()]
    rows = []
    with served(html) as url, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        for name in tqdm(names, disable=not sys.stderr.isatty()):
            text = (html / "book" / f"{name}.html").read_text()
            drawn, light = look(browser, f"{url}/book/{name}.html", axe, "light")
            _, dark = look(browser, f"{url}/book/{name}.html", axe, "dark")
            row = {"page": name, "kilobytes": len(text.encode()) // 1000, "charts": len(drawn)}
            row["heaviest_chart_kb"] = max((size // 1000 for *_, size in charts(text)), default=0)
            row |= {"first_chart_s": drawn[0], "last_chart_s": drawn[-1]} if drawn else {}
            rows.append(row | {"axe": light + dark})
        version = browser.version
        browser.close()
    line = re.search(r'class="ecglib-provenance"[^>]*>([^<]+)', (html / "book" / "index.html").read_text())
    told = {
        "book": line[1] if line else "", "browser": f"Chromium {version}", "axe": re.search(r"v(\d[\d.]+)", axe)[1],  # type: ignore[index]
        "processors": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0], "rows": rows,
    }  # fmt: skip
    (ROOT / "results" / "pages.json").write_text(json.dumps(told, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
