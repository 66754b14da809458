"""A reader's own files: what was written is read back to the sample, and what cannot be read is told in one line."""

from __future__ import annotations

import gzip

import edfio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecglib import own_tables
from ecglib.errors import DataError, EcglibError, UnknownNameError
from ecglib.records import Record, open_record, read_record

SECONDS = 8
N = SECONDS * 360


@pytest.fixture(scope="session")
def ecg(phantom_root) -> np.ndarray:
    """Eight seconds of the phantom, mV, in steps of 5 µV as it is stored."""
    return read_record("phantom", "p01", root=phantom_root, stop=SECONDS).signal.astype(float)


@pytest.fixture(scope="session")
def smooth(ecg) -> np.ndarray:
    """The same with nothing above 30 Hz, so that it can be told at other rates too."""
    spectrum = np.fft.rfft(ecg)
    spectrum[np.fft.rfftfreq(N, 1 / 360) > 30] = 0
    return np.fft.irfft(spectrum, N)


def write_edf(path, signals, *, fs=360, annotations=None, kind=edfio.Edf, **options):
    make = edfio.EdfSignal if kind is edfio.Edf else edfio.BdfSignal
    made = [make(x, fs, label=name, physical_dimension=unit) for name, unit, x in signals]
    kind(made, annotations=annotations, **options).write(path)
    return path


def text(path, content: str, encoding="utf-8"):
    raw = content.encode(encoding)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def table(x, row, *heads) -> str:
    """``row(k, t, mv)`` makes a line."""
    return "\n".join([*heads, *(row(k, k / 360, v) for k, v in enumerate(x))])


# EDF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "scale"), [("mV", 1), ("uV", 1e3), ("V", 1e-3), ("µV", None)])
def test_edf_is_read_back(tmp_path, ecg, unit, scale):
    path = write_edf(tmp_path / "mine.edf", [("ECG I", unit.replace("µ", "u"), ecg * (scale or 1e3))])
    if unit == "µV":  # in one byte, as many programs write it, though the format asks for ASCII
        path.write_bytes(path.read_bytes().replace(b"uV", b"\xb5V", 1))
    record = open_record(path)
    step = np.ptp(ecg) / 65535
    np.testing.assert_allclose(record.signal, ecg, atol=1.01 * step)
    assert record.signal.dtype == np.float32
    assert (record.lead, record.fs, record.native_fs, record.duration) == ("ECG I", 360, 360, SECONDS)
    assert (record.name, record.database, record.patient, record.missing, record.start) == ("mine", "", "mine", 0, 0)


def test_bdf_is_read_back_to_24_bits(tmp_path, ecg):
    path = write_edf(tmp_path / "mine.bdf", [("ECG", "uV", ecg * 1e3)], kind=edfio.Bdf)
    np.testing.assert_allclose(open_record(path).signal, ecg, atol=1e-6)


def test_a_part_of_edf_is_that_part(tmp_path, ecg):
    path = write_edf(tmp_path / "mine.edf", [("ECG", "mV", ecg)])
    whole, part = open_record(path), open_record(path, start=2.003, stop=5.5)
    assert part.start == pytest.approx(722 / 360)
    np.testing.assert_array_equal(part.signal, whole.signal[722:1980])
    whole, part = open_record(path, fs=250), open_record(path, fs=250, start=2.003, stop=5.5)
    assert part.start == pytest.approx(501 / 250)
    np.testing.assert_allclose(part.signal, whole.signal[501:1375], atol=1e-3)


@pytest.mark.parametrize("rate", [128, 250, 500, 1000])
def test_other_rates_do_not_move_anything(tmp_path, smooth, rate):
    time = np.arange(SECONDS * rate) / rate
    # exact at any time: the sum of its Fourier terms
    spectrum, f = np.fft.rfft(smooth), np.fft.rfftfreq(N, 1 / 360)
    keep = f <= 30
    terms = np.exp(2j * np.pi * f[keep] * time[:, None]) * np.where(f[keep] > 0, 2, 1)
    values = (terms @ spectrum[keep]).real / N
    record = open_record(write_edf(tmp_path / "mine.edf", [("ECG", "mV", values)], fs=rate))
    assert (record.native_fs, len(record.signal)) == (rate, N)
    np.testing.assert_allclose(record.signal[360:-360], smooth[360:-360], atol=6e-3)
    best = max(range(-3, 4), key=lambda k: np.dot(np.roll(record.signal, k)[400:-400], smooth[400:-400]))
    assert best == 0


