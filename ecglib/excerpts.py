"""Excerpts of the long-term databases, for whom the full signals, gigabytes of them, are not at hand.

LTAFDB: minutes that also stand in the AF Termination Challenge Database, in ``excerpts/ltafdb`` in or beside the data
root, each named after its record and first sample.  LTDB: the four records that QT Database took from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecglib.databases import data_root, folder
from ecglib.errors import DataError, check_name
from ecglib.records import Record, open_record

_OF_LTDB = ("14046", "14157", "14172", "15814")


def excerpts(name: str, *, root: str | os.PathLike[str] | None = None) -> Iterator[Record]:
    """Excerpts of a long-term database that are here, as parts of their records.

    Parameters
    ----------
    name : {"ltafdb", "ltdb"}
    root : path, optional
        Data root.

    Yields
    ------
    Record
        ``name`` and ``database`` are those of the long record, times count from its beginning, ``start`` is where the
        excerpt lies in it; ``duration`` is the excerpt's end, so that it is treated like the end of a record.

    Raises
    ------
    UnknownNameError, DataError
        Another database; a file is damaged, or a header of QT Database does not say where the excerpt begins.

    Notes
    -----
    The rules see an excerpt's marks alone: what is the first or the only mark of a class there need not be so in the
    record.  Two excerpts of one record may overlap (58 of LTAFDB: by half a minute).
    """
    check_name("database with excerpts", name, ("ltafdb", "ltdb"))
    if name == "ltafdb":
        places = [place / "excerpts" / name for place in (data_root(root), data_root(root).resolve().parent)]
        for path in sorted(p for place in places[: 1 + (not places[0].is_dir())] for p in place.glob("*_*.hea")):
            number, first = path.stem.split("_")
            yield _part_of(open_record(path), name, f"{int(number):02d}", int(first) / 128)
    else:
        for record in _OF_LTDB:
            path = folder("qtdb", root) / f"sel{record}.hea"
            if path.is_file():
                yield _part_of(open_record(path), name, record, _beginning(path))


def _part_of(found: Record, database: str, name: str, start: float) -> Record:
    """``found`` with its times moved by ``start`` s."""
    marks, beats, rhythms = (np.array(t).view(np.recarray) for t in (found.marks, found.beats, found.rhythms))
    marks.time += start
    beats.time += start
    rhythms.start += start
    rhythms.stop += start
    return replace(
        found, name=name, database=database, start=start, duration=start + found.duration,
        marks=marks, beats=beats, rhythms=rhythms,
    )  # fmt: skip


def _beginning(header: Path) -> float:
    """Where an excerpt begins in its record, s: the comment that QT Database's maker left in the header."""
    found = re.search(r"beginning at (\d+):(\d+):(\d+\.?\d*)", header.read_text())
    if not found:
        raise DataError(f"{header.name} does not say where in its record the excerpt begins; fetch it again")
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
