"""A report of one explained record as a single page: no script, nothing fetched, fit for the printer.

Research, no diagnosis; the page says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecglib import report_svg
from ecglib.errors import DataError
from ecglib.explained import Explained
from ecglib.files import write_atomically
from ecglib.plots.style import ACCENT, FONT, INK, MUTED
from ecglib.records import Record
from ecglib.report_parts import figure, network, network_f1, pairs, table
from ecglib.windowset import HALF_S

EXAMPLES = 8  #: strips that a page shows

_STYLE = f"""
body{{font:16px/1.5 {FONT};color:{INK};max-width:760px;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;margin:.5rem 0}}th,td{{text-align:left;padding:.15rem .9rem .15rem 0;vertical-align:top}}
td.n,th.n{{text-align:right}}td{{overflow-wrap:anywhere}}
@media(max-width:560px){{td,th{{padding-right:.4rem;font-size:13px}}}}
thead th{{border-bottom:1px solid {MUTED}}}
.warning{{border-left:4px solid {ACCENT};padding:.5rem 1rem;background:#f2f4fb}}
figure{{margin:1rem 0;break-inside:avoid}}figcaption{{font-size:14px;color:{MUTED}}}
.strips{{display:flex;flex-wrap:wrap;gap:0 2%}}.strips figure{{width:49%;margin:.5rem 0}}svg{{max-width:100%;height:auto}}
svg rect,svg path{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def write_report(
    explained: Explained,
    record: Record,
    path: str | os.PathLike[str],
    *,
    model_name: str = "not named",
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of an explained record.

    Parameters
    ----------
    explained : Explained
        Of `ecglib.explain.explain_record`.
    record : Record
        Whose signal was explained.
    path : path
        The page, ``.html``; its folder must be there.
    model_name : str
        What the network is called.
    notes : mapping, optional
        Of the network's checkpoint (`ecglib.networks.network`), and ``file``, ``unit``, ``method`` where known, and
        ``told``: how a person told ``rate`` and ``unit`` of a file that does not, such as ``{"rate": "--fs 250"}``.  Other
        words and numbers are listed as they are.  Everything is escaped.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        The record is not the one that was explained, or the page cannot be written.
    """
    path, notes = Path(path).expanduser(), dict(notes or {})
    if len(explained.saliency) != len(record.signal) or abs(explained.start - record.start) > 1 / record.fs:
        raise DataError(
            f"{len(explained.saliency)} samples from {explained.start:g} s were explained and record {record.name} has "
            f"{len(record.signal)} from {record.start:g} s; give the record that was explained"
        )
    beats, title = explained.beats, f"ECG {record.name}, explained"
    annotated = bool((beats.symbol != "").any())
    f1 = network_f1(notes)
    line = report_svg.timeline(
        beats, explained.classes, start=explained.start, stop=explained.start + len(record.signal) / record.fs,
        label="Predicted class of every beat and the heart rate along the record.",
    )  # fmt: skip
    body = [
        f"<h1>{escape(title)}</h1>",
        '<p class="warning"><strong>Research, no diagnosis.</strong> A network wrote the classes on this page from two '
        "seconds of one lead around each beat. It is often wrong, it knows no other rhythm than its classes, and no "
        "physician has looked at it. If you feel unwell, see a physician.</p>",
        "<h2>What was read</h2>", pairs(_reading(record, beats, notes)),
        "<h2>What the network says</h2>", pairs(_numbers(beats)),
        "<p>The network names windows of two seconds, one around each beat, and no single beats. A window with an ectopic "
        "beat beside the one in its middle is often called by that beat's class. So the counts below are counts of windows: "
        "they are no burden, and no number of ectopic beats.</p>",
        table(class_table(explained, f1=f1)),
        "<p>F1, from 0 to 1, is how well the network names the class on patients that it never saw: 0 is never right.</p>"
        if f1 else "",
        figure(line, "Each tick is a beat: coloured, the class of its window"
                + ("; grey under it, the annotated one." if annotated else ".")),
        "<h2>Examples</h2>",
        "<p>Two seconds around a beat, as the network saw them; a triangle points at the beat. Blue spoke for the predicted "
        "class, orange against it; where the windows of several beats overlap, the mean of their maps is shown. Colours "
        "share one scale. A map shows where the network looked, not whether it was right.</p>",
        report_svg.key(),
        f'<div class="strips">{"".join(_examples(explained, record))}</div>',
        "<h2>The network and its limits</h2>", *network(model_name, notes, record),
    ]  # fmt: skip
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )
    return write_atomically(path, page)


def class_table(explained: Explained, *, f1: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Windows, share and mean confidence of each predicted class; F1 and annotated beats of the class, if known."""
    beats = explained.beats
    annotated = (beats.symbol != "").any()
    rows = []
    for name in [*explained.classes, ""]:
        own = beats[beats.predicted == name]
        if len(own) or (name and (beats.expected == name).any()):
            row: dict[str, Any] = {
                "predicted": name or "no decision", "windows": len(own), "share of windows": f"{len(own) / len(beats):.1%}",
                "mean confidence": f"{own.confidence.mean():.2f}" if name and len(own) else "–",
            }  # fmt: skip
            row |= {"F1 of the network": f"{f1[name]:.2f}" if name in f1 else "–"} if f1 else {}
            row |= {"annotated beats": int((beats.expected == name).sum()) if name else 0} if annotated else {}
            rows.append(row)
    return pd.DataFrame(rows)


def examples(explained: Explained, *, most: int = EXAMPLES) -> pd.DataFrame:
    """Beats to show: of each predicted class in turn the most confident, then the least, then what lies between."""
    beats = explained.beats[np.isfinite(explained.beats.confidence)]
    order = []
    for name in explained.classes:
        own = beats[beats.predicted == name].sort_values("confidence", ascending=False, kind="stable").index.to_list()
        picks = [round(share * (len(own) - 1)) for share in (0, 1, 0.5, 0.25, 0.75, 0.125, 0.375, 0.875)] if own else []
        order += [(turn, own[k]) for turn, k in enumerate(dict.fromkeys(picks))]
    chosen = [index for _, index in sorted(order, key=lambda pair: pair[0])[:most]]
    return beats.loc[chosen]


# Internals -----------------------------------------------------------------------------------------------------


def _reading(record: Record, beats: pd.DataFrame, notes: dict[str, Any]) -> list[tuple[str, str]]:
    stop = record.start + len(record.signal) / record.fs
    detected = not (beats.symbol != "").any()
    told, given = notes.pop("told", None) or {}, str(notes.pop("unit", ""))
    rate = f"as told by {told['rate']}" if told.get("rate") else "as the file tells it"
    unit = f"as told by {told['unit']}" if told.get("unit") else f"told as {given}" if given else "as the file tells it"
    rows = [
        ("Record", f"{record.name}{f' of {record.database}' if record.database else ''}"),
        ("File", str(notes.pop("file", ""))),
        ("Lead", record.lead),
        ("Rate", f"{record.native_fs:g} Hz, {rate}; {record.fs:g} Hz for the network"),
        ("Unit", f"{unit}; shown in mV"),
        ("Part", f"{record.start + 0.0:g} s to {stop:.2f} s of {record.duration:g} s"),
        ("Missing samples", f"{record.missing}{', bridged by straight lines' if record.missing else ''}"),
        ("Beats", "found in the signal" if detected else "as annotated in the file"),
    ]
    return [row for row in rows if row[1]]


def _numbers(beats: pd.DataFrame) -> list[tuple[str, str]]:
    rate, _ = report_svg.heart_rate(beats.time.to_numpy())
    rows = [("Beats", str(len(beats)))]
    if len(rate):
        low, high = np.percentile(rate, [5, 95])
        mean = report_svg.mean_rate(rate)
        rows.append(("Heart rate", f"{mean:.0f} a minute; 90 % of the RR intervals {low:.0f} to {high:.0f}"))
    both = beats[(beats.expected != "") & (beats.predicted != "")]
    if len(both):
        same = (both.expected == both.predicted).mean()
        rows.append(("Agreement", f"{same:.1%} of {len(both)} beats whose annotation is one of the classes"))
    outside = int(((beats.symbol != "") & (beats.expected == "")).sum())
    if outside:
        rows.append(
            ("Outside", f"{outside} annotated beats are of none of the classes; the network names one all the same")
        )
    return rows


def _examples(explained: Explained, record: Record) -> list[str]:
    half, shown = round(HALF_S * record.fs), []
    chosen = examples(explained)
    firsts = [round((t - record.start) * record.fs) - half for t in chosen.time]
    firsts = [min(max(0, k), max(0, len(record.signal) - 2 * half)) for k in firsts]
    parts = [explained.saliency[k : k + 2 * half] for k in firsts]
    top = max([float(np.nanmax(np.abs(p))) for p in parts if np.isfinite(p).any()], default=0.0)
    for (_, beat), k, part in zip(chosen.iterrows(), firsts, parts, strict=True):
        said = f"{beat.predicted}, confidence {beat.confidence:.2f}"
        said += f"; annotated {beat.expected}" if beat.expected else ""
        what = f"Beat at {beat.time:.2f} s: {said}."
        picture = report_svg.strip(
            record.signal[k : k + 2 * half], part, fs=record.fs, start=record.start + k / record.fs, top=top, label=what,
            beat=float(beat.time),
        )  # fmt: skip
        shown.append(figure(picture, what))
    return shown or ["<p>The network decided about no beat of this part.</p>"]
