"""Rules that turn the annotations of a record into labelled windows; no signal is needed for that.

``"deck"`` reproduces the published counts; ``"clean"`` is ours and removes what the published rule lets a network learn
besides the rhythm: the place of the R peak, the rhythm before, and overlap between blocks.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ecglib import FS
from ecglib.errors import check_name
from ecglib.labelsets import LabelSet, load
from ecglib.records import BEAT_SYMBOLS, Record
from ecglib.wfdb_files import by_symbol
from ecglib.windowset import HALF_S

RULES: Mapping[str, str] = MappingProxyType(
    {
        "deck": "±1 s around each annotation: beats by their symbol, rhythms by the mark of their onset (as published)",
        "clean": "inside one episode, no beat of another class, the labelled R peak anywhere from 0.5 to 1.5 s (ours)",
    }
)
BLOCK_S = 60.0  #: no clean window crosses, or comes within half a window of, a multiple of this time
_NEVER = 1 << 40  # a sample that no record has
_REACH_S = 1.5  # a clean R peak lies 0.5 to 1.5 s into its window, so no window reaches further than this from it

BEAT_CLASS: Mapping[str, int] = MappingProxyType({"N": 0, "V": 1, "A": 2, "L": 6, "R": 7})  #: class of a beat's symbol
RHYTHM_CLASS: Mapping[str, int] = MappingProxyType({"AFIB": 3, "SVTA": 4, "SBR": 5})  #: class of a rhythm's label


@dataclass(frozen=True)
class Labels:
    """Labelled windows of one record: class, centre (s) and R peak of the labelled beat (s); shapes (N,)."""

    y: np.ndarray
    time: np.ndarray
    anchor: np.ndarray


def label(record: Record, *, rule: str, seed: int = 0, labels: LabelSet | None = None) -> Labels:
    """Label windows of a record by a rule; see `ecglib.windows.cut`.

    Parameters
    ----------
    record : Record
        With or without its signal.
    rule : str
        Key of `RULES`.
    seed : int
        Of the place of the R peak in the window ("clean" only).
    labels : LabelSet, optional
        The eight classes if not given.

    Raises
    ------
    UnknownNameError
        No such rule.
    """
    check_name("rule", rule, RULES)
    if not len(record.beats):
        return Labels(np.empty(0, int), np.empty(0), np.empty(0))
    return _deck(record, load(labels)) if rule == "deck" else _clean(record, load(labels), seed)


@dataclass(frozen=True)
class Clauses:
    """What the deck's rules ask of each mark of a record, one flag a clause; shapes (M,).

    Attributes
    ----------
    sample, label : ndarray of int
        Place at the file's rate; class, -1 for a mark of none.
    is_beat : ndarray of bool
        The label is that of a beat, not of a rhythm.
    begins : ndarray of bool
        The window [t - 1 s, t + 1 s) does not begin before the record does.
    company : ndarray of bool
        The record has another mark of the class whose window begins in it.
    between : ndarray of bool
        The closed window lies between the first and the last annotation.
    pure : ndarray of bool
        Every annotation in the closed window (beat, rhythm, noise, comment) carries the same label.
    """

    sample: np.ndarray
    label: np.ndarray
    is_beat: np.ndarray
    begins: np.ndarray
    company: np.ndarray
    between: np.ndarray
    pure: np.ndarray


def clauses(record: Record, labels: LabelSet | None = None) -> Clauses:
    """Ask every clause of the deck's rules of every mark of a record; the eight classes if no others are given."""
    marks, labels = record.marks, load(labels)
    assert marks is not None
    sample, second = np.round(marks.time * record.native_fs).astype(int), round(record.native_fs)
    label = by_symbol(marks.symbol, labels.beats, other=-1)
    is_beat = label >= 0
    changes = np.flatnonzero(by_symbol(marks.symbol, {"+": True}, other=False))
    rhythms = {f"({name}": c for name, c in labels.rhythms.items()}
    label[changes] = [rhythms.get(note, -1) for note in marks.aux[changes].tolist()]
    begins = (label >= 0) & (sample >= second)
    per_class = np.bincount(label[begins], minlength=len(labels.kinds))
    before, after = to_another(sample, label)
    return Clauses(
        sample=sample,
        label=label,
        is_beat=is_beat,
        begins=begins,
        company=(label >= 0) & (per_class[label] > begins),
        between=(sample - second >= sample[:1]) & (sample + second <= sample[-1:]),
        pure=(before > second) & (after > second),
    )


