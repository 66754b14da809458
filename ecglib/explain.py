"""A whole record explained: a window for every beat, and from the windows' maps one saliency signal.

Windows of neighbouring beats overlap.  With M_i the map of window i, which begins at sample b_i, the saliency at
sample t is the mean over the windows that cover it: s(t) = sum_i M_i(t - b_i) / #{i : b_i <= t < b_i + 720}.
This is research, no diagnosis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn
from tqdm import tqdm

from ecglib import CLASSES, FS, WINDOW, detect
from ecglib.attribution import METHODS, attribute
from ecglib.cam import upsample
from ecglib.errors import DataError, check_name
from ecglib.explained import Explained, disagreements, timeline
from ecglib.modes import evaluating
from ecglib.records import Record
from ecglib.rules import BEAT_CLASS, RHYTHM_CLASS
from ecglib.wfdb_files import by_symbol, table
from ecglib.windowset import HALF_S

__all__ = ["Explained", "disagreements", "expected", "explain_record", "timeline"]

BATCH = 32  #: windows that pass the network at once: 64 and 128 were no faster on two cores


def explain_record(
    record: Record,
    *,
    model: nn.Module,
    classes: Sequence[str] = CLASSES,
    method: str = "cam",
    target: str | int | None = None,
    beats: Any = None,
    batch_size: int = BATCH,
    progress: bool = False,
) -> Explained:
    """Explain every beat of a record that is in memory; `ecglib.explain_io.explain_file` goes through a long one.

    Parameters
    ----------
    record : Record
        At 360 Hz, two seconds or longer.
    model : nn.Module
        Windows (n, 1, 720) -> logits (n, n_classes); left as it was.
    classes : sequence of str
        Names of the logits.
    method : str
        Key of `ecglib.attribution.METHODS`.  "cam" takes probabilities and maps from the same pass.
    target : str or int, optional
        Class that is explained; by default the predicted one of each window.
    beats : array of times (s), or recarray of (time s, symbol), optional
        By default the annotated beats; where there are none, peaks found by `ecglib.detect.r_peaks`.
    batch_size : int
        Windows that pass the network at once.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Explained
        A window reaches 1 s to either side of its beat; near an end of the record it is moved inside.

    Raises
    ------
    DataError
        Another rate than 360 Hz, a record shorter than a window, no beats, or a network that does not fit ``classes``
        or ``method``.
    """
    if record.fs != FS:
        raise DataError(f"record {record.name} is at {record.fs:g} Hz; read it at fs={FS:g} to explain it")
    first = round(record.start * FS)
    own = choose_beats(record, beats)
    if not len(own):
        time = detect.r_peaks(record.signal, start=record.start)
        own = table(time=time, symbol=np.full(len(time), "", "U2"))
    begin = window_starts(own.time, first, first + len(record.signal), name=record.name)
    probability, total, count = run(
        record.signal, begin - first, model=model, n_classes=len(classes), method=method,
        target=class_of(target, classes), batch_size=batch_size, progress=progress,
    )  # fmt: skip
    return Explained(
        beats=beat_table(record, own, probability, classes), saliency=average(total, count), fs=FS, name=record.name,
        database=record.database, start=record.start,
    )  # fmt: skip


def expected(record: Record, beats: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rhythm label of each beat ("" without one), and the class that its annotation stands for (-1: none), (N,) each.

    As the clean rule defines the classes (`ecglib.windows.cut`), but of every beat and not only of pure windows: the class
    of the beat's symbol; an N beat in AFIB, SVTA or SBR, and an A beat in SVTA, have the class of the rhythm; an N beat in
    sinus rhythm (or without a rhythm mark) with RR intervals of 1.0 s or more on both sides is bradycardia, SBR; an N beat
    in any other rhythm, such as flutter or bigeminy, is none of the eight.
    """
    time, symbol = np.asarray(beats.time), np.asarray(beats.symbol)
    rhythm = np.full(len(time), "", "U12")
    if len(record.rhythms):
        episode = np.searchsorted(record.rhythms.start, time, side="right") - 1
        inside = (episode >= 0) & (time < record.rhythms.stop[episode])
        rhythm[inside] = record.rhythms.label[episode[inside]]
    y = by_symbol(symbol, BEAT_CLASS, other=-1)
    for label, c in RHYTHM_CLASS.items():
        y[(rhythm == label) & ((symbol == "N") | ((symbol == "A") & (label == "SVTA")))] = c
    rr = np.diff(time, prepend=np.nan, append=np.nan)  # beyond the ends it is unknown, not long
    sinus = np.isin(rhythm, ["N", ""])
    y[(y == 0) & ~sinus] = -1  # an N beat in flutter, say, is none of the eight
    y[(y == 0) & (rr[:-1] >= 1.0) & (rr[1:] >= 1.0)] = RHYTHM_CLASS["SBR"]
    return rhythm, y


# Steps of the above, shared with explain_io --------------------------------------------------------------------


