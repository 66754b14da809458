"""Records of a day, of which a whole database would not fit into memory: labels first, signals an hour at a time."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy.signal import resample_poly

from ecglib import CLASSES
from ecglib.databases import folder
from ecglib.errors import DataError
from ecglib.records import read_record, read_signal
from ecglib.windows import concat, cut, cut_database, fill, labels

GAIN = 166.945  # ADC units per mV of LTAFDB's first lead


def write_day(where, name, *, source, samples):
    """A record of LTAFDB's format with the real annotations of one and a signal of known values."""
    where.mkdir(parents=True, exist_ok=True)
    k = np.arange(samples)
    digital = np.round(150 * np.sin(2 * np.pi * k / 101) + 100 * np.sin(2 * np.pi * k / 7919)).astype("<i2")
    np.stack([digital, -digital], axis=1).tofile(where / f"{name}.dat")
    header = f"{name} 2 128 {samples}\n"
    for lead, gain, sign in (("ECG", GAIN, 1), ("ECG", 173.01, -1)):
        header += f"{name}.dat 16 {gain}/mV 16 0 0 {int(sign * digital.sum(dtype=int)) % 65536} 0 {lead}\n"
    (where / f"{name}.hea").write_text(header)
    shutil.copy(source / f"{name}.atr", where)
    return digital / GAIN


@pytest.fixture(scope="module")
def day(ltafdb, tmp_path_factory):
    """Record 103 of LTAFDB, 24 hours and 120 thousand marks: (root, its first lead in mV)."""
    root = tmp_path_factory.mktemp("day")
    source = folder("ltafdb", ltafdb)
    samples = int((source / "103.hea").read_text().split()[3])
    return root, write_day(folder("ltafdb", root), "103", source=source, samples=samples)


MEASURED = """
import json, re, sys, time
from ecglib.windows import cut, cut_database
from ecglib.records import read_record
began = time.perf_counter()
rule, how = sys.argv[1:]
w = cut_database("ltafdb", rule=rule) if how == "database" else cut(read_record("ltafdb", "103"), rule=rule)
peak = int(re.search("VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1e6  # ru_maxrss begins at the parent's
seconds = time.perf_counter() - began
print(json.dumps({"windows": len(w), "peak_gb": peak, "seconds": seconds, "counts": w.counts().to_dict()}))
"""


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("how", ["database", "record"])
def test_a_day_in_a_gigabyte(day, how, monkeypatch):
    root, _ = day
    monkeypatch.setenv("ECGLIB_DATA", str(root))
    done = subprocess.run([sys.executable, "-c", MEASURED, "deck", how], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["counts"]["SVTA"] == 1369  # the published rule's counts of this record, from its annotations
    assert found["counts"]["PAC"] == 1556
    assert found["windows"] > 50_000
    assert found["peak_gb"] < 1.0, found


@pytest.mark.data
@pytest.mark.parametrize("rule", ["deck", "clean"])
def test_a_days_windows_show_what_lies_there(day, rule):
    """Against the whole lead resampled at once; also across the hours at which reading begins anew."""
    root, lead = day
    found = labels("ltafdb", rule=rule, root=root)
    at_the_hour = np.flatnonzero(np.abs((found.time + 1800) % 3600 - 1800) < 60)
    some = np.random.default_rng(0).choice(len(found), 300, replace=False)
    windows = fill(found[np.r_[at_the_hour, some]], root=root)
    assert windows.x.shape == (len(at_the_hour) + 300, 1, 720)
    first = np.round((windows.time - 1) * 360).astype(int)
    for x, k in zip(windows.x[:, 0], first, strict=True):
        # a stretch that begins on a sample of both rates: 45 samples at 360 Hz are 16 at 128 Hz
        begin = max(0, k - 900) // 45 * 16
        stretch = resample_poly(lead[begin : begin + 128 * 8], 45, 16, padtype="line")
        np.testing.assert_allclose(x, stretch[k - begin * 45 // 16 :][:720], atol=2e-3)


@pytest.mark.data
def test_labels_need_no_signal(ltafdb):
    """PhysioNet's LTAFDB as most have it here: annotations and headers."""
    found = labels("ltafdb", rule="deck", root=ltafdb, records=["103", "53"])
    assert found.x.shape == (len(found), 1, 0)
    assert found.counts()["SVTA"] == 1369
    with pytest.raises(DataError, match=r"has no signal file"):
        fill(found[:3], root=ltafdb)


def test_fill_is_cut(phantom_root):
    """Read on demand, in any order and from several records, windows are those cut from the whole records."""
    for rule in ("deck", "clean"):
        whole = concat(
            cut(read_record("phantom", r, root=phantom_root), rule=rule, seed=1) for r in ("p01", "p05", "p02")
        )
        found = labels("phantom", rule=rule, root=phantom_root, records=["p01", "p05", "p02"], seed=1)
        order = np.random.default_rng(0).permutation(len(whole))
        again = fill(found[order], root=phantom_root)
        for name in ("x", "y", "record", "database", "time", "anchor"):
            np.testing.assert_array_equal(getattr(again, name), getattr(whole, name)[order])


def test_parts_are_joined_without_a_seam(phantom_root, monkeypatch):
    """However the reading is divided, the samples are the same: here a part is 20 s and no record is read whole."""
    found = labels("phantom", rule="deck", root=phantom_root, records=["p03"])
    whole = fill(found, root=phantom_root)
    monkeypatch.setattr("ecglib.windows._PART_S", 20.0)
    monkeypatch.setattr("ecglib.records._SHORT_S", 0.0)
    np.testing.assert_array_equal(fill(found, root=phantom_root).x, whole.x)


def test_labels_of_each_record_are_limited_before_signals_are_read(phantom_root):
    found = labels("phantom", rule="clean", root=phantom_root, per_record=7)
    assert max(np.unique(found.record + np.array(CLASSES)[found.y], return_counts=True)[1]) == 7
    filled = cut_database("phantom", rule="clean", root=phantom_root, per_record=7)
    np.testing.assert_array_equal(filled.time, found.time)


def test_where_the_lead_is_off_no_window_is_made_up(tmp_path):
    """Two hours with a minute and more without any value: windows there are left out, and it is said how many."""
    import wfdb

    where = folder("ltdb", tmp_path)
    where.mkdir(parents=True)
    rate, length = 128, 2 * 3600 * 128
    signal = np.sin(np.arange(length) / 9)
    signal[4000 * rate : 4600 * rate] = np.nan
    flat = slice(4700 * rate, 4800 * rate)
    signal[flat] = 0.25
    wfdb.wrsamp(
        "14046", fs=rate, units=["mV"], sig_name=["ECG1"], p_signal=signal[:, None], fmt=["16"], write_dir=str(where)
    )
    beats = np.array([100, 4300, 4301, 4750, 7000]) * rate
    wfdb.wrann("14046", "atr", np.r_[0, beats, length - 1], list("~VVVVV~"), write_dir=str(where))
    found = labels("ltdb", rule="deck", root=tmp_path)
    assert found.time.tolist() == [100, 4300, 4301, 4750, 7000]
    with pytest.warns(UserWarning, match="2 windows lie where their lead holds no value"):
        windows = fill(found, root=tmp_path)
    assert windows.time.tolist() == [100, 4750, 7000]
    np.testing.assert_allclose(windows.x[1], 0.25, atol=1e-3)
    part, start = read_signal("ltdb", "14046", root=tmp_path, start=4200.0, stop=4210.0)
    assert start == 4200
    assert np.isnan(part).all()
