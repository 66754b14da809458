"""Labelled windows as one object: arrays side by side, subsets, patients, and a compact file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecglib import CLASSES, FS, WINDOW
from ecglib.databases import database
from ecglib.errors import DataError
from ecglib.files import write_atomically

HALF_S = WINDOW / FS / 2  #: half a window, s


@dataclass(frozen=True)
class WindowSet:
    """Labelled windows.

    Attributes
    ----------
    x : ndarray of shape (N, 1, 720), float32
        Millivolts; (N, 1, 0) in a set of labels alone, whose signals `ecglib.windows.fill` reads when they are wanted.
    y : ndarray of shape (N,), int64
        Index into ``classes``.
    record, database : ndarray of shape (N,), str
    time : ndarray of shape (N,)
        Centre of the window, s from the beginning of the record.
    anchor : ndarray of shape (N,)
        R peak of the labelled beat, s; for a rhythm mark, of the first beat after it.
    classes : tuple of str
        Names of the classes: `ecglib.CLASSES`, or those of another `ecglib.labelsets.LabelSet`.
    """

    x: np.ndarray
    y: np.ndarray
    record: np.ndarray
    database: np.ndarray
    time: np.ndarray
    anchor: np.ndarray
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: np.ndarray | slice | list[int]) -> WindowSet:
        """Subset by an index array, mask or slice."""
        arrays: dict[str, Any] = {name: getattr(self, name)[index] for name in _ARRAYS}
        return WindowSet(**arrays, classes=self.classes)

    @property
    def patient(self) -> np.ndarray:
        """Patient identifiers, shape (N,): records of one person share theirs."""
        (d, databases), (r, records) = (pd.factorize(a.astype(object)) for a in (self.database, self.record))
        pair, inverse = np.unique(d * len(records) + r, return_inverse=True)  # numbers, not a string for every window
        names = [(databases[k // len(records)], records[k % len(records)]) for k in pair]
        people = [database(where).patient(name) if where else name for where, name in names]
        return np.asarray(people, str)[inverse] if len(people) else np.empty(0, str)

    @property
    def r_position(self) -> np.ndarray:
        """Place of the labelled R peak within its window, s, shape (N,): the position cue."""
        return self.anchor - self.time + HALF_S

    def counts(self) -> pd.Series:
        """Number of windows by class, every class listed."""
        k = len(self.classes)
        return pd.Series(np.bincount(self.y, minlength=k), index=list(self.classes), name="windows")

    def subsample(self, per_class: int, *, seed: int) -> WindowSet:
        """At most ``per_class`` windows of each class, spread over its patients as evenly as they allow.

        ECGNet draws windows, not patients, so a patient with many windows dominates there; here patients take turns.
        """
        rng, patient = np.random.default_rng(seed), self.patient
        chosen = []
        for c in range(len(self.classes)):
            index = rng.permutation(np.flatnonzero(self.y == c))
            turn = pd.Series(patient[index]).groupby(patient[index]).cumcount().to_numpy()
            chosen.append(index[np.argsort(turn, kind="stable")[:per_class]])
        return self[np.sort(np.concatenate(chosen))]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` for `load_windows`: signals as int16, each window with its own scale.

        Raises
        ------
        DataError
            The folder cannot be written, or the disk is full.
        """
        scale = np.maximum(np.abs(self.x).max((1, 2), keepdims=True), 1e-6) / 32767
        packed = {name: getattr(self, name) for name in _ARRAYS[1:]}
        if self.classes != CLASSES:
            packed["classes"] = np.array(self.classes)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, x=np.round(self.x / scale).astype(np.int16), scale=scale, **packed)
        write_atomically(Path(path), buffer.getvalue())


_ARRAYS = [f.name for f in fields(WindowSet) if f.name != "classes"]


def load_windows(path: str | os.PathLike[str]) -> WindowSet:
    """Read a window set written by `WindowSet.save`."""
    if not Path(path).is_file():
        raise DataError(f"there is no window set {path}; write it with WindowSet.save")
    try:
        with np.load(path, allow_pickle=False) as z:
            x = (z["x"] * z["scale"]).astype(np.float32)
            classes = tuple(z["classes"].tolist()) if "classes" in z else CLASSES
            arrays: dict[str, Any] = {name: z[name] for name in _ARRAYS[1:]}
            return WindowSet(x, **arrays, classes=classes)
    except Exception as error:  # numpy raises whatever a damaged archive makes it trip over
        raise DataError(
            f"{path} is no window set ({type(error).__name__}); write it anew with WindowSet.save"
        ) from error


def eight(windows: WindowSet) -> WindowSet:
    """The windows as they came: for what speaks of the eight classes and would read the labels of others as theirs.

    Raises
    ------
    DataError
        Their classes are not `ecglib.CLASSES`.
    """
    if tuple(windows.classes) != CLASSES:
        received, expected = (", ".join(names) for names in (windows.classes, CLASSES))
        raise DataError(f"expected windows of the classes {expected}; received {received}: cut them with 'mitdb8'")
    return windows


def concat(parts: Iterable[WindowSet]) -> WindowSet:
    """Join window sets in order."""
    parts = list(parts)
    if not parts:
        raise DataError("there are no window sets to join; give one or more")
    if len(kinds := sorted({p.classes for p in parts})) > 1:
        given = " and ".join(", ".join(k) for k in kinds[:2])
        raise DataError(f"window sets of different classes cannot be joined: {given}; cut both with the same labels")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS}
    return WindowSet(**arrays, classes=parts[0].classes)
