"""``ecglib explain``: what it writes, what it says, and one clear line with status 2 on bad input."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pandas as pd
import pytest
import wfdb
from test_cli import inside, refused, shell
from typer.testing import CliRunner

from ecglib import cli, models
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
    assert again.stdout == done.stdout  # and it is the same record


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
    assert more == {"model_name": "net.safetensors", "notes": {"method": "cam"}}
    assert (record.start, len(record.signal), len(explained.saliency)) == (5.0, 7 * 360, 7 * 360)
    assert path == tmp_path / "r.html"


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


def test_a_table_of_ones_own_with_its_rate_and_unit(files, tmp_path):
    """A CSV that tells neither; and a report that opens by itself."""
    signal = np.tile(np.r_[np.zeros(120), np.hanning(30), np.zeros(60)], 18)  # a peak every 0.84 s at 250 Hz
    np.savetxt(tmp_path / "mine.csv", signal, fmt="%.4f")
    given = ["--model", str(files[0] / "net.safetensors"), "--fs", "250"]
    done = inside("explain", "mine.csv", *given, "--unit", "mV", "--html", "report.html", "--out", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "of mine, 0 to 15.12" in done.stdout
    page = (tmp_path / "report.html").read_text()
    assert "no diagnosis" in page
    assert "<script" not in page
    refused(inside("explain", "mine.csv", *given, "--out", "other", cwd=tmp_path), "unit")
