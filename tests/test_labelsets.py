from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ecglib
from ecglib import (
    cli,
    clinic,
    cues,
    evidence,
    identity,
    intervals,
    labelsets,
    models,
    networks,
    pairing,
    rules,
    training,
)  # fmt: skip
from ecglib.errors import DataError, UnknownNameError
from ecglib.evaluation import report
from ecglib.labelsets import Kind, LabelSet, load, parse
from ecglib.overlap import Relevance
from ecglib.source import Source
from ecglib.splits import split, spread
from ecglib.windows import count_table, cut, cut_database, fill, labels, load_windows
from ecglib.windowset import WindowSet, concat

SILENT = Relevance(np.zeros((4, 720)), np.zeros((4, 48)), np.ones(4, bool))
MINE = """
name: mine
classes:
  N: {beats: N}
  late: {title: a late beat, beats: V F, beside: N, within: [N, (B], rr: [1.2, null]}
  flutter: {rhythms: [VFL], beats: "!"}
"""


def test_the_eight_are_a_file():
    found = load()
    assert found == load("mitdb8")
    assert found.classes == ecglib.CLASSES
    assert found.beats == dict(rules.BEAT_CLASS)
    assert found.rhythms == dict(rules.RHYTHM_CLASS)
    assert found.titles["SBR"] == "sinus bradycardia"
    assert rules.BEAT_SYMBOLS | {"!"} == labelsets.BEATS


def test_fifteen():
    found = load("mitdb15")
    assert found.classes == tuple(
        "N PVC PAC LBBB RBBB paced fusion junctional AFIB AFL bigeminy trigeminy VT VFL WPW".split()
    )
    assert found.beats == {"N": 0, "V": 1, "A": 2, "L": 3, "R": 4, "/": 5, "F": 6, "j": 7, "J": 7}
    assert found.rhythms == {"AFIB": 8, "AFL": 9, "B": 10, "T": 11, "VT": 12, "VFL": 13, "PREX": 14}
    assert found.kinds[0].rr == (0.6, 1.0)
    # V beats: one class a rhythm, so that no window has two
    hosts = [r for k in found.kinds if "V" in k.beats for r in (*k.rhythms, *k.within)]
    assert sorted(hosts) == ["B", "N", "T", "VT"]


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(MINE)
    found = load(path)
    assert found == load(str(path)) == load(found) == parse(yaml.safe_load(MINE))
    assert found == LabelSet(
        "mine",
        (
            Kind("N", "N", "N", within=("N",)),
            Kind("late", "a late beat", "VF", within=("N", "B"), beside="N", rr=(1.2, np.inf)),
            Kind("flutter", "flutter", "!", rhythms=("VFL",)),
        ),
    )
    assert found.beats == {"N": 0, "V": 1, "F": 1}
    assert found.rhythms == {"VFL": 2}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("{beats: N}", "{beat: N}"), ["unknown key of mine.yml, class N 'beat'", "did you mean 'beats'"]),
        (("V F,", "V k,"), ["class late", "'k' is no beat of WFDB", "/ ?"]),
        (("beside: N", "beside: W"), ["class late", "'W' is no beat of WFDB"]),
        (("beats: N}", "beats: x}"), ["class N", "'x' is no beat"]),  # a blocked P wave may only stand beside
        (("  late:", "  N:"), ["'N' is named twice"]),
        (("V F,", "V N,"), ["beat 'N' is of N and of late"]),
        (("[N, (B]", "[]"), None),
        (("{rhythms: [VFL], ", "{"), None),
        (("beats: V F, ", ""), ["class late has no beats"]),
        (("beats: N}", "beats: ''}"), ["class N has no beats"]),
        (("[N, (B]", "N"), ["within is 'N'", "give a list"]),
        (("[VFL]", "['(']"), ["rhythms is ['(']"]),
        (("1.2, null", "1.2, 0.8"), ["rr is [1.2, 0.8]"]),
        (("[1.2, null]", "fast"), ["rr is 'fast'"]),
        (("{beats: N}", "N"), ["class N must be a table", "received 'N'"]),
        (("name: mine", "title: mine"), ["must hold 'name' and a table 'classes'", "title"]),
        (("{beats: N}", "{beats: N"), ["mine.yml is no YAML"]),
        (("{beats: N}", "{[1]: N}"), ["mine.yml"]),
    ],
)
def test_bad_files(change, parts, tmp_path, one_line):
    path = tmp_path / "mine.yml"
    assert change[0] in MINE
    path.write_text(MINE.replace(*change, 1))
    if parts is None:
        assert len(load(path).kinds) == 3
        return
    with pytest.raises((DataError, UnknownNameError)) as caught:
        load(path)
    one_line(caught, *parts)


