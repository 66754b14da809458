"""A small network on its way on MITDB, held out by window and by patient: results/epochs.json.

python benchmarks/reference_epochs.py
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from ecglib import __version__, clinic, epochs, models, source
from ecglib.splits import split
from ecglib.training import TrainConfig, fingerprint
from ecglib.windows import cut_database

AT = (0, 1, 2, 5, 10, 20)
CONFIG = TrainConfig(epochs=20, draws=2_500, batch_size=64, lr=3e-3, weight_decay=0.02)
SEEN = 40  # windows of a class, its patients taking turns
RESULTS = Path(__file__).resolve().parent.parent / "results"


def main() -> None:
    found = source.find("mitdb")
    if found is None:
        raise SystemExit("MITDB is not on this machine: ecglib fetch mitdb")
    torch.set_flush_denormal(True)
    windows = cut_database("mitdb", rule="clean", root=found.root).subsample(2500, seed=0)
    out: dict = {
        "what": "compact trained on clean MITDB windows and looked at on the way; means over patients of the test part",
        "windows": {"sha256": fingerprint(windows), "counts": windows.counts().to_dict()},
        "config": asdict(CONFIG), "code_version": __version__, "device": f"CPU, {torch.get_num_threads()} threads",
        "splits": {},
    }  # fmt: skip
    for level, folds in (("window", None), ("patient", 3)):
        began = time.process_time()
        part = split(windows, level=level, folds=folds, seed=0)[0]
        seen = windows[part.test].subsample(SEEN, seed=0)
        course = epochs.follow(models.build("compact", seed=0), windows, part, seen, at=AT, config=CONFIG)
        out["splits"][level] = {
            "seen": {"counts": seen.counts().to_dict(), "patients": len(set(seen.patient))},
            "course": epochs.table(course, seen, clinic.truth(seen)).round(4).to_dict("records"),
            "averages": epochs.averages(course, seen).round(3).to_dict("list"),
            "cpu_s": round(time.process_time() - began, 1),
        }
        print(level, out["splits"][level]["cpu_s"], out["splits"][level]["course"][-4:], flush=True)
    (RESULTS / "epochs.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
