"""Records say what their files say, on one time axis, or they say in one line what is wrong with the files."""

from __future__ import annotations

import shutil
import signal as unix_signal
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecglib import FS, heart, phantom
from ecglib.databases import folder, record_names
from ecglib.errors import DataError, EcglibError, UnknownNameError
from ecglib.records import open_record, read_annotations, read_record, resample
from ecglib.windows import at, cut

# Readers of our own, slow and plain, from the format's definition -----------------------------------------------


def decode_212(path: Path, channels: int = 2) -> np.ndarray:
    """Digital samples (T, channels) of a signal file in format 212: two samples of 12 bits in three bytes."""
    raw = np.fromfile(path, np.uint8).astype(int).reshape(-1, 3)
    first = raw[:, 0] + ((raw[:, 1] & 0x0F) << 8)
    second = raw[:, 2] + ((raw[:, 1] >> 4) << 8)
    both = np.stack([first, second], axis=1).ravel()
    return np.where(both > 2047, both - 4096, both).reshape(-1, channels)


CODES = {1: "N", 2: "L", 3: "R", 4: "a", 5: "V", 6: "F", 7: "J", 8: "A", 9: "S", 10: "E", 11: "j", 12: "/", 13: "Q"}
CODES |= {14: "~", 16: "|", 22: '"', 28: "+", 31: "!", 32: "[", 33: "]", 34: "e", 37: "x", 38: "f"}


def decode_atr(path: Path) -> list[tuple[int, str, str]]:
    """Sample, symbol and aux of each mark of an annotation file: words of 6 bits of code and 10 bits of time."""
    raw, marks, at_byte, now = path.read_bytes(), [], 0, 0
    while (word := struct.unpack_from("<H", raw, at_byte)[0]) != 0:
        code, value = word >> 10, word & 0x3FF
        at_byte += 2
        if code == 59:  # SKIP: a long interval, high word first
            high, low = struct.unpack_from("<HH", raw, at_byte)
            now += struct.unpack("<i", struct.pack("<HH", low, high))[0]
            at_byte += 4
        elif code == 63:  # AUX of the mark before
            marks[-1] = (*marks[-1][:2], raw[at_byte : at_byte + value].rstrip(b"\0").decode())
            at_byte += value + value % 2
        elif code < 59:  # 60, 61 and 62 are num, subtype and chan
            now += value
            if code:
                marks.append((now, CODES[code], ""))
    return [m for m in marks if not m[2].startswith("## ")]


def encode_atr(path: Path, marks: list[tuple[int, str, str]]) -> None:
    """Write marks in the order given, also backwards in time."""
    number = {symbol: code for code, symbol in CODES.items()}
    out, now = b"", 0
    for sample, symbol, aux in marks:
        low, high = struct.unpack("<HH", struct.pack("<i", sample - now))
        out += struct.pack("<HHHH", 59 << 10, high, low, number[symbol] << 10)
        if aux:
            out += struct.pack("<H", 63 << 10 | len(aux)) + aux.encode() + b"\0" * (len(aux) % 2)
        now = sample
    path.write_bytes(out + b"\0\0")


def write_record(where: Path, name: str, digital, *, fs=360.0, leads=("MLII",), gain=200) -> Path:
    digital = np.asarray(digital, int).reshape(-1, len(leads))
    n = len(leads)
    adc = {"units": ["mV"] * n, "fmt": ["16"] * n, "adc_gain": [gain] * n, "baseline": [0] * n}
    wfdb.wrsamp(name, fs=fs, d_signal=digital, sig_name=list(leads), write_dir=str(where), **adc)
    return where / name


@pytest.fixture
def copy(tmp_path, phantom_root):
    """Folder with a copy of the phantom's record p01, to be damaged; its root is ``tmp_path``."""
    where = folder("phantom", tmp_path)
    where.mkdir(parents=True)
    for path in folder("phantom", phantom_root).glob("p01.*"):
        shutil.copy(path, where)
    return where


def p01(root, **options):
    return read_record("phantom", "p01", root=root, **options)


# The lead and its values ----------------------------------------------------------------------------------------


