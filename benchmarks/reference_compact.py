"""The path to a network that holds up by patient: variants of the small network on MITDB, and beats in AAMI groups.

    python benchmarks/reference_compact.py windows         # cut and pack what is trained on (needs the records)
    python benchmarks/reference_compact.py classes         # eight classes, by patient and DS1 to DS2; --workers 14
    python benchmarks/reference_compact.py beats           # every beat of DS1 and DS2, AAMI groups
    python benchmarks/reference_compact.py collect         # write results/compact.json

What is trained is not trained again; a run that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecglib import CLASSES, FS, WINDOW, __version__, aami, calibration, context, models, source
from ecglib.augment import Augment, read_noise
from ecglib.databases import folder
from ecglib.evaluation import predict, report
from ecglib.grid import packed
from ecglib.records import read_record
from ecglib.scores import confusions
from ecglib.splits import split
from ecglib.training import TrainConfig, fingerprint, fit
from ecglib.windows import WindowSet, cut_database, fill
from ecglib.windowset import concat, load_windows

PER_CLASS, FOLDS, SEEDS = 2500, 3, (0, 1, 2)
TESTED = 400  # windows of a class, at most, that a run is scored on, as in reference_grid.py
CONFIG = TrainConfig(epochs=5, draws=5_000, batch_size=64, lr=3e-3, weight_decay=0.02)
BEATS = TrainConfig(epochs=6, draws=8_000, batch_size=128, lr=3e-3, weight_decay=0.02)
CHANGES: dict[str, Any] = {"gain": 0.2, "shift_s": 0.2, "rate": 0.1, "noise": 0.7}
#: what a variant has: RR context, augmentation, the record's other lead as further windows to learn from
VARIANTS = {
    "compact": (),
    "compact, RR context, augmented": ("rr", "augmented"),
    "compact, RR context": ("rr",),
    "compact, augmented": ("augmented",),
    "compact, both leads, augmented": ("leads", "augmented"),
    "compact, RR context, both leads, augmented": ("rr", "leads", "augmented"),
}
RESULTS = Path(__file__).resolve().parent.parent / "results"


def row(y: np.ndarray, probability: np.ndarray, patient: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Scores and the confusion matrix by patient, in the form of results/grid.json."""
    guess, k = probability.argmax(1), len(classes)
    return {
        "scores": {n: round(v, 4) for n, v in report(y, guess, classes=classes).scores.items()},
        "ece": round(calibration.reliability(probability, y).ece, 4),
        "confusion": packed(y, guess, patient, n_classes=k),
    }


def windows(work: Path) -> None:
    """Pack the windows, the same moments in the record's other lead, their RR context and the recorded noise."""
    plain = cut_database("mitdb", rule="clean").subsample(PER_CLASS, seed=0)
    import wfdb

    other = np.empty_like(plain.x)
    for name in np.unique(plain.record):
        index = np.flatnonzero(plain.record == name)
        used = read_record("mitdb", name).lead
        lead = next(n for n in wfdb.rdheader(str(folder("mitdb") / name)).sig_name if n != used)
        signal = read_record("mitdb", name, lead=lead).signal
        first = np.clip(np.round((plain.time[index] - 1) * FS).astype(int), 0, len(signal) - WINDOW)
        other[index, 0] = signal[first[:, None] + np.arange(WINDOW)]
    plain.save(work / "windows.npz")
    replace(plain, x=other).save(work / "other.npz")
    noise = read_noise()[:, :150_000].astype(np.float16)  # seven minutes of each recording
    np.savez_compressed(work / "extras.npz", rr=context.rr_context(plain), noise=noise)


