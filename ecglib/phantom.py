"""The phantom: simulated records whose evidence is known, written as WFDB files.

`ecglib.heart` makes a signal from a story of beats and rhythms. Labels, waves and evidence are read off the same story,
and `without_evidence` edits it: a record that loses the evidence of a class loses its look and its label together.
Beats are annotated as in MITDB: in AFIB and SBR they are ``N``, in SVTA ``A``; only rhythm marks tell them apart.
Evidence is where a cardiologist would look and where the class differs from the others:

====  =================================================================================================
N     P onset to QRS onset of every sinus beat labelled ``N``, in SBR too, which is sinus rhythm
PVC   QRS onset to T offset: wide QRS and discordant T
PAC   P' onset to QRS onset of an ``A`` beat outside SVTA
AFIB  the fibrillating baseline: the episode without its beats (QRS onset to T offset)
SVTA  P' onset to QRS onset of the first beat, then QRS offset to next QRS onset: a T and no room for a P
SBR   T offset to next P onset between two slow beats: the long empty segment
LBBB  QRS onset to offset; the discordant ST-T follows from it and does not count
RBBB  the terminal S (late R' in V1): from the end of the first R to the QRS offset
====  =================================================================================================
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import wfdb
from numpy.typing import NDArray

from ecglib import CLASSES, FS, WINDOW, heart
from ecglib.databases import folder, record_names
from ecglib.errors import DataError, EcglibError, check_name

VERSION = 1  #: of the simulation; raise it with any change of what `write` writes
GAIN, ZERO = 200, 1024  # ADC units per mV and at 0 mV, as MITDB
EDGE = 72  # samples at either end of a record where beats are drawn but not annotated: their waves may be cut
PEAK = {"P": "p", "QRS": "N", "T": "t"}  # symbol of each wave's peak; the order gives its num, as in QTDB
WAVE, EVIDENCE = ("start", "peak", "stop", "wave", "beat"), ("start", "stop", "label")  # columns of a `Truth`


@dataclass(frozen=True)
class Truth:
    """What is known about a simulated record; times in s."""

    waves: np.recarray  # start, peak, stop, wave ("P", "QRS", "T"), beat (R peak of the beat that the wave belongs to)
    evidence: np.recarray  # start, stop, label (the class that the span is evidence of)


def write(root: str | os.PathLike[str], *, patients: int = 16, minutes: float = 6.0, seed: int = 0) -> Path:
    """Write the phantom to ``<root>/phantom/1.0.0``, unless it is there already.

    Parameters
    ----------
    root : path
        Data root. What other arguments have written there is replaced.
    patients : int
        Records ``p01``, ``p02``, …, one a patient; a third of them show each class.
    minutes : float
        Duration of a record, at least 2.
    seed : int
        Same arguments, same bytes.

    Returns
    -------
    Path
        Folder of the records: ``.hea .dat`` (360 Hz, MLII and V1), ``.atr`` (beats, rhythms), ``.truth`` (waves as in
        QTDB, ``( p ) ( N ) ( t )``, whose aux names the wave; evidence, ``( )`` in chan 1, whose aux names the class).
    """
    where = folder("phantom", root)
    stories = plans(patients=patients, minutes=minutes, seed=seed)
    manifest = json.dumps({"version": VERSION, "patients": int(patients), "minutes": float(minutes), "seed": int(seed)})
    try:
        if (where / "manifest.json").is_file() and (where / "manifest.json").read_text() == manifest:
            return where
        where.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".phantom-", dir=where.parent) as scratch:
            fresh = Path(scratch, "new")
            fresh.mkdir()
            for name, plan in stories.items():
                _write_record(str(fresh), name, plan)
            (fresh / "RECORDS").write_text("\n".join(stories) + "\n")
            (fresh / "manifest.json").write_text(manifest)
            sums = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.name}\n" for p in sorted(fresh.iterdir()))
            (fresh / "SHA256SUMS.txt").write_text(sums)
            if where.exists():
                where.rename(Path(scratch, "old"))
            fresh.rename(where)
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"cannot write the phantom to {where} ({why}); choose a writable root") from error
    return where


def plans(*, patients: int = 16, minutes: float = 6.0, seed: int = 0) -> dict[str, heart.Plan]:
    """The stories that `write` turns into records, by record name."""
    for name, value, least in (("patients", patients, 1), ("seed", seed, 0)):
        if not isinstance(value, Integral) or value < least:
            raise EcglibError(f"{name} must be a whole number of at least {least}, not {value!r}")
    if not 2 <= minutes < math.inf:
        raise EcglibError(f"minutes must be at least 2, so that every class has its turn, not {minutes!r}")
    casting, *seeds = np.random.SeedSequence(int(seed)).spawn(1 + patients)
    stories = {}
    for i, ((conduction, roles), child) in enumerate(zip(_cast(patients, casting), seeds, strict=True), start=1):
        traits, story = child.spawn(2)
        who = heart.draw_patient(np.random.default_rng(traits))
        stories[f"p{i:02d}"] = heart.tell(who, conduction, roles, round(minutes * 60 * FS), story)
    return stories


def _cast(patients: int, seed: np.random.SeedSequence) -> list[tuple[str, list[str]]]:
    """Conduction and roles of the patients: permanent LBBB in 1 of 8, RBBB in 1 of 8, else all shared evenly."""
    rng = np.random.default_rng(seed)
    fixed = patients // 8
    others: list[tuple[str, list[str]]] = [("N", []) for _ in range(patients - 2 * fixed)]
    for label in ("AFIB", "SVTA", "SBR", "PAC", "PVC", "LBBB", "RBBB"):
        free = sorted(rng.permutation(len(others)).tolist(), key=lambda i: len(others[i][1]))
        for i in free[: math.ceil(patients / 3) - fixed * label.endswith("BBB")]:
            others[i][1].append(label)
    cast = [*others, *[("LBBB", ["PVC"]), ("RBBB", ["PVC"])] * fixed]
    return [cast[i] for i in rng.permutation(patients)]


def without_evidence(plan: heart.Plan, label: str) -> heart.Plan:
    """The same story without the evidence of one class: its labels go with it, all else stays where it was.

    Sinus beats fill the gap that early beats and episodes leave; beats of a bundle branch block are conducted normally.
    Sinus rhythm that loses its P waves, bradycardia too, becomes junctional: beats ``j``, rhythm ``(NOD``, no class.
    """
    check_name("class", label, CLASSES)
    rhythms = {"N": "NOD", "SBR": "NOD"} if label == "N" else {label: "N"}
    episodes = [(start, rhythms.get(rhythm, rhythm)) for start, rhythm in plan.episodes]
    if label in ("N", "LBBB", "RBBB"):
        kinds = {"N": "junctional", "SBR": "junctional"} if label == "N" else {label: "N"}
        return replace(plan, beats=[(at, kinds.get(kind, kind)) for at, kind in plan.beats], episodes=episodes)
    beats = plan.beats[:1]
    kept = [i for i, (_, kind) in enumerate(plan.beats) if not kind.startswith(label)]  # "SVTA onset" is SVTA
    for i, j in pairwise(kept):
        (before, kind), (after, _) = plan.beats[i], plan.beats[j]
        if j > i + 1:
            rr = heart.pace(plan.patient, "N", before / FS, round((after - before) / FS / plan.patient.traits["RR N"]))
            beats += [(round(before + (after - before) * part), kind) for part in np.cumsum(rr)[:-1] / rr.sum()]
        beats.append(plan.beats[j])
    return replace(plan, beats=beats, episodes=episodes)


def labels(plan: heart.Plan) -> list[tuple[int, str, str]]:
    """Reference annotations of a story, as in MITDB's ``.atr``: sample, symbol, aux."""
    marks = [(max(start, 1), "+", f"({rhythm}") for start, _, rhythm in heart.spans(plan)]
    beats = [(at, heart.KINDS[kind][0], "") for at, kind in plan.beats if EDGE <= at < plan.length - EDGE]
    return sorted(marks + beats)


def truth(plan: heart.Plan) -> Truth:
    """Waves and evidence of a story."""
    shapes = [(at, plan.patient.waves[kind]) for at, kind in plan.beats if EDGE <= at < plan.length - EDGE]
    waves: list[tuple] = [(*(at + t for t in w[n]), n, at) for at, w in shapes for n in PEAK if n in w]
    spans = [(max(start, 0), min(stop, plan.length - 1), label) for start, stop, label in _evidence(plan)]
    whole = [w for w in waves if w[0] >= 0 and w[2] < plan.length]
    return Truth(_table(whole, WAVE), _table([s for s in spans if s[0] < s[1]], EVIDENCE))


def read_truth(record: str, *, root: str | os.PathLike[str] | None = None) -> Truth:
    """Waves and evidence of a record on this machine; a `DataError` tells if its file is missing or damaged."""
    path = folder("phantom", root) / check_name("record", record, record_names("phantom", root))
    try:
        marks = wfdb.rdann(str(path), "truth")
        at, symbol, aux = marks.sample, np.array(marks.symbol), np.array(marks.aux_note)
        ends = {name: [at[(symbol == s) & (aux == name)] for s in "()"] for name in (*PEAK, *CLASSES)}
        waves, beats, peaks = [], at[symbol == "N"], {name: at[symbol == s] for name, s in PEAK.items()}
        for name, peak in peaks.items():
            owner = beats[np.searchsorted(beats, peak) - (name == "T")]  # of P the next QRS, of T the last
            waves += [(a, p, b, name, r) for a, b, p, r in zip(*ends[name], peak, owner, strict=True)]
        evidence = [(a, b, label) for label in CLASSES for a, b in zip(*ends[label], strict=True)]
        return Truth(_table(waves, WAVE), _table(evidence, EVIDENCE))
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"cannot read {path}.truth ({error}); write it again with ecglib.phantom.write") from error


