from __future__ import annotations

import re
from pathlib import Path

import pytest

from ecglib import databases, download
from ecglib.databases import DATABASES, data_root, database, folder, record_names
from ecglib.errors import DataError, UnknownNameError


def test_catalogue():
    assert list(DATABASES) == ["mitdb", "ltafdb", "ltdb", "qtdb", "phantom"]
    assert {d.name: d.fs for d in DATABASES.values()} == {
        "mitdb": 360.0,
        "ltafdb": 128.0,
        "ltdb": 128.0,
        "qtdb": 250.0,
        "phantom": 360.0,
    }
    assert all(name == d.name and d.version == "1.0.0" and d.title and d.citation for name, d in DATABASES.items())
    assert {d.licence for name, d in DATABASES.items() if name != "phantom"} == {"ODC-By 1.0"}
    with pytest.raises(TypeError):
        DATABASES["new"] = DATABASES["mitdb"]  # type: ignore[index]


def test_unknown_name():
    with pytest.raises(UnknownNameError) as caught:
        database("mitbd")
    assert str(caught.value) == (
        "unknown database 'mitbd'; did you mean 'mitdb'? (known: mitdb, ltafdb, ltdb, qtdb, phantom)"
    )


def test_data_root_precedence(monkeypatch, tmp_path):
    monkeypatch.delenv("ECGLIB_DATA", raising=False)
    assert data_root() == Path("data")
    monkeypatch.setenv("ECGLIB_DATA", str(tmp_path / "env"))
    assert data_root() == tmp_path / "env"
    assert data_root(tmp_path / "argument") == tmp_path / "argument"
    assert data_root(str(tmp_path / "argument")) == tmp_path / "argument"
    monkeypatch.setenv("ECGLIB_DATA", "")
    assert data_root() == Path("data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root("~/ecg") == tmp_path / "ecg"


def test_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ECGLIB_DATA", str(tmp_path))
    assert folder("qtdb") == tmp_path / "qtdb" / "1.0.0"
    assert folder("qtdb", "elsewhere") == Path("elsewhere/qtdb/1.0.0")
    with pytest.raises(UnknownNameError):
        folder("../mitdb")


def records_of(root: Path, *names: str) -> Path:
    where = folder("mitdb", root)
    where.mkdir(parents=True)
    for name in names:
        (where / f"{name}.hea").touch()
    return where


def test_record_names_in_the_order_of_records(tmp_path):
    where = records_of(tmp_path, "100", "101", "203", "999", "777")
    (where / "102.dat").touch()  # no header: not a record here
    (where / "RECORDS").write_text("203\n100\n102\n101\n")
    assert record_names("mitdb", tmp_path) == ["203", "100", "101", "777", "999"]


def test_record_names_without_records(tmp_path):
    records_of(tmp_path, "203", "100", "1020")
    assert record_names("mitdb", tmp_path) == ["100", "1020", "203"]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("mitdb", "get it with 'ecglib fetch mitdb'"), ("phantom", "write it with ecglib.phantom.write")],
)
def test_record_names_of_nothing(tmp_path, name, remedy):
    with pytest.raises(DataError) as caught:
        record_names(name, tmp_path)
    where = tmp_path / name / "1.0.0"
    assert str(caught.value) == (
        f"no records of '{name}' under {where}; {remedy} or set ECGLIB_DATA to the folder that has it"
    )
    folder(name, tmp_path).mkdir(parents=True)
    with pytest.raises(DataError):
        record_names(name, tmp_path)


def test_patients():
    mitdb = DATABASES["mitdb"]
    assert mitdb.patient("201") == mitdb.patient("202") == "mitdb/201"
    assert mitdb.patient("200") == "mitdb/200"
    assert DATABASES["ltafdb"].patient("202") == "ltafdb/202"  # one name, another person


def test_excerpts_belong_to_the_patient_of_the_whole():
    qtdb = DATABASES["qtdb"]
    assert qtdb.patient("sel100") == DATABASES["mitdb"].patient("100") == "mitdb/100"
    assert qtdb.patient("sel14046") == DATABASES["ltdb"].patient("14046") == "ltdb/14046"
    assert qtdb.patient("sel16265") == "qtdb/sel16265"  # of a database that is not in the catalogue
    assert qtdb.patient("sele0104") == "qtdb/sele0104"
    origins = [who.split("/")[0] for who in map(qtdb.patient, qtdb.same_patient)]
    assert (origins.count("mitdb"), origins.count("ltdb"), len(origins)) == (15, 4, 19)


@pytest.mark.data
def test_excerpts_are_those_that_the_headers_name(qtdb, mitdb, ltdb):
    whole = {r: f"{name}/{r}" for name, root in (("mitdb", mitdb), ("ltdb", ltdb)) for r in record_names(name, root)}
    for record in record_names("qtdb", qtdb):
        header = (folder("qtdb", qtdb) / f"{record}.hea").read_text()
        origin = re.search(r"from record (\w+)", header)  # "Produced by xform from record 100, beginning at 7:00.000"
        expected = whole.get(origin[1] if origin else "", f"qtdb/{record}")
        assert DATABASES["qtdb"].patient(record) == expected


def test_fetch_is_the_one_of_download():
    assert databases.fetch is download.fetch
    with pytest.raises(AttributeError, match="fecth"):
        databases.fecth  # noqa: B018