def test_no_such_set(tmp_path, one_line):
    with pytest.raises(UnknownNameError) as caught:
        load("mitdb16")
    one_line(caught, "unknown label set 'mitdb16'; did you mean 'mitdb15'?", ".yml file")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "gone.yml")
    one_line(caught, "gone.yml", "No such file")
    with pytest.raises(DataError) as caught:
        parse({"name": "one", "classes": {"N": {"beats": "N"}}})
    one_line(caught, "has 1 classes")
    with pytest.raises(DataError) as caught:
        parse({"name": "two", "classes": {k: {"rhythms": ["B"], "beats": "V"} for k in "ab"}})
    one_line(caught, "rhythm 'B' is of a and of b")


@pytest.fixture(scope="module")
def strip(make_record):
    """Sinus with a V, bigeminy, tachycardia, flutter waves, sinus: an episode of 20 s each."""
    marks = [(0.0, "(N"), (20.0, "(B"), (40.0, "(VT"), (60.0, "(VFL"), (80.0, "(N")]
    marks += [(t, "V" if t == 8.5 else "N") for t in np.arange(0.5, 20, 0.8).round(2)]
    marks += [(t, "VN"[i % 2]) for i, t in enumerate(np.arange(20.2, 40, 0.7))]
    marks += [(t, "V") for t in np.arange(40.1, 60, 0.4)]
    marks += [(t, "!") for t in np.arange(60.1, 80, 0.25)]
    marks += [(t, "N") for t in np.arange(80.3, 100, 0.8)]
    return make_record([(float(t), s) for t, s in marks], 100.0)


def by_hand(record, kinds):
    """Slow: every mark against every class, the last that claims it."""
    time, symbol = record.marks.time, record.marks.symbol
    anchors = [i for i in range(len(time)) if symbol[i] in "NV!"]
    found = []
    for n, i in enumerate(anchors):
        t = time[i]
        [rhythm] = [r.label for r in record.rhythms if r.start <= t < r.stop] or [""]
        inside = any(r.start <= t - 1.5 and t + 1.5 <= r.stop for r in record.rhythms)
        rr = [t - time[anchors[n - 1]] if n else np.nan, time[anchors[n + 1]] - t if n + 1 < len(anchors) else np.nan]
        near = {symbol[j] for j in range(len(time)) if t - 1.5 <= time[j] <= t + 1.5} & set("NV!")
        claims = [
            c
            for c, k in enumerate(kinds)
            if symbol[i] in k.beats
            and (rhythm in k.rhythms or (rhythm in k.within and (not k.rr or all(k.rr[0] <= v < k.rr[1] for v in rr))))
            and inside
            and near <= set(k.beats + k.beside)
        ]
        if claims:
            found.append((float(t), claims[-1]))
    return found


