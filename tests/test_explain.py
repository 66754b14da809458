"""Whole records: maps by hand, the average by brute force, blocks against one piece, kills, WFDB files read again."""

from __future__ import annotations

import os
import shutil
import signal as signals
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wfdb
from torch import nn
from torch.nn import functional as F

from ecglib import CLASSES, detect, explain, models
from ecglib.cam import class_activation_map, upsample
from ecglib.errors import DataError, UnknownNameError
from ecglib.evaluation import predict
from ecglib.explain import disagreements, expected, explain_record, timeline
from ecglib.explain_folder import content
from ecglib.explain_io import explain_file
from ecglib.explain_wfdb import write_wfdb
from ecglib.explained import Explained
from ecglib.records import open_record, read_record
from ecglib.wfdb_files import marks as read_marks


class Toy(nn.Module):
    """48 means of 16 reflected samples; two classes: the mean itself, and its opposite less a bias of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
            self.head.bias.copy_(torch.tensor([0.0, -1.0]))

    def feature_map(self, x):
        return F.avg_pool1d(F.pad(x, (24, 24), mode="reflect"), 16)

    def forward(self, x):
        return self.head(self.feature_map(x).mean(-1))


@pytest.fixture
def stepped(make_record):
    """Ten seconds: 1 mV up to 5 s, then -3 mV; beats at 0.5, 2, 3.5, 8 and 9.8 s."""
    record = make_record([(t, "N") for t in (0.5, 2.0, 3.5, 8.0, 9.8)], 10.0)
    return replace(record, signal=np.where(np.arange(3600) < 1800, 1, -3).astype(np.float32) + _ripple(3600))


def _ripple(n):
    """So small that nothing changes but that no window is flat."""
    return (1e-6 * (np.arange(n) % 2)).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    return models.build("murugesan-gap", width=8, seed=3)


def test_literal_numbers(stepped):
    found = explain_record(stepped, model=Toy(), classes=("up", "down"))
    assert found.beats.time.tolist() == [0.5, 2.0, 3.5, 8.0, 9.8]
    assert found.beats.predicted.tolist() == ["up", "up", "up", "down", "down"]
    # logits 1 and -2, then -3 and 2: sigmoids of 3 and of 5
    np.testing.assert_allclose(found.beats.confidence, [0.952574] * 3 + [0.993307] * 2, atol=1e-5)
    np.testing.assert_allclose(found.beats.up + found.beats.down, 1, atol=1e-6)
    # windows: 0-2 and 1-3 s, 2.5-4.5, 7-9, and the last one moved inside: 8-10 s; a gap from 4.5 to 7 s has no window
    s = found.saliency
    np.testing.assert_allclose(s[:1620], 1, atol=1e-5)  # the class "up" has the weight 1
    assert np.isnan(s[1620:2520]).all()
    np.testing.assert_allclose(s[2520:], 3, atol=1e-5)  # "down" has the weight -1: evidence for it is positive
    assert (s.dtype, len(s), found.fs, found.start, found.stop) == (np.float32, 3600, 360.0, 0.0, 10.0)


def test_a_named_target_for_every_window(stepped):
    for target in ("up", 0):
        found = explain_record(stepped, model=Toy(), classes=("up", "down"), target=target)
        assert found.saliency[0] == pytest.approx(1, abs=1e-5)
        assert found.saliency[-1] == pytest.approx(-3, abs=1e-5)
        assert found.beats.predicted.tolist()[-1] == "down"


def test_the_average_by_brute_force(make_record, net):
    rng = np.random.default_rng(0)
    beats = np.sort(rng.uniform(0.1, 19.9, 25))
    record = make_record([(t, "N") for t in beats], 24.0, start=4.0)  # a part: its first sample is that of 4 s
    record = replace(record, signal=rng.normal(size=7200).astype(np.float32))
    found = explain_record(record, model=net, batch_size=7)
    kept = beats[beats >= 4]
    assert found.beats.time.tolist() == kept.tolist()
    total, count = np.zeros(7200), np.zeros(7200)
    for row, t in enumerate(kept):
        b = min(max(round((t - 1) * 360) - 1440, 0), 7200 - 720)
        x = record.signal[None, None, b : b + 720]
        p = torch.from_numpy(predict(net, x)).softmax(1).numpy()[0]
        np.testing.assert_allclose(found.beats.loc[row, list(CLASSES)].to_numpy(float), p, atol=1e-6)
        total[b : b + 720] += upsample(class_activation_map(net, torch.from_numpy(x), int(p.argmax())))[0].numpy()
        count[b : b + 720] += 1
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found.saliency, total / count, atol=1e-5)
    assert np.isnan(found.saliency).sum() == (count == 0).sum() > 0


def test_another_method(stepped, net):
    record = replace(stepped, signal=np.random.default_rng(1).normal(size=3600).astype(np.float32))
    cam, grad = (explain_record(record, model=net, method=m) for m in ("cam", "grad_cam"))
    np.testing.assert_allclose(grad.saliency * 48, cam.saliency, atol=1e-5)  # the same map, over its number of steps
    pd.testing.assert_frame_equal(cam.beats, grad.beats, rtol=1e-5)


def test_the_network_is_left_as_it_was(stepped, net):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.blocks.train()
    try:
        explain_record(stepped, model=net)
        assert net.blocks.training
        assert not net.training
    finally:
        net.eval()
    assert "feature_map" not in vars(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_what_has_no_signal_has_no_prediction(stepped):
    signal = stepped.signal.copy()
    signal[:1000] = np.nan
    signal[2520:] = 0.25  # a lead that fell off
    found = explain_record(replace(stepped, signal=signal), model=Toy(), classes=("up", "down"))
    assert found.beats.predicted.tolist() == ["", "", "", "", ""]
    assert found.beats.confidence.isna().all()
    assert np.isnan(found.saliency).all()
    assert len(disagreements(found)) == 0


@pytest.mark.parametrize(
    ("change", "options", "parts"),
    [
        ({"fs": 250.0}, {}, ["250 Hz", "fs=360"]),
        ({"signal": np.zeros(700, np.float32)}, {}, ["1.94 s", "2 s or more"]),
        ({}, {"classes": CLASSES}, ["2 classes", "8 were named"]),
        ({}, {"target": "UP"}, ["unknown class 'UP'", "up"]),
        ({}, {"method": "kam"}, ["unknown method 'kam'", "cam"]),
        ({}, {"model": nn.Flatten()}, ["Flatten", "grad_cam"]),
    ],
)
def test_refused(stepped, one_line, change, options, parts):
    with pytest.raises((DataError, ValueError)) as caught:
        explain_record(replace(stepped, **change), **({"model": Toy(), "classes": ("up", "down")} | options))
    one_line(caught, *parts)


# What the annotations say ------------------------------------------------------------------------------------------


def test_expected_classes(make_record):
    marks = [
        (0.0, "(N"), (1.0, "N"), (2.2, "N"), (3.4, "N"), (4.0, "V"), (4.6, "N"), (5.2, "A"),
        (5.8, "L"), (6.1, "R"), (6.3, "F"),
        (7.0, "(AFIB"), (7.2, "N"), (7.8, "V"), (8.4, "A"),
        (9.0, "(SVTA"), (9.3, "N"), (9.6, "A"), (9.9, "V"),
        (11.0, "(SBR"), (11.4, "N"),
        (13.0, "(VT"), (14.0, "N"),
    ]  # fmt: skip
    record = make_record(marks, 20.0)
    rhythm, y = expected(record, record.beats)
    names = [CLASSES[c] if c >= 0 else "" for c in y]
    # the first beat has no interval before it; the second one has 1.2 s on both sides; F is none of the eight
    sinus = ["N", "SBR", "N", "PVC", "N", "PAC", "LBBB", "RBBB", ""]
    assert names == [*sinus, "AFIB", "PVC", "PAC", "SVTA", "SVTA", "PVC", "SBR", ""]
    assert rhythm.tolist() == ["N"] * 9 + ["AFIB"] * 3 + ["SVTA"] * 3 + ["SBR", "VT"]


def _explained(rows, *, seconds=40, start=0.0):
    frame = pd.DataFrame(rows, columns=["time", "symbol", "rhythm", "expected", "predicted", "confidence"])
    for c in CLASSES:
        frame[c] = np.where(frame.predicted == c, frame.confidence, 0).astype(np.float32)
    return Explained(frame, np.linspace(-1, 1, round(seconds * 360), dtype=np.float32), 360.0, "r 1", "mitdb", start)


ROWS = [
    (1.0, "N", "N", "N", "N", 0.9),
    (2.0, "V", "N", "PVC", "N", 0.6),
    (2.9, "N", "N", "N", "PVC", 0.8),
    (11.0, "N", "AFIB", "AFIB", "AFIB", 0.7),
    (11.5, "F", "AFIB", "", "PVC", 0.99),
    (12.1, "N", "AFIB", "AFIB", "PVC", 0.5),
    (31.0, "N", "AFIB", "AFIB", "", np.nan),
]


def test_beats_of_ones_own_are_sorted_and_may_have_no_symbol(make_record):
    record = make_record([(1.0, "N"), (2.0, "V")], 4.0)
    assert explain.choose_beats(record) is record.beats
    bare = explain.choose_beats(record, [3.0, 0.5, 1.5])
    assert (bare.time.tolist(), bare.symbol.tolist()) == ([0.5, 1.5, 3.0], ["", "", ""])
    given = np.rec.fromarrays([[3.0, 0.5], ["V", "A"]], names="time,symbol")
    own = explain.choose_beats(record, given)
    assert (own.time.tolist(), own.symbol.tolist()) == ([0.5, 3.0], ["A", "V"])
    times = explain.choose_beats(record, np.array([(2.0, 7), (1.0, 8)], dtype=[("time", float), ("rank", int)]))
    assert (times.time.tolist(), times.symbol.tolist()) == ([1.0, 2.0], ["", ""])
    assert len(explain.choose_beats(record, [])) == 0


def test_a_class_by_name_or_number():
    assert [explain.class_of(target, CLASSES) for target in ("PVC", 5, None)] == [1, 5, None]
    with pytest.raises(UnknownNameError, match="unknown class 'PVX'"):
        explain.class_of("PVX", CLASSES)


def test_windows_are_moved_inside_what_is_here(one_line):
    """360 Hz: a beat at 10 s has its window from sample 3240 on; none begins before 3000 or ends after 4000."""
    starts = explain.window_starts(np.array([10.0, 8.0, 13.0]), 3000, 4000, name="x")
    assert starts.tolist() == [3240, 3000, 3280]
    with pytest.raises(DataError) as caught:
        explain.window_starts(np.array([]), 0, 7200, name="x")
    one_line(caught, "record x has no annotated beats", "choose another lead or part")
    with pytest.raises(DataError) as caught:
        explain.window_starts(np.array([1.0]), 0, 719, name="x")
    one_line(caught, "record x has 2.00 s here", "2 s or more")


def test_disagreements():
    found = disagreements(_explained(ROWS))
    assert found.time.tolist() == [2.9, 2.0, 12.1]
    # the beat at 2.0 s is a PVC within a second; N beats stand around 2.0 s; no annotated PVC is near 12.1 s
    assert found.neighbour.tolist() == [True, True, False]


def test_timeline():
    t = timeline(_explained(ROWS), every_s=10)
    assert t.start.tolist() == [0, 10, 20, 30]
    assert t.beats.tolist() == [3, 3, 0, 1]
    assert t.annotated.tolist() == ["N", "AFIB", "", "AFIB"]
    assert t.predicted.tolist() == ["N", "PVC", "", ""]
    assert t.rhythm.tolist() == ["N", "AFIB", "", "AFIB"]
    np.testing.assert_allclose(t.agreement, [1 / 3, 1 / 2, np.nan, np.nan])
    # RR of 1.0 and 0.9 s; then 0.5 and 0.6 s (8.1 s before them is a gap, not an interval)
    np.testing.assert_allclose(t.rate, [60 / 0.95, 60 / 0.55, np.nan, np.nan])
    np.testing.assert_allclose(t.saliency, [0, 0, 0.25, 0.75], atol=1e-3)  # a ramp from -1 to 1, its positive part


def test_timeline_of_a_part_keeps_the_grid_of_the_file():
    t = timeline(_explained([(24.0, "N", "N", "N", "N", 0.9)], seconds=10, start=23.0), every_s=10)
    assert (t.start.tolist(), t.stop.tolist(), t.beats.tolist()) == ([23, 30], [30, 33], [1, 0])


# Detected beats ----------------------------------------------------------------------------------------------------


def test_peaks_of_a_simulated_record(phantom_root):
    record = read_record("phantom", _first(phantom_root), root=phantom_root)
    time = detect.r_peaks(record.signal)
    off = np.abs(record.beats.time[:, None] - time).min(1)
    assert (off < 0.05).mean() > 0.97
    assert np.median(off) < 0.012  # on the peak, not on its onset
    bare = replace(record, beats=record.beats[:0], rhythms=record.rhythms[:0])
    found = explain_record(bare, model=models.build("compact"))
    assert found.beats.time.tolist() == time.tolist()
    assert set(found.beats.symbol) == set(found.beats.expected) == {""}


def _first(root):
    from ecglib.databases import record_names

    return record_names("phantom", root)[0]


def test_no_peaks_in_a_flat_line():
    assert len(detect.r_peaks(np.full(7200, 0.5, np.float32))) == 0


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "sensitivity"), [("203", 0.993), ("208", 0.994), ("222", 0.997)])
def test_sensitivity_on_real_records(mitdb, name, sensitivity):
    record = read_record("mitdb", name, root=mitdb)
    time = detect.r_peaks(record.signal)
    off = np.abs(record.beats.time[:, None] - time).min(1)
    assert (off <= 0.15).mean() >= sensitivity
    assert (np.abs(time[:, None] - record.beats.time).min(1) <= 0.15).mean() > 0.985
    assert np.median(off) < 0.015


# Blocks --------------------------------------------------------------------------------------------------------------


def _same(a: Explained, b: Explained) -> None:
    pd.testing.assert_frame_equal(a.beats, b.beats, rtol=1e-5, atol=1e-6)
    assert a.beats.time.tolist() == b.beats.time.tolist()
    np.testing.assert_allclose(a.saliency, b.saliency, atol=1e-5)
    assert (a.fs, a.name, a.database, a.start) == (b.fs, b.name, b.database, b.start)


@pytest.mark.parametrize("block_s", [7.3, 60.0])
def test_blocks_are_the_whole(phantom_root, net, tmp_path, block_s):
    name = _first(phantom_root)
    whole = explain_record(read_record("phantom", name, root=phantom_root), model=net)
    options = {"model": net, "root": phantom_root, "out_dir": tmp_path, "block_s": block_s, "progress": False}
    _same(explain_file("phantom", name, **options), whole)
    assert len(list(tmp_path.glob("block-*.npz"))) == np.ceil(240 / block_s)
    read = pd.read_csv(tmp_path / "beats.csv", keep_default_na=False)
    assert read.predicted.tolist() == whole.beats.predicted.tolist()


def test_blocks_of_a_part_and_of_a_file_of_ones_own(phantom_root, net, tmp_path):
    name = _first(phantom_root)
    part = explain_record(read_record("phantom", name, root=phantom_root, start=33.3, stop=101.7), model=net)
    options = {"model": net, "block_s": 20.0, "progress": False, "start": 33.3, "stop": 101.7}
    _same(explain_file("phantom", name, root=phantom_root, out_dir=tmp_path / "a", **options), part)
    path = next(phantom_root.rglob(f"{name}.hea"))
    _same(explain_file(path, out_dir=tmp_path / "b", **options), replace(part, database=""))


@pytest.fixture
def long_day(tmp_path):
    """A little over an hour at 128 Hz, as LTAFDB: (root, seconds).  Its lead is read a block at a time."""
    folder = tmp_path / "root" / "ltafdb" / "1.0.0"
    folder.mkdir(parents=True)
    rng, n = np.random.default_rng(0), 128 * 3700
    lead = np.round(200 * rng.normal(size=n)).astype(np.int16)
    lead[128 * 900 : 128 * 930] = 17  # half a minute without contact
    wfdb.wrsamp(
        "00", fs=128, units=["mV"], sig_name=["ECG"], d_signal=lead[:, None], fmt=["16"], adc_gain=[200], baseline=[0],
        write_dir=str(folder),
    )  # fmt: skip
    beats = np.sort(rng.choice(np.arange(100, n - 100), 260, replace=False))
    wfdb.wrann("00", "atr", beats, symbol=["N"] * len(beats), write_dir=str(folder))
    return tmp_path / "root"


def test_a_long_record_is_read_in_blocks(long_day, tmp_path):
    net = models.build("compact", width=4)
    options = {"model": net, "root": long_day, "progress": False}
    found = explain_file("ltafdb", "00", out_dir=tmp_path / "o", block_s=400.0, **options)
    _same(found, explain_record(read_record("ltafdb", "00", root=long_day), model=net))
    assert len(found.saliency) == 3700 * 360


RUN = """
import sys, torch
from ecglib import models
from ecglib.explain_io import explain_file
torch.set_num_threads(1)
net = models.build("compact", width=8)
explain_file("phantom", sys.argv[1], model=net, root=sys.argv[2], out_dir=sys.argv[3], block_s=4.0, progress=False)
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(phantom_root, tmp_path, one_thread):
    name, net = _first(phantom_root), models.build("compact", width=8)
    options = {"model": net, "root": phantom_root, "block_s": 4.0, "progress": False}
    explain_file("phantom", name, out_dir=tmp_path / "whole", **options)
    command = [sys.executable, "-c", RUN, name, str(phantom_root), str(tmp_path / "killed")]
    child = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 300
    while len(list((tmp_path / "killed").glob("block-*.npz"))) < 3 and time.monotonic() < until:
        time.sleep(0.002)
    os.kill(child.pid, signals.SIGKILL)
    child.wait()
    done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "killed").glob("block-*.npz")}
    assert 3 <= len(done) < 60
    (tmp_path / "killed" / "block-00059.npz.1.part").write_bytes(b"half")  # what a kill within a write leaves
    explain_file("phantom", name, out_dir=tmp_path / "killed", **options)
    again = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "killed").glob("block-*.npz")}
    assert {k: again[k] for k in done} == done  # not computed again
    whole, killed = ({p.name: p.read_bytes() for p in (tmp_path / d).iterdir()} for d in ("whole", "killed"))
    assert whole == killed
    assert len(whole) == 62


