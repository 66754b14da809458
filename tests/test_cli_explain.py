"""``ecglib explain``: what it writes, what it says, and one clear line with status 2 on bad input."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from test_cli import inside, refused, shell
from typer.testing import CliRunner

from ecglib import cli, cli_explain, models, networks
from ecglib.attribution import METHODS
from ecglib.databases import folder, record_names
from ecglib.records import read_record


@pytest.fixture(scope="module")
def files(phantom_root, tmp_path_factory):
    """(folder with a checkpoint, root of the records, name of the first one)."""
    where = tmp_path_factory.mktemp("explain")
    models.save(models.build("compact", width=4), where / "net.safetensors")
    return where, phantom_root, record_names("phantom", phantom_root)[0]


def test_a_record_of_a_database(files, tmp_path):
    where, root, name = files
    given = ["--model", str(where / "net.safetensors"), "--root", str(root), "--start", "10", "--stop", "40", "--wfdb"]
    done = shell("explain", f"phantom/{name}", *given, "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    record = read_record("phantom", name, root=root, start=10, stop=40)
    assert f"{len(record.beats)} beats of {name}, 10 to 40 s" in done.stdout
    assert "research, no diagnosis" in done.stdout
    for file in ("beats.csv", f"{name}.ecglib", f"{name}_saliency.dat", f"{name}_saliency.hea"):
        assert f"wrote out/{file}" in done.stdout
        assert (tmp_path / "out" / file).is_file()
    assert pd.read_csv(tmp_path / "out" / "beats.csv").time.tolist() == pytest.approx(
        record.beats.time.tolist(), rel=1e-5
    )
    assert len(wfdb.rdann(str(tmp_path / "out" / name), "ecglib").sample) >= len(record.beats)
    again = inside("explain", name, "--database", "phantom", *given, "--out", "out", cwd=tmp_path)
    assert again.stdout == "taken up from out, where 1 block stood\n" + done.stdout  # and it is the same record


def test_a_file_of_ones_own(files, tmp_path):
    where, root, name = files
    path = folder("phantom", root) / f"{name}.hea"
    given = ["--model", str(where / "net.safetensors"), "--stop", "20"]
    for named in (str(path), str(path.with_suffix(""))):
        done = inside("explain", named, *given, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        settings = json.loads((tmp_path / "runs" / f"explain-{name}" / "explain.json").read_text())
        assert (settings["record"], settings["database"], settings["end"]) == (name, "", 7200)


def test_the_report_gets_the_part_that_was_explained(files, tmp_path, monkeypatch):
    where, root, name = files
    seen = []
    module = types.ModuleType("ecglib.report_html")
    module.write_report = lambda *given, **more: seen.append((*given, more))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ecglib.report_html", module)
    given = ["--model", str(where / "net.safetensors"), "--root", str(root), "--start", "5", "--stop", "12"]
    done = CliRunner().invoke(
        cli.app,
        ["explain", f"phantom/{name}", *given, "--out", str(tmp_path / "o"), "--html", str(tmp_path / "r.html")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    ((explained, record, path, more),) = seen
    assert more == {"model_name": "net.safetensors", "notes": {"checkpoint": "net.safetensors", "method": "cam"}}
    assert (record.start, len(record.signal), len(explained.saliency)) == (5.0, 7 * 360, 7 * 360)
    assert path == tmp_path / "r.html"


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """Three networks by patient, as the checkout has them: the first never saw 100, the second p01, the third 200."""
    where = tmp_path / "results"
    for fold, who in enumerate((["mitdb/100"], ["phantom/p01"], ["mitdb/200"])):
        path = where / f"murugesan-gap-mitdb-patient{fold}.safetensors"
        models.save(models.build("compact", width=4, seed=fold), path, notes={"patients_held_out": who, "fold": fold})
    monkeypatch.setattr(networks, "project_root", lambda: tmp_path)
    return where


def test_the_network_is_one_that_never_saw_the_patient(committed, files, tmp_path):
    root, file = files[1], str(committed / "murugesan-gap-mitdb-patient1.safetensors")
    stranger, known = (cli_explain._network(None, "mitdb", name, root=root) for name in ("200", "999"))
    assert stranger[1:3] == (
        "murugesan-gap-mitdb-patient2.safetensors",
        {**stranger[2], "fold": 2, "patients_held_out": ["mitdb/200"], "saw_patient": False},
    )
    assert stranger[3] == "network murugesan-gap-mitdb-patient2.safetensors, which never saw this patient"
    assert known[3] == "network murugesan-gap-mitdb-patient0.safetensors, which may have seen this patient"
    other = cli_explain._network(None, "ltdb", "14046", root=root)  # whose patients are none of MITDB's
    assert other[3] == "network murugesan-gap-mitdb-patient0.safetensors, which never saw this patient"
    own = cli_explain._network(None, "mine.csv", root=root)
    assert (own[1], own[2]["fold"]) == ("murugesan-gap-mitdb-patient0.safetensors", 0)
    assert own[3] == "network murugesan-gap-mitdb-patient0.safetensors, trained on MITDB"
    named = cli_explain._network(Path(file), "mitdb", "200", root=root)  # whatever it has seen
    assert (named[1], named[2]["fold"], named[3]) == (Path(file).name, 1, f"network {file}")
    heads = [found[0].head.bias.tolist() for found in (own, named, stranger)]
    assert heads == [models.load(path).head.bias.tolist() for path in sorted(committed.iterdir())]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("explain", ["record"]),
        ("explain nowhere.csv", ["no file nowhere.csv", "mitdb/208"]),
        ("explain 208", ["no file 208", "mitdb/208"]),
        ("explain mitbd/208", ["unknown database 'mitbd'", "did you mean 'mitdb'?"]),
        ("explain 208 --database mitbd", ["unknown database 'mitbd'"]),
        ("explain phantom/{name} --root {root} --model no.safetensors", ["no.safetensors"]),
        ("explain phantom/x --root {root} --model {net}", ["unknown record 'x'"]),
        ("explain phantom/{name} --root {root} --model {net} --start 9 --stop 8", ["--stop 8", "--start 9"]),
        ("explain phantom/{name} --root {root} --model {net} --start 9 --stop 10", ["2 s"]),
        ("explain phantom/{name} --root {root} --model {net} --lead V9", ["unknown lead 'V9'"]),
        ("explain phantom/{name} --root {root} --model {net} --stop 20 --method kam", ["unknown method 'kam'"]),
        ("explain phantom/{name} --root {root} --model {net} --stop 20 --out file", ["file"]),
    ],
)
def test_bad_input(line, named, files, tmp_path):
    where, root, name = files
    (tmp_path / "file").write_text("not a folder")
    filled = line.format(root=root, name=name, net=where / "net.safetensors")
    refused(inside(*filled.split(), cwd=tmp_path), *named)


def beating(path: Path, *, every: int, n: int = 3780) -> Path:
    """A CSV without times: a peak every so many samples."""
    path.parent.mkdir(exist_ok=True)
    np.savetxt(path, np.where(np.arange(n) % every < 30, np.hanning(30)[np.arange(n) % every % 30], 0), fmt="%.4f")
    return path


def test_a_table_of_ones_own_with_its_rate_and_unit(files, tmp_path):
    """A CSV that tells neither; and a report that opens by itself and says who told them."""
    beating(tmp_path / "mine.csv", every=210)  # 0.84 s at 250 Hz
    given = ["--model", str(files[0] / "net.safetensors"), "--fs", "250"]
    done = inside("explain", "mine.csv", *given, "--unit", "mV", "--html", "report.html", "--out", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "of mine, 0 to 15.12" in done.stdout
    assert "heart rate 71 a minute; if that is not the patient's, --fs is wrong" in done.stdout
    assert "annotated" not in done.stdout  # nobody has
    page = (tmp_path / "report.html").read_text()
    assert "no diagnosis" in page
    assert "<script" not in page
    assert "250 Hz, as told by --fs 250; 360 Hz for the network" in page
    assert "as told by --unit mV; shown in mV" in page
    assert "as the file tells it" not in page


def test_another_file_of_the_same_name_and_length_has_its_own_answer(files, tmp_path):
    given = ["--model", str(files[0] / "net.safetensors"), "--unit", "mV", "--fs"]
    one, other = (beating(tmp_path / where / "my.csv", every=k) for where, k in (("a", 210), ("b", 150)))
    ask = lambda path, fs="250", *more: inside("explain", str(path), *given, fs, *more, cwd=tmp_path)  # noqa: E731
    beats = lambda: len(pd.read_csv(tmp_path / "runs" / "explain-my" / "beats.csv"))  # noqa: E731
    first = ask(one, "250", "--wfdb").stdout
    found, notes = beats(), list((tmp_path / "runs" / "explain-my").glob("my*"))
    assert len(notes) == 3
    assert ask(one).stdout.splitlines()[:2] == [
        "taken up from runs/explain-my, where 1 block stood", first.splitlines()[0]
    ]  # fmt: skip
    second = ask(other).stdout
    assert second.startswith("begun anew in runs/explain-my, which held another explanation (other: the file)\n")
    assert beats() == pytest.approx(found * 210 / 150, abs=2)
    assert not any(path.exists() for path in notes)  # annotations of the first
    assert "heart rate 100 a minute" in second
    assert "other: the part, the rate)\n" in ask(other, "500").stdout  # a corrected --fs
    beating(other, every=210)  # edited in place
    assert "other: the part, the rate, the file)" in ask(other).stdout
    assert beats() == found
    refused(ask(other, "500", "--out", "runs/explain-my"), "--out FOLDER", "--again")  # a folder of one's own is kept


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("", "tells neither its rate nor the unit of lead column 1; give its rate in Hz, as in --fs 250, and its unit: "
         "--unit mV, uV or V"),
        ("--unit mV", "tells no rate; give its rate in Hz, as in --fs 250"),
        ("--fs 250", "does not tell the unit of lead column 1; give --unit mV, uV or V"),
        ("--fs 250 --unit kg", "--unit is 'kg', which is not mV, uV or V; give --unit or choose another lead"),
        ("--fs 250 --unit V", "0 mV from zero and 974 mV high, which no ECG is; correct --unit, or take the offset away"),
        ("--fs 5 --unit V", "--fs of my.csv makes a rate of 5 Hz"),
    ],
)  # fmt: skip
def test_hints_name_options(more, line, files, tmp_path):
    beating(tmp_path / "my.csv", every=210)
    done = inside("explain", "my.csv", "--model", str(files[0] / "net.safetensors"), *more.split(), cwd=tmp_path)
    refused(done, line)
    assert not re.search(r"native_fs|\w=|resume", done.stderr)


def test_the_help_names_every_method():
    assert set(re.split(r", | or ", cli_explain.METHODS)) == set(METHODS)
