"""What the page "Your own ECG" does with a reader's own file: no records of a database and no training are needed for it."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

from ecglib import source
from ecglib.explained import Explained
from ecglib.records import Record, open_record
from ecglib.report_svg import heart_rate, mean_rate


def setup(path: str | os.PathLike[str], **options: Any) -> Record:
    """Open a file of one's own before anything else, choose charts, and say what is built from it.

    `ecglib.source.setup` does so for the records of a database, which it prepares; here nothing is prepared.  ``options``
    are those of `ecglib.records.open_record`.

    Raises
    ------
    UnknownNameError, DataError
        As `ecglib.records.open_record`.
    """
    record = open_record(path, **options)
    line = f"Built from your file {escape(Path(path).name)} · {source.stamp()}"
    source.begin(f'<p class="ecglib-provenance">{line}</p>')
    return record


def numbers(explained: Explained) -> str:
    """Beats, heart rate and the network's confidence, as text for a notebook that no book glues numbers into."""
    beats = explained.beats
    decided = beats[beats.predicted != ""]
    rate, _ = heart_rate(beats.time.to_numpy())
    lines = [f"{len(beats)} beat{'s' if len(beats) != 1 else ''}, {explained.start + 0.0:g} to {explained.stop:.2f} s"]
    if len(rate):
        lines.append(f"heart rate {mean_rate(rate):.0f} a minute; if that is not the patient's, fs is wrong")
    if len(decided):
        lines.append(f"more than 90 % sure: {(decided.confidence > 0.9).mean():.0%}, by the network's own opinion")
    return "\n".join(lines)