def test_signal_is_the_file(phantom_root):
    digital = decode_212(folder("phantom", phantom_root) / "p01.dat")
    record = p01(phantom_root)
    assert record.signal.dtype == np.float32
    assert (record.lead, record.fs, record.native_fs, record.start) == ("MLII", 360, 360, 0)
    assert (record.name, record.database, record.patient) == ("p01", "phantom", "phantom/p01")
    assert record.duration == 240
    assert record.missing == 0
    np.testing.assert_allclose(record.signal, (digital[:, 0] - 1024) / 200, atol=1e-6)
    second = p01(phantom_root, lead="V1")
    assert second.lead == "V1"
    np.testing.assert_allclose(second.signal, (digital[:, 1] - 1024) / 200, atol=1e-6)


def test_mlii_wherever_it_stands_else_the_first(tmp_path):
    digital = np.stack([np.arange(720), -np.arange(720)], axis=1)
    both = open_record(write_record(tmp_path, "both", digital, leads=("V5", "MLII")))
    assert both.lead == "MLII"
    assert both.signal[719] == np.float32(-719 / 200)
    neither = open_record(write_record(tmp_path, "neither", digital, leads=("V5", "V2")))
    assert neither.lead == "V5"
    assert neither.signal[719] == np.float32(719 / 200)
    # LTAFDB names both of its channels "ECG": the name means the first
    header = tmp_path / "neither.hea"
    header.write_text(header.read_text().replace("V5", "ECG").replace("V2", "ECG"))
    twins = open_record(header, lead="ECG")
    assert twins.signal[719] == np.float32(719 / 200)


@pytest.mark.data
@pytest.mark.parametrize(("name", "lead", "channel"), [("100", "MLII", 0), ("114", "MLII", 1), ("102", "V5", 0)])
def test_lead_of_mitdb(mitdb, name, lead, channel):
    record = read_record("mitdb", name, root=mitdb)
    assert record.lead == lead
    assert len(record.signal) == 650_000
    digital = decode_212(folder("mitdb", mitdb) / f"{name}.dat")[:, channel]
    np.testing.assert_allclose(record.signal, (digital - 1024) / 200, atol=1e-6)


@pytest.mark.data
def test_patients_of_mitdb(mitdb):
    people = {n: read_record("mitdb", n, root=mitdb, stop=2).patient for n in ("200", "201", "202")}
    assert people == {"200": "mitdb/200", "201": "mitdb/201", "202": "mitdb/201"}


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat", ".atr"])
def test_open_record_by_any_of_its_files(phantom_root, suffix):
    path = folder("phantom", phantom_root) / f"p01{suffix}"
    opened = open_record(str(path), start=3, stop=5)
    np.testing.assert_array_equal(opened.signal, p01(phantom_root, start=3, stop=5).signal)
    assert (opened.name, opened.database, opened.patient) == ("p01", "", "p01")
    assert len(opened.beats) == len(p01(phantom_root, start=3, stop=5).beats) > 0


def test_a_name_with_a_dot_is_a_name(tmp_path):
    write_record(tmp_path, "monday", np.arange(720))
    (tmp_path / "monday.hea").rename(tmp_path / "monday.v1.hea")
    assert len(open_record(tmp_path / "monday.v1").signal) == 720


# One grid of samples --------------------------------------------------------------------------------------------

ODD = [(0.0, 0.003), (0.0, 7.77), (0.31, 3.0), (17.123, 18.456), (61.00139, 70.1), (200.7, 239.9), (233.3, None)]


def check_part(read, whole, start, stop, atol):
    part, end = read(start=start, stop=stop), whole.duration if stop is None else stop
    first = round(part.start * whole.fs)
    assert part.start * whole.fs == pytest.approx(first, abs=1e-6)
    assert first == np.ceil(start * whole.fs)
    assert len(part.signal) == np.ceil(end * whole.fs - 1e-6) - first
    # the resampler guesses what lies beyond the ends of the file, and guesses from all that it has
    time, edge = part.start + np.arange(len(part.signal)) / part.fs, 12 / min(part.fs, part.native_fs)
    firm = (part.fs == part.native_fs) | ((time >= edge) & (time <= whole.duration - edge))
    np.testing.assert_allclose(part.signal[firm], whole.signal[first : first + len(part.signal)][firm], atol=atol)
    assert part.duration == whole.duration