def test_a_folder_of_another_explanation(phantom_root, tmp_path, one_line):
    name = _first(phantom_root)
    options = {"root": phantom_root, "out_dir": tmp_path, "stop": 20.0, "progress": False}
    first = explain_file("phantom", name, model=models.build("compact"), **options)
    with pytest.raises(DataError) as caught:
        explain_file("phantom", name, model=models.build("compact", seed=1), **options)
    one_line(caught, "another explanation", "resume=False")
    assert "(other: the network)" in str(caught.value)
    said: list[str] = []
    options |= {"model": models.build("compact", seed=1), "say": said.append}
    second = explain_file("phantom", name, resume=False, **options)
    assert not np.allclose(first.beats.confidence, second.beats.confidence)
    _same(explain_file("phantom", name, replace=True, **options), second)
    explain_file("phantom", name, replace=True, method="gradient", **options)
    assert said == [
        f"taken up from {tmp_path}, where 1 block stood",
        f"begun anew in {tmp_path}, which held another explanation (other: method)",
    ]
    (tmp_path / "explain.json").unlink()  # then nobody knows whose the block is
    _same(explain_file("phantom", name, **options), second)


def test_what_is_read_of_a_record_is_its_fingerprint(phantom_root, tmp_path):
    for path in next(phantom_root.rglob("p01.hea")).parent.glob("p01.*"):
        shutil.copy(path, tmp_path)
    seen = [content(tmp_path / "p01.hea")]
    assert content(tmp_path / "p01") == seen[0]
    for kind in ("hea", "dat", "atr"):
        file = tmp_path / f"p01.{kind}"
        file.write_bytes(file.read_bytes() + b"\n")
        seen.append(content(tmp_path / "p01"))
    assert len(set(seen)) == 4


