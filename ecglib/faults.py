"""The table of faults as a page shows it: by entrance, what was wrong and the line that was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd


def listing(rows: Sequence[Mapping[str, str]]) -> str:
    """HTML of rows with ``entrance``, ``what``, ``answer`` and ``line``; an entrance unfolds at a click or a key.

    >>> listing([{"entrance": "shell", "what": "a <b>", "answer": "exit 2", "line": "no"}]).count("&lt;b&gt;")
    1
    """
    parts = []
    for entrance, own in pd.DataFrame(rows).groupby("entrance", sort=False):
        items = "".join(
            f"<dt>{escape(what[0].upper() + what[1:])}</dt><dd><code>{escape(line)}</code> ({escape(answer)})</dd>"
            for what, answer, line in zip(own.what, own.answer, own.line, strict=True)
        )
        kinds = f"{len(own)} kinds" if len(own) > 1 else "1 kind"
        parts.append(
            f"<details><summary><strong>{escape(str(entrance))}</strong>, {kinds}</summary><dl>{items}</dl></details>"
        )
    return f'<div style="overflow-wrap:anywhere">{"".join(parts)}</div>'
