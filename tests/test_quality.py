"""Planted faults are found where they are, and real records are counted a second time, slowly."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecglib.databases import folder, record_names
from ecglib.errors import DataError, UnknownNameError
from ecglib.quality import FLAT_S, KINDS, beats_within, channels, quality, survey, touched
from ecglib.records import read_annotations, read_record

LENGTH = 3600  # 10 s: five windows


@pytest.fixture
def planted(tmp_path):
    """``planted(faults, lead 2's faults)``: a record of 11 bits around 1024, as MITDB's, whose digits change everywhere."""

    def write(*channels, names=("MLII", "V1"), header="{f} 212 200 11 1024 0 {sum} 0 {lead}", name="100"):
        where = folder("mitdb", tmp_path)
        where.mkdir(parents=True, exist_ok=True)
        digits = np.tile(1000 + (np.arange(LENGTH) % 2)[:, None] * 50, (1, len(channels)))
        for k, faults in enumerate(channels):
            for first, count, value in faults:
                digits[first : first + count, k] = value
        form = {"fmt": ["212"] * len(channels), "adc_gain": [200] * len(channels), "baseline": [1024] * len(channels)}
        leads = list(names[: len(channels)])
        wfdb.wrsamp(
            name, fs=360, d_signal=digits, units=["mV"] * len(leads), sig_name=leads, write_dir=str(where), **form
        )
        sums = wfdb.rdheader(str(where / name)).checksum
        lines = [header.format(f=f"{name}.dat", sum=s, lead=lead) for s, lead in zip(sums, leads, strict=True)]
        (where / f"{name}.hea").write_text("\n".join([f"{name} {len(leads)} 360 {LENGTH}", *lines]) + "\n")
        return tmp_path

    return write


def test_planted_faults_are_counted(planted):
    root = planted(
        [
            (0, 8, 995),
            (100, 5, 2047),
            (200, 1, 2047),
            (300, 2, 0),
            (1000, 18, 1100),
            (1100, 17, 1100),
            (2000, 700, -2048),
        ],
        [(700, 40, 0), (740, 1, 1024), (741, 40, 2047)],
    )
    found = quality("mitdb", "100", root=root)
    assert found.leads.record.tolist() == ["100", "100"]
    mlii, v1 = found.leads.to_dict("records")
    assert (mlii["missing"], mlii["saturated"], mlii["flat"]) == (700, 7, 18)  # one sample at the end is a peak
    assert (v1["missing"], v1["saturated"], v1["flat"]) == (0, 80, 0)
    assert (mlii["channel"], mlii["lead"], mlii["used"], mlii["gain"], mlii["bits"]) == (0, "MLII", True, 200, 11)
    assert (v1["channel"], v1["lead"], v1["used"]) == (1, "V1", False)
    assert (mlii["low"], mlii["high"], mlii["samples"]) == (-5.12, 5.115, 3600)
    assert (mlii["repeated"], v1["repeated"]) == (8, 1)
    assert (mlii["held"], v1["held"]) == (17, 1)
    assert (mlii["windows"], mlii["touched"]) == (
        5,
        4,
    )  # samples 100 and 300, 1000, 2000 to 2699: windows 0, 1, 2 and 3
    assert v1["touched"] == 2  # 700 to 780: windows 0 and 1


def test_stretches_have_their_times(planted):
    root = planted([(300, 2, 0), (1000, 36, 1100), (720, 10, -2048), (302, 3, 2047)])
    rows = quality("mitdb", "100", root=root).stretches
    assert rows.columns.tolist() == ["record", "lead", "used", "what", "start", "stop"]
    assert rows.what.tolist() == ["saturated", "saturated", "missing", "flat"]
    np.testing.assert_allclose(rows.start * 360, [300, 302, 720, 1000])
    np.testing.assert_allclose(rows.stop * 360, [302, 305, 730, 1036])
    assert set(rows.what) == set(KINDS)


@pytest.mark.parametrize(("count", "flat"), [(17, 0), (18, 18), (500, 500)])
def test_flat_begins_at_a_twentieth_of_a_second(planted, count, flat):
    assert FLAT_S == 0.05
    assert quality("mitdb", "100", root=planted([(900, count, 1030)])).leads.flat.tolist() == [flat]


def test_a_fault_at_either_end_of_the_file(planted):
    root = planted([(0, 30, 1030), (LENGTH - 25, 25, 0)])
    found = quality("mitdb", "100", root=root)
    assert found.leads[["saturated", "flat", "repeated", "touched"]].to_numpy().tolist() == [[25, 30, 30, 2]]
    assert found.stretches.stop.iloc[-1] == 10.0


def test_a_channel_that_never_changes(planted):
    found = quality("mitdb", "100", root=planted([(0, LENGTH, 1030)], [(0, LENGTH, -2048)])).leads
    assert found[["missing", "flat", "repeated", "touched"]].to_numpy().tolist() == [
        [0, 3600, 3600, 5],
        [3600, 0, 3600, 5],
    ]


def test_a_clean_record_has_no_stretches(planted):
    found = quality("mitdb", "100", root=planted([]))
    assert len(found.stretches) == 0
    assert len(found.stretches[found.stretches.used]) == 0  # its flags still choose rows
    assert found.leads[list(KINDS)].to_numpy().tolist() == [[0, 0, 0]]


def test_a_header_without_a_resolution_means_12_bits(planted):
    root = planted([(100, 4, 2047), (200, 4, -2047)], header="{f} 212 200 0 0 0 {sum} 0 {lead}")
    row = quality("mitdb", "100", root=root).leads.iloc[0]
    assert (row.bits, row.saturated, row.high) == (12, 4, 10.235)  # -2047 is not the lower end, which means no value


def test_the_used_lead_is_mlii_wherever_it_stands(planted):
    root = planted([], [], names=("V5", "MLII"))
    assert quality("mitdb", "100", root=root).leads.used.tolist() == [False, True]
    root = planted([], [], names=("V5", "V2"))
    assert quality("mitdb", "100", root=root).leads.used.tolist() == [True, False]


def test_survey_joins_records_in_order(planted):
    planted([(100, 5, 2047)], name="101")
    root = planted([(200, 9, -2048)])
    found = survey("mitdb", root=root, records=["101", "100"])
    assert found.leads.record.tolist() == ["101", "100"]
    assert found.stretches.record.tolist() == ["101", "100"]
    assert found.leads[list(KINDS)].to_numpy().tolist() == [[0, 5, 0], [9, 0, 0]]
    assert survey("mitdb", root=root).leads.record.tolist() == ["100", "101"]


def test_touched_windows(make_windows):
    rows = pd.DataFrame({"record": ["100", "101"], "start": [10.0, 50.0], "stop": [10.5, 50.01]})
    windows = make_windows(["100"] * 5 + ["101"] * 2, ["N"] * 7, [9.0, 9.01, 10.2, 11.49, 11.5, 10.2, 50.0])
    assert touched(windows, rows).tolist() == [False, True, True, True, False, False, True]
    assert touched(windows, rows[:0]).tolist() == [False] * 7


def test_beats_within_stretches(phantom_root):
    time = read_annotations("phantom", "p02", root=phantom_root).beats.time
    rows = pd.DataFrame({"record": "p02", "start": [time[3], time[9] - 0.01], "stop": [time[6], time[9] + 0.01]})
    assert beats_within("phantom", rows, root=phantom_root) == 4  # 3, 4 and 5, and 9
    assert beats_within("phantom", rows[:0], root=phantom_root) == 0


def test_errors(planted, one_line):
    root = planted([])
    with pytest.raises(UnknownNameError):
        quality("mitdb", "999", root=root)
    with pytest.raises(DataError) as caught:
        survey("mitdb", root=root, records=[])
    one_line(caught, "mitdb", "received none")
    data = folder("mitdb", root) / "100.dat"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        quality("mitdb", "100", root=root)
    one_line(caught, "record 100", "fetch")
    data.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(DataError) as caught:
        quality("mitdb", "100", root=root)
    one_line(caught, "record 100", "checksum")
    data.unlink()
    with pytest.raises(DataError) as caught:
        quality("mitdb", "100", root=root)
    one_line(caught, "record 100", "fetch")


def test_the_phantom_is_whole(phantom_root):
    leads = survey("phantom", root=phantom_root).leads
    assert leads[list(KINDS)].to_numpy().sum() == 0
    assert leads.lead[leads.used].unique().tolist() == ["MLII"]


# Real records ----------------------------------------------------------------------------------------------------


def slow(root, record):
    """Counts by lead, one run of equal digits after the other."""
    path = str(folder("mitdb", root) / record)
    digits, physical = wfdb.rdrecord(path, physical=False).d_signal, wfdb.rdrecord(path).p_signal
    rows = []
    for k in range(digits.shape[1]):
        saturated = flat = 0
        for value, run in itertools.groupby(digits[:, k].tolist()):
            n = len(list(run))
            if value in (0, 2047):
                saturated += n * (n > 1)
            elif n >= 18:
                flat += n
        rows.append([int(np.isnan(physical[:, k]).sum()), saturated, flat])
    return rows


@pytest.mark.data
@pytest.mark.parametrize("record", ["103", "116", "203"])
def test_counts_equal_a_slow_count(mitdb, record):
    leads = quality("mitdb", record, root=mitdb).leads
    assert leads[list(KINDS)].to_numpy().tolist() == slow(mitdb, record)


@pytest.mark.data
def test_all_of_mitdb(mitdb):
    found = survey("mitdb", root=mitdb)
    leads = found.leads
    assert len(leads) == 96
    assert leads.samples.unique().tolist() == [650_000]
    assert leads.missing.sum() == 0
    bad = leads[leads.saturated > 0].set_index(["record", "lead"]).saturated.to_dict()
    assert bad == {("103", "V2"): 245, ("116", "MLII"): 925, ("223", "V1"): 705}
    assert leads[leads.flat > 0].set_index(["record", "lead"]).flat.to_dict() == {("203", "V1"): 33}
    assert leads.gain.unique().tolist() == [200]
    assert (leads.repeated.min(), leads.repeated.max(), leads.held.max()) == (5, 11, 11)
    assert leads[leads.channel == 0].lead.value_counts().to_dict() == {"MLII": 45, "V5": 3}
    used = leads[leads.used]
    assert used[used.lead != "MLII"].set_index("record").lead.to_dict() == {"102": "V5", "104": "V5"}
    assert used[used.channel == 1].record.tolist() == ["114"]
    assert beats_within("mitdb", found.stretches[found.stretches.used], root=mitdb) == 2


@pytest.mark.data
@pytest.mark.parametrize("record", ["100", "102", "114"])
def test_the_used_lead_is_the_one_that_is_read(mitdb, record):
    leads = quality("mitdb", record, root=mitdb).leads
    assert leads.lead[leads.used].tolist() == [read_record("mitdb", record, root=mitdb, stop=2.0).lead]


@pytest.mark.data
def test_a_record_without_signals_is_refused(ltafdb, one_line):
    with pytest.raises(DataError) as caught:
        quality("ltafdb", record_names("ltafdb", ltafdb)[0], root=ltafdb)
    one_line(caught, "record 00", "fetch")


def test_channels_are_the_headers(tmp_path):
    where = folder("ltafdb", tmp_path)
    where.mkdir(parents=True)
    (where / "00.hea").write_text(
        "00 2 128 9661440\n00.dat 16 166.945/mV 16 0 -1 0 0 ECG\n00.dat 16 0/mV 16 0 -1 0 0 ECG2\n"
    )
    found = channels("ltafdb", root=tmp_path)
    assert found.to_numpy().tolist() == [["ltafdb", "00", 0, "ECG", 166.945], ["ltafdb", "00", 1, "ECG2", 200.0]]


@pytest.mark.data
def test_channels_of_mitdb(mitdb):
    """45 of 48 records begin with MLII; 114 has it second; one gain for all."""
    found = channels("mitdb", root=mitdb)
    first = found[found.channel == 0]
    assert (first.lead == "MLII").sum() == 45
    assert first[first.lead != "MLII"].record.tolist() == ["102", "104", "114"]
    assert set(found.gain) == {200.0}
