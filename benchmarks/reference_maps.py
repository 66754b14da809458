"""Aggregate explanations of the reference networks on MITDB: results/maps.json and results/dataset.json.

    python benchmarks/reference_maps.py

Class averages over patients, shares of relevance inside the expected spans, the votes of the branches, and window
counts by record.  No waveform is written, averaged or not.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, FS, __version__, averages, clinic, networks, source
from ecglib.attribution import attribute
from ecglib.localisation import chance, mass_accuracy
from ecglib.training import fingerprint
from ecglib.windows import HALF_S, cut_database

PER_CLASS = 200  # windows of a class, its patients taking turns
RESULTS = Path(__file__).resolve().parent.parent / "results"


def over_patients(values: np.ndarray, patient: np.ndarray, *, n_boot: int = 2000) -> tuple[float, float, float]:
    """Mean of the patients' means, with its bootstrap interval over patients."""
    means = pd.Series(values).groupby(patient).mean().dropna().to_numpy()
    rng = np.random.default_rng(0)
    drawn = means[rng.integers(len(means), size=(n_boot, len(means)))].mean(1)
    return float(means.mean()), *(float(q) for q in np.percentile(drawn, [2.5, 97.5]))


def compact(table: pd.DataFrame) -> list[dict]:
    """Every fourth sample (11 ms), three decimals."""
    kept = table[table.groupby("label").cumcount() % 4 == 0]
    return kept.round(3).to_dict("records")


def main() -> None:
    began = time.time()
    found = source.find("mitdb")
    if found is None:
        raise SystemExit("MITDB is not on this machine: ecglib fetch mitdb")
    windows = cut_database("mitdb", rule="clean", root=found.root, progress=True).subsample(PER_CLASS, seed=1)
    truth, share = clinic.truth(windows), []
    out: dict = {
        "what": "reference networks (results/murugesan-gap-mitdb-patient*) on clean MITDB windows, patients held out",
        "windows": {"sha256": fingerprint(windows), "counts": windows.counts().to_dict()},
        "code_version": __version__,
        "checkpoints": [p.name for p in networks.checkpoints("mitdb", "patient")],
        "device": f"CPU, {torch.get_num_threads()} threads",
    }
    for method in ("cam", "mask", "bump", "amplitude"):
        if method == "bump":
            centre = torch.from_numpy(np.round((windows.anchor - windows.time + HALF_S) * FS).astype(int))
            r = attribute("bump", None, torch.from_numpy(windows.x), 0, centre=centre).numpy()  # type: ignore[arg-type]
        else:
            r = networks.relevance(found, windows, method=method)
        if method in {"cam", "mask"}:
            out[method] = compact(averages.by_class(windows, averages.relative(r)))
        if method == "mask":
            out["collapsed"] = round(float((r.max(1) < 0.01).mean()), 4)
        mass = mass_accuracy(r, truth)
        for c, label in enumerate(CLASSES):
            own = windows.y == c
            mean, low, high = over_patients(mass[own], windows.patient[own])
            share.append(
                {
                    "method": method, "class": label, "patients": len(set(windows.patient[own])),
                    "mass": round(mean, 4), "low": round(low, 4), "high": round(high, 4),
                    "chance": round(float(np.nanmean(chance(truth)[own])), 4),
                }
            )  # fmt: skip
    out["mass"] = share
    out["votes"] = networks.branch_votes(found, windows)
    out["duration_s"] = round(time.time() - began, 1)
    (RESULTS / "maps.json").write_text(json.dumps(out) + "\n")

    counts: dict = {}
    for rule in ("deck", "clean"):
        whole = cut_database("mitdb", rule=rule, root=found.root)
        table = pd.crosstab(np.array(CLASSES)[whole.y], whole.record).reindex(list(CLASSES), fill_value=0)
        counts[rule] = {record: column.to_dict() for record, column in table.items()}
    published = json.loads((RESULTS / "deck.json").read_text())["windows"]["mitdb"]
    exact = {c: n == sum(column[c] for column in counts["deck"].values()) for c, n in published.items()}
    note = {"what": "windows by class and record", "code_version": __version__, "equals_deck": exact, "mitdb": counts}
    (RESULTS / "dataset.json").write_text(json.dumps(note) + "\n")
    print(pd.DataFrame(share).to_string(), out["votes"], exact, out["duration_s"], sep="\n")


if __name__ == "__main__":
    main()
