"""What each choice in a mask's recipe does, on the reference networks and MITDB: results/recipe.json.

    python benchmarks/reference_recipe.py

Where each setting ends beside the least of its objective, and how alike every two settings rank the samples, averaged
over patients.  No waveform and no single mask is written.  About a quarter of an hour on one core.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, FS, __version__, clinic, mask_sweep, networks, source, sweep_tables
from ecglib.localisation import chance, mass_accuracy
from ecglib.mask_settings import FALLING, SETTINGS
from ecglib.mask_sweep import Outcome
from ecglib.sweep_tables import surrogate, visible
from ecglib.training import fingerprint
from ecglib.windows import WindowSet, cut_database

PER_CLASS = 12  # windows of a class, its patients taking turns
DRAWS = 20  # random maps, for what chance gives
#: objectives whose least masks are compared, too
LEAST = ("deck", "settled", "settled, k = 0", "settled, k = mean", "settled, k = blurred")
#: shown class by class
BY_CLASS = ("deck", "deck, SGD", *(f"{name}, least" for name in LEAST[1:]))
RESULTS = Path(__file__).resolve().parent.parent / "results"


def outcomes(found: source.Source, windows: WindowSet) -> dict[str, Outcome]:
    """The sweep in double precision, and the deck's recipe in single precision."""
    double = mask_sweep.held_out(found, windows, SETTINGS)
    single = mask_sweep.held_out(found, windows, {"deck": SETTINGS["deck"]}, dtype=torch.float32)
    first, *rest = double.items()
    # in single precision the least cannot be told from its neighbours
    return dict([first, ("deck, single precision", replace(double["deck"], mask=single["deck"].mask)), *rest])


def columns(table: pd.DataFrame, digits: int) -> dict[str, list]:
    """A table by columns, numbers rounded, what is missing as null."""
    rounded = table.copy()
    for name in table.select_dtypes("float"):
        rounded[name] = [None if np.isnan(v) else float(f"{v:.{digits}g}") for v in table[name]]
    return {str(name): list(rounded[name]) for name in rounded}


def masses(maps: dict[str, np.ndarray], truth: np.ndarray, patient: np.ndarray) -> pd.DataFrame:
    """Share of each map inside the spans where the class is expected to show."""
    inside = np.stack([*(mass_accuracy(m, truth) for m in maps.values()), chance(truth)], axis=1)
    mean, low, high = sweep_tables.over_patients(inside, patient)
    return pd.DataFrame({"map": [*maps, "chance"], "mass": mean, "low": low, "high": high})


def by_class(maps: dict[str, np.ndarray], windows: WindowSet) -> pd.DataFrame:
    """Agreement of some maps, class by class."""
    parts = []
    for c, label in enumerate(CLASSES):
        own = windows.y == c
        found = sweep_tables.agreement({name: maps[name][own] for name in BY_CLASS}, windows.patient[own])
        parts.append(found.assign(label=label, patients=len(set(windows.patient[own]))))
    return pd.concat(parts)


def main() -> None:
    began, spent = time.time(), time.process_time()
    torch.set_num_threads(1)
    found = source.find("mitdb")
    if found is None:
        raise SystemExit("MITDB is not on this machine: ecglib fetch mitdb")
    windows = cut_database("mitdb", rule="clean", root=found.root).subsample(PER_CLASS, seed=1)
    patient, done = windows.patient, outcomes(found, windows)
    maps = {name: visible(o.relevance) for name, o in done.items()}
    maps |= {f"{name}, least": visible(1 - done[name].best) for name in LEAST}
    others = sweep_tables.controls(windows.x, np.round(windows.r_position * FS).astype(int))
    random = [surrogate(maps["settled"], seed=i) for i in range(DRAWS)]
    chances = pd.concat(sweep_tables.agreement({"a": maps["settled"], "b": r}, patient, n_boot=1) for r in random)
    out = {
        "what": "mask recipes on the reference networks' LSTM (results/murugesan-gap-mitdb-patient*), clean MITDB windows "
        "of the annotated class, patients held out; means over patients, 95 % bootstrap intervals over patients",
        "windows": {
            "sha256": fingerprint(windows), "counts": windows.counts().to_dict(), "patients": len(set(patient)),
            "patients by class": {label: len(set(patient[windows.y == c])) for c, label in enumerate(CLASSES)},
        },
        "code_version": __version__,
        "checkpoints": [p.name for p in networks.checkpoints("mitdb", "patient")],
        "device": f"CPU, {torch.get_num_threads()} thread, float64",
        "least": {"rates and steps": FALLING, "starts": [1.0, 0.5], "within": 0.01},
        "settings": {name: dict(options) for name, options in SETTINGS.items()},
        "ends": columns(sweep_tables.ends(done, patient), 4),
        "pairs": columns(sweep_tables.agreement({**maps, **others, "random": random[0]}, patient), 3),
        "pairs by class": columns(by_class(maps, windows), 3),
        "chance": {"random maps": DRAWS, "largest mean": round(float(chances.rho.abs().max()), 3)},
        "mass": columns(masses({**maps, **others}, clinic.truth(windows), patient), 3),
    }  # fmt: skip
    out |= {"cpu_s": round(time.process_time() - spent, 1), "duration_s": round(time.time() - began, 1)}
    text = json.dumps(out, default=int, ensure_ascii=False)
    (RESULTS / "recipe.json").write_text(text + "\n")
    print(pd.DataFrame(out["ends"]).to_string(), out["chance"], out["cpu_s"], len(text), sep="\n")


if __name__ == "__main__":
    main()
