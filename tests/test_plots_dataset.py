"""Charts of the dataset chapters: the numbers that they carry, their signs and colours, what they refuse, their size."""

from __future__ import annotations

import functools
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert
from test_plots import table, walk

from ecglib import CLASSES, plots, recount, survey
from ecglib.errors import DataError
from ecglib.networks import results
from ecglib.plots.counts import VERDICTS

CELLS = pd.DataFrame(
    [
        ("N", "mitdb", "A", 75_013.0, 75_013.0, 0.0, "exact"),
        ("PVC", "mitdb", "A", 7121.0, 7126.0, 5.0, "off"),
        ("N", "ltdb", "B", 100.0, 8_260_377.0, 8_260_277.0, "unexplained"),
        ("PVC", "ltdb", "B", np.nan, 17.0, np.nan, "dash"),
    ],
    columns=["class", "database", "rule", "published", "counted", "difference", "verdict"],
)
STORY = pd.DataFrame(
    [
        ("mitdb", "PVC", "A", "every mark", 7130, 7121, False, False, []),
        ("mitdb", "PVC", "A", "… and ends in it", 7100, 7121, False, True, ["9"]),
        ("mitdb", "PVC", "A", "never alone in its record", 7121, 7121, True, False, [f"{k}" for k in range(100, 115)]),
        ("ltdb", "N", "B", "every mark", 600_232, 517_402, False, False, []),
    ],
    columns=["database", "class", "rule", "step", "windows", "published", "fits", "aside", "records"],
)
HITS = pd.DataFrame(
    [
        ("mitdb LBBB", "spacing", 2160, 0, 0.03, "at least 271 samples apart: 6,583"),
        ("mitdb LBBB", "half-window", 3240, 5, 1.08, "±886 samples: 6,580"),
        ("ltafdb N", "spacing", 99, 0, 2.5, "none"),
    ],
    columns=["cell", "family", "hypotheses", "exact", "expected", "nearest"],
)
RASTER = pd.DataFrame(
    [
        (d, f"{rule} rule", c, t, 0.5 if abs(t) < 0.05 else 0.1234567)
        for d in ("ltafdb", "mitdb") for rule in ("deck", "clean") for c in ("SBR", "N") for t in np.arange(-5, 5) / 50
    ],
    columns=["database", "rule", "class", "time", "share"],
)  # fmt: skip
AVERAGE = pd.DataFrame(
    [
        (c, t, m, m - 0.1, m + 0.2, n)
        for c, n in (("SBR", 3), ("N", 40)) for t, m in zip(np.linspace(-1, 1, 9), np.arange(9) / 7, strict=True)
    ],
    columns=["label", "time", "mean", "low", "high", "patients"],
)  # fmt: skip
PARTS = pd.DataFrame({"of": ["a", "a", "a", "b", "b"], "what": ["N", "VT", "X", "N", "SBR"], "n": [60, 30, 10, 1, 3]})
WHO = pd.DataFrame(
    [("N", "mitdb", "100", 900), ("N", "mitdb", "101", 97), ("N", "mitdb", "102", 2), ("N", "mitdb", "103", 1),
     ("SBR", "mitdb", "232", 1), ("N", "ltdb", "14046", 5), ("N", "ltdb", "14134", 15)],
    columns=["class", "database", "record", "windows"],
)  # fmt: skip
SPECTRA = pd.DataFrame(
    [(d, 2.5 + 5 * k, -k - 0.5, -k / 3, -k + 0.5) for d in ("mitdb", "ltafdb") for k in range(36)],
    columns=["database", "hz", "low", "median", "high"],
)

shares = functools.partial(plots.shares, label="of", part="what", value="n")

