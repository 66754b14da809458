"""Networks that the book explains, and the committed results of the reference runs.

On MITDB they come from ``results/`` (trained by ``benchmarks/reference_runs.py``); on the phantom they are trained in
about a minute when a build first needs them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, attribution, branches, models, training
from ecglib.collapsed import collapse_expected
from ecglib.databases import DATABASES
from ecglib.errors import DataError, check_name
from ecglib.evaluation import Report, predict, report
from ecglib.files import write_atomically
from ecglib.source import Source, project_root, work_folder
from ecglib.splits import split
from ecglib.windows import WindowSet, cut_database
from ecglib.windowset import eight

LEVELS = ("window", "patient")

#: how the windows of each database's networks were drawn and split: windows of a class, folds by patient
_DRAWN = {"phantom": (600, 4), "mitdb": (2500, 3)}

#: the phantom's networks: a quarter of the channels, a few passes over easy data
_SMALL: dict[str, dict[str, Any]] = {
    "model": {"width": 16, "dropout": 0.2},
    "training": {"epochs": 3, "draws": 2400, "batch_size": 32, "lr": 3e-3},
}


# a change of these trains anew
_TRAINED_BY = """models training minibatches recipes distributed run_state scores
    windows windowset labelsets rules signals splits""".split()


def train_phantom(source: Source, *, progress: bool) -> None:
    """Train the small networks of an embedded build, one for each level of split; about a minute on two cores."""
    code = [p.read_bytes() for name in _TRAINED_BY for p in _code(name)]
    settings = f"{source.fingerprint()} {_SMALL} {_DRAWN}".encode()
    key = hashlib.sha256(b"".join([settings, *code])).hexdigest()[:12]
    where = work_folder() / f"phantom-{key}"
    if not all((where / f"{level}.safetensors").is_file() for level in LEVELS):
        windows = _windows(source)
        for level in LEVELS:
            part = _parts(source.database, windows, level)[0]
            model = models.build("murugesan-gap", **_SMALL["model"])
            config = training.TrainConfig(**_SMALL["training"])
            run = training.fit(model, windows, part, config=config, run_dir=where / level, progress=progress)
            models.save(run.model, where / f"{level}.safetensors", notes=notes_of(run, windows, part))
    write_atomically(work_folder() / "phantom-current", where.name)


def notes_of(run: training.Run, windows: WindowSet, part: Any, *, rule: str = "clean") -> dict[str, Any]:
    """Notes for a checkpoint: where it comes from, and whom it has never seen."""
    by_patient = part.level in {"patient", "ds1-ds2"}
    return ({} if windows.classes == CLASSES else {"classes": list(windows.classes)}) | {
        "rule": rule,
        "database": str(windows.database[0]),
        "run": {k: v for k, v in run.record.items() if k != "history"},
        "patients_held_out": sorted({str(p) for p in windows.patient[part.test]}) if by_patient else [],
    }


def checkpoint(database: str, level: str, fold: int = 0) -> Path:
    """Checkpoint of the network that the book explains, by database, level of its split, and fold."""
    check_name("level", level, LEVELS)
    if database == "phantom":
        pointer = work_folder() / "phantom-current"
        return work_folder() / (pointer.read_text().strip() if pointer.is_file() else "none") / f"{level}.safetensors"
    return project_root() / "results" / f"murugesan-gap-mitdb-{level}{fold if level == 'patient' else ''}.safetensors"


def checkpoints(database: str, level: str) -> list[Path]:
    """Checkpoints that are there, by fold: several on MITDB by patient, else one."""
    folds = range(_DRAWN["mitdb"][1] if (database, level) == ("mitdb", "patient") else 1)
    found = [p for p in (checkpoint(database, level, fold) for fold in folds) if p.is_file()]
    if not found:
        raise DataError(f"no {level!r} network for {database!r} in {checkpoint(database, level).parent}")
    return found


def network(
    source: Source, *, level: str = "patient", record: str | None = None
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Network to explain, and the notes of its checkpoint.

    Of the networks trained by patient the one that never saw the patient of ``record`` is taken, so what is explained
    is a decision about a stranger; ``notes["saw_patient"]`` says whether that could be had.  ``level`` may also be the
    path of a checkpoint.
    """
    if str(level).endswith(".safetensors"):
        paths = [Path(level)]
    else:
        paths = checkpoints("phantom" if source.simulated else "mitdb", level)
    who = DATABASES[source.database].patient(record) if record else None
    strangers = [p for p in paths if who in models.metadata(p).get("patients_held_out", [])]
    path = (strangers or paths)[0]
    return models.load(path), {**models.metadata(path), "saw_patient": not strangers, "checkpoint": path.name}


