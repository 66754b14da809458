"""Excerpts are parts of their long records: the same beats at the same times, and nothing from beyond their ends."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
import wfdb

from ecglib.databases import data_root, folder
from ecglib.errors import DataError, UnknownNameError
from ecglib.excerpts import excerpts
from ecglib.records import read_annotations
from ecglib.windows import cut


def tone(time):
    """The made-up lead, mV, at seconds of the long record: slow enough to be the same at any rate."""
    return np.sin(2 * np.pi * np.asarray(time) / 1.7)


def write_excerpt(where, name, *, start, seconds, marks, fs=128, comment=""):
    """A stretch of a long record from ``start`` s on; ``marks`` (s of the long record, text) as in a record by hand."""
    where.mkdir(parents=True, exist_ok=True)
    lead = tone(start + np.arange(seconds * fs) / fs)
    signals = np.stack([lead, -lead], axis=1)
    options = {"comments": [comment]} if comment else {}
    wfdb.wrsamp(
        name, fs=fs, units=["mV"] * 2, sig_name=["ECG1", "ECG2"], p_signal=signals, fmt=["16"] * 2,
        write_dir=str(where), **options,
    )  # fmt: skip
    marks = sorted(marks, key=lambda mark: mark[0])
    sample = np.array([round((t - start) * fs) for t, _ in marks])
    symbol = [text if len(text) == 1 else "+" for _, text in marks]
    wfdb.wrann(name, "atr", sample, symbol, aux_note=[t if len(t) > 1 else "" for _, t in marks], write_dir=str(where))


MINUTE = [
    (1000.0, "(AFIB"),
    *[(1000.5 + 0.75 * i, "N") for i in range(39)],
    (1030.0, "(N"),
    *[(1030.25 + 0.75 * i, "N") for i in range(39)],
    (1059.5, "(AFIB"),
]


@pytest.fixture
def af_root(tmp_path):
    """Root without the database but with excerpts of records 06 and 112 in it."""
    where = tmp_path / "files" / "excerpts" / "ltafdb"
    write_excerpt(where, "006_00128000", start=1000, seconds=60, marks=MINUTE)
    write_excerpt(
        where, "112_00000128", start=1, seconds=60, marks=[(1.0, "(SBR"), (2.5, "N"), (3.5, "N"), (60.5, "V")]
    )
    return tmp_path / "files"


def test_excerpts_are_parts_of_their_record(af_root):
    first, second = excerpts("ltafdb", root=af_root)
    assert [(r.name, r.database, r.patient) for r in (first, second)] == [
        ("06", "ltafdb", "ltafdb/06"),
        ("112", "ltafdb", "ltafdb/112"),
    ]
    assert (first.start, first.duration, first.native_fs, first.fs) == (1000.0, 1060.0, 128.0, 360.0)
    assert first.rhythms.tolist() == [(1000, 1030, "AFIB"), (1030, 1059.5, "N"), (1059.5, 1060, "AFIB")]
    assert first.beats.time.tolist() == [t for t, text in MINUTE if text == "N"]
    assert first.marks.time.tolist() == [t for t, _ in MINUTE]
    assert (second.start, second.duration) == (1.0, 61.0)
    assert second.beats.tolist() == [(2.5, "N"), (3.5, "N"), (60.5, "V")]
    for record in (first, second):
        np.testing.assert_allclose(
            record.signal[180:-180], tone(record.start + np.arange(21_600) / 360)[180:-180], atol=2e-3
        )


@pytest.mark.parametrize("rule", ["deck", "clean"])
def test_windows_show_their_time(af_root, rule):
    windows = cut(next(excerpts("ltafdb", root=af_root)), rule=rule)
    assert len(windows) > 30
    assert set(windows.record) == {"06"}
    assert set(windows.patient) == {"ltafdb/06"}
    assert (windows.time - 1 >= 1000).all()
    for x, time in zip(windows.x[:, 0], windows.time, strict=True):
        inside = time - 1 + np.arange(720) / 360 < 1059.5  # the filter knows nothing beyond the end
        np.testing.assert_allclose(x[inside], tone(time - 1 + np.arange(720) / 360)[inside], atol=5e-3)


def test_nothing_comes_from_beyond_an_excerpt(af_root):
    """A beat's window lies in it; that of a rhythm's mark in the last second goes on with the last value, as in a record."""
    record = next(excerpts("ltafdb", root=af_root))
    windows = cut(record, rule="deck")
    rhythm = windows[windows.y == 3]
    assert rhythm.time.tolist() == [
        1059.5
    ]  # the mark at the beginning states what is running: its window begins before
    assert (rhythm.x[0, 0, 540:] == record.signal[-1]).all()
    beats = windows[windows.y == 0]
    assert (beats.time.min(), beats.time.max()) == (1001.25, 1058.0)
    clean = cut(record, rule="clean")
    assert clean.time.max() + 1 <= 1060


def test_excerpts_in_the_data_root_stand_before_those_beside_it(af_root, monkeypatch):
    beside = af_root.parent / "excerpts" / "ltafdb"
    write_excerpt(beside, "000_00000000", start=0, seconds=10, marks=[(2.0, "N")])
    assert [r.name for r in excerpts("ltafdb", root=af_root)] == ["06", "112"]
    (af_root / "excerpts" / "ltafdb").rename(af_root / "excerpts" / "other")
    assert [r.name for r in excerpts("ltafdb", root=af_root)] == ["00"]
    monkeypatch.setenv("ECGLIB_DATA", str(af_root))
    assert [r.patient for r in excerpts("ltafdb")] == ["ltafdb/00"]
    monkeypatch.chdir(af_root)
    assert [r.name for r in excerpts("ltafdb", root=".")] == ["00"]


def test_excerpts_of_ltdb_by_the_comment_of_their_header(tmp_path):
    where = folder("qtdb", tmp_path)
    marks = [(33_253.0 + 0.5 * i, "N") for i in range(1, 20)]
    comment = "Produced by xform from record 14046, beginning at 9:14:13.000"
    write_excerpt(where, "sel14046", start=33_253.0, seconds=20, marks=marks, fs=250, comment=comment)
    comment = "Produced by xform from record 15814, beginning at 00:00:01.5"
    write_excerpt(where, "sel15814", start=1.5, seconds=5, marks=[(2.0, "V")], fs=250, comment=comment)
    write_excerpt(where, "sel100", start=0, seconds=5, marks=[(2.0, "N")], fs=250)
    long, short = excerpts("ltdb", root=tmp_path)
    assert (long.name, long.patient, long.start, long.duration) == ("14046", "ltdb/14046", 33_253.0, 33_273.0)
    assert (short.name, short.start, short.duration, short.native_fs) == ("15814", 1.5, 6.5, 250.0)
    np.testing.assert_allclose(long.beats.time, [t for t, _ in marks])
    windows = cut(long, rule="deck")
    assert windows.time.tolist() == [t for t, _ in marks[2:-2]]  # between the first and the last mark
    np.testing.assert_array_equal(windows.anchor, windows.time)
    np.testing.assert_allclose(windows.x[5, 0], tone(windows.time[5] - 1 + np.arange(720) / 360), atol=5e-3)


def test_a_header_that_does_not_say_where(tmp_path, one_line):
    write_excerpt(folder("qtdb", tmp_path), "sel14157", start=0, seconds=5, marks=[(2.0, "N")], fs=250)
    with pytest.raises(DataError) as caught:
        list(excerpts("ltdb", root=tmp_path))
    one_line(caught, "sel14157.hea", "where in its record the excerpt begins", "fetch")


def test_no_excerpts_and_no_such_database(tmp_path, one_line):
    assert list(excerpts("ltafdb", root=tmp_path / "files")) == []
    assert list(excerpts("ltdb", root=tmp_path / "files")) == []
    with pytest.raises(UnknownNameError) as caught:
        list(excerpts("mitdb", root=tmp_path))
    one_line(caught, "'mitdb'", "ltafdb, ltdb")


# Real excerpts --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minutes():
    """The minutes of LTAFDB that are at hand."""
    found = list(excerpts("ltafdb", root=data_root().resolve()))
    if len(found) != 79:
        pytest.skip(f"{len(found)} of the 79 excerpts of LTAFDB are here")
    return found


def check_against_the_whole(part, whole):
    """The excerpt's beats are the long record's between its ends, to one of its samples."""
    inside = (whole.beats.time >= part.start - 1e-6) & (whole.beats.time < part.duration - 1e-6)
    assert part.beats.symbol.tolist() == whole.beats.symbol[inside].tolist()
    assert np.abs(part.beats.time - whole.beats.time[inside]).max() <= 1 / 128 + 1e-9


@pytest.mark.data
def test_excerpts_of_ltafdb(minutes):
    assert len({r.patient for r in minutes}) == 48
    count = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for record in minutes:
            assert record.native_fs == 128
            assert len(record.signal) == 60 * 360
            assert record.duration - record.start == 60
            count.update(record.beats.symbol)
            windows = cut(record, rule="clean")
            assert np.isfinite(windows.x).all()
            assert (np.abs(windows.r_position - 1) <= 0.5 + 1 / 256).all()  # beats are annotated at 128 Hz
            assert (windows.time - 1 >= record.start - 1e-9).all()
            assert (windows.time + 1 <= record.duration + 1 / 360).all()
            count["clean windows"] += len(windows)
    assert (count["N"], count["V"], count["A"]) == (7436, 108, 12)
    assert count["clean windows"] > 6000


@pytest.mark.data
def test_minutes_of_ltafdb_hold_the_beats_of_their_records(minutes, ltafdb):
    whole = {name: read_annotations("ltafdb", name, root=ltafdb) for name in {r.name for r in minutes}}
    for part in minutes:
        check_against_the_whole(part, whole[part.name])


@pytest.mark.data
def test_excerpts_of_ltdb(qtdb):
    """LTDB as QT Database has it: the beat is found where the annotation says, at 360 Hz."""
    found = list(excerpts("ltdb", root=qtdb))
    assert [r.patient for r in found] == ["ltdb/14046", "ltdb/14157", "ltdb/14172", "ltdb/15814"]
    for record in found:
        windows = cut(record, rule="deck")
        assert len(windows) > 500
        assert windows.x.shape[2] == 720
        peaks = windows.x[:, 0, 330:391] - np.median(windows.x[:, 0], axis=1, keepdims=True)
        away = windows.x[:, 0, 480:541] - np.median(windows.x[:, 0], axis=1, keepdims=True)
        # the annotated beat stands in the middle: the QRS is what is largest there
        assert np.median(np.abs(peaks).max(1)) > 2 * np.median(np.abs(away).max(1))


@pytest.mark.data
def test_excerpts_of_ltdb_hold_the_beats_of_their_records(qtdb, ltdb):
    for part in excerpts("ltdb", root=qtdb):
        check_against_the_whole(part, read_annotations("ltdb", part.name, root=ltdb))