# WFDB --------------------------------------------------------------------------------------------------------------


def test_wfdb_round_trip(tmp_path):
    found = _explained(ROWS, seconds=40, start=5.0)
    found.saliency[:100] = np.nan
    annotations, data, header = write_wfdb(found, tmp_path / "out")
    assert [p.name for p in (annotations, data, header)] == ["r_1.ecglib", "r_1_saliency.dat", "r_1_saliency.hea"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(["r_1.ecglib", data.name, header.name])
    read = wfdb.rdann(str(tmp_path / "out" / "r_1"), "ecglib")
    assert read.fs == 360
    assert read.symbol == ["+", "N", "N", "V", "+", "N", "V", "V", "Q"]
    notes = ["(N", "N 0.900", "N 0.600", "PVC 0.800", "(AFIB", "AFIB 0.700", "PVC 0.990", "PVC 0.500", ""]
    assert [n.rstrip("\0") for n in read.aux_note] == notes
    times = [1.0, 1.0, 2.0, 2.9, 11.0, 11.0, 11.5, 12.1, 31.0]
    assert (read.sample / 360).tolist() == pytest.approx(times, abs=1 / 720)
    back = wfdb.rdrecord(str(tmp_path / "out" / "r_1_saliency"))
    assert (back.fs, back.units, back.sig_name, back.sig_len) == (360, ["logit"], ["saliency"], 45 * 360)
    assert np.isnan(back.p_signal[: 5 * 360 + 100]).all()
    np.testing.assert_allclose(back.p_signal[5 * 360 + 100 :, 0], found.saliency[100:], atol=1 / 32000)
    ours = open_record(header, start=6.0)
    np.testing.assert_allclose(ours.signal, found.saliency[360:], atol=1 / 32000)


def test_our_own_reader_reads_the_annotations(tmp_path):
    write_wfdb(_explained(ROWS), tmp_path)
    (tmp_path / "r_1.ecglib").rename(tmp_path / "r_1.atr")
    read = read_marks(Path(tmp_path / "r_1"), 250.0)  # whatever the rate of the record: the file names its own
    np.testing.assert_allclose(read.time, [1.0, 1.0, 2.0, 2.9, 11.0, 11.0, 11.5, 12.1, 31.0], atol=1 / 720)


def test_a_folder_that_cannot_be_written(tmp_path, one_line):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as caught:
        write_wfdb(_explained(ROWS), tmp_path / "file")
    one_line(caught, "cannot write", "writable folder")


# Real records ------------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.slow
def test_a_real_record_in_blocks(mitdb, tmp_path, one_thread):
    from ecglib.networks import checkpoint

    net = models.load(checkpoint("mitdb", "patient"))
    part = read_record("mitdb", "222", root=mitdb, start=290, stop=350)
    whole = explain_record(part, model=net)
    assert whole.beats.time.tolist() == part.beats.time.tolist()
    options = {"model": net, "root": mitdb, "start": 290, "stop": 350, "block_s": 17.0, "progress": False}
    _same(explain_file("mitdb", "222", out_dir=tmp_path, **options), whole)


def test_batches_do_not_matter(stepped, net):
    record = replace(stepped, signal=np.random.default_rng(1).normal(size=3600).astype(np.float32))
    one, all_ = (explain_record(record, model=net, batch_size=b) for b in (1, explain.BATCH))
    _same(one, all_)
