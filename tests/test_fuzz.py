"""Damaged files of every kind: what comes of one is a sound result or one line, never another exception, a hang or a flood.

The examples are the same in every run; ``make storm`` takes many more of them (ECGLIB_STORM), and others each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from ecglib import CLASSES, labelsets, models, phantom, records, run_state, sweep_plan, wfdb_files
from ecglib.errors import EcglibError
from ecglib.windows import cut

STORM = int(os.environ.get("ECGLIB_STORM", "0"))  # examples of each kind
QUIET = settings(max_examples=STORM or 25, derandomize=not STORM, deadline=None, database=None)
MORE_B = 3 << 30  # bytes that a file of a few kilobytes may not ask for
SLOW_S = 5.0  # CPU time that it may not take


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within memory and time, and with warnings left alone."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    began = time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE_B, before[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - began < SLOW_S


def outcome(call: Callable[[], Any]) -> Any:
    """Result of a call, or None where it ended with one line."""
    with bounded():
        try:
            return call()
        except EcglibError as error:
            message = str(error)
    assert "\n" not in message
    assert 0 < len(message) < 600
    return None


def check(record: records.Record | None) -> None:
    """A record is sound: finite samples, and marks in order of time."""
    if record is None:
        return
    assert record.signal.dtype == np.float32
    assert np.isfinite(record.signal).all()
    assert len(record.signal) >= 1
    assert (np.diff(record.marks.time) >= 0).all()  # type: ignore[union-attr]
    assert (record.rhythms.stop >= record.rhythms.start).all()
    assert np.isfinite(record.duration)
    assert record.duration > 0


# Damage --------------------------------------------------------------------------------------------------------------

WORDS = [
    b"0", b"-1", b"1e308", b"nan", b"inf", b"99999999999999", b"../..", b"/", b"\0", b"\xff", b"\n", b",", b";", b" ", b"#",
    b":", b"x", b"(", b"{", b"[", b"&a", b"*a", b"!!python/name:os.system", b"null", b"%", b'"', b"'",
]  # fmt: skip
PLACE = st.floats(0, 1, exclude_max=True)
EDIT = st.one_of(
    st.tuples(st.just("set"), PLACE, st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("insert"), PLACE, st.one_of(st.sampled_from(WORDS), st.binary(max_size=8))),
    st.tuples(st.just("word"), PLACE, st.sampled_from(WORDS)),
    st.tuples(st.just("drop"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("cut"), PLACE, st.none()),
)
DAMAGE = st.lists(EDIT, min_size=1, max_size=4)


def spoilt(raw: bytes, edits: list[Any], *, within: int | None = None) -> bytes:
    """``raw`` after edits; ``within`` keeps them to its first bytes."""
    out = bytearray(raw)
    for kind, place, what in edits:
        k = int(place * min(len(out) + 1, within or len(out) + 1))
        if kind == "set":
            out[k : k + len(what)] = what
        elif kind == "insert":
            out[k:k] = what
        elif kind == "word":  # what stands between two spaces, or the like, becomes something else
            end = next((i for i in range(k, len(out)) if out[i] in b" \n,:"), len(out))
            out[k:end] = what
        elif kind == "drop":
            del out[k : k + what]
        else:
            del out[k:]
    return bytes(out)


PAGE = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{code-cell}
:tags: [parameters]

n: int = 1
name: str = ""
```
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A record, an EDF, a CSV, a network, a state of training and a chapter, all small."""
    where = tmp_path_factory.mktemp("fuzz")
    folder = phantom.write(where, patients=1, minutes=2, seed=0)
    for kind in ("hea", "dat", "atr"):
        shutil.copy(folder / f"p01.{kind}", where / f"p01.{kind}")
    wave = records.open_record(where / "p01").signal[: 360 * 4]
    signal = edfio.EdfSignal(wave.astype(float), 360, label="ECG", physical_dimension="mV", physical_range=(-4, 4))
    notes = [edfio.EdfAnnotation(float(k), None, "N") for k in range(4)]
    edfio.Edf([signal], annotations=notes).write(where / "mine.edf")
    lines = [f"{k / 360:.5f},{v:.4f}" for k, v in enumerate(wave)]
    (where / "mine.csv").write_text("Sample Rate,360 hertz\n\ntime (s),MLII (mV)\n" + "\n".join(lines) + "\n")
    models.save(models.build("murugesan-gap", width=4), where / "net.safetensors", notes={"seed": 0})
    net, optimizer = linear()
    run_state.write(where, {"seed": 0}, net, optimizer, run_state.State(history=[{"loss": 1.0}]))
    (where / "page.md").write_text(PAGE)
    return where


def linear() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return net, optimizer


def copied(here: Path, *names: str, **changed: bytes) -> Path:
    """Folder for one example."""
    folder = here / "example"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in names:
        shutil.copy(here / name, folder / name)
    for name, raw in changed.items():
        (folder / name.replace("__", ".")).write_bytes(raw)
    return folder


# Records -------------------------------------------------------------------------------------------------------------