def test_clean_windows_of_any_set(strip):
    kinds = load("mitdb15")
    found = rules.label(strip, rule="clean", seed=1, labels=kinds)
    centre = {round(t, 6): (c, m) for t, c, m in zip(found.anchor, found.y, found.time, strict=True)}
    wanted = by_hand(strip, kinds.kinds)
    assert {kinds.classes[c] for _, c in wanted} == {"N", "PVC", "bigeminy", "VT", "VFL"}
    kept = [(t, c) for t, c in wanted if round(t, 6) in centre]
    assert len(kept) == len(centre) > 100
    assert all(centre[round(t, 6)][0] == c for t, c in kept)
    for t, (_, middle) in centre.items():
        assert 0.5 - 1 / 360 <= t - middle + 1 <= 1.5 + 1 / 360
        assert 2 <= middle % 60 <= 58
    lost = {round(t, 6) for t, _ in wanted} - set(centre)
    assert all(min(t % 60, 60 - t % 60) <= 2.5 for t in lost)  # at the border of two blocks alone


def test_the_later_class_has_a_beat(strip):
    table = {"N": {"beats": "N"}, "any": {"beats": "V", "within": ["N", "B"], "beside": "N"}}
    alone = parse({"name": "a", "classes": table})
    more = parse({"name": "b", "classes": table | {"B": {"rhythms": ["B"], "beats": "V", "beside": "N"}}})
    less = parse({"name": "c", "classes": {"B": {"rhythms": ["B"], "beats": "V", "beside": "N"}} | table})
    mine = [rules.label(strip, rule="clean", labels=k) for k in (alone, more, less)]
    in_b = [(m.anchor > 20) & (m.anchor < 40) & (m.y > 0) for m in mine]
    assert [set(m.y[b].tolist()) for m, b in zip(mine, in_b, strict=True)] == [{1}, {2}, {2}]
    assert more.classes[2] == "B"
    assert less.classes[2] == "any"


def test_deck_windows_of_any_set(strip):
    kinds = load("mitdb15")
    found = rules.label(strip, rule="deck", labels=kinds)
    counts = dict(zip(kinds.classes, np.bincount(found.y, minlength=15).tolist(), strict=True))
    # beats whose window begins in the record; one mark alone of B, VT and VFL, which yields none
    beats = {s: int(((strip.beats.symbol == s) & (strip.beats.time >= 1)).sum()) for s in "NV"}
    assert counts == dict.fromkeys(kinds.classes, 0) | {"N": beats["N"], "PVC": beats["V"]}


def test_a_set_goes_along(strip, tmp_path, one_line):
    fifteen, eight = cut(strip, rule="clean", labels="mitdb15"), cut(strip, rule="clean")
    assert fifteen.classes == load("mitdb15").classes
    assert eight.classes == ecglib.CLASSES
    assert fifteen.counts()["VFL"] == (fifteen.y == 13).sum() > 0
    part = fifteen[fifteen.y > 0].subsample(5, seed=0)
    assert part.counts().max() == 5
    part.save(tmp_path / "w.npz")
    assert load_windows(tmp_path / "w.npz").classes == part.classes == concat([part, part]).classes
    eight.save(tmp_path / "8.npz")
    assert load_windows(tmp_path / "8.npz").classes == ecglib.CLASSES
    with np.load(tmp_path / "8.npz") as z:
        assert "classes" not in z
    with pytest.raises(DataError) as caught:
        concat([fifteen, eight])
    one_line(caught, "different classes cannot be joined", "trigeminy", "cut both with the same labels")
    renamed = WindowSet(
        *(getattr(eight, f) for f in ("x", "y", "record", "database", "time", "anchor")), tuple("abcdefgh")
    )
    assert training.fingerprint(renamed) != training.fingerprint(eight)