def test_a_rate_that_is_no_whole_number(tmp_path, ecg):
    path = write_edf(tmp_path / "mine.edf", [("ECG", "mV", ecg[:2500])], fs=312.5, data_record_duration=0.8)
    record = open_record(path)
    assert record.native_fs == 312.5
    assert record.duration == 8


def test_a_rate_beside_the_headers_must_be_the_same(tmp_path, ecg, one_line):
    path = write_edf(tmp_path / "mine.edf", [("ECG", "mV", ecg)])
    assert np.array_equal(open_record(path, native_fs=360).signal, open_record(path).signal)
    with pytest.raises(DataError) as caught:
        open_record(path, native_fs=250.0)
    one_line(caught, "native_fs is 250.0", "mine.edf tells 360 Hz", "leave it out")


def test_annotations_of_edf_plus(tmp_path, ecg):
    note = edfio.EdfAnnotation
    marks = [note(1.25, None, "N"), note(2.5, None, "V"), note(3, None, "(AFIB"), note(4.125, 2.0, "felt dizzy")]
    path = write_edf(tmp_path / "mine.edf", [("ECG", "mV", ecg)], annotations=marks)
    record = open_record(path)
    assert [(b.time, b.symbol) for b in record.beats] == [(1.25, "N"), (2.5, "V")]
    assert [(r.start, r.stop, r.label) for r in record.rhythms] == [(3, 8, "AFIB")]
    assert [tuple(m) for m in record.marks] == [
        (1.25, "N", ""), (2.5, "V", ""), (3.0, "+", "(AFIB"), (4.125, '"', "felt dizzy"),
    ]  # fmt: skip
    part = open_record(path, start=2, stop=4)
    assert [b.time for b in part.beats] == [2.5]
    assert [m.symbol for m in part.marks] == ["V", "+"]


def test_edf_without_annotations_has_none(tmp_path, ecg):
    record = open_record(write_edf(tmp_path / "mine.edf", [("ECG", "mV", ecg)]))
    assert len(record.beats) == len(record.rhythms) == len(record.marks) == 0


def test_an_interrupted_edf_is_refused(tmp_path, ecg, one_line):
    path = write_edf(tmp_path / "gap.edf", [("ECG", "mV", ecg)], annotations=[])
    raw = path.read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    path.write_bytes(raw)
    assert len(open_record(path).signal) == N  # called interrupted, and is not
    assert raw.count(b"+5\x14\x14") == 1
    path.write_bytes(raw.replace(b"+5\x14\x14", b"+6\x14\x14"))
    with pytest.raises(DataError) as caught:
        open_record(path)
    one_line(caught, "gap.edf", "interrupted (EDF+D)", "cut it")


def test_values_outside_the_digital_range_are_missing(tmp_path, ecg):
    signal = edfio.EdfSignal.from_digital(
        np.round(ecg * 200).astype(np.int16), 360, label="ECG", physical_dimension="mV", physical_range=(-5, 5),
        digital_range=(-1000, 1000),
    )  # fmt: skip
    edfio.Edf([signal]).write(tmp_path / "holes.edf")
    raw = bytearray((tmp_path / "holes.edf").read_bytes())
    at = 512 + 2 * 720
    raw[at : at + 2 * 36] = np.full(36, -32768, "<i2").tobytes()
    (tmp_path / "holes.edf").write_bytes(raw)
    record = open_record(tmp_path / "holes.edf")
    assert record.missing == 36
    np.testing.assert_allclose(record.signal[719:757], np.linspace(ecg[719], ecg[756], 38), atol=1e-3)
    np.testing.assert_allclose(record.signal[:720], ecg[:720], atol=1e-3)