@pytest.mark.parametrize("fs", [360, 250, 128, 500.0, 62.5, 10, 2])
def test_part_lies_on_the_samples_of_the_whole(phantom_root, fs):
    whole = p01(phantom_root, fs=fs)
    assert len(whole.signal) == np.ceil(240 * fs)
    for start, stop in ODD:
        if stop is None or np.ceil(start * fs) < np.ceil(stop * fs):
            check_part(lambda **part: p01(phantom_root, fs=fs, **part), whole, start, stop, atol=3e-4)


@pytest.mark.data
@pytest.mark.parametrize("fs", [360, 250])
def test_part_of_qtdb_lies_on_the_samples_of_the_whole(qtdb, fs):
    whole = read_record("qtdb", "sel100", root=qtdb, fs=fs)
    assert (whole.native_fs, whole.fs, len(whole.signal)) == (250, fs, 900 * fs)
    for start, stop in [*ODD, (899.99, None), (612.3456, 612.35)]:
        check_part(lambda **p: read_record("qtdb", "sel100", root=qtdb, fs=fs, **p), whole, start, stop, atol=1e-4)


def test_same_rate_is_the_same_numbers():
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(resample(x, native_fs=360, fs=360.0), x)


@pytest.mark.parametrize(("native", "fs"), [(128, 360), (250, 360), (360, 250), (1000, 360), (360, 128)])
def test_resampled_tone_is_the_tone(native, fs):
    # 5 Hz with a phase and an offset: a delay of a tenth of a sample at 360 Hz would be an error of 0.009
    wave = lambda t: 1.5 + np.sin(2 * np.pi * 5 * t + 0.3)  # noqa: E731
    out = resample(wave(np.arange(20 * native) / native), native_fs=native, fs=fs)
    assert len(out) == 20 * fs
    time = np.arange(len(out)) / fs
    middle = (time > 1) & (time < 19)
    np.testing.assert_allclose(out[middle], wave(time[middle]), atol=4e-3)


@pytest.mark.parametrize("native", [128, 250])
def test_impulses_of_a_day_stay_in_place(tmp_path, native):
    """24 hours in a sparse file, read here and there: a ratio that is off by 1e-6 would be 30 samples late at night."""
    n = 24 * 3600 * native
    (tmp_path / "day.hea").write_text(f"day 1 {native} {n}\nday.dat 16 1000(0)/mV 16 0\n")
    beats = np.r_[np.arange(3, 24) * 3600 * native + np.arange(21) * 1237 + 7, n - 3 * native - 1, 2 * native + 1]
    with (tmp_path / "day.dat").open("wb") as file:
        file.truncate(2 * n)
        for beat in beats:
            file.seek(2 * beat)
            file.write(struct.pack("<h", 1000))
    for beat in beats:
        time = beat / native
        part = open_record(tmp_path / "day", start=time - 1.2345, stop=time + 1.1)
        assert part.fs == 360
        assert part.duration == 24 * 3600
        found = part.start + part.signal.argmax() / 360
        assert abs(found - time) <= 0.5 / 360 + 1e-9
        # and between the samples: the centre of the main lobe
        near = np.arange(part.signal.argmax() - 1, part.signal.argmax() + 2)
        left, top, right = part.signal[near]
        centre = part.start + (near[1] + 0.5 * (left - right) / (left - 2 * top + right)) / 360
        assert abs(centre - time) < 0.1 / 360


def test_a_time_on_the_grid_means_its_sample_all_day(tmp_path):
    """k / 360 is a float whose product with 360 need not be k; 23592964 is the first of a million within 24 hours."""
    n = 24 * 3600 * 360
    (tmp_path / "day.hea").write_text(f"day 1 360 {n}\nday.dat 16 1000(0)/mV 16 0\n")
    with (tmp_path / "day.dat").open("wb") as file:
        file.truncate(2 * n)
        file.seek(2 * 23592964)
        file.write(struct.pack("<h", 1000))
    part = open_record(tmp_path / "day", start=23592964 / 360, stop=(23592964 + 720) / 360)
    assert len(part.signal) == 720
    assert part.signal[0] == 1
    for k in range(23592960, 23593000):
        assert len(open_record(tmp_path / "day", start=(k - 720) / 360, stop=(k + 720) / 360, lead="").signal) == 1440


# Beats, rhythms and marks ---------------------------------------------------------------------------------------


