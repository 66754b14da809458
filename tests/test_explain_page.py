"""The page "Your own ECG" on a reader's file: read first, nothing prepared, and its numbers as text."""

from __future__ import annotations

import re
from pathlib import Path

import altair as alt
import IPython.display
import jupytext
import numpy as np
import pandas as pd
import pytest

from ecglib import explain_page, source
from ecglib.errors import DataError
from ecglib.explained import Explained

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A checkout without records, where nothing may be prepared; charts are as they were afterwards."""
    for name in ("ECGLIB_DATA", "ECGLIB_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "_toc.yml").write_text("")
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "prepare", lambda **options: pytest.fail("a database is prepared"))
    with alt.renderers.enable(alt.renderers.active), alt.theme.enable(alt.theme.active):
        yield tmp_path


@pytest.fixture
def shown(monkeypatch):
    """What is displayed."""
    pages: list[str] = []
    monkeypatch.setattr(
        IPython.display, "display", lambda *things, **more: pages.extend(str(getattr(t, "data", t)) for t in things)
    )
    return pages


def page(**parameters) -> dict:
    """Run the code cells of the page, as papermill would with these parameters."""
    names: dict = {}
    for cell in jupytext.read(ROOT / "book" / "explain_record.md").cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                assert set(parameters) <= set(names)
                names |= parameters
    return names


def test_a_file_of_ones_own_needs_no_records(home, shown, capsys):
    peaks = np.tile(np.r_[np.zeros(120), np.hanning(30), np.zeros(60)], 12)  # every 0.84 s at 250 Hz
    np.savetxt(home / "my <b>.csv", peaks, fmt="%.4f")
    names = page(path="my <b>.csv", unit="mV", fs=250.0)
    assert sorted(p.name for p in home.iterdir()) == ["_toc.yml", "my <b>-report.html", "my <b>.csv", "results"]
    line = next(p for p in shown if "ecglib-provenance" in p)
    assert re.fullmatch(r'<p class="ecglib-provenance">Built from your file my &lt;b&gt;\.csv · ecglib .+</p>', line)
    assert not any("Simulated" in p for p in shown)
    assert re.search(r"^\d+ beats, 0 to 10.08 s\nheart rate 71 a minute; ", capsys.readouterr().out, flags=re.M)
    assert names["notes"]["checkpoint"] == "murugesan-gap-mitdb-patient0.safetensors"
    report = (home / "my <b>-report.html").read_text()
    assert "250 Hz, as told by -p fs 250;" in report
    assert "as told by -p unit mV;" in report


def test_a_file_that_cannot_be_read_stops_the_page_at_once(home, shown, one_line):
    (home / "my.csv").write_text("dear diary\n")
    with pytest.raises(DataError) as caught:
        page(path="my.csv")
    one_line(caught, "my.csv")
    assert shown == []


def test_the_numbers_by_hand():
    beats = pd.DataFrame({"time": [0.5, 1.5, 2.0, 9.0], "predicted": ["N", "N", "PVC", ""]})
    beats = beats.assign(confidence=[0.95, 0.5, 0.91, np.nan])
    found = Explained(beats, np.zeros(3600, np.float32), 360.0, "mine", "", 0.0)
    assert explain_page.numbers(found).splitlines() == [
        "4 beats, 0 to 10.00 s",
        "heart rate 80 a minute; if that is not the patient's, fs is wrong",  # intervals of 1 and of 0.5 s
        "more than 90 % sure: 67%, by the network's own opinion",
    ]
    none = Explained(beats.iloc[3:], np.zeros(3600, np.float32), 360.0, "mine", "", 0.0)
    assert explain_page.numbers(none) == "1 beat, 0 to 10.00 s"
