"""Other arrhythmias: scores of the networks of fifteen classes, and whether they look where a cardiologist does.

The runs are those of ``results/other.json`` (``benchmarks/reference_other.py``); the networks that are looked into are
`ecglib.models.Compact`, small enough to be committed for every fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ecglib import FS, WINDOW, averages, cam, grid, localisation, models, networks
from ecglib.attribution import CONTROLS
from ecglib.errors import DataError, check_name
from ecglib.evaluation import predict
from ecglib.fills import remove
from ecglib.scores import draws, score
from ecglib.source import project_root
from ecglib.splits import split
from ecglib.windows import fill, labels
from ecglib.windowset import HALF_S, WindowSet

LABELS = "mitdb15"
#: where the evidence of a class lies, s from the R peak; fixed before any map of these networks was looked at
SPANS: Mapping[str, tuple[tuple[float, float, str], ...]] = MappingProxyType(
    {
        "paced": ((-0.16, -0.04, "stimulus"), (-0.04, 0.14, "QRS")),
        "WPW": ((-0.16, -0.02, "PR, delta wave"),),
    }
)
CONTROL_S = 0.36  #: by which a control stretch lies later than the evidence: past the QRS, and still in the window


def scores(model: str, *, n_boot: int = 1000) -> pd.DataFrame:
    """F1 of every class at both levels of split.

    Returns
    -------
    DataFrame
        Columns class, level, f1 (mean over seeds), low, high (95 % bootstrap over patients), patients (of the test parts),
        people (who show the class at all), windows.  By patient a class of one person has NaN: no network that is tested
        on it has learnt it.
    """
    found = networks.results("other")
    people = {c: row["patients"] for c, row in found["counts"]["clean"].items()}
    tables = []
    for level in networks.LEVELS:
        table = grid.by_class(_runs(model, level), classes=found["classes"], n_boot=n_boot).assign(level=level)
        table["people"] = table["class"].map(people)
        cannot = (table.people < 2) & (level == "patient")
        table.loc[cannot, ["f1", "low", "high"]] = np.nan
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def macro(model: str, *, n_boot: int = 1000, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Macro-F1 by level, over the classes that two people or more show, with its 95 % interval over patients.

    A class that no patient of a bootstrap draw shows is left out of that draw.
    """
    found = networks.results("other")
    several = np.array([found["counts"]["clean"][c]["patients"] > 1 for c in found["classes"]])
    out = {}
    for level in networks.LEVELS:
        patients, seeds = grid.confusion_of(_runs(model, level), classes=found["classes"])
        weight = np.vstack([np.ones(len(patients)), draws(len(patients), n_boot=n_boot, seed=seed)])
        value = []
        for by_patient in seeds:
            whole = np.tensordot(weight, by_patient, axes=1)  # (draws, K, K)
            value.append(np.where(whole.sum(2) > 0, score(whole)[1], np.nan)[:, several])
        each = np.nanmean(np.mean(value, axis=0), axis=1)
        low, high = np.percentile(each[1:], [2.5, 97.5])
        out[level] = (float(each[0]), float(low), float(high))
    return out


def confusion(model: str, level: str) -> np.ndarray:
    """Confusion matrix (K, K) of a level, mean over seeds, rounded to windows."""
    seeds = grid.confusion_of(_runs(model, level), classes=networks.results("other")["classes"])[1]
    return np.round(seeds.sum(1).mean(0)).astype(int)


def unseen(
    of: str, *, level: str, root: Any = None, most: int = 200, patient: str = "", per_class: int = 1000
) -> WindowSet:
    """At most ``most`` windows of a class that the committed networks of a level did not learn from, patients in turn.

    What they learnt from is found again from the annotations (``per_class`` windows of each class, then the split).  By
    patient every window is one of a stranger to the network of its fold.
    """
    whole = labels("mitdb", rule="clean", labels=LABELS, root=root)
    own = whole.y == whole.classes.index(check_name("class", of, whole.classes))
    own &= (whole.patient == patient) | (patient == "")
    if check_name("level", level, networks.LEVELS) == "window":
        pack = whole.subsample(per_class, seed=0)
        learnt = pack[split(pack, level=level, seed=0)[0].train]
        known = set(zip(learnt.record, learnt.time, strict=True))
        own &= np.array([at not in known for at in zip(whole.record, whole.time, strict=True)])
    return fill(whole[own].subsample(most, seed=0), root=root)


def by_network(windows: WindowSet, *, level: str) -> Iterator[tuple[nn.Module, np.ndarray]]:
    """Pair the committed networks of a level with the windows they are asked about: by patient, the fold's strangers."""
    check_name("level", level, networks.LEVELS)
    folder = project_root() / "results" / LABELS
    paths = sorted(folder.glob(f"compact-{level}*.safetensors"))
    if not paths:
        raise DataError(f"no network compact-{level} in {folder}; train it with benchmarks/reference_other.py")
    if level == "window":
        yield models.load(paths[0]), np.arange(len(windows))
        return
    for path in paths:
        own = np.flatnonzero(np.isin(windows.patient, models.metadata(path)["patients_held_out"]))
        if len(own):
            yield models.load(path), own