def check_marks(record, marks):
    native = record.native_fs
    beats = [(s / native, symbol) for s, symbol, _ in marks if symbol in "NLRBAaJSVrFejnE/fQ?"]
    assert [(b.time, str(b.symbol)) for b in record.beats] == beats
    onsets = [(s / native, aux[1:]) for s, symbol, aux in marks if symbol == "+" and aux[:1] == "("]
    ends = [t for t, _ in onsets[1:]] + [record.duration]
    expected = [(a, b, label) for (a, label), b in zip(onsets, ends, strict=False)]
    assert [(r.start, r.stop, str(r.label)) for r in record.rhythms] == expected
    assert [(m.time, str(m.symbol), str(m.aux)) for m in record.marks] == [(s / native, x, a) for s, x, a in marks]


def test_annotations_are_the_file(phantom_root):
    for name in record_names("phantom", phantom_root):
        marks = decode_atr(folder("phantom", phantom_root) / f"{name}.atr")
        record = read_record("phantom", name, root=phantom_root)
        check_marks(record, marks)
        assert isinstance(record.beats, np.recarray)
        assert isinstance(record.rhythms, np.recarray)


@pytest.mark.data
@pytest.mark.parametrize("name", ["102", "207", "222"])  # paced; flutter marks; many rhythms
def test_annotations_of_mitdb_are_the_file(mitdb, name):
    check_marks(read_annotations("mitdb", name, root=mitdb), decode_atr(folder("mitdb", mitdb) / f"{name}.atr"))


def test_rhythms_are_the_story(phantom_root):
    for name, plan in phantom.plans(patients=12, minutes=4, seed=0).items():
        found = read_record("phantom", name, root=phantom_root).rhythms
        told = [(max(a, 1), b, rhythm) for a, b, rhythm in heart.spans(plan)]
        assert [(round(r.start * FS), round(r.stop * FS), str(r.label)) for r in found] == told


@pytest.mark.data
def test_beats_of_mitdb_as_its_directory_counts_them(mitdb):
    count = lambda name: Counter(read_annotations("mitdb", name, root=mitdb).beats.symbol.tolist())  # noqa: E731
    assert count("100") == {"N": 2239, "A": 33, "V": 1}
    assert count("208") == {"N": 1586, "V": 992, "F": 373, "S": 2, "Q": 2}
    assert count("232") == {"A": 1382, "R": 397, "j": 1}


def test_times_are_those_of_the_file(phantom_root):
    whole, part = p01(phantom_root), p01(phantom_root, start=100.25, stop=130.5)
    inside = (whole.beats.time >= 100.25) & (whole.beats.time < 130.5)
    assert inside.sum() > 20
    np.testing.assert_array_equal(part.beats.time, whole.beats.time[inside])
    assert part.marks.time.min() >= 100.25
    assert part.marks.time.max() < 130.5
    # an episode that reaches into the part keeps its own borders
    overlap = (whole.rhythms.start < 130.5) & (whole.rhythms.stop > 100.25)
    np.testing.assert_array_equal(part.rhythms, whole.rhythms[overlap])
    assert part.rhythms.start[0] < 100.25
    # the R peaks of the part stand where its beats say
    for beat in part.beats[(part.beats.symbol == "N") & (part.beats.time < 130)]:
        k = round((beat.time - part.start) * FS)
        around = np.abs(part.signal[max(0, k - 30) : k + 31] - np.median(part.signal))
        assert abs(int(around.argmax()) - min(k, 30)) <= 8


def test_unsorted_marks_are_sorted(copy, tmp_path):
    marks = [(900, "N", ""), (300, "V", ""), (600, "+", "(AFIB"), (100, "+", "(N"), (300, "A", ""), (0, "N", "")]
    encode_atr(copy / "p01.atr", marks)
    assert decode_atr(copy / "p01.atr") == marks
    record = p01(tmp_path)
    assert [(round(m.time * FS), str(m.symbol)) for m in record.marks] == [
        (0, "N"), (100, "+"), (300, "V"), (300, "A"), (600, "+"), (900, "N"),
    ]  # fmt: skip
    assert [(r.start * FS, r.stop * FS, str(r.label)) for r in record.rhythms] == [
        (pytest.approx(100), pytest.approx(600), "N"),
        (pytest.approx(600), pytest.approx(240 * FS), "AFIB"),
    ]


