"""Surveys against counts made window by window, what stands in where records are missing, and the committed numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import wfdb
from test_excerpts import write_excerpt
from test_recount import slow_steps
from test_rules import slow_deck

from ecglib import CLASSES, survey
from ecglib.databases import database, folder
from ecglib.errors import DataError
from ecglib.networks import results
from ecglib.records import BEAT_SYMBOLS, read_annotations
from ecglib.recount import ASIDE, STEPS
from ecglib.rules import label
from ecglib.windows import TABLE

BEAT_CLASS = {"N": 0, "V": 1, "A": 2, "L": 6, "R": 7}
RHYTHMS = ("AFIB", "SVTA", "SBR")


def write(root, name, record, marks, seconds):
    """A record of annotations alone: marks (sample, text) in order."""
    where, f = folder(name, root), round(database(name).fs)
    where.mkdir(parents=True, exist_ok=True)
    (where / f"{record}.hea").write_text(f"{record} 1 {f} {seconds * f}\n{record}.dat 16 200 12 0 0 0 0 MLII\n")
    symbol = [text if len(text) == 1 else "+" for _, text in marks]
    aux = [text if len(text) > 1 else "" for _, text in marks]
    wfdb.wrann(record, "atr", np.array([s for s, _ in marks]), symbol, aux_note=aux, write_dir=str(where))


def stretches(rng, native, seconds):
    """Random marks: stretches of beats with strays, in random rhythms; the first rhythm may be named late."""
    marks, s = [], int(rng.integers(0, 2 * native))
    while s < (seconds - 20) * native:
        if rng.random() < 0.8:
            marks.append((s, "(" + str(rng.choice(["N", "AFIB", "SVTA", "SBR", "VT"]))))
        step, main = int(rng.integers(native // 3, 3 * native // 2)), str(rng.choice(list("NNNNVAL")))
        for _ in range(int(rng.integers(2, 12))):
            s += step + int(rng.integers(-5, 6))
            marks.append((s, main if rng.random() < 0.93 else str(rng.choice(list("NVAF")))))
        if rng.random() < 0.3:
            marks.append((s + int(rng.integers(0, 50)), str(rng.choice(list("~|")))))
        s = marks[-1][0] + int(rng.integers(1, native))
    return marks


def in_bins(time, peaks):
    """Windows with a peak in each bin of 20 ms, one by one; in a unit of which samples at both rates are whole numbers."""
    out, unit = np.zeros(100, int), 360 * 128
    for t in time:
        for k in {round(unit * (p - t + 1)) * 50 // unit for p in peaks} & set(range(100)):
            out[k] += 1
    return out


def slow_survey(records, native, name, clean):
    """The survey of records {name: (marks, length)}, by loops; ``clean`` {name: (class, time)} of clean windows."""
    out = {k: Counter() for k in ("rhythms", "previous", "beats", "impure")}
    counts, delay = {}, {c: [] for c in RHYTHMS}
    peaks = {r: {c: [0, np.zeros(100)] for c in CLASSES} for r in ("deck", "clean")}
    total = {rule: {s: np.zeros(8, int) for s in names} for rule, names in STEPS.items()}
    forced = {rule: {s: {} for s in names} for rule, names in STEPS.items()}
    for record, (marks, length) in records.items():
        beats = [(s, text) for s, text in marks if text in BEAT_SYMBOLS]
        rhythms = [(s, text[1:]) for s, text in marks if text[0] == "("]
        windows = slow_deck(marks, native, name)
        counts[record] = [sum(c == k for _, c, _ in windows) for k in range(8)]
        for s, c, beat in windows:
            name_of = CLASSES[c]
            before = [r for t, r in rhythms if t <= s]
            out["rhythms"][name_of, before[-1] if before else "none" if rhythms else "unknown"] += 1
            inside = [BEAT_CLASS.get(text, -1) for t, text in beats if s - native <= t < s + native]
            out["beats"][name_of, str(len(inside))] += 1
            if name_of in RHYTHMS:
                out["previous"][name_of, before[-2] if len(before) > 1 else "none"] += 1
                if any(t >= s for t, _ in beats):
                    delay[name_of].append((beat - s) / native)
            else:
                out["impure"][name_of, str(any(k != c for k in inside))] += 1
        when = [t / native for t, _ in beats]
        for rule, found in (("deck", [(c, s / native) for s, c, _ in windows]), ("clean", clean[record])):
            for c, t in found:
                peaks[rule][CLASSES[c]][0] += 1
                peaks[rule][CLASSES[c]][1] += in_bins([t], when)
        for rule, by_step in slow_steps(marks, native, length).items():
            last = None
            for step, n in by_step.items():
                total[rule][step] += n
                for k in range(8):
                    if last is not None and n[k] < last[k]:
                        forced[rule][step].setdefault(CLASSES[k], []).append(record)
                last = last if step in ASIDE else n
    nested = {k: {} for k in out}
    for key, table in out.items():
        for (c, what), n in table.items():
            nested[key].setdefault(c, {})[what] = n
    return nested | {
        "records": len(records),
        "marks": sum(len(marks) for marks, _ in records.values()),
        "counts": counts,
        "steps": {rule: {s: n.tolist() for s, n in by_step.items()} for rule, by_step in total.items()},
        "forced": forced,
        "peaks": {r: {c: (k / n).round(4).tolist() for c, (n, k) in by.items() if n} for r, by in peaks.items()},
        "delay": {c: np.percentile(d, [5, 50, 95]).round(4).tolist() for c, d in delay.items() if d},
    }


@pytest.mark.parametrize("name", ["mitdb", "ltafdb", "ltdb"])
def test_a_survey_is_the_slow_survey(tmp_path, name):
    rng, native, records = np.random.default_rng(1), round(database(name).fs), {}
    for record in ("14046", "100", "201"):
        marks = stretches(rng, native, 180)
        if record == "100":
            marks = [m for m in marks if m[1][0] != "("]  # no rhythm is named at all
        if record == "201":
            marks.append((marks[-1][0] + 2 * native, "(AFIB"))  # no beat follows it
        records[record] = (marks, 200 * native)
        write(tmp_path, name, record, marks, 200)
    (folder(name, tmp_path) / "RECORDS").write_text("14046\n100\n201\n")
    clean = {}
    for record in records:
        found = label(read_annotations(name, record, root=tmp_path), rule="clean")
        clean[record] = list(zip(found.y.tolist(), found.time.tolist(), strict=True))
    found, slow = survey.survey(name, root=tmp_path), slow_survey(records, native, name, clean)
    assert found.keys() == slow.keys()
    for key, value in slow.items():
        assert found[key] == value, key
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(found["previous"]) == 3
    assert sum(map(sum, found["counts"].values())) > 100
    assert found["impure"]["N"].get("True", 0) == 0 or name == "mitdb"


def test_a_survey_of_the_phantom(phantom_root):
    """Numbers of the same records by way of their windows."""
    found, windows = survey.survey("phantom", root=phantom_root), {}
    for name in found["counts"]:
        windows[name] = label(read_annotations("phantom", name, root=phantom_root), rule="deck")
        assert found["counts"][name] == np.bincount(windows[name].y, minlength=8).tolist()
    assert found["records"] == len(windows) == 12
    total = np.sum(list(found["counts"].values()), axis=0)
    assert {c: sum(by.values()) for c, by in found["rhythms"].items()} == {
        c: n for c, n in zip(CLASSES, total.tolist(), strict=True) if n
    }
    assert all(by == {c: sum(by.values())} for c, by in found["rhythms"].items() if c in RHYTHMS)
    # a beat stands in the middle of each window that is centred on one, and of none that is centred on a mark
    middle = {c: shares[50] for c, shares in found["peaks"]["deck"].items()}
    assert all(middle[c] == 1 for c in ("N", "PVC", "PAC", "LBBB", "RBBB"))


def test_a_record_that_lacks_everything(tmp_path):
    """No mark of any class, and no beat at all: it is a record, and nothing else."""
    write(tmp_path, "ltdb", "14046", [(500, "~"), (900, "~")], 60)
    found = survey.survey("ltdb", root=tmp_path)
    assert (found["records"], found["marks"], found["counts"]) == (1, 2, {"14046": [0] * 8})
    assert all(found[k] == {} for k in ("rhythms", "previous", "beats", "impure", "delay"))
    assert found["peaks"] == {"deck": {}, "clean": {}}
    json.dumps(found, allow_nan=False)
    with pytest.raises(DataError):
        survey.survey("ltafdb", root=tmp_path)


def test_peaks_of_many_windows_are_those_of_every_third(tmp_path):
    """2500 windows of a record are more than are drawn: the 834 that stand at even distances."""
    sample = np.cumsum(np.random.default_rng(0).integers(200, 500, 2500)) + 360
    write(tmp_path, "mitdb", "100", [(int(s), "N") for s in sample], 4000)
    shares = survey.survey("mitdb", root=tmp_path)["peaks"]["deck"]["N"]
    expected = sum(in_bins([t], sample[max(0, 3 * k - 3) : 3 * k + 4] / 360) for k, t in enumerate(sample[::3] / 360))
    assert shares == (expected / 834).round(4).tolist()
    assert shares[50] == 1


@pytest.mark.parametrize("name", ["mitdb", "ltafdb"])
def test_the_labelled_beat_stands_in_the_middle_bin(tmp_path, name):
    """Wherever in a record: no rounding moves it to the bin before."""
    f = round(database(name).fs)
    write(tmp_path, name, "06", [(s, "N") for s in range(0, 40 * f, 3 * f // 8 + 1)], 50)
    shares = survey.survey(name, root=tmp_path)["peaks"]["deck"]["N"]
    assert shares[48:52] == [0, 0, 1, 0]
    assert survey.BINS[[0, 50, 100]].tolist() == [-1, 0, 1]


def test_two_beats_in_a_bin_are_one_window(tmp_path):
    write(tmp_path, "mitdb", "100", [(1000, "N"), (1002, "N"), (3000, "N")], 60)
    shares = survey.survey("mitdb", root=tmp_path)["peaks"]["deck"]["N"]
    assert max(shares) == 1
    assert shares[50] == 1


# What is not here -----------------------------------------------------------------------------------------------


def few_committed():
    committed = {name: {"records": 2, "counts": {}, "of": name} for name in TABLE}
    committed["mitdb"]["records"] = 1
    return committed


def test_everything_counts_what_is_here_and_takes_the_rest(tmp_path):
    committed = few_committed()
    beats = [(1000 + 300 * k, "N") for k in range(5)]
    write(tmp_path, "mitdb", "100", beats, 60)
    for record in ("14046", "14134"):
        write(tmp_path, "ltdb", record, beats, 60)
    write(tmp_path, "ltafdb", "00", beats, 60)  # one of two
    found, here = survey.everything(tmp_path, committed)
    assert list(found) == list(TABLE)
    assert here == ("mitdb", "ltdb")
    assert found["ltafdb"] is committed["ltafdb"]
    assert found["mitdb"]["counts"] == {"100": [5, 0, 0, 0, 0, 0, 0, 0]}
    assert found["ltdb"]["counts"].keys() == {"14046", "14134"}
    # a header without its annotations is not a record to be counted; one record too many is not the database either
    (folder("ltdb", tmp_path) / "14134.atr").unlink()
    write(tmp_path, "mitdb", "101", beats, 60)
    found, here = survey.everything(tmp_path, committed)
    assert here == ()
    assert all(found[name] is committed[name] for name in TABLE)


def test_everything_without_a_database(tmp_path):
    committed = few_committed()
    assert survey.everything(tmp_path / "nowhere", committed) == (committed, ())


def test_signals_at_hand(tmp_path):
    """Records with a signal file, else excerpts; committed counts of records that are not here are left out."""
    root = tmp_path / "files"
    for record in ("100", "101", "109"):
        write(root, "mitdb", record, [(500, "N")], 60)
        (folder("mitdb", root) / f"{record}.dat").touch()
    (folder("mitdb", root) / "101.dat").unlink()
    write(root, "ltafdb", "06", [(500, "N")], 60)  # annotations alone
    rhythm = [(1000.0, "(N"), *[(1000.0 + 0.75 * k, "N") for k in range(1, 20)], (1020.0, "(AFIB"), (1020.5, "N"),
              (1030.0, "(AFIB"), (1030.5, "N"), (1035.0, "V"), (1059.0, "N")]  # fmt: skip
    write_excerpt(root / "excerpts" / "ltafdb", "006_00128000", start=1000, seconds=60, marks=rhythm)
    counts = {
        "mitdb": {"100": [1, 2, 3, 4, 5, 6, 7, 8], "101": [100] * 8, "102": [50] * 8},
        "ltafdb": {"06": [9] * 8},
        "ltdb": {"14046": [9] * 8},
    }
    found = survey.signals_at_hand({d: {"counts": n} for d, n in counts.items()}, root=root)
    assert found.columns.tolist() == ["records", "excerpts", *CLASSES]
    # 109 has a signal and no count; the excerpt: 18 pure N of 22, one V, two onsets of AFIB
    assert found.loc["mitdb"].tolist() == [2, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert found.loc["ltafdb"].tolist() == [0, 1, 18, 1, 0, 2, 0, 0, 0, 0]
    assert found.loc["ltdb"].tolist() == [0] * 10
    (folder("ltafdb", root) / "06.dat").touch()  # a whole record: excerpts are parts of it
    assert survey.signals_at_hand({d: {"counts": n} for d, n in counts.items()}, root=root).loc["ltafdb"].tolist() == [
        1, 0, *[9] * 8
    ]  # fmt: skip


def test_concentration_and_table_by_hand():
    found = {
        "mitdb": {"counts": {"201": [5, 1, 0, 0, 0, 3, 0, 0], "202": [7, 0, 0, 0, 0, 0, 0, 2]}},
        "ltafdb": {"counts": {"06": [1, 0, 0, 0, 4, 0, 9, 0]}},
        "ltdb": {"counts": {"14046": [2, 1, 8, 0, 0, 0, 0, 0]}},
    }
    assert survey.concentration(found).to_dict("split")["data"] == [
        ["N", "mitdb", "201", "mitdb/201", 5],
        ["PVC", "mitdb", "201", "mitdb/201", 1],
        ["N", "mitdb", "202", "mitdb/201", 7],  # the same man
        ["RBBB", "mitdb", "202", "mitdb/201", 2],
        ["N", "ltafdb", "06", "ltafdb/06", 1],
        ["SVTA", "ltafdb", "06", "ltafdb/06", 4],
        ["N", "ltdb", "14046", "ltdb/14046", 2],
        ["PVC", "ltdb", "14046", "ltdb/14046", 1],
    ]
    nan = np.nan  # where the deck has a dash, whatever was counted
    table = survey.table_of(found)
    assert table.index.tolist() == list(CLASSES)
    np.testing.assert_array_equal(table["mitdb"], [12, 1, 0, 0, 0, nan, 0, 2])
    np.testing.assert_array_equal(table["ltafdb"], [1, 0, 0, 0, 4, 0, nan, nan])
    np.testing.assert_array_equal(table["ltdb"], [2, 1, nan, nan, nan, nan, nan, nan])


# Real annotations -----------------------------------------------------------------------------------------------


def committed(name):
    return results("annotations")["survey"][name]


def check_committed(found, name):
    json.dumps(found, allow_nan=False)
    before = committed(name)
    assert found.keys() == before.keys()
    for key in found.keys() - {"peaks"}:
        assert found[key] == before[key], key
    for rule, by_class in before["peaks"].items():
        assert found["peaks"][rule].keys() == by_class.keys()
        for c, shares in by_class.items():
            np.testing.assert_allclose(found["peaks"][rule][c], shares, atol=1e-12)


@pytest.mark.data
def test_the_committed_survey_of_mitdb_is_the_one_of_today(mitdb):
    found = survey.survey("mitdb", root=mitdb)
    check_committed(found, "mitdb")
    assert (found["records"], found["marks"]) == (48, 112_647)
    # method reference, section 9, less one beat each whose window begins before its record does
    counts = {r: dict(zip(CLASSES, n, strict=True)) for r, n in found["counts"].items()}
    assert [counts[r]["PVC"] for r in ("208", "233", "200")] == [991, 830, 825]
    assert [counts[r]["AFIB"] for r in ("217", "222", "203", "221")] == [24, 24, 20, 11]
    assert counts["232"]["PAC"] == 1382


@pytest.mark.data
def test_the_committed_survey_of_ltdb_is_the_one_of_today(ltdb):
    found = survey.survey("ltdb", root=ltdb)
    check_committed(found, "ltdb")
    assert found["counts"]["14184"][1] == 3504


@pytest.mark.data
def test_beats_in_the_closed_windows_of_ltdb(ltdb):
    """Method reference, section 9, counts closed windows; the survey what a window of 720 samples shows."""
    closed = Counter()
    for name in committed("ltdb")["counts"]:
        record = read_annotations("ltdb", name, root=ltdb)
        at = np.round(record.beats.time * 128).astype(int)
        found = label(record, rule="deck")
        pvc = np.round(found.time[found.y == 1] * 128).astype(int)
        closed.update((np.searchsorted(at, pvc + 128, side="right") - np.searchsorted(at, pvc - 128)).tolist())
    assert closed == {1: 655, 2: 3181, 3: 1231, 4: 64, 5: 6}
    assert committed("ltdb")["beats"]["PVC"] == {"1": 655, "2": 3184, "3": 1231, "4": 61, "5": 6}


@pytest.mark.data
@pytest.mark.slow
def test_the_committed_survey_of_ltafdb_is_the_one_of_today(ltafdb):
    found = survey.survey("ltafdb", root=ltafdb)
    check_committed(found, "ltafdb")
    # method reference, section 9
    assert found["rhythms"]["PAC"] == {"SVTA": 9910, "N": 4644, "SBR": 191, "AB": 155, "AFIB": 14}
    assert found["rhythms"]["PVC"] == {"AFIB": 665, "VT": 316, "IVR": 252, "N": 70, "B": 10, "SBR": 3, "T": 2}
    assert {c: d[1] for c, d in found["delay"].items()} == dict.fromkeys(RHYTHMS, 0.1562)


def test_the_committed_survey_is_of_whole_databases():
    found = results("annotations")["survey"]
    assert {d: f["records"] for d, f in found.items()} == {"mitdb": 48, "ltafdb": 84, "ltdb": 7}
    assert {d: len(f["counts"]) for d, f in found.items()} == {"mitdb": 48, "ltafdb": 84, "ltdb": 7}
    who = survey.concentration(found)
    share = who[(who.database == "ltafdb") & (who["class"] == "SVTA")].set_index("record").windows
    assert share[["103", "116"]].tolist() == [1369, 649]
    assert share.sum() == 3265
    people = who.groupby(["database", "class"]).patient.nunique()
    assert people["mitdb", "AFIB"] == 7  # eight records, of which two are one man
    assert people["mitdb", "LBBB"] == 4


COUNTED = """
import json, re, time
began = time.perf_counter()
from ecglib.windows import count_table
table = count_table()
peak = int(re.search("VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1e6  # ru_maxrss begins at the parent's
print(json.dumps({"seconds": time.perf_counter() - began, "peak_gb": peak, "ltafdb": table["ltafdb"].fillna(-1).tolist(),
                  "columns": list(table)}))
"""


@pytest.mark.data
@pytest.mark.slow
def test_the_whole_table_in_half_a_minute_and_little_memory(mitdb, ltafdb, ltdb, monkeypatch):
    monkeypatch.setenv("ECGLIB_DATA", str(mitdb))
    done = subprocess.run([sys.executable, "-c", COUNTED], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["columns"] == ["mitdb", "ltafdb", "ltdb"]
    assert found["ltafdb"] == [8_260_377, 1318, 14_914, 7341, 3265, 11_323, -1, -1]
    assert found["peak_gb"] <= 2, found
    assert found["seconds"] <= 30, found