def by_network(
    source: Source, windows: WindowSet, *, level: str = "patient"
) -> Iterator[tuple[torch.nn.Module, np.ndarray]]:
    """Pair each network of a level with the windows that `network` would give it: (network, indices).

    Of the level "window" there is one; ``level`` may also be the path of a checkpoint, as for `network`.

    Raises
    ------
    DataError
        The windows are of other classes than the eight, which these networks name.
    """
    if level in LEVELS:
        eight(windows)
    if level != "patient":
        yield network(source, level=level)[0], np.arange(len(windows))
        return
    paths = checkpoints("phantom" if source.simulated else "mitdb", "patient")
    held = [np.isin(windows.patient, models.metadata(p)["patients_held_out"]) for p in paths]
    taken = np.where(np.any(held, axis=0), np.argmax(held, axis=0), 0)
    for fold, path in enumerate(paths):
        if (taken == fold).any():
            yield models.load(path), np.flatnonzero(taken == fold)


def relevance(source: Source, windows: WindowSet, *, method: str, **options: Any) -> np.ndarray:
    """Relevance of every sample for the annotated class (N, 720), patients held out where possible."""
    out = np.empty((len(windows), windows.x.shape[-1]), np.float32)
    for net, index in by_network(source, windows):
        x, y = torch.from_numpy(windows.x[index]), torch.from_numpy(windows.y[index])
        with collapse_expected():  # a mask that deletes nothing is a finding here, which the pages count
            out[index] = attribution.attribute(method, net, x, y, **options).numpy()
    return out


def branch_logits(source: Source, windows: WindowSet, *, level: str = "patient") -> dict[str, np.ndarray]:
    """Logits (N, n_classes) of whole networks and without one branch, as `ecglib.branches.conditions` names them.

    By patient each window is shown to the network that never saw its patient; a silenced branch has its mean over the
    windows of the same network.
    """
    out: dict[str, np.ndarray] = {}
    for net, index in by_network(source, windows, level=level):
        for name, z in branches.conditions(branches.parts(net, windows.x[index])).items():
            out.setdefault(name, np.empty((len(windows), z.shape[1]), np.float32))[index] = z
    return out


def branch_votes(source: Source, windows: WindowSet) -> dict[str, float]:
    """Accuracy of whole networks, and with one branch silenced: its part of the logits set to its mean over the windows."""
    logits = branch_logits(source, windows)
    names = {"both branches": "both", "CNN alone": "without lstm, mean", "LSTM alone": "without cnn, mean"}
    return {f"accuracy, {k}": float((logits[v].argmax(1) == windows.y).mean()) for k, v in names.items()}


def held_out_report(source: Source, *, level: str, most: int = 40) -> Report:
    """Score this build's networks on ``most`` windows of each class that they did not learn from.

    Raises
    ------
    DataError
        The windows here are not those that the network was trained on, so none is known to be held out.
    """
    windows = _windows(source)
    truth, guess, patient = [], [], []
    paths, parts = checkpoints(source.database, level), _parts(source.database, windows, level)
    for path in paths:
        run = models.metadata(path)["run"]
        if run["data_sha256"] != training.fingerprint(windows):
            raise DataError(f"{path.name} was trained on other windows than those here; fetch all of {source.database}")
        test = windows[parts[run["fold"]].test].subsample(most // len(paths) + 1, seed=0)
        truth.append(test.y)
        guess.append(predict(models.load(path), test.x).argmax(1))
        patient.append(test.patient)
    pooled = np.concatenate(truth), np.concatenate(guess)
    return report(*pooled, groups=np.concatenate(patient), classes=windows.classes)


@lru_cache
def results(name: str) -> dict[str, Any]:
    """Committed results: ``results/<name>.json``."""
    path = project_root() / "results" / f"{name}.json"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.json"))
        raise DataError(f"no results {name!r} in {path.parent}; known: {', '.join(known) or 'none'}")
    return json.loads(path.read_text())


def mass_table(method: str) -> Any:
    """Reference share of a method's relevance inside the expected spans, by class, beside its controls (DataFrame)."""
    table = pd.DataFrame(results("maps")["mass"])
    own = table[table.method == check_name("method", method, sorted(set(table.method)))]
    controls = table.pivot(index="class", columns="method", values="mass")
    own = own.join(controls[["amplitude", "bump"]], on="class").rename(columns={"bump": "R bump"})
    return own[["class", "patients", "mass", "low", "high", "chance", "amplitude", "R bump"]]


# Internals -----------------------------------------------------------------------------------------------------


def _windows(source: Source) -> WindowSet:
    whole = cut_database(source.database, rule="clean", root=source.root, records=source.records)
    return whole.subsample(_DRAWN[source.database][0], seed=0)


def _parts(database: str, windows: WindowSet, level: str) -> list[Any]:
    return split(windows, level=level, folds=_DRAWN[database][1] if level == "patient" else None, seed=0)


def _code(name: str) -> list[Path]:
    here = Path(__file__).parent
    return [here / f"{name}.py"] if (here / f"{name}.py").is_file() else sorted((here / name).glob("*.py"))
