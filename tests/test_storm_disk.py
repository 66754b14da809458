"""A full disk, a folder that cannot be written, strange names, a record that changed, a silent server."""

from __future__ import annotations

import contextlib
import errno
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from ecglib import book, cli, databases, explain_io, files, models, phantom, records, source, splits, training, windows
from ecglib.errors import DataError, DownloadError, EcglibError

NAMES = ["my records", "für Ärzte 心电图", "-x", "a'b\"c $(x) [1] {2} %3 #4"]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Every file takes its first kilobyte and no more, as on a disk that has just run full."""

    def write_bytes(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(bytes(data)[:1024])
        if len(data) > 1024:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return len(data)

    with mock.patch.object(Path, "write_bytes", write_bytes):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("disk")
    phantom.write(root, patients=1, minutes=2, seed=0)
    models.save(models.build("compact", width=8), root / "net.safetensors")
    return root


def train(root: Path, where: Path, epochs: int = 1) -> training.Run:
    own = windows.cut_database("phantom", rule="clean", root=root).subsample(8, seed=0)
    part = splits.split(own, level="window", seed=0)[0]
    config = training.TrainConfig(epochs=epochs, draws=16, batch_size=8, device="cpu")
    return training.fit(models.build("compact", width=8), own, part, config=config, run_dir=where, progress=False)


def listed(where: Path) -> dict[str, bytes]:
    return {str(p.relative_to(where)): p.read_bytes() for p in where.rglob("*") if p.is_file()}


# A full disk ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_there(tmp_path):
    file = tmp_path / "a.json"
    files.write_atomically(file, "old")
    with full_disk(), pytest.raises(DataError, match=r"cannot write .*a\.json: No space left on device; free space"):
        files.write_atomically(file, "x" * 5000)
    assert listed(tmp_path) == {"a.json": b"old"}


def test_a_checkpoint_on_a_full_disk(whole, tmp_path):
    net = models.load(whole / "net.safetensors")
    with full_disk(), pytest.raises(DataError, match="No space left"):
        models.save(net, tmp_path / "new.safetensors")
    assert listed(tmp_path) == {}


def test_windows_on_a_full_disk(whole, tmp_path):
    own = windows.cut_database("phantom", rule="clean", root=whole).subsample(2, seed=0)
    with full_disk(), pytest.raises(DataError, match="No space left"):
        own.save(tmp_path / "own.npz")
    assert listed(tmp_path) == {}


def test_training_on_a_disk_that_fills_goes_on_later(whole, tmp_path):
    straight = train(whole, tmp_path / "straight", epochs=2)
    inner, written = files.Path.write_bytes, []

    def later(self, data):
        written.append(self)
        if len(written) == 2:  # the state of the second epoch
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return inner(self, data)

    with mock.patch.object(Path, "write_bytes", later), pytest.raises(DataError, match="No space left"):
        train(whole, tmp_path / "run", epochs=2)
    assert set(listed(tmp_path / "run")) == {"state.safetensors"}
    again = train(whole, tmp_path / "run", epochs=2)
    assert again.history == straight.history
    for a, b in zip(again.model.state_dict().values(), straight.model.state_dict().values(), strict=True):
        assert bool((a == b).all())


def test_an_explanation_on_a_full_disk_goes_on_later(whole, tmp_path):
    net = models.load(whole / "net.safetensors")
    options = dict(model=net, root=whole, stop=30.0, block_s=10.0, method="gradient", progress=False)
    one = explain_io.explain_file("phantom", "p01", out_dir=tmp_path / "one", **options)
    with full_disk(), pytest.raises(DataError, match="No space left"):
        explain_io.explain_file("phantom", "p01", out_dir=tmp_path / "two", **options)
    assert set(listed(tmp_path / "two")) == {"explain.json"}
    two = explain_io.explain_file("phantom", "p01", out_dir=tmp_path / "two", **options)
    assert two.beats.equals(one.beats)
    assert np.array_equal(two.saliency, one.saliency, equal_nan=True)


def test_a_damaged_block_of_an_explanation_is_made_again(whole, tmp_path):
    net = models.load(whole / "net.safetensors")
    options = dict(model=net, root=whole, stop=30.0, block_s=10.0, method="gradient", progress=False, out_dir=tmp_path)
    one, before = explain_io.explain_file("phantom", "p01", **options), listed(tmp_path)
    (tmp_path / "block-00001.npz").write_bytes(b"PK\3\4 cut off")
    (tmp_path / "block-00002.npz").write_bytes(b"")
    two = explain_io.explain_file("phantom", "p01", **options)
    assert np.array_equal(two.saliency, one.saliency, equal_nan=True)
    assert listed(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a disk, which takes root on Linux")
def test_a_disk_of_sixty_kilobytes(whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(EcglibError, match=r"cannot write the phantom.*(No space left|written).*writable root"):
            phantom.write(disk, patients=1, minutes=2, seed=0)
        with pytest.raises(DataError, match="No space left on device"):
            train(whole, disk / "run")
        assert [name for name in listed(disk) if ".part" in name or "state" in name] == []
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for call in (lambda: train(whole, disk / "other"), lambda: phantom.write(disk, patients=2, minutes=2, seed=0)):
            with pytest.raises(EcglibError, match="Read-only file system"):
                call()
        with pytest.raises(DownloadError, match="Read-only file system"):
            databases.fetch("mitdb", root=disk, progress=False)  # type: ignore[attr-defined]
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_the_shell_tells_of_the_machine_in_one_line(monkeypatch, capsys):
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/x")

    for error, said in ((full, "data/x: No space left on device; free space"), (_flood, "the memory is full")):
        monkeypatch.setattr(cli, "app", error)
        monkeypatch.setattr(sys, "argv", ["ecglib", "count"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith(f"ecglib: {said}")
        monkeypatch.setattr(sys, "argv", ["ecglib", "count", "--debug"])
        with pytest.raises((OSError, MemoryError)):
            cli.main()


def _flood(*args: object, **options: object) -> None:
    raise MemoryError


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES[1::2] if not int(os.environ.get("ECGLIB_STORM", "0")) else NAMES)
def test_any_name_of_a_folder(name, whole, tmp_path, monkeypatch, capsys):
    here = tmp_path / name
    phantom.write(here, patients=1, minutes=2, seed=0)
    monkeypatch.chdir(tmp_path)
    record = records.read_record("phantom", "p01", root=name, stop=4)
    assert len(record.signal) == 1440
    rows = np.column_stack([np.arange(1440) / 360, record.signal])
    np.savetxt(here / f"{name}.csv", rows, delimiter=",", header="time (s),MLII (mV)", comments="", fmt="%.5f")
    assert len(records.open_record(here / f"{name}.csv").signal) == 1440
    net = models.save(models.load(whole / "net.safetensors"), here / f"{name}.safetensors")
    line = ["explain", "phantom/p01", "--root", str(here), "--model", str(net), "--method", "gradient", "--stop", "5"]
    monkeypatch.setattr(sys, "argv", ["ecglib", *line, "--out", f"{name}/out", "--html", f"{name}/page.html", "--wfdb"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code, capsys.readouterr().err
    assert (here / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


# What changed since --------------------------------------------------------------------------------------------------


def test_a_changed_record_under_a_cached_result_is_noticed(tmp_path, monkeypatch):
    where = phantom.write(tmp_path / "data", patients=1, minutes=2, seed=0)
    found = source.Source("phantom", tmp_path / "data", ("p01",))
    first = found.fingerprint()
    raw = (where / "p01.dat").read_bytes()
    stamp = (where / "p01.dat").stat()
    (where / "p01.dat").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))  # as long, and as old, as before
    os.utime(where / "p01.dat", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert found.fingerprint() != first
    with pytest.raises(DataError, match="checksum"):  # of channel 1, and the whole of it is read
        records.read_record("phantom", "p01", root=tmp_path / "data", lead="V1")
    (where / "p01.dat").write_bytes(raw)
    assert found.fingerprint() == first


def test_an_executed_chapter_that_is_damaged_runs_again(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("---\nkernelspec: {display_name: Python 3, language: python, name: python3}\n---\n\n# A page\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    monkeypatch.chdir(tmp_path)
    ran = []
    monkeypatch.setattr(book, "run", lambda page, out, **options: (ran.append(page), _write(page, out)))
    for damage in (None, b"", b'{"metadata": 3}', b"[]", b"\xff"):
        if damage is not None:
            (tmp_path / "_build" / "executed" / "page.ipynb").write_bytes(damage)
        for _ in range(2):
            book.execute([page], data="records", jobs=1, progress=False)
    assert len(ran) == 5


def _write(page: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(book.notebook(page)))


def test_a_damaged_notebook_of_a_sweep_is_one_failed_run_and_is_made_again(tmp_path):
    from ecglib.sweep import _read

    for damage in (b"", b"{}", b"null", b'{"nbformat": 4, "cells": [], "metadata": {}, "nbformat_minor": 5}'):
        file = tmp_path / "a.ipynb"
        file.write_bytes(damage)
        found = _read(file)
        assert found["status"] == "failed"
        assert "sweep again" in found["error"]
        assert not file.exists()  # so the next sweep does the run


# A server that falls silent ------------------------------------------------------------------------------------------


class Silent(http.server.BaseHTTPRequestHandler):
    over = threading.Event()

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "999")
        self.end_headers()
        self.wfile.write(b"0" * 10)
        self.over.wait(30)


def test_a_server_that_stalls_is_given_up_in_time(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"cannot reach .*timed out.*give base_url"):
        databases.fetch(  # type: ignore[attr-defined]
            "mitdb", root=tmp_path, base_url=f"http://127.0.0.1:{server.server_port}/", timeout=0.2, retries=1, backoff=0.01,
            progress=False,
        )  # fmt: skip
    Silent.over.set()
    server.shutdown()
    server.server_close()
    assert time.monotonic() - began < 15
    assert [p.name for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"] == ["SHA256SUMS.txt.part"]
