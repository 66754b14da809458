"""Explanations written back as WFDB files: annotations and a signal that other software shows beside the record."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ecglib.errors import DataError
from ecglib.explained import Explained

NOTICE = "Explanation of a network's decisions: research, no diagnosis"

#: WFDB code of a beat by predicted class; of the rhythms' classes the beats themselves are N, or S in SVTA
SYMBOL = {"N": "N", "PVC": "V", "PAC": "A", "AFIB": "N", "SVTA": "S", "SBR": "N", "LBBB": "L", "RBBB": "R"}
#: rhythm that a predicted class begins; an ectopic beat leaves the rhythm as it was
RHYTHM = {"N": "N", "AFIB": "AFIB", "SVTA": "SVTA", "SBR": "SBR", "LBBB": "N", "RBBB": "N"}


def file_names(name: str) -> list[str]:
    """What `write_wfdb` calls the annotations, the signal and its header of a record."""
    name = re.sub(r"[^\w-]", "_", name)
    return [f"{name}.ecglib", f"{name}_saliency.dat", f"{name}_saliency.hea"]


def write_wfdb(explained: Explained, out_dir: str | os.PathLike[str]) -> list[Path]:
    """Write annotations ``<name>.ecglib`` and the record ``<name>_saliency``, which WFDB software reads.

    Beats have the code of the predicted class (`SYMBOL`; Q without a prediction) and the note ``class confidence``.
    A ``+`` marks where the predicted rhythm changes (`RHYTHM`): PVC and PAC leave it as it was.  Both files count samples
    at 360 Hz from the beginning of the original file, whatever its own rate; the saliency signal has 16 bits, and holds
    no value before ``start`` and where no window lies.

    Returns
    -------
    list of Path
        The annotations, the signal and its header.
    """
    import wfdb

    files, out = file_names(explained.name), Path(out_dir)
    name = files[0].removesuffix(".ecglib")
    marks = list(_marks(explained))
    s = explained.saliency
    peak = float(np.nanmax(np.abs(s))) if np.isfinite(s).any() else 0.0
    gain = 32000 / max(peak, 1e-6)
    first = round(explained.start * explained.fs)
    digital = np.full(first + len(s), -32768, "<i2")  # of format 16: no value
    covered = np.isfinite(s)
    digital[first:][covered] = np.round(s[covered] * gain).astype("<i2")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            wfdb.wrann(
                name, "ecglib", np.array([m[0] for m in marks]), symbol=[m[1] for m in marks],
                aux_note=[m[2] for m in marks], fs=explained.fs, write_dir=scratch,
            )  # fmt: skip
            # Two lines by hand: wfdb.wrsamp needs 1.2 GB for a day of samples.
            checksum, initial = int(digital.sum(dtype=np.int64)) % 65536, digital[0]
            line = f"{files[1]} 16 {gain!r}(0)/logit 16 0 {initial} {checksum} 0 saliency"
            header = f"{name}_saliency 1 {explained.fs:g} {len(digital)}\n{line}\n# {NOTICE}\n"
            (Path(scratch) / files[1]).write_bytes(digital.tobytes())
            (Path(scratch) / files[2]).write_text(header)
            for file in files:
                (Path(scratch) / file).replace(out / file)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}; choose a writable folder") from error
    return [out / file for file in files]


# Internals -----------------------------------------------------------------------------------------------------


def _marks(explained: Explained) -> Iterator[tuple[int, str, str]]:
    """Sample, code and note of each mark, in order of time."""
    rhythm = ""
    beats = explained.beats
    for time, label, sure in zip(beats.time, beats.predicted, beats.confidence, strict=True):
        sample, now = round(time * explained.fs), RHYTHM.get(label, rhythm)
        if now != rhythm:
            yield sample, "+", f"({now}"
            rhythm = now
        yield sample, SYMBOL.get(label, "Q"), f"{label} {sure:.3f}" if label else ""
