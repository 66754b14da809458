"""How a table is written: its separator and decimal sign, where its numbers begin, and what stands above them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass

import numpy as np

from ecglib.errors import DataError
from ecglib.own_leads import UNITS

NO_VALUE = ("", "na", "nan", "n/a", "null", "none", "-", "--", "?", "inf", "+inf", "-inf")
SECONDS = {  # by the name of a unit of time
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "minutes"), 60.0),
}
_HEAD = 200  # lines among which the first row of numbers must stand
_SEEN = 100  # rows that decide on decimal commas, and on times in a column without a head
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_CLOCK = re.compile(r"(\d{4}-\d\d-\d\d[T ])?(\d+:)?\d+:\d\d([.,]\d+)?Z?")
_TIME = {"time", "timestamp", "datetime", "t", "elapsed", "zeit", "temps", "tiempo", "tempo", "clock"}
_COUNT = {"sample", "samples", "index", "idx", "nr", "unnamed", "row", "count", "counter"}
_TOLD = {  # what lines above the columns may tell
    "rate": re.compile(r"(?:sampl\w*[ _-]*(?:rate|freq\w*)|freq\w*|fs|rate)[^\w.]+(\d+\.?\d*)\s*(?:hz|hertz)?$", re.I),
    "unit": re.compile(r"units?\W+([\wµμ]+)$", re.I),
    "lead": re.compile(r"lead\W+(\w[\w ]*)$", re.I),
}


@dataclass(frozen=True)
class Layout:
    """How a table is written; ``first`` is the line of its first row, ``rows`` are the first few."""

    sep: str | None
    quote: str
    decimal: str
    first: int
    rows: list[list[str]]
    heads: list[str]
    units: list[str]
    told: dict[str, str]


def find(text: str, file: str) -> Layout:
    """Find the first two rows that hold nothing but values, and what stands above them."""
    lines = text.split("\n", _HEAD)[:_HEAD]
    for sep in ("\t", ";", ",", " ", None):
        table = [_cells(line, sep) for line in lines]
        for i, row in enumerate(table):
            after = table[i + 1] if i + 1 < len(table) else row
            if len(row) < 1 + (sep is not None) or not _is_data(row) or not (_is_data(after) or after == [""]):
                continue
            heads, units, told = _above(lines[:i], table[:i], len(row))
            if sep == "," and len(row) == 2 and i and lines[i - 1] and len(table[i - 1]) == 1 and not any(heads):
                break  # one head over "0,12": a decimal comma, in a single column
            rows = [r for r in table[i : i + _SEEN] if r != [""]]
            decimal = "," if sep != "," and any("," in cell for r in rows for cell in r) else "."
            quote = "'" if "'" in lines[i] else '"'
            return Layout(sep, quote, decimal, i, rows, heads, units, told)
    raise DataError(f"{file} has no row of numbers in its first {_HEAD} lines; give columns of numbers")


def _above(lines: list[str], table: list[list[str]], width: int) -> tuple[list[str], list[str], dict[str, str]]:
    """Heads and units of the columns, and what other lines tell of rate, unit and lead."""
    heads, units, told = [""] * width, [""] * width, dict[str, str]()
    rows = list(zip(lines, table, strict=True))
    tells = lambda line: [k for k, p in _TOLD.items() if p.match(line.strip(" #%\"'"))]  # noqa: E731
    if rows and len(rows[-1][1]) == width and any(rows[-1][1]) and not tells(rows[-1][0]):
        heads = rows.pop()[1]
        if rows and len(rows[-1][1]) == width and all(c.lower() in SECONDS | UNITS or ":" in c or not c for c in heads):
            heads, units = rows.pop()[1], heads
        heads = [head.strip("#% ") if k == 0 else head for k, head in enumerate(heads)]
    for line, _ in rows:
        told |= {k: _TOLD[k].match(line.strip(" #%\"'"))[1] for k in tells(line)}  # type: ignore[index]
    if width == 1 and not heads[0]:
        heads = [told.get("lead", "")]
    if "unit" in told:
        units = [
            u or (told["unit"] if not words(h) & (_TIME | set(SECONDS)) else "")
            for h, u in zip(heads, units, strict=True)
        ]
    return heads, units, told


def _cells(line: str, sep: str | None) -> list[str]:
    if sep is None:
        return [line.strip().strip("\"'").strip()]
    if sep == " ":
        return line.split() or [""]
    try:
        cells = next(csv.reader([line], delimiter=sep, quotechar="'" if "'" in line else '"'), [""])
    except csv.Error:
        return [line]
    return [cell.strip().strip('"').strip() for cell in cells] or [""]


def _is_data(row: list[str]) -> bool:
    values = [cell for cell in row if cell.lower() not in NO_VALUE]
    return any(map(_NUMBER.fullmatch, values)) and all(_NUMBER.fullmatch(c) or _CLOCK.fullmatch(c) for c in values)


def words(head: str) -> set[str]:
    """Words of a head, in lower case."""
    return set(re.findall(r"[a-zµμ#]+", head.lower()))


def counts(heads: list[str], k: int) -> bool:
    """Whether a column numbers its rows; with heads, one without a head does (as pandas writes it)."""
    return (any(heads) and not heads[k]) or bool(words(heads[k]) & (_COUNT | {"#"}))


def clock_column(layout: Layout) -> int | None:
    """Place of the column of times; without heads, a first column that rises evenly is one."""
    for k, head in enumerate(layout.heads):
        found = words(head)
        if not counts(layout.heads, k) and (found & _TIME or (found and found <= set(SECONDS))):
            return k
    if any(layout.heads) or len(layout.heads) < 2 or len(layout.rows) < 3:
        return None
    try:
        first = [row[0].replace(",", ".") for row in layout.rows]
        time = [of_clock(cell) if ":" in cell else float(cell) for cell in first]
    except ValueError:
        return None
    step = np.diff(time) if np.isfinite(time).all() else np.zeros(1)
    return 0 if (step > 0).all() and step.max() < 2.1 * step.min() else None


def of_clock(cell: str) -> float:
    """Seconds of ``1:02:03.5`` or ``2:03.5``."""
    return sum(float(part) * 60**k for k, part in enumerate(reversed(cell.rstrip("Z").split(":"))))