def test_rhythm_marks_at_one_time(copy, tmp_path):
    encode_atr(copy / "p01.atr", [(360, "+", "(N"), (720, "+", "(AFIB"), (720, "+", "(SVTA"), (800, "N", "")])
    rhythms = p01(tmp_path).rhythms
    assert [(r.start, r.stop, str(r.label)) for r in rhythms] == [(1, 2, "N"), (2, 2, "AFIB"), (2, 240, "SVTA")]


def test_no_rhythm_marks(copy, tmp_path):
    encode_atr(copy / "p01.atr", [(720, "N", ""), (1080, "V", "")])
    record = p01(tmp_path)
    assert len(record.rhythms) == 0
    assert record.rhythms.label.tolist() == []
    assert record.beats.time.tolist() == [2, 3]


def test_annotations_in_ticks_of_their_own(tmp_path):
    path = write_record(tmp_path, "ticks", np.arange(7200))
    wfdb.wrann("ticks", "atr", np.array([1000, 2500]), ["N", "V"], fs=1000, write_dir=str(tmp_path))
    assert open_record(path).beats.time.tolist() == [1.0, 2.5]


def test_annotations_alone(copy, tmp_path, one_line):
    (copy / "p01.dat").unlink()
    record = read_annotations("phantom", "p01", root=tmp_path)
    check_marks(record, decode_atr(copy / "p01.atr"))
    assert record.signal.shape == (0,)
    assert record.duration == 240
    assert record.lead == ""
    with pytest.raises(DataError) as caught:
        p01(tmp_path)
    one_line(caught, "p01.dat", "fetch it")
    (copy / "p01.atr").unlink()
    with pytest.raises(DataError) as caught:  # not a record without beats: a record that has not come yet
        read_annotations("phantom", "p01", root=tmp_path)
    one_line(caught, "p01.atr", "fetch it")
    with pytest.raises(UnknownNameError):
        read_annotations("phantom", "p02", root=tmp_path)


@pytest.mark.data
def test_annotations_of_ltafdb(ltafdb, one_line):
    record = read_annotations("ltafdb", "53", root=ltafdb)
    assert Counter(record.beats.symbol.tolist()) == {"N": 46803, "A": 684, "V": 8}
    assert Counter(record.rhythms.label.tolist()) == {"SBR": 714, "AFIB": 448, "N": 339, "AB": 25, "SVTA": 1}
    assert (record.duration, record.fs, len(record.signal)) == (72240, 128, 0)
    if not (folder("ltafdb", ltafdb) / "53.dat").exists():
        with pytest.raises(DataError) as caught:
            read_record("ltafdb", "53", root=ltafdb)
        one_line(caught, "53.dat", "fetch it")


# Missing samples ------------------------------------------------------------------------------------------------


@pytest.fixture
def gaps(tmp_path):
    """20 s in which 3 samples, and all from 10 s to 12 s, are missing; otherwise sample k has the value k mod 50."""
    digital = np.arange(7200) % 50
    digital[[100, 101, 102]] = -32768  # what format 16 writes for a missing sample
    digital[3600:4320] = -32768
    return write_record(tmp_path, "gaps", digital, gain=1)


def test_missing_samples_are_bridged_and_counted(gaps):
    record = open_record(gaps)
    assert record.missing == 723
    assert np.isfinite(record.signal).all()
    np.testing.assert_allclose(record.signal[99:104], [49, 37.5, 26, 14.5, 3])  # from 49 at 99 to 3 at 103
    np.testing.assert_allclose(record.signal[3599:4321], np.linspace(49, 20, 722), rtol=1e-5)
    assert record.signal[7199] == 49
    assert record.signal[104] == 4
    assert open_record(gaps, start=0, stop=1).missing == 3
    assert open_record(gaps, start=1, stop=9.9).missing == 0  # those of the margin do not count
    assert open_record(gaps, start=9, stop=11).missing == 360
    assert open_record(gaps, start=9, stop=11, fs=250).missing == 360


def test_a_part_without_values_is_an_error(gaps, one_line):
    for part in (
        {"start": 10.6, "stop": 11.4},
        {"start": 10.0, "stop": 12.0},
        {"start": 10.1, "stop": 11.9, "fs": 128},
    ):
        with pytest.raises(DataError) as caught:  # also where the margin has values: a line is no signal
            open_record(gaps, **part)
        one_line(caught, "MLII", "gaps", "holds no values", "choose another lead or part")