@QUIET
@given(DAMAGE)
def test_headers(here, edits):
    raw = spoilt((here / "p01.hea").read_bytes(), edits)
    folder = copied(here, "p01.dat", "p01.atr", p01__hea=raw)
    check(outcome(lambda: records.open_record(folder / "p01")))


NUMBER = st.one_of(
    st.integers(-3, 3).map(str), st.sampled_from("360 43200 0 -1 1e9 1e-9 1e309 .5 99999999999 360/1(2) nan x".split())
)
FORMATS = "212 16 80 8 0 24 32 61 160 310 311 508 516 524 7 212x2 16x0 212:9 212:99999999999 212+3".split()
FIELDS = st.tuples(
    st.sampled_from(["p01", "p02", "../p01", "p01/2", ""]), NUMBER, NUMBER, NUMBER,
    st.lists(
        st.tuples(
            st.sampled_from(["p01.dat", "p01.hea", ".", "..", "~", "-", "p01", "/etc/passwd"]),
            st.sampled_from(FORMATS),
            st.sampled_from(["200", "200(1024)/mV", "200/uV", "0", "-1", "1e-320", "200/mmHg", "1e308"]),
            NUMBER, NUMBER, NUMBER, NUMBER, st.just("0"), st.sampled_from(["MLII", "", "<b>", "V1 V1"]),
        ),
        max_size=3,
    ),
)  # fmt: skip


@QUIET
@given(FIELDS)
def test_headers_made_up(here, fields):
    *first, signals = fields
    text = "\n".join([" ".join(first), *(" ".join(line) for line in signals)]) + "\n"
    folder = copied(here, "p01.dat", "p01.atr", p01__hea=text.encode())
    check(outcome(lambda: records.open_record(folder / "p01")))


@QUIET
@given(DAMAGE)
def test_annotations(here, edits):
    raw = spoilt((here / "p01.atr").read_bytes(), edits)
    folder = copied(here, "p01.hea", "p01.dat", p01__atr=raw)
    check(outcome(lambda: records.open_record(folder / "p01")))


@QUIET
@given(st.binary(max_size=200).map(lambda raw: raw + bytes(len(raw) % 2 + 2)))
def test_annotations_made_up(here, raw):
    # whole files by their length and end, so that the words themselves are looked at, and windows are cut
    folder = copied(here, "p01.hea", "p01.dat", p01__atr=raw)
    record = outcome(lambda: records.open_record(folder / "p01"))
    check(record)
    if record is not None:
        found = outcome(lambda: cut(record, rule="deck"))
        assert found is None or (np.isfinite(found.x).all() and set(found.y) <= set(range(len(CLASSES))))


@QUIET
@given(DAMAGE)
def test_signals(here, edits):
    raw = spoilt((here / "p01.dat").read_bytes(), edits)
    head = (here / "p01.hea").read_text().split("\n")[:2]  # no checksum: every change comes through
    head = f"{head[0].replace(' 2 ', ' 1 ')}\np01.dat 212 200(1024)/mV\n"
    folder = copied(here, "p01.atr", p01__hea=head.replace("43200", "86400").encode(), p01__dat=raw)
    check(outcome(lambda: records.open_record(folder / "p01")))


@pytest.mark.parametrize("within", [512, None])
def test_edf(here, within):
    @QUIET
    @given(DAMAGE)
    def run(edits):
        raw = spoilt((here / "mine.edf").read_bytes(), edits, within=within)
        check(outcome(lambda: records.open_record(copied(here, mine__edf=raw) / "mine.edf")))

    run()


@QUIET
@given(DAMAGE, st.booleans())
def test_csv(here, edits, at_the_top):
    raw = spoilt((here / "mine.csv").read_bytes(), edits, within=120 if at_the_top else None)
    check(outcome(lambda: records.open_record(copied(here, mine__csv=raw) / "mine.csv")))


CELL = st.one_of(
    st.floats(-5, 5).map(lambda v: f"{v:.3f}"),
    st.sampled_from(["", "nan", "1e400", "x", "1:02:03.5", "2024-01-01T00:00:00", "µV"]),
)


@QUIET
@given(
    st.sampled_from([",", ";", "\t", " "]),
    st.lists(st.sampled_from(["time", "t (ms)", "MLII (mV)", "ecg", "V1 (uV)", "#", ""]), min_size=1, max_size=3),
    st.lists(st.lists(CELL, min_size=1, max_size=3), max_size=6),
    st.integers(0, 300),
    st.sampled_from([None, 360, 0, -1, 1e300]),
)
def test_csv_made_up(here, sep, heads, rows, repeat, native_fs):
    text = "\n".join([sep.join(heads), *(sep.join(row) for row in rows * repeat)])
    file = copied(here, mine__csv=text.encode()) / "mine.csv"
    check(outcome(lambda: records.open_record(file, native_fs=native_fs, unit="mV")))


