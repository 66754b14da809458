"""Every chart of the built book, as its page carries it: number, caption, description, axes with units, tooltips."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from bs4 import BeautifulSoup
from test_pages import CHROMIUM, PAGES, Site, site  # noqa: F401  (a fixture)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the built book is looked at where there is a Chromium"),
]
HEAVY = 500_000  # characters of one chart
CHAPTERS = [path for path in PAGES if path.startswith("book/")]


def charts(text: str) -> Iterator[tuple[str, str, dict, int]]:
    """Id, caption, specification and size of each chart of a page."""
    for place in BeautifulSoup(text, "html.parser").select("[id^=altair-viz]"):
        begin = text.index("})({", text.index(f'<div id="{place["id"]}"')) + 3
        spec, end = json.JSONDecoder().raw_decode(text, begin)
        figure = place.find_parent("figure")
        yield place["id"], figure.figcaption.get_text(" ", strip=True) if figure else "", spec, end - begin


def within(part: object) -> Iterator[dict]:
    """The dictionaries of a specification, at any depth, without the data."""
    if isinstance(part, dict):
        yield part
        for key, inner in part.items():
            if key != "datasets":
                yield from within(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from within(inner)


def titles(spec: dict, channel: str) -> set[str]:
    """What stands at an axis of a chart: its title, else its field's name, or a heading beside or under the panels."""
    drawn = [d[channel] for d in within(spec) if isinstance(d.get(channel), dict)]
    axes = [d.get("axis") or {} for d in drawn]
    said = [a.get("title", d.get("title", d.get("field"))) for a, d in zip(axes, drawn, strict=True)]
    for d in within(spec):
        said += [d["header"].get("title")] if isinstance(d.get("header"), dict) else []
        said += ["the panel's own name"] if channel == "y" and "facet" in d else []
        beside = d.get("title") if isinstance(d.get("title"), dict) and d["title"].get("orient") else {}
        said += [str(beside.get("text"))] if beside else []
    return {str(s) for s in said if s}


def faults(caption: str, spec: dict, size: int) -> list[str]:
    encodings = [d["encoding"] for d in within(spec) if isinstance(d.get("encoding"), dict)]
    marks = [d["mark"] for d in within(spec) if isinstance(d.get("mark"), dict)]
    found = []
    if not re.match(r"Fig\. \d+(\.\d+)? \S", caption) or len(caption) < 50:
        found.append("no number, or no caption that says something")
    if len(spec.get("description", "")) < 25:
        found.append("no description for those who do not see it")
    if not any(e.get("tooltip") for e in encodings) and not any(m.get("tooltip") for m in marks):
        found.append("no tooltip")
    for channel in "xy":
        drawn = [e[channel] for e in encodings if isinstance(e.get(channel), dict)]
        if any(d.get("type") == "quantitative" and d.get("axis", 1) is not None for d in drawn) and not titles(
            spec, channel
        ):
            found.append(f"a {channel} axis without a title")
    return [*found, *(["heavy"] if size > HEAVY else [])]


@pytest.mark.parametrize("path", CHAPTERS)
def test_every_chart_can_be_read(site: Site, path):  # noqa: F811
    read = {name: faults(caption, spec, size) for name, caption, spec, size in charts((site.html / path).read_text())}
    assert {name: bad for name, bad in read.items() if bad} == {}


def test_axes_of_time_and_voltage_have_units(site: Site):  # noqa: F811
    said = set()
    for path in CHAPTERS:
        for _, _, spec, _ in charts((site.html / path).read_text()):
            said |= titles(spec, "x") | titles(spec, "y")
    assert [
        t for t in said if re.search(r"\b(time|second|place in)", t) and not re.search(r"\((s|ms|min|h)\)", t)
    ] == []
    assert [t for t in said if re.search(r"volt|amplitude", t) and "mV" not in t] == []


def test_a_bare_chart_is_noticed():
    bare = {"mark": {"type": "bar"}, "encoding": {"x": {"type": "quantitative"}}}
    assert faults("Fig. 3", bare, HEAVY + 1) == [
        "no number, or no caption that says something", "no description for those who do not see it", "no tooltip",
        "a x axis without a title", "heavy",
    ]  # fmt: skip
    told = {"mark": {"type": "bar", "tooltip": True}, "encoding": {"x": {"type": "quantitative", "title": "time (s)"}},
            "description": "Bars of how long each chapter takes."}  # fmt: skip
    assert faults("Fig. 3.1 Every chapter runs in less than three minutes.", told, 10) == []
