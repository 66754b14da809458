"""The table of faults: every row answers as the page says, in one line, and leaves nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter

import faults
import pytest

SHOWN = {(r["entrance"], r["what"]): (r["answer"], r["line"]) for r in json.loads(faults.RESULTS.read_text())["rows"]}
# What a row lays down itself: files to read, a server's folder, a run or an explanation that stands; and the two verified
# listings of a mirror, which the next attempt goes on from
OWN = (
    r"(mine\.\w+(\.gz)?|sweep\.yml|net\.pt|a\.safetensors|mirror/.*|run(/run\.json|/state\.safetensors)?|"
    r"out/(explain\.json|beats\.csv|block-00000\.npz)|data/mitdb/1\.0\.0/(RECORDS|SHA256SUMS\.txt))"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return faults.prepare(tmp_path_factory.mktemp("faults") / "whole")


@pytest.mark.parametrize("row", faults.FAULTS, ids=lambda row: f"{row.entrance}: {row.what}")
def test_fault(row, whole, tmp_path):
    here = shutil.copytree(whole, tmp_path / "here")
    before = faults.listed(here)
    assert faults.answer(row, here) == SHOWN[row.entrance, row.what]
    new = [name for name in faults.listed(here).keys() - before.keys() if not re.fullmatch(OWN, name)]
    assert new == []
    assert list(here.rglob("*.part*")) == []


def test_the_page_shows_these_rows_and_no_others():
    assert list(SHOWN) == [(row.entrance, row.what) for row in faults.FAULTS]


def test_every_entrance_has_its_faults():
    counts = Counter(row.entrance for row in faults.FAULTS)
    assert set(counts) == {
        "WFDB record", "database", "download", "EDF file", "CSV file", "checkpoint", "training run", "sweep.yml",
        "label set", "function", "shell", "papermill parameter",
    }  # fmt: skip
    assert sum(counts.values()) >= 150
    assert min(counts.values()) >= 4


def test_an_answer_says_what_to_do():
    # one sentence on what was received, and after a semicolon, or in brackets, what is known or what to do
    silent = [
        line for kind, line in SHOWN.values() if kind not in {"exit 2"} and not re.search(r";|\(known:|did you", line)
    ]
    assert len(silent) <= 0.25 * len(SHOWN), silent


def test_a_real_shell_shows_the_traceback_with_debug_alone(tmp_path):
    # the one line of a real process: tests of the command line; here its other half
    command = [sys.executable, "-m", "ecglib", "explain", "mine.edf", "--debug"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" in done.stderr
    assert "there is no file mine.edf" in done.stderr.splitlines()[-1]
