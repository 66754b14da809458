"""What can go wrong, as a table: every row makes a fault, runs it and gives the one line that is answered.

``python tests/faults.py`` runs all rows and writes ``results/faults.json``, which the page "What can go wrong" shows;
`test_faults` runs them again and compares.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import edfio
import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from ecglib import (
    attribution,
    book,
    cam,
    cli,
    databases,
    evaluation,
    explain_io,
    faithfulness,
    labelsets,
    localisation,
    masks,
    models,
    own_models,
    phantom,
    records,
    sanity,
    source,
    splits,
    sweep_plan,
    training,
    windows,
)
from ecglib.errors import EcglibError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "faults.json"


@dataclass(frozen=True)
class Fault:
    """A row: where it comes in, what is wrong, and what makes it; ``run`` gets the folder that it may litter."""

    entrance: str
    what: str
    run: Callable[[Path], Any]


FAULTS: list[Fault] = []


def fault(entrance: str, what: str) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    def keep(run: Callable[[Path], Any]) -> Callable[[Path], Any]:
        FAULTS.append(Fault(entrance, what, run))
        return run

    return keep


# What rows are made from ---------------------------------------------------------------------------------------------


def prepare(where: Path) -> Path:
    """A phantom of one record, a network of four channels and a table of contents, to be copied for each row."""
    phantom.write(where / "data", patients=1, minutes=2, seed=0)
    models.save(models.build("murugesan-gap", width=4), where / "net.safetensors", notes={"seed": 0})
    (where / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    (where / "page.md").write_text(PAGE)
    return where


PAGE = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{code-cell} ipython3
:tags: [parameters]

record: str = ""
time: float = 0.0
```
"""


def record(here: Path) -> Path:
    return here / "data" / "phantom" / "1.0.0" / "p01"


def header(old: str, new: str) -> Callable[[Path], Any]:
    """Open a record whose header says something else."""

    def run(here: Path) -> Any:
        file = record(here).with_suffix(".hea")
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        return records.open_record(record(here))

    return run


