"""Marks of QT Database on the records that they belong to: known lags and boundaries, and the counts of the real files."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
import wfdb

from ecglib import FS, boundaries, clinic, expert_windows, experts, models, networks, pairing, phantom
from ecglib.cam import class_activation_map, upsample
from ecglib.databases import folder
from ecglib.errors import DataError, UnknownNameError
from ecglib.records import read_annotations
from ecglib.source import Source

LAG, START = 0.0053, 20.0  # of the excerpt below, s: not a whole sample at either rate
BEATS = np.cumsum(np.random.default_rng(0).uniform(0.7, 0.95, 190)) + 0.5  # R peaks of the record below, s
MARKED = BEATS[(BEATS > START + 62) & (BEATS < START + 80)]  # by the expert
TALL = {"P": (-0.16, 0.02, 0.15), "QRS": (0.0, 0.012, 1.2), "T": (0.26, 0.04, 0.3)}  # centre after R, width s, mV


def heart(time):
    """The made-up lead, mV, at seconds of the record; beats differ in height, so that no beat is like another."""
    height = np.random.default_rng(1).uniform(0.7, 1.3, len(BEATS))
    lead = np.zeros(len(time))
    for beat, tall in zip(BEATS, height, strict=True):
        near = slice(*np.searchsorted(time, [beat - 0.4, beat + 0.6]))
        for centre, width, mv in TALL.values():
            lead[near] += tall * mv * np.exp(-0.5 * ((time[near] - beat - centre) / width) ** 2)
    return lead


def marks_of(beat, *, onset=False):
    """What the expert marks around a beat: (s after R, symbol); T begins with a mark in some beats only."""
    before = [(-0.2, "("), (-0.16, "p"), (-0.12, ")"), (-0.04, "("), (0.0, "N"), (0.05, ")")]
    return [(beat + t, s) for t, s in [*before, *([(0.2, "(")] if onset else []), (0.26, "t"), (0.36, ")")]]


def write(where, name, lead, fs, **more):
    where.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(name, fs=fs, units=["mV"], sig_name=["MLII"], p_signal=lead[:, None], fmt=["16"], adc_gain=[4000.0],
                baseline=[0], write_dir=str(where), **more)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """MITDB's record 100 with 150 s, and QTDB's excerpt of 100 s of it, which begins 5.3 ms later than its header says."""
    root = tmp_path_factory.mktemp("experts")
    mitdb, qtdb = folder("mitdb", root), folder("qtdb", root)
    write(mitdb, "100", heart(np.arange(150 * 360) / 360), 360)
    inside = BEATS[BEATS < 149]
    symbols = np.where(np.arange(len(inside)) % 7 == 3, "V", "N")
    wfdb.wrann("100", "atr", np.round(inside * 360).astype(int), list(symbols), fs=360, write_dir=str(mitdb))
    comment = "Produced by xform from record 100, beginning at 0:20.000"
    write(qtdb, "sel100", heart(START + LAG + np.arange(100 * 250) / 250), 250, comments=[comment])
    marks = [m for i, beat in enumerate(MARKED) for m in marks_of(beat, onset=i % 2 == 0)]
    sample = np.round((np.array([t for t, _ in marks]) - START - LAG) * 250).astype(int)
    for name in ("q1c", "q2c"):  # wfdb reads digits in an extension but does not write them
        wfdb.wrann("sel100", "qc", sample + 2 * (name == "q2c"), [s for _, s in marks], write_dir=str(qtdb))
        (qtdb / "sel100.qc").rename(qtdb / f"sel100.{name}")
    theirs = np.round((inside[(inside > 21) & (inside < 119)] - START - LAG + 0.012) * 250).astype(int)
    wfdb.wrann("sel100", "atr", theirs, ["N"] * len(theirs), write_dir=str(qtdb))  # 12 ms late
    return root


def test_a_lag_is_found_to_a_fraction_of_a_sample(root):
    found = experts.align("100", root=root)
    assert found.start == 20.0
    assert found.lag == pytest.approx(LAG, abs=2e-4)
    assert found.correlation > 0.999
    assert found.pieces == pytest.approx(np.full(len(found.pieces), LAG), abs=3e-4)
    assert len(found.pieces) == 3  # of 30 s
    assert found.lags[found.curve.argmax()] == pytest.approx(2 / FS)  # the nearest whole sample
    assert experts.beat_offset(found, root=root)["atr_ms"] == pytest.approx(-12, abs=2.5)


def test_marks_come_back_to_the_records_time(root):
    table = experts.waves("mitdb", "100", lag=LAG, root=root)
    assert Counter(table.wave) == {w: len(MARKED) for w in ("P", "QRS", "T")}
    for wave, start, stop in (("P", -0.2, -0.12), ("QRS", -0.04, 0.05)):
        own = table[table.wave == wave]
        assert own.start.to_numpy() == pytest.approx(MARKED + start, abs=0.0021)  # half a sample of 250 Hz
        assert own.stop.to_numpy() == pytest.approx(MARKED + stop, abs=0.0021)
        assert not own.guessed.any()
    t = table[table.wave == "T"]
    assert t.guessed.tolist() == [i % 2 == 1 for i in range(len(t))]
    assert (t.start - t.beat)[~t.guessed].to_numpy() == pytest.approx(0.2, abs=0.005)
    assert (t.start - t.beat)[t.guessed].to_numpy() == pytest.approx(2 * 0.26 - 0.36, abs=0.01)
    ours = read_annotations("mitdb", "100", root=root).beats
    assert set(table.beat) <= set(ours.time)  # the class of a beat is that of MITDB
    assert Counter(table.symbol)["V"] == 3 * sum(ours.symbol[np.isin(ours.time, table.beat)] == "V") > 0


def test_windows_show_what_is_marked(root):
    table = experts.waves("mitdb", "100", lag=LAG, root=root)
    found = expert_windows.delineated("mitdb", {"100": table}, root=root)
    assert len(found) == len(MARKED)
    assert found.windows.r_position.min() >= 0.5 - 0.003
    assert found.windows.r_position.max() <= 1.5 + 0.003
    assert found.own["QRS"].sum(1) == pytest.approx(0.09 * FS, abs=2)
    assert found.own["P"].sum(1) == pytest.approx(0.08 * FS, abs=2)
    peak = np.round(found.windows.r_position * FS).astype(int)
    assert found.own["QRS"][np.arange(len(found)), peak].all()
    assert np.abs(found.windows.x[:, 0].argmax(1) - peak).min() <= 1  # the signal is that of these times
    assert {1 if s == "V" else 0 for s in found.symbol} == set(found.windows.y.tolist())
    assert not found.complete[0]  # before it there is a beat that the expert left out
    assert found.complete[len(found) // 2]
    assert all((found.truth[w] >= found.own[w]).all() for w in experts.WAVES)
    trace, spans = expert_windows.picture(found, len(found) // 2)
    drawn = spans[spans.wave == "QRS"]
    assert (drawn.stop - drawn.start).sum() == pytest.approx(found.truth["QRS"][len(found) // 2].sum() / FS, abs=0.005)
    assert trace.mv.max() == pytest.approx(found.windows.x[len(found) // 2].max(), abs=0.001)
    few = expert_windows.delineated("mitdb", {"100": table}, root=root, per_record=4)
    assert len(few) == 4
    assert set(few.windows.anchor) <= set(found.windows.anchor)


def test_mass_inside_a_wave_stands_beside_its_share_of_time(root):
    found = expert_windows.delineated("mitdb", {"100": experts.waves("mitdb", "100", lag=LAG, root=root)}, root=root)
    even, silent = np.ones((len(found), 720)), np.full((len(found), 720), np.nan)
    maps = {"right": found.truth["QRS"].astype(float), "even": even, "silent": silent}
    table = expert_windows.masses(found, maps, np.full(len(found), "N")).set_index(["wave", "pair"])
    assert table.loc[("QRS", "right"), "mean"] == 1
    assert table.loc[("P", "right"), "mean"] == 0
    share = found.truth["QRS"][found.complete].mean()
    assert table.loc[("QRS", "even"), "mean"] == pytest.approx(share) == table.loc[("QRS", "chance"), "mean"]
    assert table.loc[("QRS", "even less chance"), "mean"] == pytest.approx(0)
    assert table.loc[("QRS", "silent"), "windows"] == 0
    assert table.loc[("QRS", "right"), "windows"] == found.complete.sum()
    own = expert_windows.masses(found, maps, np.full(len(found), "N"), own=True).set_index(["wave", "pair"])
    assert own.loc[("QRS", "right"), "windows"] == len(found)
    assert own.loc[("QRS", "right"), "mean"] < 0.6  # the neighbours' QRS is outside


def test_explanations_and_controls_of_marked_beats(root, monkeypatch):
    """Two networks share the windows; the beats that are none of the eight are explained as what their network names."""
    table = experts.waves("mitdb", "100", lag=LAG, root=root)
    found = expert_windows.delineated("mitdb", {"100": table}, root=root)[np.arange(2, 6)]
    every = expert_windows.delineated("mitdb", {"100": table}, root=root)
    assert found.windows.anchor.tolist() == every.windows.anchor[2:6].tolist()  # a subset is one in all its parts
    assert found.symbol.tolist() == every.symbol[2:6].tolist()
    for w in experts.WAVES:
        assert np.array_equal(found.own[w], every.own[w][2:6])
        assert np.array_equal(found.truth[w], every.truth[w][2:6])
        assert found.marked[w].all()
    found.windows.y[:] = [0, -1, 1, -1]
    nets = [models.build("murugesan-gap", width=4, seed=seed).eval() for seed in (0, 1)]
    shared = [(nets[0], np.array([0, 3])), (nets[1], np.array([2, 1]))]
    monkeypatch.setattr(networks, "by_network", lambda source, windows: shared)
    seen, real = [], pairing.both

    def both(net, x, y):
        maps, hidden, named = real(net, x, y, n_iter=2)
        hidden = np.linspace(0, 0.5, hidden.size, dtype=np.float32).reshape(hidden.shape)
        hidden[0] = 0.009 if net is nets[0] else 0.011  # of the first windows one is silent
        seen.append((y.tolist(), named.tolist()))
        return maps, hidden, named

    monkeypatch.setattr(pairing, "both", both)
    out = expert_windows.explain(Source("mitdb", root, ("100",)), found)
    assert list(out) == ["CAM", "mask", "centre", "amplitude", "slope", "bump"]
    (first, named), (second, named_too) = seen
    assert (first, second) == ([0, named[1]], [1, named_too[1]])
    assert found.windows.y.tolist() == [0, -1, 1, -1]  # left as they were
    assert np.isnan(out["mask"]).all(1).tolist() == [True, False, False, False]
    assert (out["mask"][2] == np.float32(0.011)).all()
    assert out["mask"][1].max() == out["mask"][3].max() == 0.5
    x = found.windows.x
    for i, (net, c) in enumerate([(nets[0], 0), (nets[1], second[1]), (nets[1], 1), (nets[0], first[1])]):
        own = upsample(class_activation_map(net, torch.from_numpy(x[[i]]), torch.tensor([c])))[0].detach().numpy()
        assert out["CAM"][i] == pytest.approx(own, abs=1e-5)
        assert out["amplitude"][i] == pytest.approx(np.abs(x[i, 0] - np.sort(x[i, 0])[359]), abs=1e-6)
        assert out["slope"][i, 1:-1] == pytest.approx(np.abs(x[i, 0, 2:] - x[i, 0, :-2]) / 2, abs=1e-6)
        assert out["centre"][i].argmax() == 360
        assert out["bump"][i].argmax() == round(360 * (found.windows.anchor[i] - found.windows.time[i] + 1))
        assert out["bump"][i].max() == 1
        assert out["bump"][i, out["bump"][i].argmax() + 18] == pytest.approx(np.exp(-0.5))  # 50 ms


def test_boundary_errors(root):
    one = {"100": experts.waves("mitdb", "100", lag=LAG, root=root)}
    two = {"100": experts.waves("mitdb", "100", marks="q2c", lag=LAG, root=root)}
    errors = boundaries.boundary_errors(two, one).set_index(["wave", "edge"])
    assert errors.mean_ms.to_numpy() == pytest.approx(8, abs=0.01)  # two samples of 250 Hz
    assert errors.sd_ms.to_numpy() == pytest.approx(0, abs=0.01)
    assert errors.loc[("T", "start"), "beats"] == sum(i % 2 == 0 for i in range(len(MARKED)))
    assert errors.loc[("QRS", "start"), "tolerance_ms"] == 6.5
    usual = boundaries.typical({"a": one["100"], "b": two["100"]}, symbols=("N", "V"))
    assert usual.loc["QRS"].to_numpy() == pytest.approx([-0.036, 0.054], abs=0.002)  # halfway between the two
    put = boundaries.expected(np.array([10.0]), usual)
    assert put.start[put.wave == "QRS"].item() == pytest.approx(10 - 0.036, abs=0.002)
    assert set(boundaries.without({"a": one["100"], "b": two["100"]})) == {"a", "b"}
    guessed = boundaries.boundary_errors(boundaries.onset_by_symmetry(one), one).set_index(["wave", "edge"])
    assert guessed.loc[("T", "start"), "mean_ms"] == pytest.approx(1000 * (2 * 0.26 - 0.36 - 0.2), abs=4)


def test_intervals(root):
    table = experts.waves("mitdb", "100", lag=LAG, root=root)
    beats = read_annotations("mitdb", "100", root=root).beats.time
    found = boundaries.intervals(table, beats).set_index("symbol")
    assert found.pr.to_numpy() == pytest.approx(160, abs=4)
    assert found.qrs.to_numpy() == pytest.approx(90, abs=4)
    own = table[(table.wave == "QRS") & (table.symbol == "V")].beat.to_numpy()
    assert found.loc["V", "rr"] == pytest.approx(
        1000 * np.median(own - beats[np.searchsorted(beats, own - 1e-6) - 1]), abs=1e-6
    )


def test_the_clinics_borders_move(make_windows):
    windows = make_windows(["1", "1"], ["RBBB", "PVC"], [10.0, 20.0])
    plain = clinic.truth(windows)
    source = Source("mitdb", None, ("1",))
    assert (plain == pairing.truth(source, windows)).all()
    wide = clinic.truth(windows, scale=1.2)
    late = clinic.truth(windows, shift=0.02)
    assert np.flatnonzero(plain[0])[[0, -1]].tolist() == [371, 403]  # R + 0.03 to R + 0.12 s
    assert np.flatnonzero(wide[0])[[0, -1]].tolist() == [373, 411]  # R + 0.036 to R + 0.144
    assert np.flatnonzero(late[0])[[0, -1]].tolist() == [378, 410]  # R + 0.05 to R + 0.14


def test_the_phantoms_writer_left_marks(phantom_root):
    table = experts.waves("phantom", "p01", root=phantom_root)
    truth = phantom.read_truth("p01", root=phantom_root).waves
    for wave in experts.WAVES:
        theirs = pd.DataFrame(truth[truth.wave == wave]).sort_values("start")
        own = table[table.wave == wave].sort_values("start")
        assert own[["start", "stop"]].to_numpy() == pytest.approx(theirs[["start", "stop"]].to_numpy())
        assert not own.guessed.any()


def test_what_is_wrong_is_told(root, tmp_path, one_line):
    with pytest.raises(UnknownNameError):
        experts.align("999", root=root)
    with pytest.raises(UnknownNameError):
        experts.waves("mitdb", "100", marks="q3c", root=root)
    assert experts.of_mitdb(root) == ["100"]
    assert experts.of_mitdb(tmp_path) == []
    for name in ("mitdb", "qtdb"):
        folder(name, tmp_path).mkdir(parents=True)
        for path in folder(name, root).iterdir():
            (folder(name, tmp_path) / path.name).write_bytes(path.read_bytes())
    header = folder("qtdb", tmp_path) / "sel100.hea"
    text = header.read_text()
    header.write_text(text.replace("0:20.000", "0:27.500"))
    with pytest.raises(DataError) as caught:
        experts.align("100", root=tmp_path)
    one_line(caught, "sel100.hea", "fetch both again")
    header.write_text(text.replace("beginning at", "from"))
    with pytest.raises(DataError) as caught:
        experts.align("100", root=tmp_path)
    one_line(caught, "sel100.hea", "where in its record")


def test_marks_that_are_not_there_or_damaged(root, tmp_path, one_line):
    for path in folder("qtdb", root).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    header = tmp_path / "sel100.hea"
    assert experts._read(header, "q1c").wave.value_counts().to_dict() == {w: len(MARKED) for w in experts.WAVES}
    none = experts._read(header, "q9c")
    assert (len(none), list(none)) == (0, ["wave", "start", "peak", "stop", "qrs"])
    (tmp_path / "sel100.q1c").write_bytes(b"\x01")
    with pytest.raises(DataError) as caught:
        experts._read(header, "q1c")
    one_line(caught, "sel100.q1c", "fetch it again")


def test_the_top_of_a_curve_lies_between_its_samples():
    """Of a parabola exactly; at an end of the curve there is nothing to lay one through."""
    k = np.arange(7.0)
    assert experts._vertex(-((k - 3.3) ** 2)) == pytest.approx(0.3)
    assert experts._vertex(5 - 2 * (k - 1.6) ** 2) == pytest.approx(-0.4)
    assert experts._vertex(k) == experts._vertex(-k) == 0


@pytest.mark.data
def test_real_excerpts_lie_where_their_headers_say_to_a_sample(mitdb, qtdb):
    found = experts.alignments(qtdb)
    assert len(found) == 15
    for a in found:
        assert abs(a.lag) < 1 / FS, a.record  # 117, too: there the beat annotations differ, not the signals
        assert np.abs(a.pieces - a.lag).max() < 0.0003, a.record
        assert a.correlation > 0.998, a.record
    off = {a.record: experts.beat_offset(a, root=qtdb) for a in found}
    assert off["117"]["atr_ms"] > 10
    assert all(abs(o[k]) < 4 for r, o in off.items() if r != "117" for k in o)


@pytest.mark.data
def test_real_marks_by_class(mitdb, qtdb):
    tables = experts.excerpt_tables(lags=dict.fromkeys(experts.of_mitdb(qtdb), 0.0026), root=qtdb)
    beats = pd.concat([t[t.wave == "QRS"].assign(record=r) for r, t in tables.items()])
    assert Counter(beats.symbol) == {"N": 407, "/": 126, "F": 35, "R": 30, "A": 30, "f": 29, "V": 17}
    assert set(beats.record[beats.symbol == "V"]) == {"213"}
    p = {r: int((t.wave == "P").sum()) for r, t in tables.items()}
    assert [p[r] for r in ("102", "221", "232", "104", "213")] == [0, 0, 0, 17, 71]
    assert (~tables["223"][tables["223"].wave == "T"].guessed).sum() == 31
