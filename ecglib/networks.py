"""Networks that the book explains, and the committed results of the reference runs.

On MITDB they come from ``results/`` (trained by ``benchmarks/reference_runs.py``); on the phantom they are trained in
about a minute when a build first needs them.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from ecglib.databases import DATABASES
from ecglib.errors import DataError, check_name
from ecglib.source import Source, project_root, work_folder


def train_phantom(source: Source, *, progress: bool) -> None:
    """Train the small networks of an embedded build, one for each split; about a minute on two cores."""
    from ecglib import models, training
    from ecglib.evaluation import predict
    from ecglib.splits import split
    from ecglib.windows import cut_database

    key = hashlib.sha256((source.fingerprint() + _code_hash("models", "training", "windows", "splits")).encode())
    where = work_folder() / f"phantom-{key.hexdigest()[:12]}"
    if all(
        checkpoint("phantom", s).is_file() and checkpoint("phantom", s).parent == where for s in ("window", "patient")
    ):
        return
    windows = cut_database("phantom", rule="clean", root=source.root).subsample(600, seed=0)
    for level in ("window", "patient"):
        part = split(windows, level=level, folds=4 if level == "patient" else None, seed=0)[0]
        model = models.build("murugesan-gap", width=16, dropout=0.2)
        config = training.TrainConfig(epochs=6, draws=2400, batch_size=32, lr=3e-3)
        run = training.fit(model, windows, part, config=config, run_dir=where / level, progress=progress)
        guess = predict(run.model, windows.x[part.test])
        notes = {
            "rule": "clean",
            "database": "phantom",
            "run": {k: v for k, v in run.record.items() if k != "history"},
            "patients_held_out": sorted(set(windows.patient[part.test])) if level == "patient" else [],
            "test": {
                "y": windows.y[part.test].tolist(),
                "guess": guess.argmax(1).tolist(),
                "patient": windows.patient[part.test].tolist(),
            },
        }
        models.save(run.model, where / f"{level}.safetensors", notes=notes)
    (work_folder() / "phantom-current").write_text(where.name)


def checkpoint(database: str, level: str, fold: int = 0) -> Path:
    """Checkpoint of the network that the book explains, by database and level of its split ("window" or "patient")."""
    check_name("level", level, ("window", "patient"))
    if database == "phantom":
        pointer = work_folder() / "phantom-current"
        return work_folder() / (pointer.read_text().strip() if pointer.is_file() else "none") / f"{level}.safetensors"
    stem = f"murugesan-gap-mitdb-{level}{fold if level == 'patient' else ''}"
    return project_root() / "results" / f"{stem}.safetensors"


def network(source: Source, *, level: str = "patient", record: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Network to explain and the notes of its checkpoint.

    Of the networks trained by patient, the one that never saw the patient of ``record`` is taken, so what is explained
    is a decision about a stranger.  ``notes["saw_patient"]`` says whether that could be had.
    """
    from ecglib import models

    folds = [f for f in range(10) if checkpoint(source.database, level, f).is_file()][: 10 if level == "patient" else 1]
    if source.simulated:
        folds = folds[:1]
    if not folds:
        raise DataError(f"no {level!r} network for {source.database!r} in {checkpoint(source.database, level).parent}")
    db = DATABASES[source.database if source.simulated else "mitdb"]
    who = db.patient(record) if record else None
    held = [f for f in folds if who in models.metadata(checkpoint(source.database, level, f))["patients_held_out"]]
    path = checkpoint(source.database, level, (held or folds)[0])
    notes = models.metadata(path)
    return models.load(path), notes | {"saw_patient": not held, "checkpoint": path.name}


@lru_cache
def results(name: str) -> dict[str, Any]:
    """Committed results of the reference runs: ``results/<name>.json``."""
    path = project_root() / "results" / f"{name}.json"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.json"))
        raise DataError(f"no results {name!r} in {path.parent}; known: {', '.join(known) or 'none'}")
    return json.loads(path.read_text())


# Internals -----------------------------------------------------------------------------------------------------


def _code_hash(*modules: str) -> str:
    here = Path(__file__).parent
    files = sorted(
        f for m in modules for f in ([here / f"{m}.py"] if (here / f"{m}.py").is_file() else (here / m).glob("*.py"))
    )
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
