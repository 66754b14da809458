"""Evidence for `ecglib.claims`: what explanations and controls score, with intervals over patients, and the verdicts.

Every function works on any networks and windows: those of the book, or a checkpoint of the reader's own.  Patients count
once: means within patients first, then over patients; a bootstrap draws patients.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn

from ecglib import CLASSES, FS, claims, localisation, models, networks, overlap, sanity
from ecglib.attribution import attribute
from ecglib.collapsed import collapse_expected
from ecglib.errors import DataError, check_name
from ecglib.faithfulness import class_score, deletion_curve, insertion_curve
from ecglib.fills import Fill
from ecglib.pairing import SILENT
from ecglib.records import read_record
from ecglib.scores import draws
from ecglib.source import Source
from ecglib.windows import HALF_S, WindowSet
from ecglib.windowset import eight

Assigned = list[tuple[nn.Module, np.ndarray]]  # networks, each with the numbers of the windows that it explains
Maps = Mapping[str, np.ndarray]  # relevance (N, T) by name of the explanation or control

#: explanations that are judged; Grad-CAM is left out, as under average pooling it is the map times a constant
METHODS = (
    "cam", "guided_grad_cam", "gradient_x_input", "integrated_gradients", "deep_lift", "occlusion", "mask", "mask_deck",
)  # fmt: skip
JUDGED_CONTROLS = ("random", "amplitude", "slope", "bump", "centre", "uniform")  #: the six of the page of claims

#: coarser than the defaults where those are slow: points on the way, and samples from one hidden stretch to the next
OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"integrated_gradients": {"n_steps": 12}, "occlusion": {"stride": 36}}
)
MEASURES = MappingProxyType(
    {
        "mass": localisation.mass_accuracy, "rank": localisation.rank_accuracy, "pointing": localisation.pointing_game,
        "AUP": localisation.aup, "AUR": localisation.aur,
    }
)  # fmt: skip
NEAR_R_S = 0.06  #: of `near_beats`, to either side


def assign(source: Source, windows: WindowSet, *, model: str = "", split: str = "patient") -> Assigned:
    """Networks that explain windows: a checkpoint of one's own, or the book's by the level of their split.

    By "patient" each window goes to the network that never saw its patient, where there is one; "window" has one network.
    """
    check_name("split", split, networks.LEVELS)
    if model:
        return [(models.load(model), np.arange(len(windows)))]
    return list(networks.by_network(source, windows, level=split))


def able(model: nn.Module) -> tuple[str, ...]:
    """Those of `METHODS` that can explain this network: maps ask for feature maps, masks for an LSTM beside a CNN."""
    needs = {
        "cam": "feature_map",
        "guided_grad_cam": "feature_map",
        "mask": "lstm_features",
        "mask_deck": "lstm_features",
    }
    return tuple(m for m in METHODS if hasattr(model, needs.get(m, "forward")))


def explain(assigned: Assigned, windows: WindowSet, names: Iterable[str], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Relevance (N, 720) of the annotated class by methods and controls.

    A mask that nowhere deletes as much as `SILENT` says nothing, and becomes 0 throughout.
    """
    out = {}
    for name in names:
        options = dict(OPTIONS.get(name, {})) | ({"seed": seed} if name == "random" else {})
        out[name] = np.zeros((len(windows), windows.x.shape[-1]), np.float32)
        for net, i in assigned:
            x, y = torch.from_numpy(windows.x[i]), torch.from_numpy(windows.y[i])
            with collapse_expected():  # a mask that says nothing is counted here
                out[name][i] = attribute(name, net, x, y, **options).numpy()
        if name.startswith("mask"):
            out[name][out[name].max(1) < SILENT] = 0
    return out


# Over patients ---------------------------------------------------------------------------------------------------


def over_patients(
    values: np.ndarray, patient: np.ndarray, *, together: int = 1, n_boot: int = 10000, seed: int = 0
) -> dict[str, Any]:
    """Mean of the patients' means, with its percentile bootstrap interval at 1 - 0.05 / ``together`` over patients.

    Windows without a value (NaN) do not count; fewer than two patients have no interval.

    >>> over_patients(np.array([1.0, 3.0, 5.0]), np.array(["a", "a", "b"]))["estimate"]
    3.5
    """
    found = overlap.over_patients(values, patient, together=together, n_boot=n_boot, seed=seed)
    return {"estimate": found["mean"], **{k: found[k] for k in ("low", "high", "patients")}}


def judge(claim: str, found: Mapping[str, np.ndarray], patient: np.ndarray) -> list[dict[str, Any]]:
    """Verdicts of one claim on values (N,) by class or method, all intervals holding together.

    What has a value and is spoken of by the claim is judged, and counted for Bonferroni's correction: the rule is that of
    `ecglib.claims.family`.

    Returns
    -------
    list of dict
        claim, of, estimate, low, high, patients, verdict.
    """
    spoken = claims.family(claim, [of for of, values in found.items() if np.isfinite(values).any()])
    rows = []
    for of in spoken:
        row = over_patients(found[of], patient, together=len(spoken))
        rows.append({"claim": claim, "of": of, **row, "verdict": claims.verdict(claim, **row)})
    return rows


def by_class(values: np.ndarray, windows: WindowSet) -> dict[str, np.ndarray]:
    """Values (N,) of one class of the eight at a time, NaN elsewhere."""
    return {c: np.where(eight(windows).y == i, values, np.nan) for i, c in enumerate(CLASSES)}


# Tables ----------------------------------------------------------------------------------------------------------