def to_another(sample: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples from each mark back and on to the nearest mark with another label, (M,) each; of marks in order of time.

    One pass over the marks: to search for both ends of each window takes a day of them five times as long.
    """
    new = np.r_[True, label[1:] != label[:-1]][: len(label)]
    run, first = np.cumsum(new) - 1, np.flatnonzero(new)[1:]  # runs of one label, and where all but the first begin
    return sample - np.r_[-_NEVER, sample[first - 1]][run], np.r_[sample[first], _NEVER][run] - sample


# Internals -----------------------------------------------------------------------------------------------------


def _deck(record: Record, labels: LabelSet) -> Labels:
    c = clauses(record, labels)
    # Rule A for every class of MITDB (and of records that are not in the table), for rhythms elsewhere; else rule B.
    by_b = c.is_beat & (record.database in {"ltafdb", "ltdb"})
    keep = (c.label >= 0) & np.where(by_b, c.between & c.pure, c.begins & c.company)
    time, peaks, is_rhythm = c.sample[keep] / record.native_fs, record.beats.time, ~c.is_beat[keep]
    anchor, onset = time.copy(), time[is_rhythm]
    beat = np.searchsorted(peaks, onset - 1e-9)  # the first one after the mark
    anchor[is_rhythm] = np.where(beat < len(peaks), peaks[np.minimum(beat, len(peaks) - 1)], onset)
    return Labels(c.label[keep], time, anchor)


#: flutter waves and blocked P waves speak of a rhythm as beats do
_SHOWN = BEAT_SYMBOLS | {"!", "[", "]", "x"}


def _clean(record: Record, labels: LabelSet, seed: int) -> Labels:
    marks, beats = record.marks, record.beats
    assert marks is not None
    if waves := {s for kind in labels.kinds for s in kind.beats} - BEAT_SYMBOLS:  # flutter has waves for beats
        beats = marks[by_symbol(marks.symbol, dict.fromkeys(BEAT_SYMBOLS | waves, True), other=False)]
    time = beats.time
    rr = np.diff(time, prepend=np.nan, append=np.nan)  # beyond the ends it is unknown, not long
    before, after = rr[:-1], rr[1:]
    episode = np.searchsorted(record.rhythms.start, time, side="right") - 1
    known = len(record.rhythms) > 0  # a record without rhythm marks is taken to be in sinus rhythm
    from_s = record.rhythms.start[episode] if known else np.zeros(len(time))
    to_s = record.rhythms.stop[episode] if known else np.full(len(time), record.duration)
    whole = (time - _REACH_S >= np.maximum(from_s, 0)) & (time + _REACH_S <= np.minimum(to_s, record.duration))

    def among(rhythms: tuple[str, ...]) -> np.ndarray:
        if not known:
            return np.full(len(time), "N" in rhythms)
        return np.isin(record.rhythms.label, rhythms)[episode] & (episode >= 0)

    label = np.full(len(time), -1)
    for c, kind in enumerate(labels.kinds):
        low, high = kind.rr or (0, np.inf)
        in_range = (before >= low) & (after >= low) & (before < high) & (after < high) if kind.rr else True
        if not (there := whole & (among(kind.rhythms) | among(kind.within) & in_range)).any():
            continue
        mine = np.flatnonzero(there & by_symbol(beats.symbol, dict.fromkeys(kind.beats, True), other=False))
        company = set(kind.beats + kind.beside)
        alien = marks.time[by_symbol(marks.symbol, dict.fromkeys(_SHOWN - company, True), other=False)]
        first, last = time[mine] - _REACH_S, time[mine] + _REACH_S
        label[mine[np.searchsorted(alien, first) == np.searchsorted(alien, last, side="right")]] = c
    rng = np.random.default_rng([seed, zlib.crc32(f"{record.database}/{record.name}".encode())])
    centre = time + HALF_S - rng.uniform(2 * HALF_S - _REACH_S, _REACH_S, len(time))
    centre = np.round((centre - HALF_S) * FS) / FS + HALF_S  # on the grid of samples, so that time is exact
    in_block = centre % BLOCK_S
    label[(in_block < 2 * HALF_S) | (in_block > BLOCK_S - 2 * HALF_S)] = -1
    keep = label >= 0
    return Labels(label[keep], centre[keep], time[keep])
