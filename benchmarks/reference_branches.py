"""Which branch of the reference networks decides on MITDB: results/branches.json.

python benchmarks/reference_branches.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from ecglib import CLASSES, __version__, branches, models, networks, source
from ecglib.splits import split
from ecglib.training import fingerprint
from ecglib.windows import WindowSet, cut_database

PER_CLASS = 200  # windows of a class, its patients taking turns
RESULTS = Path(__file__).resolve().parent.parent / "results"


def spreads(windows: WindowSet, paths: list[Path]) -> dict[str, list[float]]:
    """Standard deviation of each class's part of the CNN and of the LSTM, mean over the networks."""
    both = [branches.parts(models.load(p), windows.x[:: len(paths)]).spread() for p in paths]
    return {name: np.mean([s[i] for s in both], axis=0).round(3).tolist() for i, name in enumerate(("cnn", "lstm"))}


def main() -> None:
    found = source.find("mitdb")
    if found is None:
        raise SystemExit("MITDB is not on this machine: ecglib fetch mitdb")
    whole = cut_database("mitdb", rule="clean", root=found.root)
    drawn = whole.subsample(2500, seed=0)  # what the networks were trained on
    held_out = {
        "patient": whole.subsample(PER_CLASS, seed=1),
        "window": drawn[split(drawn, level="window", seed=0)[0].test].subsample(PER_CLASS, seed=0),
    }
    out: dict = {
        "what": "reference networks on clean MITDB windows that they did not learn from: accuracy with a branch silenced",
        "code_version": __version__,
        "device": f"CPU, {torch.get_num_threads()} threads",
        "classes": list(CLASSES),
        "levels": {},
    }
    for level, windows in held_out.items():
        paths = networks.checkpoints("mitdb", level)
        logits = networks.branch_logits(found, windows, level=level)
        out["levels"][level] = {
            "windows": {"sha256": fingerprint(windows), "counts": windows.counts().to_dict()},
            "patients": len(set(windows.patient)),
            "checkpoints": [p.name for p in paths],
            "effects": branches.effects(logits, windows.y, windows.patient).round(4).to_dict("records"),
            "by class": {
                c: branches.effects(
                    {k: z[windows.y == i] for k, z in logits.items()}, windows.y[windows.y == i],
                    windows.patient[windows.y == i],
                ).round(4).to_dict("records")
                for i, c in enumerate(CLASSES)
            },
            "spread": spreads(windows, paths),
        }  # fmt: skip
    (RESULTS / "branches.json").write_text(json.dumps(out, indent=1) + "\n")
    for level, row in out["levels"].items():
        print(level, [(e["condition"], e["accuracy"], e["changed"]) for e in row["effects"]], row["spread"])


if __name__ == "__main__":
    main()
