"""Every page before axe-core, which looks for what keeps readers out: names, roles, contrast, headings, keyboard."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from test_pages import CHROMIUM, PAGES, STILL, Site, site  # noqa: F401  (a fixture)

PAGES = [*PAGES, "404.html"]
TALLEST = 3  # rows and cells of one kind that axe is shown: the rest of a long table or listing is more of the same

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install chromium to look at the pages"),
    pytest.mark.skipif(find_spec("axe_playwright_python") is None, reason="pip install axe-playwright-python"),
]

# axe measures every element, and a page has thousands that are alike: marks in charts, glyphs of formulas, rows of
# tables, tokens of code.  Of these a few stand for all, so that a page takes a second and not a minute.
FEW = """(most) => {
  const svg = new Set();
  for (const s of document.querySelectorAll("svg.marks, mjx-container svg")) {
    const bad = [...s.querySelectorAll("[role=graphics-symbol], [role=img]")].filter((e) =>
      !e.ariaLabel && !e.closest("[aria-hidden=true]") && !e.querySelector(":scope > title"));
    bad.forEach((e) => svg.add(e.outerHTML.slice(0, 120)));
    s.replaceChildren();
  }
  for (const body of document.querySelectorAll("tbody")) [...body.rows].slice(most).forEach((row) => row.remove());
  const seen = {};
  for (const token of document.querySelectorAll(".highlight pre > span"))
    if ((seen[token.className] = (seen[token.className] ?? 0) + 1) > most) token.replaceWith(token.textContent);
  for (const listed of document.querySelectorAll(".citation-list, dl.glossary, ul.search"))
    [...listed.children].slice(4 * most).forEach((e) => e.remove());
  return [...svg];
}"""
RUN = """async () => {
  const found = await axe.run(document, {resultTypes: ["violations"], preload: false});
  return found.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html.slice(0, 200))]);
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    return (Path(find_spec("axe_playwright_python").origin).parent / "axe.min.js").read_text()


@pytest.fixture(scope="module", params=["light", "dark"])
def window(request: pytest.FixtureRequest, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=request.param)
    page = context.new_page()
    page.scheme = request.param
    yield page
    context.close()


def serious(page, axe: str) -> list:
    """What axe finds serious or critical on a page, and pictures in charts and formulas without a name."""
    nameless = page.evaluate(FEW, TALLEST)
    page.evaluate(axe)
    return [v for v in page.evaluate(RUN) if v[0] in {"serious", "critical"}] + [["serious", n] for n in nameless]


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(window, site: Site, axe, path):  # noqa: F811
    if window.scheme == "dark" and path not in {"book/index.html", "book/planted.html"}:
        pytest.skip("colours are one stylesheet: two dark pages stand for all; make pages looks at each")
    window.goto(f"{site.url}/{path}", wait_until="load")
    window.wait_for_function(STILL, timeout=30_000)
    assert serious(window, axe) == []


def test_axe_sees_what_is_wrong(window, axe):
    window.set_content(
        "<html lang=en><title>t</title><main><h1>h</h1><p style='color:#999;background:#fff'>pale</p><img src='x'>"
        "<svg class=marks><g role=graphics-symbol></g></svg></main>"
    )
    assert {v[1] for v in serious(window, axe)} == {"color-contrast", "image-alt", '<g role="graphics-symbol"></g>'}