def test_the_lead_of_several(tmp_path, ecg, one_line):
    leads = [("EEG Fpz", "uV", ecg * 7), ("ECG I", "mV", ecg), ("ECG II", "mV", 2 * ecg), ("Temp", "degC", ecg + 37)]
    path = write_edf(tmp_path / "many.edf", leads)
    with pytest.raises(DataError) as caught:
        open_record(path)
    one_line(caught, "many.edf", "2 leads", "lead=", "2 ECG I, 3 ECG II")
    for lead in ("ECG II", "ecg ii", 3, "3"):
        record = open_record(path, lead=lead)
        assert record.lead == "ECG II"
        np.testing.assert_allclose(record.signal, 2 * ecg, atol=1e-3)
    for lead in ("V1", 9):
        with pytest.raises(UnknownNameError) as caught:
            open_record(path, lead=lead)
        one_line(caught, f"unknown lead '{lead}'", "ECG I")
    with pytest.raises(DataError) as caught:
        open_record(path, lead="Temp")
    one_line(caught, "Temp", "'degC'", "unit=")
    only = write_edf(tmp_path / "one.edf", [leads[0], leads[1], leads[3]])
    assert open_record(only).lead == "ECG I"


# Text -----------------------------------------------------------------------------------------------------------

WAYS = {
    "seconds and millivolts": (lambda k, t, v: f"{t:.6f},{v:.3f}", ["time (s),MLII (mV)"], {}, "MLII"),
    "decimal commas": (
        lambda k, t, v: f"{t:.4f};{v * 1000:.1f}".replace(".", ","), ["Zeit;EKG [µV]"], {}, "EKG"),
    "tabs and milliseconds": (lambda k, t, v: f"{t * 1000:.0f}\t{v:.3f}", ["t_ms\tECG_mV"], {}, "ECG"),
    "as rdsamp writes it": (
        lambda k, t, v: f"'{int(t // 60)}:{t % 60:06.3f}',{v:.3f}",
        ["'Elapsed time','MLII'", "'hh:mm:ss.mmm','mV'"], {}, "MLII"),
    "a phone's export": (
        lambda k, t, v: f"{v * 1000:.3f}",
        ["Name,Ann", "Recorded Date,2021-01-01 12:00:00", "Sample Rate,360 hertz", "", "Lead,Lead I", "Unit,µV", ""],
        {}, "Lead I"),
    "no heads": (lambda k, t, v: f"{t:.5f},{v:.3f}", [], {"unit": "mV"}, "column 2"),
    "one column": (lambda k, t, v: f"{v:.3f}", [], {"unit": "mV", "native_fs": 360}, "column 1"),
    "one column under a head, decimal comma": (
        lambda k, t, v: f"{v:.3f}".replace(".", ","), ["ecg (mV)"], {"native_fs": 360}, "ecg"),
    "rows counted as pandas does": (lambda k, t, v: f"{k},{v:.3f},{t:.5f}", [",ecg (mV),time"], {}, "ecg"),
    "dates": (
        lambda k, t, v: f"{np.datetime64('2024-02-28T23:59:57') + np.timedelta64(round(t * 1e6), 'us')},{v * 1e3:.1f}",
        ["timestamp,ecg_uv"], {}, "ecg"),
    "spaces and notes": (lambda k, t, v: f"  {t:.5f}   {v:.3f}", ["# fs: 360 Hz", "# unit: mV"], {}, "column 2"),
    "another lead by number": (lambda k, t, v: f"{t:.5f},{-v:.3f},{v:.3f}", ["time,I (mV),II (mV)"], {"lead": 3}, "II"),
    "volts in brackets": (lambda k, t, v: f"{t:.5f},{v / 1000:.6f}", ["time,V1 (V)"], {}, "V1"),
    "samples counted": (
        lambda k, t, v: f"{k},{v:.3f}", ["'sample #','MLII'"], {"unit": "mV", "native_fs": 360}, "MLII"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_is_read_back(tmp_path, ecg, way, suffix):
    row, heads, options, lead = WAYS[way]
    record = open_record(text(tmp_path / f"mine{suffix}", table(ecg, row, *heads)), **options)
    np.testing.assert_allclose(record.signal, ecg, atol=6e-4)
    assert (record.lead, record.native_fs, record.missing, record.name) == (lead, 360, 0, "mine")
    assert record.duration == pytest.approx(SECONDS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_of_any_program(tmp_path, ecg, encoding, end):
    content = table(ecg, lambda k, t, v: f"{t:.5f};{v * 1e3:.0f}", "time;ECG (µV)").replace("\n", end)
    path = tmp_path / "mine.txt"
    path.write_bytes(content.encode(encoding))
    np.testing.assert_allclose(open_record(path).signal, ecg, atol=6e-4)


@pytest.mark.parametrize(("rate", "digits"), [(128, 3), (250, 3), (300, 3), (360, 3), (500, 3), (512, 4), (1000, 3)])
def test_rounded_times_give_the_rate(tmp_path, rate, digits):
    x = np.sin(2 * np.pi * np.arange(10 * rate) / rate)
    rows = "\n".join(f"{round(k / rate, digits)},{v:.4f}" for k, v in enumerate(x))
    record = open_record(text(tmp_path / "mine.csv", f"time,ecg (mV)\n{rows}"))
    assert record.native_fs == rate
    assert record.missing == 0


def test_missing_values_and_times_are_bridged_and_counted(tmp_path, ecg):
    lines = table(ecg, lambda k, t, v: f"{t:.5f},{'' if 700 <= k < 705 else v:}", "time,ecg (mV)").split("\n")
    del lines[1001:1011]  # samples 1000 to 1009 are left out, with their times
    record = open_record(text(tmp_path / "holes.csv", "\n".join(lines)))
    assert record.missing == 15
    assert len(record.signal) == N
    np.testing.assert_allclose(record.signal[699:706], np.linspace(ecg[699], ecg[705], 7), atol=1e-4)
    np.testing.assert_allclose(record.signal[999:1011], np.linspace(ecg[999], ecg[1010], 12), atol=1e-4)
    np.testing.assert_allclose(record.signal[1010:], ecg[1010:], atol=1e-4)


def test_a_unit_that_is_given_outweighs_the_file(tmp_path, ecg):
    path = text(tmp_path / "mine.csv", table(ecg, lambda k, t, v: f"{t:.5f},{v * 1e3:.1f}", "time,ecg (mV)"))
    np.testing.assert_allclose(open_record(path, unit="uV").signal, ecg, atol=1e-4)


def line(k: int, t: float, v: float) -> str:
    return f"{t:.5f},{v:.3f}"


BAD = {
    "no unit": (lambda x: table(x, line, "time,ecg"), {}, ("mine.csv", "unit of lead ecg", "unit=")),
    "no rate": (lambda x: table(x, lambda k, t, v: f"{v}", "ecg (mV)"), {}, ("mine.csv", "native_fs=")),
    "several leads": (
        lambda x: table(x, lambda k, t, v: f"{t},{v},{v}", "time,I (mV),II (mV)"), {}, ("lead=", "2 I, 3 II")),
    "microvolts called millivolts": (
        lambda x: table(x * 1000, line, "time,ecg (mV)"), {}, ("ecg", "no ECG is", "unit=")),
    "counts of a converter": (
        lambda x: table(x * 200 + 1024, line, "time,ecg"), {"unit": "mV"}, ("no ECG is", "unit=")),
    "millivolts called microvolts": (lambda x: table(x, line, "time,ecg (uV)"), {}, ("no ECG is", "unit=")),
    "an unknown unit": (lambda x: table(x, line, "time,ecg"), {"unit": "mmHg"}, ("unit is 'mmHg'", "mV")),
    "a word": (
        lambda x: table(x, lambda k, t, v: f"{t},{'lead off' if k == 99 else v}", "time,ecg (mV)"), {},
        ("line 101", "'lead off'", "no number")),
    "times that fall": (
        lambda x: table(x, lambda k, t, v: f"{t if k != 500 else 0},{v}", "time,ecg (mV)"), {}, ("row 501", "rising")),
    "times that stand": (
        lambda x: table(x, lambda k, t, v: f"{int(t)},{v}", "time,ecg (mV)"), {}, ("row 2", "native_fs=")),
    "uneven times": (
        lambda x: table(x, lambda k, t, v: f"{t + t * t / 99},{v}", "time,ecg (mV)"), {},
        ("even", "native_fs=")),
    "milliseconds without saying so": (
        lambda x: table(x, lambda k, t, v: f"{t * 1000},{v}", "time,ecg (mV)"), {}, ("0.36 Hz", "native_fs=")),
    "two rates": (lambda x: table(x, line, "time (s),ecg (mV)"), {"native_fs": 250}, ("360 Hz", "250 Hz")),
    "an absurd rate": (lambda x: table(x, lambda k, t, v: f"{v}", "ecg (mV)"), {"native_fs": 1e6}, ("1e+06 Hz",)),
    "no rate at all": (lambda x: table(x, lambda k, t, v: f"{v}", "ecg (mV)"), {"native_fs": np.nan}, ("nan Hz",)),
    "a constant lead": (lambda x: table(0 * x + 1, line, "time,ecg (mV)"), {}, ("is flat", "another lead")),
    "no values": (
        lambda x: table(x, lambda k, t, v: f"{t},nan", "time,ecg (mV)"), {}, ("holds no values", "another lead")),
    "too short": (lambda x: table(x[:700], line, "time,ecg (mV)"), {}, ("1.94 s", "2 s or more")),
    "a line too long": (
        lambda x: table(x, lambda k, t, v: f"{t},{v}" + ",7" * (k == 50), "time,ecg (mV)"), {}, ("line 2", "fields")),
    "heads alone": (lambda x: "time,ecg (mV)", {}, ("no row of numbers",)),
    "a web page": (lambda x: "<html><body>404 Not Found</body></html>", {}, ("no row of numbers",)),
    "blanks": (lambda x: " \n\n ", {}, ("is empty",)),
    "a part beyond": (lambda x: table(x, line, "time,ecg (mV)"), {"start": 99}, ("lasts 8 s", "0 <= start < stop")),
    "a rate of the result": (lambda x: table(x, line, "time,ecg (mV)"), {"fs": 0}, ("fs is 0",)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_csv(tmp_path, ecg, one_line, case):
    content, options, parts = BAD[case]
    with pytest.raises(DataError) as caught:
        open_record(text(tmp_path / "mine.csv", content(ecg)), **options)
    one_line(caught, *parts)


def test_what_is_no_file_of_ours(tmp_path, one_line):
    (tmp_path / "folder.edf").mkdir()
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "junk.bin").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "half.csv.gz").write_bytes(gzip.compress(b"0.1\n" * 999)[:-9])
    (tmp_path / "lost.dat").write_bytes(b"1,2\n" * 999)
    for name, part in (
        ("folder.edf", "is a folder"), ("empty.csv", "is empty"), ("none.edf", "is not there"), ("junk.bin", "no text"),
        ("half.csv.gz", "damaged gzip"), ("lost.dat", "no WFDB header lost.hea"),
    ):  # fmt: skip
        with pytest.raises(DataError) as caught:
            open_record(tmp_path / name)
        one_line(caught, name, part)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(13, "Permission denied"),
            "cannot read mine.csv: Permission denied; choose a file that can be read",
        ),
        (OSError("odd"), "cannot read mine.csv: odd; choose a file that can be read"),
        (MemoryError(), "mine.csv is too large to be read at once; cut it"),
    ],
)
def test_a_file_that_the_machine_does_not_give(error, said, tmp_path, monkeypatch):
    def read(*given, **more):
        raise error

    (tmp_path / "mine.csv").write_text("1\n2\n")
    monkeypatch.setattr(own_tables, "read", read)
    with pytest.raises(DataError) as caught:
        open_record(tmp_path / "mine.csv")
    assert str(caught.value) == said


