"""A network on its way: what it scores and what its maps look like, epoch by epoch.

The deck ends on a figure "Interpretability w.r.t. epochs".  Here a network is looked at before its first step and after
chosen epochs, always on the same windows that it does not learn from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from ecglib import cam
from ecglib.evaluation import predict, report
from ecglib.localisation import chance, mass_accuracy
from ecglib.overlap import over_patients, rank_correlation
from ecglib.splits import Split
from ecglib.training import TrainConfig, fit
from ecglib.windowset import WindowSet


@dataclass(frozen=True)
class Course:
    """A training run, looked at on the way.

    Attributes
    ----------
    epochs : list of int
        0 is the untrained network.
    logits : ndarray of shape (E, N, n_classes)
    maps : ndarray of shape (E, N, 48), float32
        Class activation map of the annotated class.
    """

    epochs: list[int]
    logits: np.ndarray
    maps: np.ndarray


def follow(
    model: nn.Module,
    windows: WindowSet,
    part: Split,
    seen: WindowSet,
    *,
    at: Sequence[int],
    config: TrainConfig,
    progress: bool = False,
) -> Course:
    """Train ``model`` (it must have a map for `ecglib.cam`) and look at ``seen`` after the epochs ``at``.

    Nothing is kept on disk: a run that is killed begins anew.
    """
    logits, maps, epochs = [], [], []
    x, y = torch.from_numpy(seen.x), torch.from_numpy(seen.y)

    def look(epoch: int, network: nn.Module) -> None:
        if epoch in at:
            epochs.append(epoch)
            logits.append(predict(network, seen.x))
            maps.append(cam.class_activation_map(network, x, y).numpy())

    look(0, model)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, windows, part, config=config, run_dir=folder, on_epoch=look, progress=progress)
    return Course(epochs, np.stack(logits), np.stack(maps))


def table(course: Course, seen: WindowSet, truth: np.ndarray) -> pd.DataFrame:
    """What changes from epoch to epoch.

    Parameters
    ----------
    course : Course
    seen : WindowSet
        The windows that it was looked at with.
    truth : ndarray of shape (N, 720), bool
        Samples that should matter.

    Returns
    -------
    DataFrame
        epoch, measure, mean, low, high (95 % over patients), patients; measures are accuracy, macro-F1 (no interval by
        patients' means: that of `ecglib.evaluation.report`), mass (of the positive map inside the truth, less chance),
        and final (Spearman's rank correlation with the map of the last epoch).
    """
    rows = []
    free = chance(truth)
    for i, epoch in enumerate(course.epochs):
        guess = course.logits[i].argmax(1)
        scored = report(seen.y, guess, groups=seen.patient, classes=seen.classes)
        upsampled = cam.upsample(torch.from_numpy(course.maps[i])).numpy()
        values = {
            "accuracy": (guess == seen.y) * 1.0,
            "mass": mass_accuracy(upsampled, truth) - free,
            "final": rank_correlation(course.maps[i], course.maps[-1]),
        }
        for measure, value in values.items():
            rows.append({"epoch": epoch, "measure": measure, **over_patients(value, seen.patient)})
        low, high = scored.intervals["f1_macro"]
        patients = scored.n_groups
        rows.append(
            {
                "epoch": epoch,
                "measure": "macro-F1",
                "mean": scored.macro_f1,
                "low": low,
                "high": high,
                "patients": patients,
            }
        )
    return pd.DataFrame(rows)


def averages(course: Course, seen: WindowSet, *, before: float = 0.4, after: float = 0.6) -> pd.DataFrame:
    """Map of the annotated class around the labelled R peak, each window's positive map as shares of its sum.

    Returns
    -------
    DataFrame
        epoch, class, t (s from R), value: mean of the patients' means, times the number of steps, so that 1 is chance.
    """
    upsampled = cam.upsample(torch.from_numpy(course.maps.reshape(-1, course.maps.shape[-1]))).numpy()
    positive = np.maximum(upsampled, 0).reshape(*course.maps.shape[:2], -1)
    total = positive.sum(-1, keepdims=True)
    share = np.divide(positive, total, out=np.full_like(positive, np.nan), where=total > 0) * positive.shape[-1]
    offset = np.arange(-round(before * 360), round(after * 360) + 1, 4)
    at = np.round(seen.r_position * 360).astype(int)[:, None] + offset  # (N, K)
    inside = (at >= 0) & (at < share.shape[-1])
    around = np.take_along_axis(
        share, np.broadcast_to(np.clip(at, 0, share.shape[-1] - 1), (len(share), *at.shape)), -1
    )
    around = np.where(inside, around, np.nan)
    rows = []
    for c, name in enumerate(seen.classes):
        own = seen.y == c
        if not own.any():
            continue
        for i, epoch in enumerate(course.epochs):
            means = pd.DataFrame(around[i, own]).groupby(seen.patient[own]).mean().mean()
            rows += [(epoch, name, round(t / 360, 4), v) for t, v in zip(offset, means, strict=True)]
    return pd.DataFrame(rows, columns=["epoch", "class", "t", "value"])