def explain(windows: WindowSet, *, level: str, of: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K), and CAM (N, 720) of the annotated class or of the class ``of``."""
    logits = np.empty((len(windows), len(windows.classes)), np.float32)
    maps = np.empty((len(windows), WINDOW), np.float32)
    y = (
        windows.y
        if of is None
        else np.full(len(windows), windows.classes.index(check_name("class", of, windows.classes)))
    )
    for net, index in by_network(windows, level=level):
        x, target = torch.from_numpy(windows.x[index]), torch.from_numpy(y[index])
        logits[index] = predict(net, windows.x[index])
        maps[index] = cam.upsample(cam.class_activation_map(net, x, target)).detach().numpy()
    return logits, maps


def inside(windows: WindowSet, *, of: str, shift: float = 0.0) -> np.ndarray:
    """Samples (N, 720), bool, where the evidence of a class is expected around each labelled beat, or ``shift`` s later."""
    spans = [(a + shift, b + shift) for a, b, _ in SPANS[check_name("class", of, SPANS)]]
    begin = windows.time - HALF_S
    return np.array(
        [
            localisation.span_mask([(r + a, r + b) for a, b in spans], start=t, length=WINDOW, fs=FS)
            for r, t in zip(windows.anchor, begin, strict=True)
        ]
    )


def masses(windows: WindowSet, maps: np.ndarray, *, of: str) -> pd.DataFrame:
    """Share of positive relevance in the expected spans, mean of each patient's windows.

    Returns
    -------
    DataFrame
        One row a patient: patient, windows, chance (share of the window inside), CAM, and the controls that look at the
        signal alone: amplitude, slope, R bump.
    """
    truth, x = inside(windows, of=of), torch.from_numpy(windows.x)
    peak = torch.from_numpy(np.round(windows.r_position * FS))
    controls = {
        "amplitude": CONTROLS["amplitude"](None, x, 0),
        "slope": CONTROLS["slope"](None, x, 0),
        "R bump": CONTROLS["bump"](None, x, 0, centre=peak),
    }
    columns: dict[str, Any] = {"chance": localisation.chance(truth), "CAM": localisation.mass_accuracy(maps, truth)}
    columns |= {name: localisation.mass_accuracy(r, truth) for name, r in controls.items()}
    table = pd.DataFrame({"patient": windows.patient, **columns})
    return table.groupby("patient").agg("mean").assign(windows=table.groupby("patient").size()).reset_index()


def bridged(windows: WindowSet, *, of: str, level: str) -> pd.DataFrame:
    """What a straight line over the evidence does to the logit of a class, beside one over a stretch as long after it.

    Returns
    -------
    DataFrame
        One row a patient: patient, evidence, control: mean change of the logit.
    """
    c, rows = windows.classes.index(of), []
    for net, index in by_network(windows, level=level):
        own = windows[index]
        x = torch.from_numpy(own.x)
        before = predict(net, own.x)[:, c]
        gone = {"evidence": inside(own, of=of), "control": inside(own, of=of, shift=CONTROL_S)}
        change = {k: predict(net, remove(x, torch.from_numpy(g)).numpy())[:, c] - before for k, g in gone.items()}
        rows.append(pd.DataFrame({"patient": own.patient, **change}))
    return pd.concat(rows).groupby("patient").agg("mean").reset_index()


def averages_of(sets: Mapping[str, WindowSet], *, of: str, level: str) -> pd.DataFrame:
    """Average beat (mV) and average map of a class, its part of the logit with its sign, of named sets of windows.

    Returns
    -------
    DataFrame
        Columns beats (the set's name), time (s from the R peak), mV, CAM; every patient of a set counts once.
    """
    tables = []
    for name, windows in sets.items():
        maps = explain(windows, level=level, of=of)[1]
        beat, relevance = (averages.by_class(windows, v) for v in (averages.beats(windows.x), maps))
        columns = {"beats": name, "time": beat.time.round(4), "mV": beat["mean"].round(4)}
        tables.append(pd.DataFrame(columns | {"CAM": relevance["mean"].round(3)}))
    return pd.concat(tables, ignore_index=True)


# Internals -----------------------------------------------------------------------------------------------------


def _runs(model: str, level: str) -> list[dict[str, Any]]:
    found = networks.results("other")["runs"]
    check_name("model", model, sorted({r["model"] for r in found}))
    return [r for r in found if (r["model"], r["level"]) == (model, level)]
