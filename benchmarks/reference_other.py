"""Fifteen classes of MITDB by the same pipeline: the label set ecglib/mitdb15.yml, by window and by patient.

    python benchmarks/reference_other.py windows           # cut, count and pack the windows (needs the records)
    python benchmarks/reference_other.py train             # train what is missing, by priority; stop it when you like
    python benchmarks/reference_other.py collect           # write results/other.json and the networks of the chapter

A run that is stopped goes on where it was, and none is trained twice.  ``train`` needs nothing but the packed windows.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecglib import __version__, calibration, models
from ecglib.evaluation import predict, report
from ecglib.files import write_atomically
from ecglib.grid import packed
from ecglib.splits import shared_samples, split
from ecglib.training import TrainConfig, fingerprint, fit
from ecglib.windows import WindowSet, load_windows

LABELS, RULE, PER_CLASS, FOLDS, SEEDS = "mitdb15", "clean", 1000, 3, (0, 1, 2)
TESTED = 400  # windows of a class, at most, that a run is scored on; its patients take turns
#: a thousand draws of a class and epoch, as the eight classes' networks have (reference_runs.py, reference_compact.py)
CONFIGS = {
    "murugesan-gap": TrainConfig(epochs=12, draws=15_000, batch_size=64, lr=2e-3),
    "compact": TrainConfig(epochs=5, draws=10_000, batch_size=64, lr=3e-3, weight_decay=0.02),
}
#: other rhythms of MITDB that a file could name, counted beside the fifteen
CANDIDATES = {
    "SVTA": {"rhythms": ["SVTA"], "beats": "NAaJS"},
    "SBR": {"rhythms": ["SBR"], "beats": "N", "within": ["N"], "rr": [1.0, None]},
    "IVR": {"rhythms": ["IVR"], "beats": "VEF"},
    "BII": {"rhythms": ["BII"], "beats": "NR", "beside": "x"},
}
RESULTS = Path(__file__).resolve().parent.parent / "results"


def runs(names: list[str]) -> list[dict[str, Any]]:
    """Runs by priority: the first seed of both levels before the others."""
    return [
        {"model": model, "level": level, "fold": fold, "seed": seed, "budget": LABELS}
        for seed, model, level in product(SEEDS, names, ("window", "patient"))
        for fold in range(FOLDS if level == "patient" else 1)
    ]


def name_of(run: dict[str, Any]) -> str:
    return "-".join(str(run[k]) for k in ("model", "level", "fold", "seed"))


def train_one(run: dict[str, Any], windows: WindowSet, work: Path, draws: int | None) -> dict[str, Any]:
    """One row of the results; the folds are those of seed 0, so that seeds differ in the training alone."""
    folds = FOLDS if run["level"] == "patient" else None
    part = split(windows, level=run["level"], folds=folds, seed=0)[run["fold"]]
    model = models.build(run["model"], n_classes=len(windows.classes), seed=run["seed"])
    config = replace(CONFIGS[run["model"]], seed=run["seed"])
    config = replace(config, epochs=1, draws=draws) if draws else config
    done = fit(model, windows, part, config=config, run_dir=work / "runs" / name_of(run), progress=False)
    test = windows[part.test].subsample(TESTED, seed=0)
    trained = done.model.to("cuda" if torch.cuda.is_available() else "cpu")
    logits = predict(trained, test.x)
    guess, k = logits.argmax(1), len(windows.classes)
    notes = {
        "labels": LABELS, "classes": list(windows.classes), "rule": RULE, "database": "mitdb", **run,
        "run": {n: v for n, v in done.record.items() if n != "history"},
        "patients_held_out": sorted(set(test.patient.tolist())) if run["level"] == "patient" else [],
    }  # fmt: skip
    if run["model"] == "compact":  # the other is too large for results/
        models.save(done.model, work / f"{name_of(run)}.safetensors", notes=notes)
    return run | {
        "scores": {n: round(v, 4) for n, v in report(test.y, guess, classes=windows.classes).scores.items()},
        "ece": round(calibration.reliability(calibration.softmax(logits), test.y).ece, 4),
        "shared_samples": round(float(shared_samples(windows, part).mean()), 4),
        "confusion": packed(test.y, guess, test.patient, n_classes=k),
        "run": {n: v for n, v in done.record.items() if n != "config"},
    }


def train(work: Path, names: list[str], until: float, workers: int, draws: int | None) -> None:
    """Train what is missing; no run begins after the time ``until``."""
    todo = [r for r in runs(names) if not (work / f"{name_of(r)}.json").exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare) as pool:
        for done in as_completed(pool.submit(_work, run, work, until, draws) for run in todo):
            done.result()


def _prepare() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True


_windows = lru_cache(maxsize=1)(load_windows)  # one reading a process


def _work(run: dict[str, Any], work: Path, until: float, draws: int | None) -> None:
    if time.time() > until:
        return
    row = train_one(run, _windows(work / "windows.npz"), work, draws)
    write_atomically(work / f"{name_of(run)}.json", json.dumps(row).encode())
    scores, done = row["scores"], row["run"]
    print(name_of(run), scores["accuracy"], scores["f1_macro"], done["duration_s"], done["windows_per_s"], flush=True)


def windows(work: Path) -> None:
    """Cut and pack, and count what there is before a class is capped, from annotations alone."""
    from ecglib import labelsets
    from ecglib.windows import cut_database, labels

    whole = labels("mitdb", rule=RULE, labels=LABELS)
    counts = {c: _count(whole, i) for i, c in enumerate(whole.classes)}
    other = {}
    for name, entry in CANDIDATES.items():  # alone, so that no other class takes their beats
        one = labelsets.parse({"name": name, "classes": {"(": {"beats": "Q"}, name: entry}})
        other[name] = _count(labels("mitdb", rule=RULE, labels=one), 1)
    deck = labels("mitdb", rule="deck", labels=LABELS).counts().to_dict()
    (work / "counts.txt").write_text(json.dumps({"clean": counts, "not taken": other, "deck": deck}))
    cut_database("mitdb", rule=RULE, labels=LABELS).subsample(PER_CLASS, seed=0).save(work / "windows.npz")


def _count(windows: WindowSet, c: int) -> dict[str, Any]:
    own = windows.y == c
    record, n = np.unique(windows.record[own], return_counts=True)
    people = len(set(windows.patient[own]))
    return {
        "windows": int(own.sum()),
        "patients": people,
        "records": dict(zip(record.tolist(), n.tolist(), strict=True)),
    }


def collect(work: Path) -> None:
    """Rows, counts and provenance in one file, and compact's networks of the first seed."""
    from ecglib import source
    from ecglib.splits import spread

    windows, found = load_windows(work / "windows.npz"), source.find("mitdb")
    rows = [json.loads(p.read_text()) for p in sorted(work.glob("*.json"))]
    of_seed = [(r["model"], r["level"], r["seed"]) for r in rows]
    whole = {k for k in of_seed if of_seed.count(k) == (FOLDS if k[1] == "patient" else 1)}
    rows = [r for r, k in zip(rows, of_seed, strict=True) if k in whole]  # a seed without one of its folds tests others
    part = spread(windows, split(windows, level="patient", folds=FOLDS, seed=0)).drop(columns=["patients", "gap"])
    out = {
        "what": "networks of fifteen classes trained and tested on clean windows of MITDB; confusion[patient] holds the"
        " places (15 * truth + prediction) and counts of the cells that are not empty; folds are those of seed 0",
        "labels": LABELS, "classes": list(windows.classes), "rule": RULE, "per_class": PER_CLASS, "tested": TESTED,
        "counts": json.loads((work / "counts.txt").read_text()),
        "windows": {"sha256": fingerprint(windows), "counts": windows.counts().to_dict()},
        "folds": [part.columns.tolist(), *part.to_numpy().tolist()],
        "records_sha256": found.fingerprint() if found else "records not at hand when this was written",
        "configs": {k: {n: v for n, v in asdict(c).items() if n != "seed"} for k, c in CONFIGS.items()},
        "code_version": __version__,
    }  # fmt: skip
    for run in runs(["compact"]):
        if run["seed"] == 0 and (path := work / f"{name_of(run)}.safetensors").exists():
            fold = run["fold"] if run["level"] == "patient" else ""
            write_atomically(
                RESULTS / LABELS / f"compact-{run['level']}{fold}.safetensors", path.read_bytes(), parents=True
            )
    out["cases"] = [case("paced", "patient"), case("WPW", "window"), case("WPW", "window", "N", "mitdb/230")]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (RESULTS / "other.json").write_text(json.dumps(out, indent=1)[:-2] + ',\n "runs": [\n' + lines + "\n ]\n}\n")
    print(len(rows), "runs")