def damaged(kind: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """Open a record one of whose files is damaged."""

    def run(here: Path) -> Any:
        file = record(here).with_suffix(f".{kind}")
        file.write_bytes(change(file.read_bytes()))
        return records.open_record(record(here))

    return run


def opened(name: str, content: str | bytes, **options: Any) -> Callable[[Path], Any]:
    """Open a file of one's own."""

    def run(here: Path) -> Any:
        file = here / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return records.open_record(file, **options)

    return run


WAVE = np.sin(np.arange(1440) / 20) + np.sin(np.arange(1440) / 7)


def columns(head: str, *, scale: float = 1.0, time: Callable[[int], float] = lambda k: k / 360, n: int = 1440) -> str:
    return head + "\n" + "\n".join(f"{time(k):.6f},{scale * WAVE[k]:.6f}" for k in range(n)) + "\n"


def edf(here: Path, *, labels: tuple[str, ...] = ("ECG",), unit: str = "mV", seconds: int = 4) -> Path:
    kept = {"physical_dimension": unit, "physical_range": (-3, 3)}
    signals = [edfio.EdfSignal(np.tile(WAVE, 2)[: 360 * seconds], 360, label=x, **kept) for x in labels]
    edfio.Edf(signals).write(here / "mine.edf")
    return here / "mine.edf"


def edf_bytes(at: int, new: bytes) -> Callable[[Path], Any]:
    """Open an EDF with other bytes in its header."""

    def run(here: Path) -> Any:
        raw = bytearray(edf(here).read_bytes())
        raw[at : at + len(new)] = new
        (here / "mine.edf").write_bytes(raw)
        return records.open_record(here / "mine.edf")

    return run


def checkpoint(write: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Load what ``write`` has written, or made of the network that is there."""

    def run(here: Path) -> Any:
        write(here / "net.safetensors")
        return models.load(here / "net.safetensors")

    return run


def resaved(**changes: str) -> Callable[[Path], Any]:
    """The network with another head."""

    def write(file: Path) -> None:
        head = {"model": "murugesan-gap", "options": '{"width": 4}', "notes": "{}"} | changes
        save_file(models.load(file).state_dict(), file, metadata=head)

    return checkpoint(write)


def swept(text: str) -> Callable[[Path], Any]:
    def run(here: Path) -> Any:
        (here / "sweep.yml").write_text(text)
        return sweep_plan.read(here / "sweep.yml")

    return run


def shell(line: str, prepare: Callable[[Path], Any] | None = None) -> Callable[[Path], Any]:
    """Run a command line, in the folder of the row, as the shell does."""

    def run(here: Path) -> Any:
        if prepare:
            prepare(here)
        words = [word.replace("HERE", str(here)) for word in line.split()]
        with mock.patch.object(sys, "argv", ["ecglib", *words]):
            cli.main()

    return run


class Folder(http.server.SimpleHTTPRequestHandler):
    """A mirror that answers from a folder, and says nothing of it."""

    def log_message(self, *args: object) -> None:
        pass


def mirror(files: dict[str, bytes], **options: Any) -> Callable[[Path], Any]:
    """Fetch MITDB from a server that has these files."""

    def run(here: Path) -> Any:
        tree = here / "mirror" / "mitdb" / "1.0.0"
        tree.mkdir(parents=True)
        for name, content in files.items():
            (tree / name).write_bytes(content)
        handler = lambda *args: Folder(*args, directory=str(here / "mirror"))  # noqa: E731
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/"
            try:
                databases.fetch(  # type: ignore[attr-defined]
                    "mitdb", root=here / "data", base_url=url, backoff=0.0, retries=0, progress=False, **options
                )
            finally:
                server.shutdown()

    return run


def sums(**files: bytes) -> dict[str, bytes]:
    own = {name.replace("_", "."): content for name, content in files.items()}
    lines = [f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in own.items()]
    return own | {"SHA256SUMS.txt": "".join(lines).encode()}


def cut(here: Path) -> Any:
    return windows.cut_database("phantom", rule="clean", root=here / "data")


# Records of WFDB -----------------------------------------------------------------------------------------------------

W = "WFDB record"
fault(W, "there is no such file")(lambda here: records.open_record(here / "nowhere" / "100"))
fault(W, "its header is missing")(
    lambda here: (record(here).with_suffix(".hea").unlink(), records.open_record(f"{record(here)}.dat"))
)
fault(W, "its header is some other text")(damaged("hea", lambda raw: b"<html>Please log in</html>\n"))
fault(W, "its header is cut off")(damaged("hea", lambda raw: raw[:40]))
fault(W, "its header is bytes at random")(damaged("hea", lambda raw: bytes(range(256))))
fault(W, "its header describes fewer signals than it promises")(header("p01 2 360", "p01 3 360"))
fault(W, "its header gives a rate of 0 Hz")(header("p01 2 360", "p01 2 0"))
fault(W, "its header gives a negative rate")(header("p01 2 360", "p01 2 -360"))
fault(W, "its header gives no number of samples")(header("360 43200", "360"))
fault(W, "its header names a file of another folder")(header("p01.dat", "../p01.dat"))
fault(W, "its header names its own folder as the file of the signal")(header("p01.dat", "."))
fault(W, "its header asks for a shift that no memory holds")(header("212 ", "212:99999999999 "))
fault(W, "its signal is a pressure")(header("/mV", "/mmHg"))
fault(W, "its storage format is unknown")(header("212 ", "999 "))
fault(W, "it is made of segments")(damaged("hea", lambda raw: b"p01/2 2 360 43200\np01a 20000\np01b 23200\n"))
fault(W, "its signal file is missing")(
    lambda here: (record(here).with_suffix(".dat").unlink(), records.open_record(record(here)))
)
fault(W, "its signal file is cut off")(damaged("dat", lambda raw: raw[:-1]))
fault(W, "one byte of its signal is wrong")(damaged("dat", lambda raw: raw[:999] + bytes([raw[999] ^ 8]) + raw[1000:]))
fault(W, "its annotations are cut off")(damaged("atr", lambda raw: raw[:-3]))
fault(W, "its annotations are some other text")(damaged("atr", lambda raw: b"100 N\n200 N\n"))
fault(W, "its annotations end within a mark")(damaged("atr", lambda raw: raw[:8] + b"\x00\xec\0\0"))
fault(W, "it has no such lead")(lambda here: records.open_record(record(here), lead="V5"))
fault(W, "the part that is asked for lies behind its end")(lambda here: records.open_record(record(here), start=500))
fault(W, "the part that is asked for begins at no number")(
    lambda here: records.open_record(record(here), start=float("nan"))
)
fault(W, "it is to be brought to 0 Hz")(lambda here: records.open_record(record(here), fs=0))
fault(W, "a rate is given that its header tells")(lambda here: records.open_record(record(here), native_fs=250))

# Databases -----------------------------------------------------------------------------------------------------------

D = "database"
fault(D, "its name is misspelt")(lambda here: records.read_record("mitbd", "100"))
fault(D, "it is not here")(lambda here: records.read_record("mitdb", "100", root=here / "data"))
fault(D, "it has no such record")(lambda here: records.read_record("phantom", "p02", root=here / "data"))
fault(D, "its list of records is no text and the record is another")(
    lambda here: (
        record(here).with_name("RECORDS").write_bytes(b"\xff\xfe\x00"),
        records.read_record("phantom", "../p01", root=here / "data"),
    )
)
fault(D, "a record has no annotations to count")(
    lambda here: (
        record(here).with_suffix(".atr").unlink(),
        records.read_annotations("phantom", "p01", root=here / "data"),
    )
)
fault(D, "the phantom is asked for in minutes that hold no class")(
    lambda here: phantom.write(here / "new", patients=1, minutes=0, seed=0)
)

# Downloads -----------------------------------------------------------------------------------------------------------

M = "download"
fault(M, "the server's list of sums is a login page")(mirror({"SHA256SUMS.txt": b"<html>Log in</html>"}))
fault(M, "the server has nothing")(mirror({}))
fault(M, "the list names a file outside its folder")(
    mirror({"SHA256SUMS.txt": b"0" * 64 + b" ../../evil\n", "RECORDS": b"100\n"})
)
fault(M, "a record's name leaves the folder")(mirror(sums(RECORDS=b"../../evil\n")))
fault(M, "there is no such record")(mirror(sums(RECORDS=b"100\n", **{"100_hea": b"100 0 360\n"}), records=["999"]))
fault(M, "a file comes with another sum, twice")(
    mirror(sums(RECORDS=b"100\n", **{"100_hea": b"100 0 360\n"}) | {"100.hea": b"100 0 128\n"})
)
fault(M, "a listed file is not there")(
    mirror({k: v for k, v in sums(RECORDS=b"100\n", **{"100_hea": b"x"}).items() if k != "100.hea"})
)
fault(M, "no server answers")(
    lambda here: databases.fetch("mitdb", root=here / "data", base_url="http://127.0.0.1:9/", progress=False)  # type: ignore[attr-defined]
)
fault(M, "the address is no web address")(
    lambda here: databases.fetch("mitdb", root=here / "data", base_url="file:///etc/", progress=False)  # type: ignore[attr-defined]
)

# EDF -----------------------------------------------------------------------------------------------------------------

E = "EDF file"


@fault(E, "it is cut off within its header")
def _(here: Path) -> Any:
    file = edf(here)
    file.write_bytes(file.read_bytes()[:300])
    return records.open_record(file)


@fault(E, "it is cut off within its data")
def _(here: Path) -> Any:
    file = edf(here)
    file.write_bytes(file.read_bytes()[:-500])
    return records.open_record(file)


fault(E, "it has two leads and none is chosen")(lambda here: records.open_record(edf(here, labels=("ECG I", "ECG II"))))
fault(E, "it has no such lead")(lambda here: records.open_record(edf(here), lead="II"))
fault(E, "its lead is a temperature")(lambda here: records.open_record(edf(here, labels=("Temp",), unit="degC")))
fault(E, "it lasts a second")(lambda here: records.open_record(edf(here, seconds=1)))
fault(E, "it is read in the wrong unit")(lambda here: records.open_record(edf(here), unit="V"))
fault(E, "its number of signals is no number")(edf_bytes(252, b"many"))
fault(E, "its data records last no time")(edf_bytes(244, b"0       "))
fault(E, "its range of values is empty")(edf_bytes(256 + 16 + 80 + 8 + 8 + 8, b"5       5       "))

# CSV -----------------------------------------------------------------------------------------------------------------

C = "CSV file"
fault(C, "it is empty")(opened("mine.csv", ""))
fault(C, "it is a folder")(lambda here: records.open_record(here / "data"))
fault(C, "it is words")(opened("mine.csv", "dear diary\ntoday I felt well\n"))
fault(C, "it is a picture")(opened("mine.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"))
fault(C, "a word stands among its numbers")(
    opened("mine.csv", columns("time (s),MLII (mV)").replace("0.500000,", "0.500000,lost", 1))
)
fault(C, "it tells no rate")(opened("mine.csv", "MLII (mV)\n" + "\n".join(f"{v:.4f}" for v in WAVE)))
fault(C, "it tells no unit")(opened("mine.csv", columns("time (s),MLII")))
fault(C, "its unit is no unit of voltage")(opened("mine.csv", columns("time (s),MLII"), unit="kg"))
fault(C, "its unit is wrong by a thousand")(opened("mine.csv", columns("time (s),MLII (mV)", scale=1000.0)))
fault(C, "its times go back")(opened("mine.csv", columns("time (s),MLII (mV)", time=lambda k: abs(k - 700) / 360)))
fault(C, "its times are uneven")(opened("mine.csv", columns("time (s),MLII (mV)", time=lambda k: (k / 360) ** 1.5)))
fault(C, "its times make a rate that no ECG has")(opened("mine.csv", columns("time (s),MLII (mV)", time=lambda k: k)))
fault(C, "its times and its rate disagree")(opened("mine.csv", columns("time (s),MLII (mV)"), native_fs=250))
fault(C, "its rate is no number")(opened("mine.csv", columns("sample,MLII (mV)"), native_fs=float("nan")))
fault(C, "it lasts less than two seconds")(opened("mine.csv", columns("time (s),MLII (mV)", n=700)))
fault(C, "it has several leads and none is chosen")(
    opened("mine.csv", "time (s),I (mV),II (mV)\n" + "\n".join(f"{k / 360:.5f},{v},{v}" for k, v in enumerate(WAVE)))
)
fault(C, "its compressed bytes are damaged")(opened("mine.csv.gz", gzip.compress(b"1,2\n" * 999, mtime=0)[:40]))
fault(C, "a row is too long")(opened("mine.csv", columns("time (s),MLII (mV)") + "4.0,1.0,7.0\n"))
fault(C, "its lead is flat")(
    opened("mine.csv", "time (s),MLII (mV)\n" + "\n".join(f"{k / 360:.5f},0.5" for k in range(999)))
)

# Checkpoints ---------------------------------------------------------------------------------------------------------

N = "checkpoint"
fault(N, "it is not there")(checkpoint(lambda file: file.unlink()))
fault(N, "it is a pickle")(checkpoint(lambda file: torch.save({"weight": torch.ones(2)}, file)))
fault(N, "it is cut off")(checkpoint(lambda file: file.write_bytes(file.read_bytes()[:-100])))
fault(N, "it is of other software")(checkpoint(lambda file: save_file({"weight": torch.ones(2)}, file)))
fault(N, "its network is unknown")(resaved(model="resnet"))
fault(N, "its network has other layers")(resaved(model="compact"))
fault(N, "its network would fill the memory")(resaved(options='{"width": 4000000}'))
fault(N, "its options are no options")(resaved(options="[4"))
fault(N, "its notes are cut off")(
    lambda here: (
        save_file(
            models.build("hannun").state_dict(), here / "a.safetensors",
            metadata={"model": "hannun", "options": "{}", "notes": '{"seed": '},
        ),
        models.metadata(here / "a.safetensors"),
    )
)  # fmt: skip


@fault(N, "a weight is no number")
def _(here: Path) -> Any:
    net = models.load(here / "net.safetensors")
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("nan")
    return models.load(models.save(net, here / "net.safetensors"))


fault(N, "a network of somebody else's is to be saved")(
    lambda here: models.save(nn.Linear(2, 2), here / "other.safetensors")
)

# A run of training ---------------------------------------------------------------------------------------------------

R = "training run"
TINY = dict(epochs=1, draws=8, batch_size=8, device="cpu")


def trained(here: Path, *, change: Callable[[Path], Any] | None = None, width: int = 4, **options: Any) -> Any:
    """Train for a step; with ``change``, do something to the folder and go on."""
    own = cut(here)
    part = splits.split(own, level="window", seed=0)[0]
    config = training.TrainConfig(**TINY | options)  # type: ignore[arg-type]
    if change:
        first = training.TrainConfig(**TINY)  # type: ignore[arg-type]
        training.fit(_tiny(4), own, part, config=first, run_dir=here / "run", progress=False)
        change(here / "run" / "state.safetensors")
    return training.fit(_tiny(width), own, part, config=config, run_dir=here / "run", progress=False)


def _tiny(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(720, width), nn.Linear(width, 8))


def _head_of(file: Path, **changes: str) -> None:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as state:
        head, tensors = dict(state.metadata()), {k: state.get_tensor(k) for k in state.keys()}  # noqa: SIM118
    save_file(tensors, file, metadata=head | changes)


fault(R, "its optimiser is unknown")(lambda here: trained(here, optimizer="adan"))
fault(R, "it has no epochs")(lambda here: trained(here, epochs=0))
fault(R, "it waits for a gain that nobody measures")(lambda here: trained(here, patience=3))
fault(R, "its folder is a file")(lambda here: ((here / "run").write_text(""), trained(here)))
fault(R, "its folder is that of another run")(lambda here: trained(here, change=lambda state: None, seed=1))
fault(R, "its state is cut off")(
    lambda here: trained(here, change=lambda state: state.write_bytes(state.read_bytes()[:-9]))
)
fault(R, "its state has lost its history")(lambda here: trained(here, change=lambda state: _head_of(state, state="{")))
fault(R, "its state is of another network")(lambda here: trained(here, change=lambda state: None, width=5))

# Sweeps --------------------------------------------------------------------------------------------------------------

S = "sweep.yml"
fault(S, "it is not there")(lambda here: sweep_plan.read(here / "sweep.yml"))
fault(S, "it is no YAML")(swept("chapter: [page.md\n"))
fault(S, "it would run a command")(swept("chapter: !!python/object/apply:os.system [ls]\nout: out\n"))
fault(S, "a key is misspelt")(swept("chapter: page.md\nout: out\nparamters: {time: [1]}\n"))
fault(S, "a key is given twice")(swept("chapter: page.md\nout: a\nout: b\n"))
fault(S, "it does not say where results go")(swept("chapter: page.md\nparameters: {time: [1]}\n"))
fault(S, "there is no such chapter")(swept("chapter: pgae\nout: out\nparameters: {time: [1]}\n"))
fault(S, "the chapter has no such parameter")(swept("chapter: page.md\nout: out\nparameters: {tiem: [1]}\n"))
fault(S, "a value is of another type")(swept("chapter: page.md\nout: out\nparameters: {time: [soon]}\n"))
fault(S, "a list is empty")(swept("chapter: page.md\nout: out\nparameters: {time: []}\n"))
fault(S, "two runs are the same")(swept("chapter: page.md\nout: out\nparameters: {time: [1, 1.0]}\n"))
fault(S, "it asks for a million runs")(
    swept(
        yaml.safe_dump(
            {"chapter": "page.md", "out": "out", "parameters": {k: [*range(1000)] for k in ("time", "record")}}
        )
    )
)
fault(S, "its folder holds something else")(
    lambda here: (
        (here / "sweep.yml").write_text("chapter: page.md\nout: data\nparameters: {time: [1]}\n"),
        book.sweep(here / "sweep.yml", progress=False),
    )
)

# Label sets ----------------------------------------------------------------------------------------------------------

B = "label set"


def labelled(text: str) -> Callable[[Path], Any]:
    def run(here: Path) -> Any:
        (here / "mine.yml").write_text(text)
        return labelsets.load(here / "mine.yml")

    return run


TWO = "name: mine\nclasses:\n  N: {beats: N}\n"
fault(B, "there is none of that name")(lambda here: labelsets.load("mitdb51"))
fault(B, "it is not there")(lambda here: labelsets.load(here / "mine.yml"))
fault(B, "it is no YAML")(labelled("name: [mine\n"))
fault(B, "it is a list")(labelled("- N\n- V\n"))
fault(B, "it has one class")(labelled(TWO))
fault(B, "a class has no beats")(labelled(TWO + "  V: {title: none}\n"))
fault(B, "a symbol is no beat")(labelled(TWO + "  V: {beats: '#'}\n"))
fault(B, "two classes claim one beat")(labelled(TWO + "  V: {beats: NV}\n"))
fault(B, "a key is misspelt")(labelled(TWO + "  V: {beets: V}\n"))

# Functions -----------------------------------------------------------------------------------------------------------

F = "function"
X = torch.linspace(-1, 1, 720).sin().expand(2, 1, 720)
fault(F, "cut: the rule is unknown")(lambda here: windows.cut_database("phantom", rule="dekc", root=here / "data"))
fault(F, "cut: the record is at another rate")(
    lambda here: windows.cut(records.read_record("phantom", "p01", root=here / "data", fs=250), rule="clean")
)
fault(F, "split: the level is unknown")(lambda here: splits.split(cut(here), level="people", seed=0))
fault(F, "split: more folds than patients")(lambda here: splits.split(cut(here), level="patient", folds=5, seed=0))
fault(F, "split: the test part is everything")(
    lambda here: splits.split(cut(here), level="window", test_fraction=1.0, seed=0)
)
fault(F, "split: none of the records is MITDB's")(lambda here: splits.split(cut(here), level="ds1-ds2", seed=0))
fault(F, "build: the network is unknown")(lambda here: models.build("murugesan-gpa"))
fault(F, "build: there are no classes")(lambda here: models.build("hannun", n_classes=0))
fault(F, "predict: there are no windows")(
    lambda here: evaluation.predict(models.load(here / "net.safetensors"), np.zeros((0, 1, 720), np.float32))
)
fault(F, "attribute: the method is unknown")(
    lambda here: attribution.attribute("gradcam", models.load(here / "net.safetensors"), X, 0)
)
fault(F, "class_activation_map: the target is no class")(
    lambda here: cam.class_activation_map(models.load(here / "net.safetensors"), X, 8)
)
fault(F, "class_activation_map: the network has no map")(lambda here: cam.class_activation_map(_tiny(2), X, 0))
fault(F, "learn_mask: the windows have two axes")(lambda here: masks.learn_mask(lambda x: x.sum(-1), X[:, 0]))
fault(F, "learn_mask: no steps are asked for")(lambda here: masks.learn_mask(lambda x: x.sum((1, 2)), X, n_iter=0))
fault(F, "learn_mask: the score gives one value for all")(lambda here: masks.learn_mask(lambda x: x.sum(), X, n_iter=1))
fault(F, "lstm_score: the branch is unknown")(
    lambda here: masks.lstm_score(models.load(here / "net.safetensors"), X, 0, branch="cnn")
)
fault(F, "mass_accuracy: truth of another length")(
    lambda here: localisation.mass_accuracy(np.ones((2, 720)), np.ones((2, 48), bool))
)
fault(F, "pointing_game: relevance holds no number")(
    lambda here: localisation.pointing_game(np.full((1, 720), np.nan), np.ones((1, 720), bool))
)
fault(F, "deletion_curve: more steps than samples")(
    lambda here: faithfulness.deletion_curve(lambda x: x.sum((1, 2)), X, X[:, 0], steps=721)
)
fault(F, "similarity: maps of two lengths")(
    lambda here: sanity.similarity(torch.ones(1, 48), torch.ones(1, 720), kind="spearman")
)
fault(F, "wrap: a path instead of a module")(
    lambda here: own_models.wrap("net.onnx", layer=None, classes="ab")  # type: ignore[arg-type]
)
fault(F, "wrap: the module gives another number of scores")(
    lambda here: own_models.wrap(_tiny(2), layer=None, classes=["N", "PVC"])
)
fault(F, "explain_file: a block is shorter than a window")(
    lambda here: explain_io.explain_file(
        record(here), model=models.load(here / "net.safetensors"), out_dir=here / "out", block_s=1, progress=False
    )
)
fault(F, "explain_file: the folder holds another explanation")(
    lambda here: [
        explain_io.explain_file(
            record(here), model=models.load(here / "net.safetensors"), out_dir=here / "out", stop=stop, progress=False
        )
        for stop in (5.0, 6.0)
    ]
)
fault(F, "run: there is no such chapter")(lambda here: book.run("pgae", here / "out.ipynb"))
fault(F, "setup: the database is unknown")(lambda here: source.find("mitbd"))

# Shell ---------------------------------------------------------------------------------------------------------------

L = "shell"
fault(L, "the command is unknown")(shell("explian"))
fault(L, "an option is unknown")(shell("count --nope"))
fault(L, "an argument is missing")(shell("train mitdb"))
fault(L, "fetch: the phantom is not downloaded")(shell("fetch phantom"))
fault(L, "fetch: the root is a file")(shell("fetch mitdb --root net.safetensors"))
fault(L, "count: the rule is unknown")(shell("count --rule dekc"))
fault(L, "count: nothing is here")(shell("count --root nowhere"))
fault(L, "train: the network is unknown")(shell("train phantom --root data --model resnet --out run"))
fault(L, "train: no epochs")(shell("train phantom --root data --epochs 0 --out run"))
fault(L, "train: the optimiser is unknown")(
    shell("train phantom --root data --model hannun --published --out run --optimizer adan")
)
fault(L, "train: there is no such fold")(shell("train phantom --root data --width 4 --level window --fold 3 --out run"))
fault(L, "explain: there is no such file")(shell("explain mine.edf"))
fault(L, "explain: the database is misspelt")(shell("explain mitbd/208"))
fault(L, "explain: it stops before it starts")(shell("explain phantom/p01 --root data --start 9 --stop 5"))
fault(L, "explain: the network is a pickle")(
    shell("explain phantom/p01 --root data --model net.pt", lambda here: torch.save({}, here / "net.pt"))
)
fault(L, "explain: the method is unknown")(
    shell("explain phantom/p01 --root data --model net.safetensors --stop 5 --method gradcam --out out")
)
fault(L, "explain: the lead is unknown")(shell("explain phantom/p01 --root data --model net.safetensors --lead V5"))
fault(L, "explain: the results would lie under a file")(
    shell("explain phantom/p01 --root data --model net.safetensors --stop 5 --out page.md/out")
)
fault(L, "sweep: there is no such file")(shell("sweep nowhere.yml"))
fault(L, "sweep: no workers")(shell("sweep sweep.yml --workers 0"))
fault(L, "book: the database is misspelt")(shell("book --database mitbd"))
fault(L, "book: there is no such chapter")(shell("book --chapter pgae"))

P = "papermill parameter"
fault(P, "it has no value")(shell("book --chapter page -p record"))
fault(P, "its value is no YAML")(shell("book --chapter page -p record=["))
fault(P, "it is for no chapter")(shell("book -p record=208"))
fault(P, "it names a record that is not there")(
    shell(
        "book --chapter page -p record=999 --out out.ipynb",
        lambda here: (here / "page.md").write_text(
            f"{PAGE}\n```{{code-cell}} ipython3\nfrom ecglib import records\n\n"
            f'records.read_record("phantom", record, root="{here}/data")\n```\n'
        ),
    )
)


# Running a row -------------------------------------------------------------------------------------------------------


def listed(where: Path) -> dict[str, bytes]:
    """What lies in a folder, but for locks."""
    return {
        str(p.relative_to(where)): p.read_bytes()
        for p in where.rglob("*")
        if p.is_file() and p.name != ".lock" and p.suffix != ".lock"
    }


@contextlib.contextmanager
def inside(here: Path) -> Iterator[io.StringIO]:
    """In a folder, with nothing of this machine's settings; what goes to stderr is caught."""
    before, err = Path.cwd(), io.StringIO()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ECGLIB_")}
    kept |= {"NO_PROXY": "127.0.0.1", "NO_COLOR": "1", "COLUMNS": "200"}
    with mock.patch.dict(os.environ, kept, clear=True), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(here)
        try:
            yield err
        finally:
            os.chdir(before)


def answer(row: Fault, here: Path) -> tuple[str, str]:
    """Kind of the answer and its one line, with ``here`` for the folder and no number of a port."""
    with inside(here) as err:
        try:
            row.run(here)
        except EcglibError as error:
            kind = next(c.__name__ for c in type(error).__mro__ if c.__name__[0] != "_")  # the public name
            line = str(error)
        except SystemExit as end:
            kind, line = f"exit {end.code}", err.getvalue()
            assert "Traceback" not in line, line
            line = re.fullmatch(r"(?:[^\n]*\|[^\n]*\n)*(ecglib: [^\n]+\n)", line)[1]  # type: ignore[index]  # after bars
        else:
            raise AssertionError(f"{row.entrance}, {row.what}: nothing was said")
    line = line.strip().replace(str(here.resolve()), "here").replace(str(here), "here").replace(str(ROOT), "checkout")
    assert "\n" not in line and len(line) < 400, line  # noqa: PT018
    return kind, re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:80", line)


def table() -> list[dict[str, str]]:
    """Every row with its answer."""
    rows = []
    with tempfile.TemporaryDirectory() as where:
        whole = prepare(Path(where) / "whole")
        for k, row in enumerate(FAULTS):
            here = Path(shutil.copytree(whole, Path(where) / f"row{k}"))
            kind, line = answer(row, here)
            rows.append({"entrance": row.entrance, "what": row.what, "answer": kind, "line": line})
            shutil.rmtree(here)
    return rows


if __name__ == "__main__":
    RESULTS.write_text(json.dumps({"rows": table()}, indent=1, ensure_ascii=False) + "\n")