KINDS = {
    "count_cells": lambda: plots.count_cells(CELLS),
    "clause_steps": lambda: plots.clause_steps(STORY, cell="mitdb PVC"),
    "search_hits": lambda: plots.search_hits(HITS),
    "peak_raster": lambda: plots.peak_raster(RASTER),
    "window_average": lambda: plots.window_average(AVERAGE),
    "shares": lambda: shares(PARTS),
    "suppliers": lambda: plots.suppliers(WHO),
    "spectra": lambda: plots.spectra(SPECTRA),
}


@functools.cache
def real(kind):
    """The charts of the two chapters, from the committed results."""
    committed, deck = results("annotations"), results("deck")["windows"]
    found, cues = committed["survey"], committed["cues"]
    if kind == "count_cells":
        return plots.count_cells(recount.verdicts(survey.table_of(found), deck))
    if kind == "clause_steps":
        return plots.clause_steps(recount.story(found, deck), cell="mitdb PVC")
    if kind == "search_hits":
        rows = [
            {"cell": cell, **{k: row[k] for k in ("family", "hypotheses", "exact", "expected")},
             "nearest": "; ".join(f"{b['rule']}: {b['windows']:,}" for b in row["best"])}
            for cell, tried in results("count_search")["cells"].items() for row in tried["families"]
        ]  # fmt: skip
        return plots.search_hits(pd.DataFrame(rows))
    if kind == "peak_raster":
        rows = [
            (d, f"{rule} rule", c, t, share)
            for rule in ("deck", "clean") for d in found for c, shares in found[d]["peaks"][rule].items()
            for t, share in zip(survey.BINS, shares, strict=False)
        ]  # fmt: skip
        return plots.peak_raster(pd.DataFrame(rows, columns=["database", "rule", "class", "time", "share"]))
    if kind == "suppliers":
        return plots.suppliers(survey.concentration(found))
    if kind == "spectra":
        return plots.spectra(pd.DataFrame(cues["spectra"]))
    if kind == "window_average":  # as many classes and samples as the chapter's, which are no committed result
        time = np.arange(-1, 1, 2 / 360)
        rng = np.random.default_rng(0)
        frame = pd.concat(
            pd.DataFrame({"label": c, "time": time, "mean": rng.normal(size=360), "patients": 40}) for c in CLASSES
        )
        return plots.window_average(frame.assign(low=frame["mean"] - 0.1, high=frame["mean"] + 0.1))
    rows = [(f"{c}, {d}", r, n) for d in found for c, by in found[d]["rhythms"].items() for r, n in by.items()]
    return shares(pd.DataFrame(rows, columns=["of", "what", "n"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", [lambda kind: KINDS[kind](), real], ids=["small", "real"])
def test_every_kind_is_described_small_and_draws(kind, of):
    chart = of(kind)
    assert len(chart.to_json(indent=None)) < 500_000
    spec = chart.to_dict()
    assert len(spec["description"]) > 10
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count("<path") > 2
    assert "NaN" not in svg
    assert "undefined" not in svg
    width, height = (float(v) for v in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert width < 740  # the book's column
    assert height < 1100


@pytest.mark.parametrize(
    "call",
    [
        functools.partial(plots.count_cells, CELLS), functools.partial(plots.clause_steps, STORY, cell="ltdb N"),
        functools.partial(plots.search_hits, HITS), functools.partial(plots.peak_raster, RASTER),
        functools.partial(plots.window_average, AVERAGE), functools.partial(shares, PARTS),
        functools.partial(plots.suppliers, WHO), functools.partial(plots.spectra, SPECTRA),
    ],
)  # fmt: skip
def test_title_and_description_are_the_callers(call):
    spec = call(title="A heading", description="What is seen.").to_dict()
    assert (spec["title"], spec["description"]) == ("A heading", "What is seen.")
    assert "title" not in call().to_dict()


# Counts ---------------------------------------------------------------------------------------------------------


def test_cells_carry_both_numbers_and_a_sign():
    frame = table(plots.count_cells(CELLS), "printed", "ours", "sign")
    assert frame[["printed", "ours", "sign"]].to_numpy().tolist() == [
        ["75,013", "75,013", "✓"],
        ["7,121", "7,126", "≈"],
        ["100", "8,260,377", "?"],
        ["–", "", ""],  # what was counted for a dash is nobody's business
    ]
    assert frame.verdict.tolist() == ["exact", "off", "unexplained", "dash"]


def test_verdicts_have_colours_of_their_own_and_only_those_that_occur_are_named():
    assert len({colour for colour, _ in VERDICTS.values()}) == len({sign for _, sign in VERDICTS.values()}) == 4
    for rows, names in ((CELLS, list(VERDICTS)), (CELLS[1:3], ["off", "unexplained"])):
        spec = plots.count_cells(rows).to_dict()
        scales = [d["scale"] for d in walk(spec) if d.get("field") == "verdict" and "scale" in d]
        assert scales == [{"domain": names, "range": [VERDICTS[v][0] for v in names]}]
    svg = vl_convert.vegalite_to_svg(plots.count_cells(CELLS).to_dict())
    for colour, sign in VERDICTS.values():
        assert f'fill="{colour}"' in svg
        assert not sign or f">{sign}</text>" in svg


def test_databases_stand_as_they_come_and_classes_in_their_order():
    spec = plots.count_cells(CELLS, width=300).to_dict()
    sorts = {d["field"]: d["sort"] for d in walk(spec) if "sort" in d}
    assert sorts == {"database": ["mitdb", "ltdb"], "class": list(CLASSES)}
    assert spec["width"] == 300


def test_a_table_of_dashes():
    frame = pd.DataFrame(CELLS[3:].to_dict("records")).astype({"published": object})
    frame["published"] = None
    assert table(plots.count_cells(frame), "printed").printed.tolist() == ["–"]


def test_steps_carry_how_far_off_they_are():
    frame = table(plots.clause_steps(STORY, cell="mitdb PVC"), "excess")
    assert frame.cell.tolist() == ["mitdb PVC"] * 3 + ["ltdb N"]
    assert frame.excess.tolist() == [9, -21, 0, 82_830]
    assert frame.name.tolist() == ["every mark", "(and ends in it?)", "never alone in its record", "every mark"]
    assert frame.text.tolist() == ["7,130  +9", "7,100  -21", "7,121  = published", "600,232  +82,830"]
    assert frame.who.tolist() == ["none", "9", "100 101 102 103 104 105 106 107 108 109 110 111 and 3 more", "none"]


def test_one_cell_is_shown_and_the_others_can_be_chosen():
    spec = plots.clause_steps(STORY, cell="ltdb N").to_dict()
    (pick,) = (p for p in spec["params"] if "bind" in p)
    assert pick["value"] == "ltdb N"
    assert pick["bind"]["options"] == ["mitdb PVC", "ltdb N"]
    assert "600,232  +82,830" in (svg := vl_convert.vegalite_to_svg(spec))
    assert "7,130" not in svg
    with pytest.raises(DataError, match=r"cell: expected one of mitdb PVC, ltdb N, received 'mitdb SBR'"):
        plots.clause_steps(STORY, cell="mitdb SBR")


def test_a_step_that_fits_is_green_a_variant_grey():
    svg = vl_convert.vegalite_to_svg(plots.clause_steps(STORY, cell="mitdb PVC").to_dict())
    dots = re.findall(
        r'; clause: ([^;]*);[^"]*" role="graphics-symbol" aria-roledescription="point"[^>]*fill="([^"]*)"', svg
    )
    assert dict(dots) == {
        "every mark": "#3245b7", "(and ends in it?)": "#b7b7b7", "never alone in its record": "#38761d"
    }  # fmt: skip


def test_hits_carry_what_was_found_beside_what_accident_brings():
    chart = plots.search_hits(HITS)
    assert table(chart, "nearest").to_dict("records") == HITS.to_dict("records")
    spec = chart.to_dict()
    assert spec["facet"]["row"]["field"] == "cell"
    marks = {layer["mark"]["type"]: layer["encoding"]["x"]["field"] for layer in spec["spec"]["layer"]}
    assert marks == {"tick": "expected", "point": "exact"}
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.index(">mitdb LBBB<") < svg.index(">ltafdb N<")


# Cues -----------------------------------------------------------------------------------------------------------


def test_raster_carries_shares_by_database_and_rule():
    chart = plots.peak_raster(RASTER)
    frame = table(chart, "chosen")
    assert frame.chosen.drop_duplicates().tolist() == [
        "ltafdb, deck rule", "ltafdb, clean rule", "mitdb, deck rule", "mitdb, clean rule"
    ]  # fmt: skip
    assert frame.share.tolist() == RASTER.share.round(3).tolist()
    np.testing.assert_allclose(frame.time, RASTER.time)
    spec = chart.to_dict()
    (pick,) = spec["params"]
    assert pick["value"] == "ltafdb, deck rule"
    ends = [d for d in walk(spec) if d.get("as") == "end"]
    assert ends[0]["calculate"] == "datum.time + 0.0200"
    assert {tuple(d["sort"]) for d in walk(spec) if d.get("field") == "class" and "sort" in d} == {("N", "SBR")}
    assert vl_convert.vegalite_to_svg(spec).count("share: ") >= 20  # of one database and rule


def test_averages_carry_bands_and_patients():
    frame = table(plots.window_average(AVERAGE), "panel")
    assert frame.panel.drop_duplicates().tolist() == ["SBR (3)", "N (40)"]
    np.testing.assert_allclose(frame["mean"], AVERAGE["mean"], atol=5.1e-4)
    np.testing.assert_allclose(frame.high - frame.low, 0.3, atol=2e-3)
    spec = plots.window_average(AVERAGE, columns=2, width=200, height=90).to_dict()
    assert (spec["columns"], spec["spec"]["width"], spec["spec"]["height"]) == (2, 200, 90)
    assert spec["facet"]["sort"] == ["N (40)", "SBR (3)"]
    fills = [d["scale"] for d in walk(spec) if d.get("field") == "label"]
    assert dict(zip(fills[0]["domain"], fills[0]["range"], strict=True)) == dict(plots.CLASS_COLOURS)
    assert any(d.get("title") == "mV" for d in walk(spec))


def test_shares_add_up_to_one_bar():
    frame = table(shares(PARTS), "share")
    assert frame.to_dict("list") == {
        "label": ["a", "a", "a", "b", "b"],
        "group": ["N", "VT", "X", "N", "SBR"],
        "value": [60, 30, 10, 1, 3],
        "share": [0.6, 0.3, 0.1, 0.25, 0.75],
        "rank": [0, 1, 2, 0, 3],
    }
    assert table(shares(PARTS), "text").text.tolist() == ["100", "4"]


def test_parts_in_the_order_asked_and_the_rest_in_grey():
    chart = shares(PARTS, order=["SBR", "VT", "nowhere"])
    frame = table(chart, "share")
    assert frame[["label", "group", "value"]].to_numpy().tolist() == [
        ["a", "other", 70], ["a", "VT", 30], ["b", "other", 1], ["b", "SBR", 3]
    ]  # fmt: skip
    (scale,) = [d["scale"] for d in walk(chart.to_dict()) if d.get("field") == "group" and "scale" in d]
    assert scale["domain"] == ["SBR", "VT", "other"]
    assert scale["range"][0] == plots.CLASS_COLOURS["SBR"]
    assert scale["range"][2] == "#bdbdbd"
    assert len(set(scale["range"])) == 3
    dated = shares(PARTS, width=222).to_dict()
    assert dated["width"] == 222


def test_many_parts_without_a_colour_of_their_own():
    frame = pd.DataFrame({"of": "a", "what": [f"rhythm {k}" for k in range(9)], "n": np.arange(9, 0, -1)})
    drawn = table(shares(frame), "share")
    assert drawn.group.tolist() == [f"rhythm {k}" for k in range(7)] + ["other"]
    assert drawn.value.tolist() == [9, 8, 7, 6, 5, 4, 3, 3]
    assert shares(frame, order=[f"rhythm {k}" for k in range(9)])


def test_suppliers_are_pieces_from_the_largest():
    frame = table(plots.suppliers(WHO), "from")
    n = frame[(frame.database == "mitdb") & (frame["class"] == "N")]
    assert n.record.tolist() == ["100", "101", "2 records"]  # of the last nobody could see a thing
    assert n.windows.tolist() == [900, 97, 3]
    assert n["from"].tolist() == [0, 0.9, 0.997]
    assert n.to.tolist() == [0.9, 0.997, 1]
    assert n.name.tolist() == ["100", "101", ""]
    assert n["shade"].tolist()[:2] == [0, 1]
    other = frame[frame.database == "ltdb"]
    assert other.record.tolist() == ["14134", "14046"]
    assert other["from"].tolist() == [0, 0.75]
    few = table(plots.suppliers(WHO, named=0.5), "from")
    assert set(few.name) == {"100", "232", "14134", ""}
    spec = plots.suppliers(WHO).to_dict()
    (pick,) = spec["params"]
    assert (pick["value"], pick["bind"]["options"]) == ("mitdb", ["mitdb", "ltdb"])


def test_suppliers_of_the_committed_survey_fill_each_bar():
    frame = table(real("suppliers"), "from")
    who = survey.concentration(results("annotations")["survey"])
    for (database, label), pieces in frame.groupby(["database", "class"]):
        pieces = pieces.sort_values("from")
        assert pieces.windows.sum() == who[(who.database == database) & (who["class"] == label)].windows.sum()
        assert (pieces["from"].iloc[0], pieces.to.iloc[-1]) == (0, 1)
        np.testing.assert_allclose(pieces["from"][1:], pieces.to[:-1], atol=1.1e-4)


def test_spectra_carry_medians_and_mark_what_128_hz_can_hold():
    chart = plots.spectra(SPECTRA, width=400, height=111)
    frame = table(chart, "hz")
    np.testing.assert_allclose(frame[["low", "median", "high"]], SPECTRA[["low", "median", "high"]], atol=5.1e-3)
    assert frame.hz.tolist() == SPECTRA.hz.tolist()
    spec = chart.to_dict()
    assert (spec["width"], spec["height"]) == (400, 111)
    assert [{"at": 64}] in [d["values"] for d in walk(spec) if "values" in d]
    scales = [d["scale"] for d in walk(spec) if d.get("field") == "database" and "scale" in d]
    assert [s["domain"] for s in scales] == [["mitdb", "ltafdb"]] * 2  # band and line
    assert len(set(scales[0]["range"])) == 2
    assert {"frequency (Hz)", "share of the power (log10)"} <= {d.get("title") for d in walk(spec) if "title" in d}


# Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "absent"),
    [
        (lambda: plots.count_cells(CELLS.drop(columns="verdict")), "verdict"),
        (lambda: plots.clause_steps(STORY.drop(columns="records"), cell="mitdb PVC"), "records"),
        (lambda: plots.search_hits(HITS.drop(columns="nearest")), "nearest"),
        (lambda: plots.peak_raster(RASTER.drop(columns="share")), "share"),
        (lambda: plots.window_average(AVERAGE.drop(columns="patients")), "patients"),
        (lambda: shares(PARTS.drop(columns="what")), "what"),
        (lambda: plots.suppliers(WHO.drop(columns="record")), "record"),
        (lambda: plots.spectra(SPECTRA.drop(columns="median")), "median"),
    ],
)
def test_a_missing_column_is_named(call, absent, one_line):
    with pytest.raises(DataError) as caught:
        call()
    one_line(caught, "frame: expected columns", f"received none called ['{absent}']")
