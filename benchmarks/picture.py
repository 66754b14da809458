"""The picture of the README, book/_static/picture.png: one simulated beat and two explanations of it.

    make picture

The record is the embedded phantom, written into a folder of its own and thrown away; no recording of a patient is in it.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

os.environ["ECGLIB_DATABASE"] = "phantom"  # before anything looks for records

import vl_convert
from PIL import Image

from ecglib import case, plots, source
from ecglib.files import write_atomically

OUT = Path(__file__).resolve().parent.parent / "book" / "_static" / "picture.png"


def main() -> None:
    book = source.prepare(database="phantom")
    beat = case.explain(book, label="PVC")
    chart = plots.saliency(
        beat.window.x[0, 0], beat.relevance, start=beat.begin, marks=beat.marks,
        title=f"A simulated {beat.words['predicted']}, and where a network's CNN and LSTM looked",
        description="A simulated ventricular beat on ECG paper, coloured by a class activation map.",
    )  # fmt: skip
    with plots.use_theme():
        image = vl_convert.vegalite_to_png(chart.to_dict(), scale=1.5)
    small = io.BytesIO()  # 64 colours are enough, and a fifth of the bytes
    Image.open(io.BytesIO(image)).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    write_atomically(OUT, small.getvalue())
    print(f"{OUT}: {small.tell() / 1000:.0f} kB")


if __name__ == "__main__":
    main()