def choose_beats(record: Record, beats: Any = None) -> np.recarray:
    """Beats as a recarray of (time s, symbol), sorted: the given ones, else those of the record; maybe none."""
    if beats is None:
        return record.beats
    time = np.asarray(
        beats["time"] if getattr(beats, "dtype", None) is not None and beats.dtype.names else beats, float
    )
    names = getattr(getattr(beats, "dtype", None), "names", None) or ()
    symbol = np.asarray(beats["symbol"], "U2") if "symbol" in names else np.full(len(time), "", "U2")
    order = np.argsort(time, kind="stable")
    return table(time=time[order], symbol=symbol[order])


def class_of(target: str | int | None, classes: Sequence[str]) -> int | None:
    """Index of a class given by name or number; None stays None."""
    if isinstance(target, str):
        return list(classes).index(check_name("class", target, classes))
    return target


def window_starts(time: np.ndarray, first: int, stop: int, *, name: str) -> np.ndarray:
    """First samples (N,) of the windows around beats at ``time`` (s), moved inside the samples ``first`` … ``stop``."""
    if stop - first < WINDOW:
        raise DataError(f"record {name} has {(stop - first) / FS:.2f} s here; a window needs {WINDOW / FS:g} s or more")
    if not len(time):
        raise DataError(f"record {name} has no annotated beats and none could be found; choose another lead or part")
    return np.clip(np.round((np.asarray(time) - HALF_S) * FS).astype(int), first, stop - WINDOW)


def run(
    signal: np.ndarray, begin: np.ndarray, *, model: nn.Module, n_classes: int, method: str, target: int | None,
    batch_size: int, progress: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Probabilities (N, n_classes) of windows from the samples ``begin`` on, the sum of their maps and its count, (T,).

    Windows that are flat or hold no values have NaN for probabilities and cover nothing.
    """
    check_name("method", method, METHODS)
    views = sliding_window_view(signal, WINDOW) if len(begin) else signal
    probability = np.full((len(begin), n_classes), np.nan, np.float32)
    total, count = np.zeros(len(signal)), np.zeros(len(signal), np.int32)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    for i in tqdm(range(0, len(begin), batch_size), desc="windows", disable=not progress):
        own = views[begin[i : i + batch_size]]
        usable = np.flatnonzero(np.isfinite(own).all(1) & (np.ptp(own, axis=1) > 0))
        if not len(usable):
            continue
        x = torch.from_numpy(np.ascontiguousarray(own[usable], np.float32)[:, None]).to(device)
        logits, maps = _decide(model, x, method, target, n_classes)
        probability[i + usable] = logits.softmax(1).float().cpu().numpy()
        for b, m in zip(begin[i + usable], maps.float().cpu().numpy(), strict=True):
            total[b : b + WINDOW] += m
            count[b : b + WINDOW] += 1
    return probability, total, count


def average(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Sum of maps over their number, float32, NaN where there is none."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def beat_table(record: Record, beats: Any, probability: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Rows of `Explained.beats`."""
    rhythm, y = expected(record, beats)
    names, known = np.array([*classes, ""], object), np.array([*CLASSES, ""], object)
    there = np.isfinite(probability).all(1)
    best = np.where(there, np.nan_to_num(probability).argmax(1), -1)
    confidence = np.where(there, probability[np.arange(len(best)), best], np.nan).astype(np.float32)
    columns = {"time": np.asarray(beats.time), "symbol": np.asarray(beats.symbol).astype(object)}
    columns |= {"rhythm": rhythm.astype(object), "expected": known[y], "predicted": names[best]}
    return pd.DataFrame(columns | {"confidence": confidence} | dict(zip(classes, probability.T, strict=True)))


# Internals -----------------------------------------------------------------------------------------------------


@contextmanager
def _recorded(model: Any) -> Iterator[list[Tensor]]:
    """The feature maps that the network computes meanwhile: probabilities and maps then cost one pass, not two."""
    kept: list[Tensor] = []
    original, own = model.feature_map, {k: v for k, v in vars(model).items() if k == "feature_map"}

    def record(x: Tensor) -> Tensor:
        kept.append(original(x))
        return kept[-1]

    try:
        vars(model)["feature_map"] = record  # shows before the class's method
        yield kept
    finally:
        del vars(model)["feature_map"]
        vars(model).update(own)


def _decide(model: Any, x: Tensor, method: str, target: int | None, n_classes: int) -> tuple[Tensor, Tensor]:
    """Logits (n, n_classes), and relevance (n, 720) of the target or else of the predicted class."""
    if method == "cam":
        if not isinstance(getattr(model, "head", None), nn.Linear) or not hasattr(model, "feature_map"):
            raise DataError(f"{type(model).__name__} has no linear head on a feature_map; give method 'grad_cam'")
        with evaluating(model), torch.inference_mode(), _recorded(model) as kept:
            logits = model(x)
            f = kept[0]  # (n, K, steps)
            maps = torch.einsum("ck,nkt->nct", model.head.weight[:, : f.shape[1]], f)
    else:
        with evaluating(model), torch.no_grad():
            logits = model(x)
    if logits.shape[1] != n_classes:
        raise DataError(f"the network gives {logits.shape[1]} classes and {n_classes} were named; give its classes")
    index = logits.argmax(1) if target is None else torch.full((len(x),), target, device=x.device)
    if method == "cam":
        return logits, upsample(maps[torch.arange(len(x)), index])
    return logits, attribute(method, model, x, index)