def test_gaps_at_the_ends(tmp_path):
    digital = np.arange(720) % 50 + 1
    digital[:10] = digital[-10:] = -32768
    record = open_record(write_record(tmp_path, "ends", digital, gain=1))
    assert record.missing == 20
    assert set(record.signal[:10]) == {11.0}
    assert set(record.signal[-10:]) == {float(709 % 50 + 1)}


# Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "record", "parts"),
    [
        ("phantom", "p00", ("unknown record 'p00'", "did you mean 'p", "known: p01", "records of phantom")),
        ("phantom", 1, ("unknown record 1", "known: p01")),
        ("phantom", "../p01", ("unknown record '../p01'",)),
        ("phantom", "", ("unknown record ''",)),
        ("phantm", "p01", ("unknown database 'phantm'", "did you mean 'phantom'?")),
        ("", "p01", ("unknown database ''", "known: mitdb")),
    ],
)
def test_unknown_names(phantom_root, one_line, database, record, parts):
    with pytest.raises(UnknownNameError) as caught:
        read_record(database, record, root=phantom_root)
    one_line(caught, *parts)


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"lead": "V7"}, UnknownNameError, ("unknown lead 'V7'", "known: MLII, V1", "record p01")),
        ({"lead": "mlii"}, UnknownNameError, ("unknown lead 'mlii'", "known: MLII, V1")),
        ({"start": 5, "stop": 4}, DataError, ("p01", "from 5 s to 4 s", "give 0 <= start < stop")),
        ({"start": 5, "stop": 5}, DataError, ("from 5 s to 5 s", "give 0 <= start < stop")),
        ({"start": -1}, DataError, ("from -1 s", "give 0 <= start < stop")),
        ({"start": -1e-9, "stop": 3}, DataError, ("from -1e-09 s", "give 0 <= start < stop")),
        ({"start": 240}, DataError, ("p01", "lasts 240 s", "from 240 s")),
        ({"start": 999}, DataError, ("p01", "lasts 240 s", "from 999 s")),
        ({"start": 999, "stop": 1000}, DataError, ("p01", "lasts 240 s", "from 999 s")),
        ({"start": float("nan")}, DataError, ("from nan s",)),
        ({"start": float("inf")}, DataError, ("from inf s",)),
        ({"stop": float("nan")}, DataError, ("to nan s",)),
        ({"stop": 0}, DataError, ("to 0 s",)),
        ({"start": 1.0003, "stop": 1.0004}, DataError, ("no sample", "p01", "from 1.0003 s")),
        ({"fs": 0}, DataError, ("fs is 0", "positive sampling rate")),
        ({"fs": -360}, DataError, ("fs is -360", "positive sampling rate")),
        ({"fs": float("nan")}, DataError, ("fs is nan", "positive sampling rate")),
        ({"fs": float("inf")}, DataError, ("fs is inf", "positive sampling rate")),
        ({"fs": 359.99991, "stop": 3}, DataError, ("359.99991", "small fraction")),
    ],
)
def test_bad_arguments(phantom_root, one_line, options, error, parts):
    with pytest.raises(error) as caught:
        p01(phantom_root, **options)
    one_line(caught, *parts)


def test_a_stop_beyond_the_end_is_the_end(phantom_root):
    assert len(p01(phantom_root, start=239, stop=1e9).signal) == 360
    assert len(p01(phantom_root, start=239, stop=float("inf")).signal) == 360


@pytest.mark.parametrize("rule", ["deck", "clean"])
def test_no_beats_to_cut(copy, tmp_path, one_line, rule):
    (copy / "p01.atr").unlink()
    record = p01(tmp_path)
    assert len(record.beats) == len(record.rhythms) == len(record.marks) == 0
    for call in (lambda: cut(record, rule=rule), lambda: at(record, time=3)):
        with pytest.raises(DataError) as caught:
            call()
        one_line(caught, "p01", "no annotated beats")


