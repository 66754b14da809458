"""The report: what it says is what was read and predicted, and nothing in a file can act in it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from ecglib import CLASSES, FS, models, networks, report_parts, report_svg
from ecglib.errors import DataError
from ecglib.explained import Explained
from ecglib.records import read_record
from ecglib.report_html import class_table, examples, write_report


@pytest.fixture(scope="session")
def record(phantom_root):
    return read_record("phantom", "p01", root=phantom_root, start=10, stop=40)


@pytest.fixture(scope="session")
def explained(record) -> Explained:
    """Thirty seconds: N, but every fifth beat a PVC; the confidence of beat k is 0.5 + k / 100."""
    time = record.beats.time
    beats = pd.DataFrame({"time": time, "symbol": record.beats.symbol, "rhythm": "N", "expected": "N"})
    beats["predicted"] = ["PVC" if k % 5 == 0 else "N" for k in range(len(time))]
    beats["confidence"] = 0.5 + np.arange(len(time)) / 100
    for c in CLASSES:
        beats[c] = np.where(beats.predicted == c, beats.confidence, 0)
    saliency = np.sin(np.arange(len(record.signal)) / 50).astype(np.float32)
    saliency[:100] = np.nan
    return Explained(beats, saliency, FS, "p01", "phantom", 10.0)


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "rect", "path", "polyline"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"meta", "rect", "path", "polyline"}:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="session")
def page(explained, record, tmp_path_factory) -> str:
    path = write_report(
        explained, record, tmp_path_factory.mktemp("report") / "p01.html", model_name="murugesan-gap",
        notes={"file": "mine.edf", "unit": "uV", "checkpoint": "murugesan-gap-mitdb-patient0.safetensors",
               "database": "mitdb", "rule": "clean", "run": {"level": "patient"}, "patients_held_out": ["a", "b"]},
    )  # fmt: skip
    return path.read_text()


def test_it_says_what_was_read(page, record):
    text = Reader(page).text
    for words in (
        "ECG p01, explained", "p01 of phantom", "mine.edf", "Lead MLII", "told as uV; shown in mV",
        "360 Hz, as the file tells it; 360 Hz for the network", "10 s to 40.00 s of 240 s", "Missing samples 0",
        "as annotated in the file",
    ):  # fmt: skip
        assert words in text
    assert "Research, no diagnosis." in text


def test_missing_samples_and_detected_beats_are_told(explained, record, tmp_path):
    found = replace(explained, beats=explained.beats.assign(symbol="", expected=""))
    text = Reader(write_report(found, replace(record, missing=7), tmp_path / "a.html").read_text()).text
    assert "Missing samples 7, bridged by straight lines" in text
    assert "Beats found in the signal" in text
    assert "annotated beats" not in class_table(found).columns
    assert "annotated" not in text
    assert "class of its window." in text


def test_who_told_the_rate_is_told(explained, record, tmp_path):
    notes = {"told": {"rate": "--fs 250", "unit": ""}}
    text = Reader(write_report(explained, record, tmp_path / "a.html", notes=notes).read_text()).text
    assert "Rate 360 Hz, as told by --fs 250; 360 Hz for the network Unit as the file tells it; shown in mV" in text


def test_counts_are_of_windows_and_no_burden(page, explained):
    text = Reader(page).text
    assert "no burden" in text
    assert text.index("no burden") < text.index("share of windows")
    f1 = {c["class"]: c["f1"] for c in report_parts._reference()["per_class"]}
    assert class_table(explained, f1=f1)["F1 of the network"].to_list() == [f"{f1['N']:.2f}", f"{f1['PVC']:.2f}"]
    assert f"{f1['PVC']:.2f} 0 " in text  # and no beat was annotated so
    assert "F1 of the network" not in class_table(explained)  # of another network nothing is known


def test_beats_outside_the_classes_are_counted(explained, record, tmp_path):
    some = explained.beats.assign(symbol=["/"] * 3 + ["N"] * (len(explained.beats) - 3))
    some.loc[:2, "expected"] = ""
    found = replace(explained, beats=some)
    text = Reader(write_report(found, record, tmp_path / "a.html").read_text()).text
    assert "Outside 3 annotated beats are of none of the classes" in text


def test_the_numbers(explained, page):
    n = len(explained.beats)
    pvc = (n + 4) // 5
    table = class_table(explained)
    assert table.predicted.to_list() == ["N", "PVC"]
    assert table.windows.to_list() == [n - pvc, pvc]
    assert table["share of windows"].to_list() == [f"{(n - pvc) / n:.1%}", f"{pvc / n:.1%}"]
    assert table["mean confidence"].iloc[1] == f"{explained.beats.confidence[::5].mean():.2f}"
    assert table["annotated beats"].to_list() == [n, 0]
    text = Reader(page).text
    assert f"Beats {n} " in text
    mean = 60 / np.diff(explained.beats.time).mean()
    assert f"Heart rate {mean:.0f} a minute" in text
    assert f"Agreement {(n - pvc) / n:.1%} of {n} beats" in text


def test_the_limits_are_those_of_the_results(page):
    cells = networks.results("reference_runs")["cells"]
    report = next(c for c in cells if c["level"] == "patient")["seeds"][0]["report"]
    text = Reader(page).text
    low, high = report["intervals"]["accuracy"]
    assert f"an accuracy of {report['scores']['accuracy']:.2f} (95 % interval {low:.2f} to {high:.2f})" in text
    assert f"a macro-F1 of {report['scores']['f1_macro']:.2f}" in text
    assert f"tested on {report['n_groups']} patients" in text
    for row in report["per_class"]:
        assert f"{row['class']} {row['f1']:.2f} {row['support']} " in text
    assert "one of the reference networks" in text
    assert "Trained on patients of MIT-BIH; windows that hold one class throughout; 2 more patients were held" in text
    for word in ("Held out by", "rule 'clean'", "Windows rule"):
        assert word not in text


def test_the_reader_is_told_who_trained_the_network(explained, record, tmp_path):
    path = networks.checkpoints("mitdb", "patient")[0]
    everybody = {w for p in networks.checkpoints("mitdb", "patient") for w in models.metadata(p)["patients_held_out"]}
    trained = len(everybody) - len(models.metadata(path)["patients_held_out"])

    def said(name: str) -> str:
        shown, notes = replace(record, name=name, database=""), {**models.metadata(path), "checkpoint": path.name}
        page = write_report(explained, shown, tmp_path / "a.html", model_name=path.name, notes=notes)
        return Reader(page.read_text()).text

    assert f"Trained on {trained} MIT-BIH patients, not on yours; windows" in said("mine")
    for name in ("208", "202"):  # a file that may be the database's own; 202 is the man of 201
        assert f"Trained on {trained} MIT-BIH patients; windows" in said(name)


def test_another_network_gets_no_borrowed_numbers(explained, record, tmp_path):
    text = Reader(write_report(explained, record, tmp_path / "a.html", model_name="mine").read_text()).text
    assert "For this network no such numbers are at hand" in text
    assert "Trained on not known" in text


def test_examples_take_turns(explained):
    chosen = examples(explained)
    assert chosen.predicted.to_list()[:4] == ["N", "PVC", "N", "PVC"]
    own = {c: explained.beats[explained.beats.predicted == c].confidence for c in ("N", "PVC")}
    expected = [own["N"].max(), own["PVC"].max(), own["N"].min(), own["PVC"].min()]
    np.testing.assert_allclose(chosen.confidence.to_numpy()[:4], expected)
    assert len(chosen) == len(set(chosen.index)) == 8
    one = replace(explained, beats=explained.beats[explained.beats.predicted == "PVC"].iloc[:1])
    assert len(examples(one)) == 1


def test_nothing_acts_and_nothing_is_fetched(page):
    reader = Reader(page)
    assert reader.open == []
    assert not {"script", "link", "iframe", "img", "object"} & set(reader.tags)
    assert [a for a in reader.attributes if a[0] in {"src", "href", "xlink:href"} or a[0].startswith("on")] == []
    assert "default-src 'none'" in dict(reader.attributes)["content"] or "default-src 'none'" in page
    assert "url(" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 500_000
    assert reader.tags.count("svg") == 10


EVIL = '<script>alert("1")</script>&'


def test_everything_is_escaped(explained, record, tmp_path):
    beats = explained.beats.rename(columns={"PVC": EVIL}).replace({"predicted": {"PVC": EVIL}, "expected": {"N": EVIL}})
    bad = replace(explained, beats=beats, name=EVIL)
    shown = replace(record, name=EVIL, lead=EVIL, database="")
    notes = {"file": EVIL, "unit": EVIL, "database": EVIL, "rule": EVIL, "run": {"level": EVIL}, EVIL: EVIL}
    page = write_report(bad, shown, tmp_path / "a.html", model_name=EVIL, notes=notes).read_text()
    assert "<script" not in page
    reader = Reader(page)
    assert reader.open == []
    assert reader.text.count(EVIL) > 10


def test_beats_without_a_decision(explained, record, tmp_path):
    blank = explained.beats.assign(predicted="", confidence=np.nan)
    found = replace(explained, beats=blank, saliency=np.full_like(explained.saliency, np.nan))
    assert class_table(found).predicted.to_list() == ["N", "no decision"]  # N was annotated
    assert "decided about no beat" in Reader(write_report(found, record, tmp_path / "a.html").read_text()).text


def test_bad_arguments(explained, record, tmp_path, one_line):
    with pytest.raises(DataError) as caught:
        write_report(explained, replace(record, start=11.0), tmp_path / "a.html")
    one_line(caught, "10 s", "11 s", "give the record that was explained")
    with pytest.raises(DataError) as caught:
        write_report(explained, record, tmp_path / "none" / "a.html")
    one_line(caught, "cannot write", "writable folder")


# Pictures -------------------------------------------------------------------------------------------------------


def test_a_strip_is_to_scale():
    signal = np.zeros(720)
    signal[360] = 1.0  # 1 mV, 1 s from the beginning
    picture = report_svg.strip(signal, np.linspace(0, 2, 720), fs=360, start=5.0, top=2.0, label="a < b")
    points = np.array([p.split(",") for p in re.search(r'points="([^"]+)"', picture)[1].split()], float)
    assert len(points) == 720
    assert points[360, 0] - points[0, 0] == pytest.approx(5 * 32, abs=0.1)  # 1 s is five boxes of 32 px
    assert points[0, 1] - points[360, 1] == pytest.approx(2 * 32, abs=0.1)  # 1 mV is two
    colours = re.findall(r'fill="(#\w{6})"', picture)
    assert colours[1] == report_svg.colour_of(np.linspace(0, 2, 720)[:7].mean() / 2)
    assert ">5.2<" in picture
    assert 'aria-label="a &lt; b"' in picture
    assert "10z" not in picture
    marked = report_svg.strip(signal, np.ones(720), fs=360, start=5.0, top=2.0, label="x", beat=6.0)
    tip = re.search(r'd="M([\d.]+) 8h12l-6 10z"', marked)  # twelve pixels wide
    assert float(tip[1]) + 6 == pytest.approx(points[360, 0], abs=0.1)


def test_the_key_has_the_colours_of_the_scale():
    colours = re.findall(r'fill="(#\w{6})"', report_svg.key())[:48]
    assert colours[0] == report_svg.colour_of(-47 / 48)
    assert colours[47] == report_svg.colour_of(47 / 48)


def test_the_timeline_puts_beats_in_their_place():
    beats = pd.DataFrame({"time": [1.0, 2.0, 3.0], "predicted": ["N", "PVC", "N"], "expected": ""})
    picture = report_svg.timeline(beats, CLASSES, start=0, stop=4, label="x")
    paths = re.findall(r'<path d="([^"]*)" stroke="(#\w{6})" stroke-width="1.4"', picture)
    places = {colour: [float(v) for v in re.findall(r"M([\d.]+) ", d)] for d, colour in paths if d}
    assert places == {"#4d4d4d": [64 + 160, 64 + 480], "#ef6c22": [64 + 320]}
    rate, when = report_svg.heart_rate(np.array([0.0, 1.0, 1.5, 9.0]))
    assert rate.tolist() == [60, 120]
    assert when.tolist() == [1.0, 1.5]
    day = pd.DataFrame({"time": np.arange(100_000) * 0.86, "predicted": "N", "expected": "N"})
    assert len(report_svg.timeline(day, CLASSES, start=0, stop=86_400, label="x")) < 150_000