@lru_cache(maxsize=1)
def _read(work: Path) -> tuple[WindowSet, WindowSet, np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with np.load(work / "extras.npz") as z:
        return load_windows(work / "windows.npz"), load_windows(work / "other.npz"), z["rr"], z["noise"].astype(float)


def classes(work: Path, workers: int) -> None:
    """Every variant on eight classes; the runs of its seeds are also pooled into an ensemble."""
    cells = [
        (level, name, fold)
        for level, name in product(("ds1-ds2", "patient"), VARIANTS)
        for fold in range(FOLDS if level == "patient" else 1)
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(_train, work, *cell, seed) for cell, seed in product(cells, SEEDS)]
        for run in as_completed(runs):
            run.result()
    plain = _read(work)[0]
    for level, name, fold in cells:
        whole = plain[split(plain, level=level, folds=FOLDS if level == "patient" else None, seed=0)[fold].test]
        # the windows that the runs of grid.json are scored on, by their places in the test part
        kept = replace(whole, time=np.arange(float(len(whole)))).subsample(TESTED, seed=0).time.astype(int)
        test = whole[kept]
        p = [np.load(work / f"{stem(level, fold, name, seed)}.npz")["p"][kept] for seed in SEEDS]
        for i, seed in enumerate(SEEDS):
            _write(work, name, level, fold, seed, test, p if i == len(SEEDS) - 1 else p[i : i + 1])


def stem(level: str, fold: int, name: str, seed: int) -> str:
    return f"{level}-{fold}-{name}-{seed}".replace(" ", "")


def _train(work: Path, level: str, name: str, fold: int, seed: int) -> None:
    """Probabilities of one run on its test part, unless they are there."""
    path = work / f"{stem(level, fold, name, seed)}.npz"
    if path.exists():
        return
    plain, other, rr, noise = _read(work)
    part = split(plain, level=level, folds=FOLDS if level == "patient" else None, seed=0)[fold]
    has, found = VARIANTS[name], plain
    if "leads" in has:
        found = concat([plain, other])
        part = replace(part, train=np.concatenate([part.train, part.train + len(plain)]))
    if "rr" in has:
        found = context.with_context(found, np.tile(rr, (len(found) // len(plain), 1)))
    model = models.build("compact", seed=seed, context=len(context.NAMES) if "rr" in has else 0)
    done = fit(
        model, found, part, config=TrainConfig(**{**asdict(CONFIG), "seed": seed}),
        run_dir=work / "runs" / path.stem, progress=False,
        augment=Augment(**CHANGES, recorded=noise) if "augmented" in has else None,
    )  # fmt: skip
    notes = {k: v for k, v in done.record.items() if k != "config"}
    np.savez(path, p=calibration.softmax(predict(done.model, found[part.test].x)), run=json.dumps(notes))
    print(path.stem, notes["duration_s"], flush=True)


def _write(work: Path, name: str, level: str, fold: int, seed: int, test: WindowSet, p: list[np.ndarray]) -> None:
    own = {"model": name, "level": level, "fold": fold, "seed": seed, "budget": "compact", "shared_samples": 0.0}
    jk = aami.report(test.y, p[-1].argmax(1)).scores["jk"]
    own_stem = stem(level, fold, name, seed)
    record = json.loads(str(np.load(work / f"{own_stem}.npz")["run"]))
    scored = row(test.y, p[-1], test.patient, CLASSES)
    (work / f"{own_stem}.json").write_text(json.dumps(own | {"jk": round(jk, 4)} | scored | {"run": record}))
    print(own_stem, scored["scores"]["accuracy"], scored["scores"]["f1_macro"], flush=True)
    if len(p) == len(SEEDS):  # the mean of the seeds' probabilities
        scored = row(test.y, np.mean(p, axis=0), test.patient, CLASSES)
        jk = aami.report(test.y, np.mean(p, axis=0).argmax(1)).scores["jk"]
        own |= {"model": f"{name}, ensemble", "seed": 0, "jk": round(jk, 4)}
        (work / f"{level}-{fold}-{name}-ensemble.json".replace(" ", "")).write_text(
            json.dumps(own | scored | {"run": {}})
        )


def beats(work: Path) -> None:
    """DS1 to DS2, every beat of the groups N, S, V and F (of Q there are fifteen)."""
    whole = aami.beat_windows()
    whole = fill(whole[whole.y < 4])
    whole = context.with_context(whole, context.rr_context(whole))
    part = split(whole, level="ds1-ds2", seed=0)[0]
    prior = np.bincount(whole.y[part.train], minlength=4) / len(part.train)
    test, logits, records = whole[part.test], [], []
    for seed in SEEDS:
        model = models.build("compact", n_classes=4, seed=seed, context=len(context.NAMES))
        config = TrainConfig(**{**asdict(BEATS), "seed": seed})
        done = fit(
            model, whole, part, config=config, run_dir=work / "runs" / f"beats-{seed}", progress=False,
            augment=Augment(gain=0.2, shift_s=0.03, rate=0.05, noise=0.5, recorded=read_noise()),
        )  # fmt: skip
        logits.append(predict(done.model, test.x))
        records.append({k: v for k, v in done.record.items() if k not in {"config", "history"}})
    found = {}
    for name, z in [(f"seed {s}", logits[s]) for s in SEEDS] + [("ensemble", np.mean(logits, axis=0))]:
        for how, shift in (("balanced", 0), ("with the prior of DS1", np.log(prior))):
            guess = (z + shift).argmax(1)
            # groups already, not classes: aami.report would take S for PVC
            scored = aami.from_confusion(confusions(test.y, guess, groups=test.patient, n_classes=len(aami.GROUPS)))
            found[f"{name}, {how}"] = {
                "scores": {k: round(v, 4) for k, v in scored.scores.items()},
                "intervals": {k: [round(x, 4) for x in v] for k, v in scored.intervals.items()},
                "per_group": scored.per_group.round(4).reset_index(names="group").to_dict("records"),
                "confusion": scored.confusion.tolist(),
            }
            print(name, how, found[f"{name}, {how}"]["scores"], flush=True)
    counts = {g: int((test.y == i).sum()) for i, g in enumerate(aami.GROUPS)}
    out = {
        "what": "compact with RR context, trained on DS1 without 201, every beat of DS2 but seven of Q, record ends too",
        "config": asdict(BEATS), "prior": prior.round(5).tolist(), "beats": counts, "sha256": fingerprint(test),
        "found": found, "runs": records,
    }  # fmt: skip
    (work / "beats.json").write_text(json.dumps(out))


def collect(work: Path) -> None:
    rows = [json.loads(p.read_text()) for p in sorted(work.glob("*-*.json"))]
    folds = {(r["model"], r["level"], r["seed"], r["fold"]) for r in rows}
    rows = [  # a cell that lacks a fold or seed would be of other patients than its neighbours
        r for r in rows
        if all((r["model"], r["level"], r["seed"], k) in folds for k in range(FOLDS if r["level"] == "patient" else 1))
    ]  # fmt: skip
    found = source.find("mitdb")
    out: dict[str, Any] = {
        "what": "variants of the small network on clean windows of MITDB, patients held out; rows, windows as in grid.json",
        "code_version": __version__, "per_class": PER_CLASS, "folds": FOLDS, "config": asdict(CONFIG),
        "augment": CHANGES, "devices": sorted({r["run"]["device"] for r in rows if r["run"]}),
        "records_sha256": found.fingerprint() if found else "records not at hand when this was written",
        "beats": json.loads((work / "beats.json").read_text()) if (work / "beats.json").exists() else None,
    }  # fmt: skip
    lines = ",\n".join(json.dumps(r) for r in rows)
    (RESULTS / "compact.json").write_text(json.dumps(out, indent=1)[:-2] + ',\n "runs": [\n' + lines + "\n ]\n}\n")
    print(len(rows), "rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["windows", "classes", "beats", "collect"])
    parser.add_argument("--work", type=Path, default=Path("_build/compact"))
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    if arguments.step == "classes":
        classes(arguments.work, arguments.workers)
    else:
        {"windows": windows, "beats": beats, "collect": collect}[arguments.step](arguments.work)


if __name__ == "__main__":
    main()