# Damaged EDF ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [8, 100, 256, 511, 512, 600, 2000, -1])
def test_truncated_edf(tmp_path, ecg, one_line, keep):
    path = write_edf(tmp_path / "mine.edf", [("ECG", "mV", ecg)])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as caught:
        open_record(path)
    one_line(caught, "mine.edf")


FIELDS = {  # place and width in a header of one signal
    "number of records": (236, 8, "-1"), "duration": (244, 8, "0"), "signals": (252, 4, "7"), "size": (184, 8, "300"),
    "physical minimum": (256 + 104, 8, "x"), "equal physical": (256 + 104, 8, "9.9"), "digital": (256 + 120, 8, "99999"),
    "samples": (256 + 216, 8, "-360"), "no samples": (256 + 216, 8, "0"), "a rate": (244, 8, "1e-9"),
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_wrong_header_of_edf(tmp_path, ecg, one_line, field):
    signal = edfio.EdfSignal(ecg, 360, label="ECG", physical_dimension="mV", physical_range=(-9.9, 9.9))
    edfio.Edf([signal]).write(tmp_path / "mine.edf")
    raw = bytearray((tmp_path / "mine.edf").read_bytes())
    at, width, value = FIELDS[field]
    raw[at : at + width] = value.ljust(width).encode()
    (tmp_path / "mine.edf").write_bytes(raw)
    with pytest.raises(DataError) as caught:
        open_record(tmp_path / "mine.edf")
    one_line(caught, "mine.edf")


SAFE = settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def sound(path, **options) -> None:
    """A record with finite values, or one line."""
    record, said = None, ""
    try:
        record = open_record(path, **options)
    except EcglibError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 600
    if record is not None:
        assert isinstance(record, Record)
        assert np.isfinite(record.signal).all()
        assert len(record.signal) > 0
        assert (np.diff(record.marks.time) >= 0).all()


@SAFE
@given(
    places=st.lists(st.tuples(st.integers(0, 1300), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.integers(1, 9000),
)
def test_damaged_edf_is_told_or_read(tmp_path, ecg, places, keep):
    path = tmp_path / "mine.edf"
    if not (tmp_path / "whole").exists():
        note = edfio.EdfAnnotation(1.5, None, "N")
        (tmp_path / "whole").write_bytes(write_edf(path, [("ECG", "mV", ecg[:1080])], annotations=[note]).read_bytes())
    raw = bytearray((tmp_path / "whole").read_bytes())
    for at, value in places:
        raw[at % len(raw)] = value
    path.write_bytes(raw[:keep] if keep < 2500 else raw)
    sound(path)


ODD = ["", "nan", "time", "ecg (mV)", "0,5", "1e400", "1:02.5", "2024-01-01 00:00:01"]
ODD += ['"', "'", "µV", "#", "Unit,mV", "a;b", "\0"]
cells = st.one_of(st.floats(-50, 50).map(str), st.integers(-9999, 9999).map(str), st.sampled_from(ODD))


@SAFE
@given(
    rows=st.lists(st.lists(cells, min_size=1, max_size=3), max_size=12),
    sep=st.sampled_from([",", ";", "\t", " "]),
    tail=st.integers(0, 900),
    options=st.fixed_dictionaries(
        {},
        optional={
            "native_fs": st.floats() | st.just(360), "unit": st.sampled_from(["mV", "uV", "x", ""]),
            "lead": st.integers(-1, 4) | st.text(max_size=3), "start": st.floats(-1, 9), "stop": st.floats(),
        },
    ),
)  # fmt: skip
def test_odd_text_is_told_or_read(tmp_path, rows, sep, tail, options):
    path = tmp_path / "mine.csv"
    good = [f"{k / 360:.5f}{sep}{np.sin(k / 20):.4f}" for k in range(tail)]
    path.write_bytes("\n".join([*(sep.join(row) for row in rows), *good]).encode())
    sound(path, **options)


@SAFE
@given(raw=st.binary(max_size=400), magic=st.sampled_from([b"", b"0       ", b"\xffBIOSEMI", b"\x1f\x8b", b"\xff\xfe"]))
def test_junk_is_told(tmp_path, raw, magic):
    path = tmp_path / "mine.edf"
    path.write_bytes(magic + raw)
    sound(path, native_fs=360, unit="mV")