def case(of: str, level: str, shown: str = "", patient: str = "") -> dict[str, Any]:
    """Where compact looks for a class in windows it did not learn from: its own, or those of another class shown to it."""
    from ecglib import other

    windows = other.unseen(shown or of, level=level, most=400, patient=patient, per_class=PER_CLASS)
    logits, maps = other.explain(windows, level=level, of=of)
    c = windows.classes.index(of)
    table = other.masses(windows, maps, of=of).merge(other.bridged(windows, of=of, level=level), on="patient")
    named = [float((logits[windows.patient == p].argmax(1) == c).mean()) for p in table.patient]
    return {
        "class": of, "level": level, "shown": shown or of, "span_s": [list(s) for s in other.SPANS[of]],
        "control_s": other.CONTROL_S, "by_patient": table.assign(named=named).round(4).to_dict("records"),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["windows", "train", "collect"])
    parser.add_argument("--work", type=Path, default=Path("_build/other"))
    parser.add_argument("--model", action="append", choices=list(CONFIGS), help="only this one; can be given again")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which no new run is begun")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--draws", type=int, help="one epoch of so many draws: a trial of the script, no result")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.step == "windows":
        windows(arguments.work)
    elif arguments.step == "train":
        names = arguments.model or list(CONFIGS)
        train(arguments.work, names, time.time() + arguments.seconds, arguments.workers, arguments.draws)
    else:
        collect(arguments.work)


if __name__ == "__main__":
    main()
