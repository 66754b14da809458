"""What several files share: a small phantom on disk, real records where there are any, records and windows by hand."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it: the processes share two cores

import numpy as np
import pytest
import torch

from ecglib import CLASSES, FS, WINDOW, models, phantom
from ecglib.databases import data_root, folder, record_names
from ecglib.errors import DataError
from ecglib.records import BEAT_SYMBOLS, Record
from ecglib.windows import WindowSet, cut_database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order for two processes: the file that builds the book, large files before small ones, who waits for the book."""
    files = Counter(item.path for item in items)
    waits = {item.path for item in items if "site" in getattr(item, "fixturenames", ())}
    first = {path for path in files if path.name == "test_pages.py"}
    items.sort(key=lambda item: (item.path not in first, item.path in waits, -files[item.path], item.path))


def real(name: str, n_records: int) -> Path:
    """Root that holds all records of a real database; without it the test is skipped."""
    root = data_root().resolve()
    try:
        found = len(record_names(name, root))
    except DataError as error:
        pytest.skip(str(error))
    if found != n_records:
        pytest.skip(f"{found} of the {n_records} records of {name} are here")
    if not any(folder(name, root).glob("*.atr")):
        pytest.skip(f"{name} has no annotations here")
    return root


@pytest.fixture(scope="session")
def mitdb() -> Path:
    return real("mitdb", 48)


@pytest.fixture(scope="session")
def ltafdb() -> Path:
    return real("ltafdb", 84)


@pytest.fixture(scope="session")
def ltdb() -> Path:
    return real("ltdb", 7)


@pytest.fixture(scope="session")
def qtdb() -> Path:
    return real("qtdb", 105)


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory) -> Path:
    """A phantom in which each class has four patients."""
    root = tmp_path_factory.mktemp("small-phantom")
    phantom.write(root, patients=12, minutes=4, seed=0)
    return root


@pytest.fixture(scope="session")
def phantom_clean(phantom_root) -> WindowSet:
    return cut_database("phantom", rule="clean", root=phantom_root)


@pytest.fixture(scope="session")
def phantom_deck(phantom_root) -> WindowSet:
    return cut_database("phantom", rule="deck", root=phantom_root)


@pytest.fixture(scope="session")
def mitdb_clean(mitdb) -> WindowSet:
    """Every clean window of MITDB, without the signals: they would take 170 MB."""
    w = cut_database("mitdb", rule="clean", root=mitdb)
    flat = np.broadcast_to(np.float32(0), (len(w), 1, WINDOW))
    return WindowSet(flat, w.y, w.record, w.database, w.time, w.anchor)


@pytest.fixture(scope="session")
def make_record():
    """``make(marks, duration)``: a record by hand; sample k of its signal has the value k, so a slice tells its place."""

    def make(marks, duration, *, name="r1", database="mitdb", native_fs=FS, start=0.0, stop=None) -> Record:
        marks = sorted(marks, key=lambda mark: mark[0])
        time = np.array([m[0] for m in marks], float)
        symbol = np.array([m[1] if len(m[1]) == 1 else "+" for m in marks], "U2")
        aux = np.array([m[1] if len(m[1]) > 1 else "" for m in marks], "U8")
        beat, rhythm = np.isin(symbol, list(BEAT_SYMBOLS)), np.char.startswith(aux, "(")
        ends = np.append(time[rhythm][1:], duration)[: rhythm.sum()]
        first, last = round(start * FS), round((duration if stop is None else stop) * FS)
        inside = beat & (time >= start) & (time < last / FS)
        return Record(
            signal=np.arange(first, last, dtype=np.float32),
            fs=FS,
            lead="MLII",
            beats=np.rec.fromarrays([time[inside], symbol[inside]], names="time,symbol"),
            rhythms=np.rec.fromarrays([time[rhythm], ends, np.char.lstrip(aux[rhythm], "(")], names="start,stop,label"),
            name=name,
            database=database,
            start=start,
            duration=duration,
            native_fs=native_fs,
            marks=np.rec.fromarrays([time, symbol, aux], names="time,symbol,aux"),
        )

    return make


@pytest.fixture(scope="session")
def make_windows():
    """``make(records, labels, times)``: windows without a signal; labels by name or number."""

    def make(record, label, time, *, database="mitdb", anchor=None) -> WindowSet:
        n = len(record)
        y = np.array([CLASSES.index(c) if isinstance(c, str) else c for c in label], np.int64)
        time = np.asarray(time, float)
        return WindowSet(
            np.zeros((n, 1, WINDOW), np.float32),
            y,
            np.asarray(record, str),
            np.full(n, database) if isinstance(database, str) else np.asarray(database, str),
            time,
            time if anchor is None else np.asarray(anchor, float),
        )

    return make


@pytest.fixture
def one_line():
    """``check(caught, *parts)``: the message of an error is one line that holds the parts."""

    def check(caught, *parts: str) -> None:
        message = str(caught.value)
        assert "\n" not in message
        assert message[:1] != " "
        assert len(message) < 400
        for part in parts:
            assert part in message

    return check


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: recurrent loops on a busy machine crawl on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def outspoken():
    """A small network whose LSTM speaks up, so that windows get masks of their own."""
    model = models.build("murugesan-gap", width=4, seed=1)
    with torch.no_grad():
        for p in (model.lstm.weight_ih_l0, model.lstm.weight_ih_l1):
            p.mul_(3)
        model.head.weight[:, 8:].mul_(30)
    return model


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Headless Chromium that knows no host but this, one for all files: playwright allows a single loop in a process."""
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None) or pytest.skip("no Chromium is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu", alone])
        yield chromium
        chromium.close()