def test_flat_lead(tmp_path, one_line):
    digital = np.stack([np.full(7200, 7), np.arange(7200) % 9], axis=1)
    path = write_record(tmp_path, "flat", digital, leads=("MLII", "V1"))
    with pytest.raises(DataError) as caught:
        open_record(path)
    one_line(caught, "lead MLII", "record flat", "is flat", "choose another lead or part")
    assert open_record(path, lead="V1").lead == "V1"


def test_lead_without_values(tmp_path, one_line):
    with pytest.raises(DataError) as caught:
        open_record(write_record(tmp_path, "empty", np.full(720, -32768)))
    one_line(caught, "lead MLII", "record empty", "holds no values", "choose another lead or part")


@pytest.mark.parametrize("keep", [0, 1, 64_800, -1])
def test_truncated_signal(copy, tmp_path, one_line, keep):
    data = (copy / "p01.dat").read_bytes()
    assert len(data) == 240 * 360 * 3
    (copy / "p01.dat").write_bytes(data[:keep])
    for part in ({}, {"start": 1, "stop": 2}, {"start": 239}):  # also where the part is whole
        with pytest.raises(DataError) as caught:
            p01(tmp_path, **part)
        one_line(caught, "p01.dat is truncated", "259200", "fetch it again")


def test_signal_of_another_record(copy, tmp_path, phantom_root, one_line):
    shutil.copy(folder("phantom", phantom_root) / "p02.dat", copy / "p01.dat")
    with pytest.raises(DataError) as caught:
        p01(tmp_path)
    one_line(caught, "p01", "checksum", "fetch both again")


def test_one_wrong_bit(copy, tmp_path, one_line):
    data = bytearray((copy / "p01.dat").read_bytes())
    data[3 * 5000] ^= 1  # the first channel of frame 5000
    (copy / "p01.dat").write_bytes(data)
    with pytest.raises(DataError) as caught:
        p01(tmp_path)
    one_line(caught, "checksum", "channel 0")
    assert len(p01(tmp_path, lead="V1").signal) == 86_400


@pytest.mark.parametrize(
    ("length", "parts"), [(86_401, ("truncated",)), (172_800, ("truncated",)), (80_000, ("checksum",))]
)
def test_header_with_a_wrong_number_of_samples(copy, tmp_path, one_line, length, parts):
    header = copy / "p01.hea"
    header.write_text(header.read_text().replace("86400", str(length)))
    with pytest.raises(DataError) as caught:
        p01(tmp_path)
    one_line(caught, "p01", *parts)


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "garbage", "# only a comment\n", "<html><body>404 Not Found</body></html>", "\x00\x01\x02\xff" * 50,
        "p01 2 360 86400\n", "p01 2 0 86400\np01.dat 212 200 12 0 0 0 0 MLII\np01.dat 212 200 12 0 0 0 0 V1\n",
        "p01 2 360\np01.dat 212 200 12 0\np01.dat 212 200 12 0\n", "p01 0 360 86400\n",
        "p01 2 360 86400\np01.dat 9999 200 12 0\np01.dat 9999 200 12 0\n", "p01/2 2 360 86400\ns1 43200\ns2 43200\n",
    ],
    ids=[
        "empty", "blank", "a word", "a comment", "a web page", "bytes", "no signal lines", "fs 0", "no length",
        "no signals", "unknown format", "segments",
    ],
)  # fmt: skip
def test_garbage_header(copy, tmp_path, one_line, text):
    (copy / "p01.hea").write_bytes(text.encode("latin1"))
    with pytest.raises(DataError) as caught:
        p01(tmp_path)
    one_line(caught, "record p01")


ODD_ATR = {
    "empty": b"",
    "one byte": b"\x00",
    "a text": b"garbage!",
    "a web page": b"<html><body>404 Not Found</body></html>",
    "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12",
    "bytes": bytes(np.random.default_rng(0).integers(0, 256, 300, np.uint8)),
    "no end": struct.pack("<HH", 1 << 10 | 360, 5 << 10 | 300),
}


@pytest.mark.parametrize("data", ODD_ATR.values(), ids=ODD_ATR)
def test_garbage_annotations(copy, tmp_path, one_line, data):
    (copy / "p01.atr").write_bytes(data)
    for read in (p01, lambda root: read_annotations("phantom", "p01", root=root)):
        with pytest.raises(DataError) as caught:
            read(tmp_path)
        one_line(caught, "p01.atr", "fetch it again")