def evidence_mask(truth: Truth, *, label: str, start: float, length: int = WINDOW, fs: float = FS) -> NDArray[np.bool_]:
    """Samples of a window that are evidence of a class.

    Parameters
    ----------
    truth : Truth
    label : str
        One of `ecglib.CLASSES`.
    start, length, fs : float, int, float
        Time of the window's first sample (s), number of samples, and their rate (Hz).

    Returns
    -------
    ndarray of bool, shape (length,)
        A span covers its first sample and not its last, so touching spans do not overlap.
    """
    check_name("class", label, CLASSES)
    mask = np.zeros(length, bool)
    e = truth.evidence
    for begin, end, _ in e[(e.label == label) & (e.stop > start) & (e.start < start + length / fs)]:
        mask[max(round((begin - start) * fs), 0) : max(round((end - start) * fs), 0)] = True
    return mask


def _evidence(plan: heart.Plan) -> Iterator[tuple[int, int, str]]:
    """Start, stop and class of every span, as defined at the top."""
    beats = [(kind, {n: [at + t for t in w] for n, w in plan.patient.waves[kind].items()}) for at, kind in plan.beats]
    for kind, wave in beats:
        if kind in ("N", "SBR", "PAC", "SVTA onset"):
            yield wave["P"][0], wave["QRS"][0], {"SBR": "N", "SVTA onset": "SVTA"}.get(kind, kind)
        elif kind in ("PVC", "LBBB", "RBBB"):
            yield wave["R"][2] if kind == "RBBB" else wave["QRS"][0], wave["T" if kind == "PVC" else "QRS"][2], kind
    for (kind, wave), (following, next_wave) in pairwise(beats):
        if following == "SVTA":
            yield wave["QRS"][2], next_wave["QRS"][0], "SVTA"
        elif kind == following == "SBR":
            yield wave["T"][2], next_wave["P"][0], "SBR"
    for start, stop, rhythm in heart.spans(plan):
        if rhythm == "AFIB":
            busy = [(w["QRS"][0], w["T"][2]) for _, w in beats if start < w["T"][2] and w["QRS"][0] < stop]
            yield from ((t, qrs, "AFIB") for (_, t), (qrs, _) in pairwise([(start, start), *busy, (stop, stop)]))