def test_train_and_report_fifteen(tmp_path, one_line):
    rng = np.random.default_rng(0)
    n, classes = 90, load("mitdb15").classes
    y = np.arange(n) % 15
    x = rng.normal(size=(n, 1, 720)).astype(np.float32)
    names = np.array([f"p{i // 15 % 3}" for i in range(n)])
    time = np.arange(n) * 60 + 30.0
    windows = WindowSet(x, y, names, np.full(n, "phantom"), time, time, classes)
    part = split(windows, level="patient", folds=3, seed=0)[0]
    table = spread(windows, [part])
    assert table["class"].tolist() == list(classes)
    assert table.train_patients.tolist() == [2] * 15
    config = training.TrainConfig(epochs=1, draws=32, batch_size=16, validation=0.5, device="cpu")
    model = models.build("compact", n_classes=15, width=4)
    run = training.fit(model, windows, part, config=config, run_dir=tmp_path / "a", progress=False)
    assert run.record["classes_in_training"] == list(classes)
    scored = report(windows.y, windows.y, classes=windows.classes)
    assert scored.per_class.index.tolist() == list(classes)
    assert scored.confusion.shape == (15, 15)
    with pytest.raises(DataError) as caught:
        training.fit(models.build("compact", width=4), windows, part, config=config, run_dir=tmp_path / "b")
    one_line(caught, "8 outputs", "15 classes", "n_classes=15")


@pytest.mark.data
def test_fifteen_of_mitdb(mitdb):
    found = labels("mitdb", rule="clean", labels="mitdb15", root=mitdb)
    patients = [len(set(found.patient[found.y == c])) for c in range(15)]
    assert found.counts().tolist() == [
        31938, 2247, 388, 6722, 5771, 5655, 656, 139, 6967, 866, 1152, 316, 163, 397, 547,
    ]  # fmt: skip
    assert patients == [33, 21, 20, 4, 4, 4, 8, 5, 7, 3, 11, 12, 3, 1, 1]
    # the classes that both sets define alike have the same windows
    eight = labels("mitdb", rule="clean", root=mitdb)
    here = [w[w.record != "207"] for w in (found, eight)]  # where flutter waves are beats, so that draws are others
    for name in ("N", "PAC", "LBBB", "RBBB", "AFIB"):
        mine, other = (w[w.y == w.classes.index(name)] for w in here)
        assert mine.record.tolist() == other.record.tolist()
        assert mine.time.tolist() == other.time.tolist()
    table = count_table(mitdb, labels="mitdb15")
    assert table.mitdb.loc[["paced", "VFL", "WPW"]].tolist() == [7022, 6, 103]
    one = cut_database("mitdb", rule="clean", root=mitdb, records=["207"], per_record=3, labels="mitdb15")
    assert one.counts()["VFL"] == 3
    assert np.array_equal(fill(one, root=mitdb).x, one.x)


def test_shell():
    found = CliRunner().invoke(cli.app, ["count", "--labels", "mitdb16"])
    assert isinstance(found.exception, UnknownNameError)
    assert "did you mean 'mitdb15'" in str(found.exception)


# Windows of other classes than the eight ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda w: clinic.truth(w),
        lambda w: cues.position(w, rule="clean"),
        lambda w: cues.recorder(w),
        lambda w: evidence.by_class(np.zeros(len(w)), w),
        lambda w: identity.compare(w, {k: {"maps": np.zeros((4, 48))} for k in ("by window", "by patient")}),
        lambda w: intervals.of_windows(w, root=Path()),
        lambda w: next(networks.by_network(Source("mitdb", Path(), ()), w)),
        lambda w: pairing.truth(Source("mitdb", Path(), ()), w),
        lambda w: pairing.truth(Source("phantom", Path(), ()), w, kind="planted"),
        lambda w: pairing.mass(
            pairing.Explained(w, {"CAM": SILENT, "mask": SILENT}, w.y, w.y == 0), SILENT.samples > 0
        ),
    ],
)
def test_what_speaks_of_the_eight_takes_no_other_labels(read, make_windows, one_line):
    windows = replace(make_windows(["100", "101", "103", "105"], [0, 1, 0, 1], [10.0] * 4), classes=("N", "S"))
    with pytest.raises(DataError) as caught:
        read(windows)
    one_line(caught, "expected windows of the classes N, PVC, PAC", "received N, S")