def test_truncated_annotations(copy, tmp_path, one_line):
    whole = (copy / "p01.atr").read_bytes()
    for keep in [*range(1, 40), *range(40, len(whole), 17), len(whole) - 2, len(whole) - 1]:
        (copy / "p01.atr").write_bytes(whole[:keep])
        with pytest.raises(DataError) as caught:
            read_annotations("phantom", "p01", root=tmp_path)
        one_line(caught, "p01.atr", "fetch it again")


def test_a_broken_definition_does_not_hang(copy, tmp_path, one_line):
    """wfdb 4.3.1 never comes back from a note at the beginning that only looks like a definition."""
    whole = (copy / "p01.atr").read_bytes()
    assert whole.count(b"## time resolution: 360") == 1
    (copy / "p01.atr").write_bytes(whole.replace(b"## time", b"## tame"))
    before = unix_signal.signal(unix_signal.SIGALRM, lambda *_: pytest.fail("still reading"))
    unix_signal.alarm(5)
    try:
        with pytest.raises(DataError) as caught:
            p01(tmp_path)
    finally:
        unix_signal.alarm(0)
        unix_signal.signal(unix_signal.SIGALRM, before)
    one_line(caught, "p01.atr", "fetch it again")


def test_frames_of_several_samples(tmp_path):
    """A lead at four samples a frame is read at the rate of the frames; its checksum is of all its samples."""
    rng = np.random.default_rng(0)
    slow, quick = rng.integers(-100, 100, 900), np.repeat(rng.integers(-100, 100, 900), 4)
    adc = {"units": ["mV"] * 2, "fmt": ["16"] * 2, "adc_gain": [1.0] * 2, "baseline": [0] * 2}
    frames = {"e_d_signal": [slow, quick], "samps_per_frame": [1, 4], "sig_name": ["RESP", "MLII"]}
    wfdb.wrsamp("frames", fs=90, write_dir=str(tmp_path), **adc, **frames)
    record = open_record(tmp_path / "frames", fs=90)
    assert record.lead == "MLII"
    np.testing.assert_array_equal(record.signal, quick[::4])


def test_nothing_there(tmp_path, one_line):
    with pytest.raises(DataError) as caught:
        p01(tmp_path / "nowhere")
    one_line(caught, "'phantom'", str(tmp_path / "nowhere"), "write it with ecglib.phantom.write", "ECGLIB_DATA")
    with pytest.raises(DataError) as caught:
        read_record("ltafdb", "00", root=tmp_path)
    one_line(caught, "'ltafdb'", "get it with 'ecglib fetch ltafdb'")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError):
        p01(tmp_path / "file")
    for path in (tmp_path, tmp_path / "none", tmp_path / "none.hea", "", ".", tmp_path / "file"):
        with pytest.raises(DataError) as caught:
            open_record(path)
        one_line(caught, "no WFDB header", ".hea")


def test_damage_of_any_kind_is_told(copy, tmp_path):
    """Header and annotations with random errors: a record or an error of ours, nothing else, and no file but theirs."""
    rng, seen, messages = np.random.default_rng(3), Counter(), []
    for suffix in ("hea", "atr"):
        path = copy / f"p01.{suffix}"
        whole = path.read_bytes()
        for _ in range(80):
            damaged = bytearray(whole)
            for _ in range(rng.integers(1, 4)):
                k, what = int(rng.integers(len(damaged))), rng.integers(3)
                if what == 0:
                    del damaged[k]
                elif suffix == "hea":
                    damaged[k] = int(rng.choice(list(b"0123456789-./() \n#")))
                else:
                    damaged[k] = int(rng.integers(256))
            path.write_bytes(damaged)
            try:
                record = p01(tmp_path, stop=30)
                for rule in ("deck", "clean"):
                    windows = cut(record, rule=rule)
                    assert np.isfinite(windows.x).all()
                    assert windows.x.shape[1:] == (1, 720)
                seen[suffix, "read"] += 1
            except EcglibError as error:
                messages.append(str(error))
                seen[suffix, "refused"] += 1
        path.write_bytes(whole)
    assert not any("\n" in message for message in messages)
    assert len(seen) == 4
    assert min(seen.values()) > 5
    assert sorted(p.name for p in copy.iterdir()) == ["p01.atr", "p01.dat", "p01.hea", "p01.truth"]
