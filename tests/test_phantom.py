"""The phantom's labels, waves, evidence and signal tell one story, and that story is clinically right."""

import dataclasses
import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import wfdb

from ecglib import CLASSES, FS, heart, phantom
from ecglib.databases import record_names
from ecglib.errors import DataError, EcglibError, UnknownNameError

SYMBOL = {"N": "N", "PVC": "V", "PAC": "A", "LBBB": "L", "RBBB": "R"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The default phantom, on disk."""
    where = tmp_path_factory.mktemp("data")
    assert phantom.write(where) == where / "phantom" / "1.0.0"
    return where


@pytest.fixture(scope="module")
def stories():
    return phantom.plans()


@pytest.fixture(scope="module")
def signals(stories):
    return {name: heart.signal(plan) for name, plan in stories.items()}


@pytest.fixture(scope="module")
def short_stories():
    return {
        name: (plan, phantom.truth(plan), heart.signal(plan))
        for name, plan in phantom.plans(patients=12, minutes=3).items()
    }


def spans(truth, label):
    return [(start, stop) for start, stop, of in truth.evidence if of == label]


def waves(truth, name):
    """R peak (s, rounded) to wave."""
    return {round(w.beat, 4): w for w in truth.waves if w.wave == name}


def rhythm_beats(plan, rhythm):
    """R peaks (s) of the annotated beats of each episode of a rhythm."""
    inside = [at / FS for at, symbol, _ in phantom.labels(plan) if symbol != "+"]
    return [[t for t in inside if a <= t * FS < b] for a, b, r in heart.spans(plan) if r == rhythm]


def annotated(plan):
    """Annotated beats of a story: sample, kind."""
    where = {at for at, symbol, _ in phantom.labels(plan) if symbol != "+"}
    return [(at, kind) for at, kind in plan.beats if at in where]


# Files


def test_files(root):
    where = root / "phantom" / "1.0.0"
    names = [f"p{i:02d}" for i in range(1, 17)]
    assert record_names("phantom", root) == names
    assert sorted(p.name for p in where.iterdir()) == sorted(
        [f"{n}.{e}" for n in names for e in ("hea", "dat", "atr", "truth")]
        + ["RECORDS", "SHA256SUMS.txt", "manifest.json"]
    )
    assert json.loads((where / "manifest.json").read_text()) == {
        "version": phantom.VERSION, "patients": 16, "minutes": 6.0, "seed": 0
    }  # fmt: skip
    assert len((where / "SHA256SUMS.txt").read_text().splitlines()) == 4 * 16 + 2
    assert [p.name for p in (root / "phantom").iterdir()] == ["1.0.0"]  # no scratch folder stays behind


def test_wfdb_reads_what_the_story_says(root, stories):
    for name in ("p01", "p16"):
        path = str(root / "phantom" / "1.0.0" / name)
        record = wfdb.rdrecord(path)
        assert (record.fs, record.sig_len, record.sig_name) == (360, 129600, ["MLII", "V1"])
        assert (record.fmt, record.units, record.adc_gain, record.baseline) == (
            ["212"] * 2, ["mV"] * 2, [200.0] * 2, [1024] * 2
        )  # fmt: skip
        np.testing.assert_allclose(record.p_signal, heart.signal(stories[name]), atol=0.5 / 200 + 1e-9)
        atr = wfdb.rdann(path, "atr")
        assert atr.fs == 360
        assert list(zip(atr.sample, atr.symbol, atr.aux_note, strict=True)) == phantom.labels(stories[name])


def test_truth_file_marks_waves_as_qtdb_does(root):
    marks = wfdb.rdann(str(root / "phantom" / "1.0.0" / "p02"), "truth")
    of_waves = [m for m in zip(marks.symbol, marks.num, marks.aux_note, marks.chan, strict=True) if m[3] == 0]
    sinus = [
        *[("(", 0, "P"), ("p", 0, ""), (")", 0, "P")],
        *[("(", 1, "QRS"), ("N", 1, ""), (")", 1, "QRS")],
        *[("(", 2, "T"), ("t", 2, ""), (")", 2, "T")],
    ]
    text = [m[:3] for m in of_waves]
    assert any(text[i : i + 9] == sinus for i in range(len(text)))
    assert set(np.array(marks.aux_note)[marks.chan == 1]) <= set(CLASSES)
    assert np.all(np.diff(marks.sample) >= 0)


def test_read_truth_gives_back_the_truth(root, stories):
    for name, plan in stories.items():
        read, known = phantom.read_truth(name, root=root), phantom.truth(plan)
        assert np.array_equal(read.waves, known.waves)
        assert np.array_equal(read.evidence, known.evidence)
    assert read.waves.dtype.names == ("start", "peak", "stop", "wave", "beat")


def test_same_arguments_same_bytes(tmp_path):
    def content(folder):
        return {p.name: p.read_bytes() for p in folder.iterdir()}

    one, two, other = (
        phantom.write(tmp_path / sub, patients=2, minutes=2, seed=seed) for sub, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert content(one) == content(two)
    assert all(content(one)[f"p01.{e}"] != content(other)[f"p01.{e}"] for e in ("dat", "atr", "truth"))


def test_write_returns_at_once_or_replaces(tmp_path):
    where = phantom.write(tmp_path, patients=2, minutes=2)
    (where / "p01.dat").write_bytes(b"kept")
    phantom.write(tmp_path, patients=np.int64(2), minutes=2.0)
    assert (where / "p01.dat").read_bytes() == b"kept"
    phantom.write(tmp_path, patients=1, minutes=2)
    assert (where / "RECORDS").read_text() == "p01\n"
    assert (where / "p01.dat").stat().st_size == 2 * 60 * 360 * 3  # 212: three bytes for two samples
    assert not (where / "p02.dat").exists()


def test_a_failed_write_leaves_the_old_phantom(tmp_path, monkeypatch):
    where = phantom.write(tmp_path, patients=1, minutes=2)
    before = (where / "p01.dat").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wfdb, "wrann", full)
    with pytest.raises(DataError, match="No space left on device"):
        phantom.write(tmp_path, patients=2, minutes=2)
    assert (where / "p01.dat").read_bytes() == before
    assert [p.name for p in where.parent.iterdir()] == ["1.0.0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 0}, "patients must be a whole number of at least 1, not 0"),
        ({"patients": 2.5}, "patients must be a whole number of at least 1, not 2.5"),
        ({"minutes": 1.9}, "minutes must be at least 2, so that every class has its turn, not 1.9"),
        ({"minutes": float("nan")}, "minutes must be at least 2, so that every class has its turn, not nan"),
        ({"minutes": float("inf")}, "minutes must be at least 2, so that every class has its turn, not inf"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(EcglibError) as error:
        phantom.write(tmp_path, **arguments)
    assert str(error.value) == message
    assert list(tmp_path.iterdir()) == []


def test_unwritable_root(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the phantom to .*file.* \(Not a directory\); choose a writable"):
        phantom.write(tmp_path / "file", patients=1, minutes=2)


def test_missing_and_damaged_truth(root, tmp_path, stories):
    with pytest.raises(UnknownNameError, match="unknown record 'p1'; did you mean 'p1"):
        phantom.read_truth("p1", root=root)
    with pytest.raises(DataError, match=r"ecglib\.phantom\.write"):
        phantom.read_truth("p01", root=tmp_path)
    where = phantom.write(tmp_path, patients=1, minutes=2)
    wfdb.wrann("p01", "truth", np.array([10, 20]), ["(", "p"], aux_note=["P", ""], write_dir=str(where))
    with pytest.raises(DataError, match=r"cannot read .*p01\.truth"):
        phantom.read_truth("p01", root=tmp_path)
    (where / "p01.truth").unlink()
    with pytest.raises(DataError, match=r"cannot read .*p01\.truth"):
        phantom.read_truth("p01", root=tmp_path)
    with pytest.raises(UnknownNameError, match="unknown class 'VEB'"):
        phantom.evidence_mask(phantom.truth(stories["p01"]), label="VEB", start=0.0)
    with pytest.raises(UnknownNameError, match="unknown class 'VEB'"):
        phantom.without_evidence(stories["p01"], "VEB")


# Who shows what


@pytest.mark.parametrize(("patients", "minutes", "seed"), [(16, 6, 0), (12, 2, 1), (30, 3, 2)])
def test_every_class_in_a_third_of_the_patients(patients, minutes, seed):
    shown = Counter()
    for plan in phantom.plans(patients=patients, minutes=minutes, seed=seed).values():
        kinds = {kind for _, kind in annotated(plan)}
        shown.update(label for label in CLASSES if spans(phantom.truth(plan), label))
        assert "N" in kinds or kinds in ({"LBBB", "PVC"}, {"RBBB", "PVC"})
    assert min(shown[label] for label in CLASSES) >= max(3, patients / 3)


def test_rhythm_marks_as_in_mitdb(stories):
    seen = Counter()
    for plan in stories.values():
        marks = phantom.labels(plan)
        assert marks[0][1] == "+"
        assert marks[0][0] >= 1
        rhythms = [aux for _, symbol, aux in marks if symbol == "+"]
        assert all(a != b for a, b in pairwise(rhythms))
        for (at, symbol, _), (following, beat, _) in pairwise(marks[1:]):
            if symbol == "+":  # a mark stands before the first beat of its rhythm
                assert beat != "+"
                assert 0.25 < (following - at) / FS < 0.35
        seen.update(rhythms)
    assert set(seen) == {"(N", "(AFIB", "(SVTA", "(SBR"}
    assert min(seen.values()) > 12


def test_patients_differ(stories):
    traits = [plan.patient.traits for plan in stories.values()]
    for name in ("RR N", "PR", "QTc", "size", "axis", "muscle", "wander"):
        low, high = heart.TRAITS[name]
        values = np.array([t[name] for t in traits])
        assert values.min() >= low
        assert values.max() <= high
        assert np.ptp(values) > 0.5 * (high - low)
    assert {t["mains"] for t in traits} == {50.0, 60.0}


# Intervals, measured from the truth


def test_sinus_beats(stories):
    for plan in stories.values():
        truth = phantom.truth(plan)
        p, qrs = waves(truth, "P"), waves(truth, "QRS")
        for at, kind in annotated(plan):
            if kind in ("N", "SBR") and round(at / FS, 4) in p:
                wave, complex_ = p[round(at / FS, 4)], qrs[round(at / FS, 4)]
                assert 0.12 <= complex_.start - wave.start <= 0.20  # PR
                assert wave.start < wave.peak < wave.stop < complex_.start < at / FS < complex_.stop
                assert 0.06 <= complex_.stop - complex_.start < 0.11
        beats = plan.beats
        rr = [(b - a) / FS for (a, k), (b, m) in pairwise(beats) if k == m == "N"]
        assert all(0.60 <= x <= 1.0 for x in rr)
        assert all(abs(a - b) <= 0.12 for a, b in pairwise(rr) if a and b) or not rr


def test_premature_ventricular_beats(stories, signals):
    pauses = []
    for name, plan in stories.items():
        truth = phantom.truth(plan)
        p, qrs, t = (waves(truth, w) for w in ("P", "QRS", "T"))
        signal = signals[name]
        for i, (at, kind) in enumerate(plan.beats):
            if kind != "PVC" or not 720 < at < plan.length - 720:
                continue
            before, last, following = (plan.beats[i + k][0] for k in (-2, -1, 1))
            assert 0.5 <= (at - last) / (last - before) <= 0.75
            pauses.append((following - last) / (last - before))
            r = round(at / FS, 4)
            assert r not in p
            assert qrs[r].stop - qrs[r].start >= 0.13
            peak = signal[round(t[r].peak * FS), 0] - np.median(signal[at - 360 : at + 360, 0])
            assert np.sign(peak) == -np.sign(signal[at, 0])  # discordant T
    assert len(pauses) > 100
    assert 1.98 < np.mean(pauses) < 2.02  # full compensatory pause: the sinus node does not notice


def test_premature_atrial_beats(stories):
    pauses = []
    for plan in stories.values():
        truth = phantom.truth(plan)
        p, qrs, shape = waves(truth, "P"), waves(truth, "QRS"), plan.patient.waves
        for i, (at, kind) in enumerate(plan.beats):
            if kind != "PAC" or not 720 < at < plan.length - 720:
                continue
            before, last, following = (plan.beats[i + k][0] for k in (-2, -1, 1))
            assert 0.6 <= (at - last) / (last - before) <= 0.8
            pauses.append((following - last) / (last - before))
            r = round(at / FS, 4)
            assert 0.12 <= qrs[r].start - p[r].start <= 0.20
            assert shape["PAC"]["QRS"] == shape["N"]["QRS"]
            odd, usual = (plan.patient.beats[k][shape[k]["P"][1] - heart.BEAT[0], 0] for k in ("PAC", "N"))
            assert odd < 0 or odd > 1.4 * usual
    assert len(pauses) > 100
    assert 1.85 < np.mean(pauses) < 1.95  # less than compensatory


def test_atrial_fibrillation(stories):
    for plan in stories.values():
        truth, episodes = phantom.truth(plan), rhythm_beats(plan, "AFIB")
        p = waves(truth, "P")
        assert not any(round(t, 4) in p for beats in episodes for t in beats)
        rr = np.concatenate([np.diff(beats) for beats in episodes if len(beats) > 1] or [[]])
        if len(rr):
            assert rr.min() >= 0.355
            assert 0.2 <= rr.std() / rr.mean() <= 0.42
            assert abs(np.corrcoef(rr[:-1], rr[1:])[0, 1]) < 0.5  # no pattern


def test_fibrillatory_waves_lie_between_4_and_9_hz(stories, signals):
    peaks = []
    for name, plan in stories.items():
        for start, stop, rhythm in heart.spans(plan):
            if rhythm == "AFIB" and stop - start > 8 * FS:
                silent = dataclasses.replace(plan, episodes=[(-720, "N")])  # the same beats on a flat baseline
                waves_of = (signals[name] - heart.signal(silent))[start : start + 8 * 360, 1]
                power = np.abs(np.fft.rfft(waves_of * np.hanning(len(waves_of)))) ** 2
                peaks.append(np.fft.rfftfreq(len(waves_of), 1 / FS)[power.argmax()])
                assert 0.04 < waves_of.std() < 0.2
                break
    assert len(peaks) >= 5
    assert all(4 <= peak <= 9 for peak in peaks)
    assert np.ptp(peaks) > 0.5


def test_supraventricular_runs_and_bradycardia(stories):
    for plan in stories.values():
        truth = phantom.truth(plan)
        p, qrs = waves(truth, "P"), waves(truth, "QRS")
        for beats in rhythm_beats(plan, "SVTA"):
            rr = np.diff(beats)
            assert np.all((rr >= 0.30) & (rr <= 0.45))
            assert np.ptp(rr) <= 0.05 * rr.mean() if len(rr) else True
            assert not any(round(t, 4) in p for t in beats[1:])  # buried
            assert all(qrs[round(t, 4)].stop - qrs[round(t, 4)].start < 0.11 for t in beats)
        for a, b, rhythm in heart.spans(plan):
            if rhythm == "SVTA" and a > 0 and b < plan.length:
                assert 1.0 < (b - a) / FS < 22
        for beats in rhythm_beats(plan, "SBR"):
            rr = np.diff(beats)
            assert np.all((rr >= 1.05) & (rr <= 1.5))
            assert all(round(t, 4) in p for t in beats)


def test_bundle_branch_blocks(stories):
    for plan in stories.values():
        for block, (low, high) in {"LBBB": (0.13, 0.17), "RBBB": (0.12, 0.15)}.items():
            onset, _, offset = plan.patient.waves[block]["QRS"]
            assert low <= (offset - onset) / FS <= high
        left, right = (plan.patient.beats[block] for block in ("LBBB", "RBBB"))
        zero = int(np.flatnonzero(heart.BEAT == 0)[0])
        t = zero + plan.patient.waves["LBBB"]["T"][1]
        assert left[zero, 0] > 0 > left[t, 0]  # discordant
        late = slice(zero + plan.patient.waves["RBBB"]["R"][2], zero + plan.patient.waves["RBBB"]["QRS"][2])
        assert right[late, 0].min() < -0.15  # S in MLII
        assert right[late, 1].max() > 0.2  # R' in V1


# Signal


def test_beats_are_annotated_at_the_peak(stories, signals):
    for name, plan in stories.items():
        signal = signals[name][:, 0]
        for at, kind in annotated(plan):
            onset, _, offset = plan.patient.waves[kind]["QRS"]
            if at + onset >= 0 and at + offset < plan.length:
                baseline = np.median(signal[max(at - 180, 0) : at + 180])
                peak = np.abs(signal[at + onset : at + offset] - baseline).argmax() + onset
                assert abs(peak) / FS <= 0.03, (kind, at)


def test_signal_is_not_clipped(root):
    for path in (root / "phantom" / "1.0.0").glob("*.hea"):
        digital = wfdb.rdrecord(str(path.with_suffix("")), physical=False).d_signal
        assert digital.min() > 0
        assert digital.max() < 2047
        assert digital.std() > 10


def test_p_wave_shows_in_the_average(stories, signals):
    checked = 0
    for name, plan in stories.items():
        inside = [at for at, kind in plan.beats if kind == "N" and 360 < at < plan.length - 360]
        if inside:
            onset, peak, offset = (
                np.mean(signals[name][np.array(inside) + t, 0]) for t in plan.patient.waves["N"]["P"]
            )
            assert 0.7 < (peak - (onset + offset) / 2) / plan.patient.traits["P mV"] < 1.2
            checked += 1
    assert checked == 12


def test_early_p_wave_of_a_pac_and_none_of_a_pvc(stories, signals):
    """What precedes an early beat, less what follows a normal beat at the same delay: P' on the T wave, or nothing."""
    checked = Counter()
    for name, plan in stories.items():
        signal = signals[name][:, 0]
        normal = [
            at for (at, k), (_, after) in pairwise(plan.beats) if k == after == "N" and 0 < at < plan.length - 360
        ]
        if not normal:
            continue
        usual = np.mean([signal[at : at + 240] for at in normal], axis=0)
        for kind, shape in (("PAC", "PAC"), ("PVC", "N")):
            onset, peak, offset = plan.patient.waves[shape]["P"]
            bumps = []
            for (last, before), (at, k) in pairwise(plan.beats):
                if k == kind and before == "N" and last > 0 and at < plan.length:
                    rest = [signal[at + t] - usual[at + t - last] for t in (onset, peak, offset)]
                    bumps.append(rest[1] - (rest[0] + rest[2]) / 2)
            if len(bumps) > 10:
                checked[kind] += 1
                if kind == "PVC":
                    assert abs(np.mean(bumps)) < 0.25 * plan.patient.traits["P mV"]
                else:
                    assert abs(np.mean(bumps)) > 0.5 * plan.patient.traits["P mV"]
    assert min(checked["PAC"], checked["PVC"]) >= 3


def test_noise_has_each_patients_own_level(stories, signals):
    by_muscle = sorted(stories, key=lambda name: stories[name].patient.traits["muscle"])
    quiet, loud = (np.median(np.abs(np.diff(signals[name][:, 0], 2))) for name in (by_muscle[0], by_muscle[-1]))
    assert loud > 1.5 * quiet


# Evidence


def test_evidence_lies_where_its_class_differs(stories):
    for plan in stories.values():
        truth = phantom.truth(plan)
        seconds = plan.length / FS
        p, qrs, t = (waves(truth, name) for name in ("P", "QRS", "T"))
        assert np.all((truth.evidence.start >= 0) & (truth.evidence.stop <= seconds))
        assert np.all(truth.evidence.start < truth.evidence.stop)
        beats = {kind: [at / FS for at, k in annotated(plan) if k == kind] for kind in heart.KINDS}
        inner = {label: [(a, b) for a, b in spans(truth, label) if a > 0.5 and b < seconds - 0.5] for label in CLASSES}
        for a, b in inner["PVC"]:
            (r,) = [r for r in beats["PVC"] if a < r < b]
            assert (a, b) == (qrs[round(r, 4)].start, t[round(r, 4)].stop)
        for label, kinds in {"N": ("N", "SBR"), "PAC": ("PAC",)}.items():
            starts = {qrs[round(r, 4)].start: p[round(r, 4)].start for k in kinds for r in beats[k] if round(r, 4) in p}
            for a, b in inner[label]:
                assert starts[b] == a
        for label in ("LBBB", "RBBB"):
            stops = {qrs[round(r, 4)].stop: r for r in beats[label]}
            for a, b in inner[label]:
                assert a < stops[b] if label == "LBBB" else stops[b] < a < stops[b] + 0.05
        for label in ("SVTA", "SBR"):
            lengths = [b - a for a, b in inner[label]]
            assert all((0.1 < x < 0.4) if label == "SVTA" else (0.3 < x < 1.1) for x in lengths)
            complexes = truth.waves[truth.waves.wave == "QRS"]
            for a, b in inner[label]:
                assert not np.any((complexes.start < b - 1e-9) & (complexes.stop > a + 1e-9))
        for a, b in inner["AFIB"]:
            assert not np.any((truth.waves.start < b - 1e-9) & (truth.waves.stop > a + 1e-9))
            assert any(s <= a * FS + 1e-6 and b * FS <= e + 1e-6 for s, e, r in heart.spans(plan) if r == "AFIB")


def test_labelled_windows_hold_their_evidence_and_no_other(stories):
    """A window of ±1 s around a label shows its class; around an N beat among N beats nothing else."""
    counts = Counter()
    for plan in stories.values():
        truth = phantom.truth(plan)
        beats = annotated(plan)
        rhythms = heart.spans(plan)
        for at, kind in beats[::3]:
            if not 360 <= at <= plan.length - 360:
                continue
            label = "SVTA" if kind == "SVTA onset" else kind
            if label in ("AFIB", "SVTA", "SBR"):
                (episode,) = [s for s in rhythms if s[0] <= at < s[1]]
                assert episode[2] == label
            start = at / FS - 1
            assert phantom.evidence_mask(truth, label=label, start=start).any(), (label, start)
            near = {k for t, k in beats if abs(t - at) < 1.8 * FS}
            away = all(r == "N" or b < at - 1.4 * FS or a > at + 1.4 * FS for a, b, r in rhythms)
            if near == {"N"} and away and 2 * FS < at < plan.length - 2 * FS:
                other = [c for c in CLASSES[1:] if phantom.evidence_mask(truth, label=c, start=start).any()]
                assert other == []
                counts["pure N"] += 1
            counts[label] += 1
    assert counts["pure N"] > 100
    assert min(counts[label] for label in CLASSES) > 50


def test_evidence_mask(stories):
    plan = next(p for p in stories.values() if spans(phantom.truth(p), "PAC") and spans(phantom.truth(p), "N"))
    truth = phantom.truth(plan)
    for label in CLASSES:
        whole = phantom.evidence_mask(truth, label=label, start=0.0, length=plan.length)
        edges = [(round(a * FS), round(b * FS)) for a, b in spans(truth, label)]
        assert whole.dtype == bool
        assert whole.sum() == sum(b - a for a, b in edges)
        assert all(whole[a] and whole[b - 1] and not whole[b] for a, b in edges if b < plan.length - 1)
        half = phantom.evidence_mask(truth, label=label, start=0.0, length=plan.length // 2, fs=180.0)
        assert abs(half.sum() - whole.sum() / 2) <= len(edges)
    start = spans(truth, "PAC")[0][0]
    mask = phantom.evidence_mask(truth, label="PAC", start=start - 1)
    assert mask.shape == (720,)
    assert mask.argmax() == 360
    np.testing.assert_array_equal(phantom.evidence_mask(truth, label="PAC", start=start + 1e4), np.zeros(720, bool))


def test_evidence_mask_by_hand():
    rows = np.array(
        [(1.0, 1.5, "PVC"), (2.5, 3.5, "PVC"), (2.0, 2.1, "N")], [("start", float), ("stop", float), ("label", "U4")]
    )
    truth = phantom.Truth(np.recarray(0, [("start", float)]), rows.view(np.recarray))
    mask = phantom.evidence_mask(truth, label="PVC", start=1.25, length=20, fs=10.0)
    assert np.flatnonzero(mask).tolist() == [0, 1, *range(12, 20)]


# Removal


@pytest.mark.parametrize("label", CLASSES)
def test_without_evidence(short_stories, label):
    changed = 0
    for plan, before, signal in short_stories.values():
        after = phantom.without_evidence(plan, label)
        truth = phantom.truth(after)
        assert spans(truth, label) == []
        # Neither labels nor marks of the class are left; in AFIB, as in MITDB, "N" does not mean the class N
        assert not any(kind.startswith(label) for _, kind in after.beats)
        marks = phantom.labels(after)
        if label in ("PVC", "LBBB", "RBBB"):
            assert SYMBOL[label] not in {symbol for _, symbol, _ in marks}
        if label == "N":
            assert all(
                any(a <= at < b for a, b, r in heart.spans(after) if r == "AFIB") for at, s, _ in marks if s == "N"
            )
        for a, b, rhythm in heart.spans(after):
            if rhythm == label:  # the sinus rhythm that is left is that of the blocks
                assert label == "N"
                assert {kind for at, kind in annotated(after) if a <= at < b} <= {"LBBB", "RBBB", "PVC"}
        if not spans(before, label):
            assert after.beats == plan.beats
            assert phantom.labels(after) == phantom.labels(plan)
            continue
        # What comes instead is a sinus beat, or what the patient has for one
        new = set(after.beats) - set(plan.beats)
        due = {"junctional"} if label == "N" else {"N", "LBBB", "RBBB"} if label == "PVC" else {"N"}
        assert {kind for _, kind in new} <= due
        # All other beats, and the signal away from the edited ones, stay to the last bit
        gone = set(plan.beats) - set(after.beats)
        assert {("SVTA" if k == "SVTA onset" else k) for _, k in gone} <= ({"N", "SBR"} if label == "N" else {label})
        near = np.zeros(plan.length, bool)
        for at, _ in new | gone:
            near[max(at + heart.BEAT[0], 0) : max(at + heart.BEAT[-1] + 1, 0)] = True
        for a, b, rhythm in heart.spans(plan):
            near[a:b] |= rhythm == label == "AFIB"
        difference = np.abs(heart.signal(after) - signal).max(axis=1)
        assert difference[~near].max(initial=0) == 0
        for a, b in spans(before, label):
            if b - a > 0.05 and a > 1 and b < plan.length / FS - 1:
                assert difference[round(a * FS) : round(b * FS)].max() > 0.02
                changed += 1
        if label not in ("N", "LBBB", "RBBB"):
            rr = [(b - a) / FS for (a, _), (b, _) in pairwise(after.beats) if {(a, "N"), (b, "N")} & new]
            assert all(0.55 <= x <= 1.05 for x in rr)
    assert changed > 30


def test_removing_everything_leaves_plain_sinus_rhythm(stories):
    for plan in stories.values():
        for label in CLASSES[1:]:
            plan = phantom.without_evidence(plan, label)
        assert {kind for _, kind in plan.beats} == {"N"}
        assert [aux for _, symbol, aux in phantom.labels(plan) if symbol == "+"] == ["(N"]
        assert set(phantom.truth(plan).evidence.label) == {"N"}