def near_beats(source: Source, windows: WindowSet, *, near_s: float = NEAR_R_S) -> np.ndarray:
    """Samples (N, 720), bool, within ``near_s`` of an annotated R peak: of every beat, not of the labelled one alone."""
    beats = {str(r): read_record(source.database, str(r), root=source.root).beats.time for r in set(windows.record)}
    out = []
    for record, time in zip(windows.record, windows.time, strict=True):
        start, at = time - HALF_S, beats[str(record)]
        spans = [(t - near_s, t + near_s) for t in at[np.abs(at - time) < HALF_S + near_s]]
        out.append(localisation.span_mask(spans, start=start, length=windows.x.shape[-1], fs=FS))
    return np.stack(out)


def localise(maps: Maps, truth: np.ndarray, windows: WindowSet) -> pd.DataFrame:
    """Table of `MEASURES` against a truth (N, 720), beside "chance": name, label, measure, and `over_patients`."""
    scores = {(n, m): f(r, truth) for n, r in maps.items() for m, f in MEASURES.items()}
    scores |= {("chance", "mass"): localisation.chance(truth)}
    rows = [
        {"name": n, "label": c, "measure": m, **over_patients(v, windows.patient)}
        for (n, m), values in scores.items()
        for c, v in by_class(values, windows).items()
    ]
    return pd.DataFrame(rows).dropna(subset="estimate").reset_index(drop=True)


def best_less_control(masses: Maps, patient: np.ndarray, methods: Sequence[str], controls: Sequence[str]) -> np.ndarray:
    """Score (N,) of the best method less that of the best control, both chosen on patients other than the window's own."""
    table = pd.DataFrame({k: masses[k] for k in (*methods, *controls)})
    means = table.groupby(np.asarray(patient)).mean()
    out = np.full(len(table), np.nan)
    for who in means.index if len(means) > 1 else ():
        others, own = means.drop(who).mean(), np.asarray(patient) == who
        if others[list(methods)].notna().any():
            pair = table.loc[own, [others[list(methods)].idxmax(), others[list(controls)].idxmax()]].to_numpy()
            out[own] = pair[:, 0] - pair[:, 1]
    return out


def curves(
    assigned: Assigned, windows: WindowSet, maps: Maps, *, fill: Fill = "linear", steps: int = 10,
    insert: bool = False, seed: int = 0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Probability of the annotated class (N, steps + 1) as samples go (or come), the most relevant first."""
    out = {name: np.empty((len(windows), steps + 1), np.float32) for name in maps}
    run = insertion_curve if insert else deletion_curve
    for net, i in assigned:
        x = torch.from_numpy(windows.x[i])
        score = class_score(net, x, torch.from_numpy(windows.y[i]))
        for name, r in maps.items():
            out[name][i] = run(score, x, r[i], steps=steps, fill=fill, seed=seed).score.numpy()
    return out


def area(score: np.ndarray) -> np.ndarray:
    """Area under curves (N, steps + 1) from 0 to 1, by trapezia, (N,)."""
    return np.trapezoid(score, dx=1 / (score.shape[1] - 1), axis=1)


def least_tau(areas: Mapping[str, Maps], patient: np.ndarray, *, n_boot: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Kendall's tau between orders of names under two fills, the least over pairs of fills, with a 95 % interval.

    ``areas`` holds (N,) by fill and name.  A bootstrap over patients draws all fills and names together; noise alone
    lowers a tau, so the interval leans downwards.
    """
    fills, names = list(areas), list(next(iter(areas.values())))
    if len(fills) < 2 or len(names) < 2:
        raise DataError(f"received {len(fills)} fills and {len(names)} names; give two of each or more")
    table = (
        pd.DataFrame({(f, n): areas[f][n] for f in fills for n in names}).groupby(np.asarray(patient)).mean().to_numpy()
    )
    weight = np.vstack([np.ones(len(table)), draws(len(table), n_boot=n_boot, seed=seed)]) / len(table)
    mean = (weight @ table).reshape(len(weight), len(fills), len(names))
    tau = np.array([min(stats.kendalltau(a, b).statistic for a, b in itertools.combinations(m, 2)) for m in mean])
    low, high = np.percentile(tau[1:], [2.5, 97.5])
    return {"estimate": float(tau[0]), "low": float(low), "high": float(high), "patients": len(table)}


def cascade(
    assigned: Assigned, windows: WindowSet, names: Sequence[str], *, seed: int = 0, depth: int = 1
) -> dict[str, dict[str, np.ndarray]]:
    """Spearman's correlation (N,) of maps with those of the network randomised from its output, by layer and name."""
    before, out = explain(assigned, windows, names), {}
    runs = [(sanity.cascading_randomisation(net, seed=seed, depth=depth), i) for net, i in assigned]
    for step in zip(*(run for run, _ in runs), strict=True):
        after = explain([(net, i) for (_, net), (_, i) in zip(step, runs, strict=True)], windows, names)
        out[step[0][0]] = {n: sanity.similarity(before[n], after[n]) for n in names}
    return out


def between(nets: Mapping[str, nn.Module], windows: WindowSet, names: Sequence[str]) -> dict[tuple[str, str], Maps]:
    """Pearson's r (N,) of the maps of every two networks, by pair and name of the explanation; NaN where one is flat."""
    every = np.arange(len(windows))
    maps = {k: explain([(net, every)], windows, names) for k, net in nets.items()}
    return {
        (a, b): {n: sanity.similarity(maps[a][n], maps[b][n], kind="pearson") for n in names}
        for a, b in itertools.combinations(nets, 2)
    }