@given(st.lists(st.tuples(st.integers(0, 900), st.sampled_from("NVALRafQ|~")), min_size=1, max_size=40))
@QUIET
def test_marks_come_back(here, marks):
    # against the format itself: a word is code << 10 | samples since the mark before
    from wfdb.io.annotation import ann_label_table

    code = dict(zip(ann_label_table.symbol, ann_label_table.label_store, strict=True))
    words = [int(code[symbol]) << 10 | step for step, symbol in marks]
    folder = copied(here, p01__atr=np.array([*words, 0], "<u2").tobytes())
    found = wfdb_files.marks(folder / "p01", 360.0)
    assert found.symbol.tolist() == [symbol for _, symbol in marks]
    assert (found.time * 360).round().astype(int).tolist() == np.cumsum([step for step, _ in marks]).tolist()


# Files of settings ---------------------------------------------------------------------------------------------------

SWEEP = b"chapter: page.md\nparameters:\n  n: [1, 2]\n  name: [a]\nruns:\n  - {n: 3}\nout: out\n"
LABELS = b"name: mine\nclasses:\n  N: {beats: N, rr: [0.6, 1.0]}\n  PVC: {beats: V, beside: N, within: [N, B]}\n"
KEYS = labelsets._KEYS
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@QUIET
@given(DAMAGE)
def test_sweep_files(here, edits):
    file = copied(here, "page.md", sweep__yml=spoilt(SWEEP, edits)) / "sweep.yml"
    plan = outcome(lambda: sweep_plan.read(file))
    assert plan is None or (plan.runs and all(set(run) <= {"n", "name"} for run in plan.runs))


@QUIET
@given(st.dictionaries(st.sampled_from(["n", "name", "x"]), VALUE, max_size=2), VALUE)
def test_sweep_files_made_up(here, parameters, runs):
    import yaml

    text = yaml.safe_dump({"chapter": "page.md", "out": "out", "parameters": parameters, "runs": runs})
    file = copied(here, "page.md", sweep__yml=text.encode()) / "sweep.yml"
    plan = outcome(lambda: sweep_plan.read(file))
    for run in plan.runs if plan else ():
        assert all(type(value) is {"n": int, "name": str}[name] for name, value in run.items())


@QUIET
@given(DAMAGE)
def test_label_sets(here, edits):
    file = copied(here, mine__yml=spoilt(LABELS, edits)) / "mine.yml"
    found = outcome(lambda: labelsets.load(file))
    assert found is None or len(found.classes) >= 2


@QUIET
@given(
    st.dictionaries(
        st.text(max_size=4), st.dictionaries(st.sampled_from(labelsets._KEYS), VALUE, max_size=4), max_size=3
    )
)
def test_label_sets_made_up(classes):
    found = outcome(lambda: labelsets.parse({"name": "mine", "classes": classes}))
    assert found is None or all(kind.beats for kind in found.kinds)


# Checkpoints and states of training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [1500, None])
def test_checkpoints(here, within):
    @QUIET
    @given(DAMAGE)
    def run(edits):
        raw = spoilt((here / "net.safetensors").read_bytes(), edits, within=within)
        file = copied(here, net__safetensors=raw) / "net.safetensors"
        net = outcome(lambda: models.load(file))
        assert net is None or all(bool(p.isfinite().all()) for p in net.parameters())
        outcome(lambda: models.metadata(file))

    run()


HEAD = st.one_of(st.text(max_size=12), VALUE.map(lambda v: json.dumps(v, default=str)), st.sampled_from(["{}", "[4"]))
OPTIONS = st.dictionaries(
    st.sampled_from(["width", "dropout", "n_classes", "pad", "seed", "x"]),
    st.one_of(st.integers(-2, 10**7), st.floats(-2, 2), st.none(), st.text(max_size=3)), max_size=3,
)  # fmt: skip


@QUIET
@given(st.sampled_from(["murugesan-gap", "x"]), st.one_of(OPTIONS.map(json.dumps), HEAD), HEAD)
def test_heads_of_checkpoints(here, model, options, notes):
    tensors = models.load(here / "net.safetensors").state_dict()
    folder = copied(here)
    save_file(tensors, folder / "net.safetensors", metadata={"model": model, "options": options, "notes": notes})
    outcome(lambda: models.load(folder / "net.safetensors"))
    outcome(lambda: models.metadata(folder / "net.safetensors"))


@QUIET
@given(DAMAGE)
def test_states_of_training(here, edits):
    folder = copied(here, state__safetensors=spoilt((here / "state.safetensors").read_bytes(), edits))
    state = outcome(lambda: run_state.resume(folder, {"seed": 0}, *linear(), torch.device("cpu")))
    assert state is None or isinstance(state.history, list)


@QUIET
@given(HEAD, st.sampled_from(["optimizer.x.step", "optimizer.0", "optimizer.7.step", "best.", "model.weight"]))
def test_heads_of_states(here, told, key):
    with safe_open(here / "state.safetensors", framework="pt") as file:
        head, tensors = dict(file.metadata()), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    folder = copied(here)
    save_file({**tensors, key: torch.ones(2)}, folder / "state.safetensors", metadata=head | {"state": told})
    outcome(lambda: run_state.resume(folder, {"seed": 0}, *linear(), torch.device("cpu")))