def _table(rows: list[tuple], columns: tuple[str, ...]) -> np.recarray:
    """Table of seconds and names, in order of time, from rows of samples and names."""
    seconds = [tuple(v if isinstance(v, str) else v / FS for v in row) for row in sorted(rows)]
    return np.array(seconds, [(c, "U4" if c in ("wave", "label") else float) for c in columns]).view(np.recarray)


def _write_record(where: str, name: str, plan: heart.Plan) -> None:
    digital = np.rint(heart.signal(plan) * GAIN).astype(int) + ZERO
    adc = {"fmt": ["212"] * 2, "adc_gain": [GAIN] * 2, "baseline": [ZERO] * 2, "units": ["mV"] * 2}
    wfdb.wrsamp(name, fs=FS, d_signal=digital, sig_name=list(heart.LEADS), write_dir=where, **adc)
    known = truth(plan)
    marks: list[tuple[float, int, int, str, str]] = []  # time, chan, num, symbol, aux
    for w in known.waves:
        num = list(PEAK).index(w.wave)
        marks += [(w.start, 0, num, "(", w.wave), (w.peak, 0, num, PEAK[w.wave], ""), (w.stop, 0, num, ")", w.wave)]
    for e in known.evidence:
        marks += [(e.start, 1, 0, "(", e.label), (e.stop, 1, 0, ")", e.label)]
    beats = [(at / FS, 0, 0, symbol, aux) for at, symbol, aux in labels(plan)]
    for extension, rows in (("atr", beats), ("truth", sorted(marks, key=lambda mark: mark[:2]))):
        time, chan, nums, symbols, notes = map(list, zip(*rows, strict=True))
        more = {"chan": np.array(chan), "num": np.array(nums), "aux_note": notes, "fs": FS, "write_dir": where}
        wfdb.wrann(name, extension, np.rint(np.array(time) * FS).astype(int), symbols, **more)
