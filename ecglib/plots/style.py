"""Colours, fonts and the book's theme.

Nothing here acts at import: `use_theme` is an explicit call.  Every colour keeps 3:1 contrast with the paper, and
the class colours stay apart (CIE76 ΔE ≥ 24) for normal sight and under simulated protan-, deuter- and tritanopia.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import altair as alt
import numpy as np

from ecglib import CLASSES

Chart = TypeVar("Chart", alt.LayerChart, alt.VConcatChart, alt.ConcatChart, alt.FacetChart)

WIDTH = 610  #: default width of a chart's paper, px; with its axis it fills a column of 680 px

INK = "#1a1a1a"  #: traces and text
MUTED = "#595959"  #: secondary text, 7:1 on white
ACCENT = "#3245b7"  #: the one colour of a chart that needs one

PAPER = "#fffaf8"  #: background of ECG paper
FINE = "#fbe3de"  #: its lines of 0.04 s and 0.1 mV
STRONG = "#eeb4ab"  #: its lines of 0.2 s and 0.5 mV

#: Relevance from low to high: darkens evenly, so that it survives a grey printer, and stays off the paper's red.
RELEVANCE = ("#f7f4ec", "#d6e6ea", "#a3cfe0", "#62aed6", "#2f86c6", "#2468b8")

#: Relevance below zero, from the most negative up.
AGAINST = ("#a4480f", "#cf7a35", "#e9b98c")

#: One colour per class: grey for normal, warm for ectopic beats, blue and violet for tachyarrhythmia,
#: green for bradycardia, plum and pink for the two bundle branch blocks.
CLASS_COLOURS = MappingProxyType(
    dict(
        zip(
            CLASSES,
            ("#4d4d4d", "#ef6c22", "#6f1a11", "#3245b7", "#a780e6", "#578f63", "#650e61", "#cc79a9"),
            strict=True,
        )
    )
)

FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Noto Sans", "Liberation Sans", sans-serif'

#: levels of split as charts name them, from the loosest to the strictest
LEVEL_NAMES = {"window": "by window", "block": "by block of 60 s", "patient": "by patient", "ds1-ds2": "DS1 to DS2"}


def theme() -> Any:
    """Vega-Lite configuration of the book: white ground, dark text, system fonts, 13 px labels."""
    text: dict[str, Any] = {"labelFontSize": 13, "titleFontSize": 13, "labelColor": INK, "titleColor": INK}
    return {
        "config": {
            "background": "white",
            "font": FONT,
            "axis": text | {"titleFontWeight": "normal", "titlePadding": 8, "labelPadding": 4, "gridColor": "#e6e6e6",
                            "domainColor": MUTED, "tickColor": MUTED},
            "axisQuantitative": {"labelFlush": False},
            "legend": text | {"titleFontWeight": "normal", "symbolStrokeWidth": 2},
            "header": text | {"labelFontWeight": "bold", "titleFontWeight": "normal"},
            "title": {"fontSize": 14, "fontWeight": "bold", "color": INK, "anchor": "start", "frame": "group",
                      "offset": 10, "subtitleFontSize": 13, "subtitleColor": MUTED},
            "view": {"stroke": "#cccccc"},
            "range": {"category": list(CLASS_COLOURS.values())},
            "bar": {"color": ACCENT},
            "line": {"color": ACCENT},
            "point": {"color": ACCENT},
        }
    }  # fmt: skip


def use_theme() -> Any:
    """Register the book's theme and enable it.

    Returns
    -------
    context manager
        ``use_theme()`` enables the theme from here on; ``with use_theme(): ...`` for a block only.
    """
    alt.theme.register("ecglib", enable=False)(theme)
    return alt.theme.enable("ecglib")


def finish(chart: Chart, title: str | None, description: str) -> Chart:
    """``chart`` with its alternative text and, if there is one, its heading."""
    return chart.properties(description=description, **({"title": title} if title else {}))


def series(names: Sequence[str]) -> alt.Scale:
    """Colours for named series: a class has its own, other names take the most distinct ones first."""
    if set(names) <= set(CLASSES):
        return alt.Scale(domain=list(names), range=[CLASS_COLOURS[name] for name in names])
    colours = [CLASS_COLOURS[c] for c in ("AFIB", "PVC", "SBR", "LBBB", "RBBB", "SVTA", "PAC", "N")]
    return alt.Scale(domain=list(names), range=[colours[k % len(colours)] for k in range(len(names))])


def hues(low: float = 0.0, high: float = 1.0) -> alt.Scale:
    """Colours of relevance between two values; what lies outside takes the colour of the nearer end.

    A range that spans zero gets a second arm: orange for what speaks against.
    """
    if low < 0 < high:
        domain = [*np.linspace(low, 0, len(AGAINST) + 1)[:-1], *np.linspace(0, high, len(RELEVANCE))]
        colours = [*AGAINST, *RELEVANCE]
    else:
        domain, colours = list(np.linspace(low, high, len(RELEVANCE))), list(RELEVANCE)
    return alt.Scale(domain=[round(float(d), 6) for d in domain], range=colours, clamp=True, interpolate="lab")


def key(title: str, low: float = 0.0, high: float = 1.0) -> alt.Legend:
    """Legend of `hues`: one bar above the chart, its ends named."""
    return alt.Legend(
        title=title, titleOrient="left", titleLimit=400, orient="top", direction="horizontal", offset=6,
        gradientLength=140, gradientThickness=10, values=[low, high],
        labelExpr=f"datum.index === 0 ? 'low {low:g}' : 'high {high:g}'",
    )  # fmt: skip


def dashes(names: Sequence[str]) -> alt.Scale:
    """Line patterns for named series, a second cue beside the colour."""
    patterns = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
    return alt.Scale(domain=list(names), range=[patterns[k % len(patterns)] for k in range(len(names))])
