"""What the chapters say: no result typed by hand, goals and takeaways, terms that are explained, parameters with help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ecglib import book, colophon

ROOT = Path(__file__).resolve().parent.parent
PAGES = book.chapters(ROOT)
NOTEBOOKS = [name for name, page in PAGES.items() if book.is_executable(page)]
FRONT = {"index", "data", "faults"}  # pages that run, but teach nothing of their own

# Decimals and percentages that may stand in a sentence: criteria of the clinic, settings of a method, thresholds fixed
# beforehand, versions.  A number that a run gives is glued from the run instead.
ALLOWED = {
    "primer": "0.2 0.5 0.04 0.1 0.12 0.20",  # the paper's boxes; limits of the QRS complex and of PR
    "look": "0.2 0.5 0.12 0.6 1.0 0.05",  # the paper; QRS; intervals of 60 to 100 a minute; what counts as flat
    "windows": "0.5 1.5",  # where the clean rule lets the R peak stand
    "confusion": "0.9",  # a threshold
    "holds_up": "0.15 0.3",  # what was hoped for before; a threshold
    "mask": "0.001 0.5 0.05",  # rates of the recipes and the steps that they allow
    "recipe": "0.001 0.05 0.01 0.002 0.5 0.1 3.2 1%",  # the settings tried; Adam's longest step; when a recipe has arrived
    "agreement": "10% 20%",  # how much of a window is compared
    "expert": "0.5 1.5 0.8 1.2",  # the clean rule; how far the spans are moved
    "faithfulness": "0.1 0.8 0.02",  # the blurred fill; a claim's threshold; how far a sample may move
    "sanity": "0.3",  # a claim's threshold
    "other_rhythms": "1.5 0.1 0.12",  # how near another beat may be; an F1 near none; the limit of QRS and PR
    "explain_record": "90%",  # a threshold
    "data": "1.0.0 1.0 2.0 4.0",  # versions of databases and licences
    "troubleshooting": "3.11",
    "cite": "4.0",
    **dict.fromkeys(["case_pac", "case_afib", "case_svta", "case_sbr"], "0.6"),  # the longest stretch that is hidden
    **dict.fromkeys(["case_n", "case_pvc", "case_lbbb", "case_rbbb"], "0.12 0.6"),  # and the limit of the QRS complex
}


def prose(text: str) -> str:
    """The sentences of a page: without header, code, formulas, options, roles (glued values, citations), and links."""
    text = re.sub(r"\A---\n.*?^---$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(`{3,}).*?^\1\s*$|^\$\$.*?\$\$$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(?:    |%|:\w+:).*$", "", text, flags=re.M)
    return re.sub(r"\{[\w:+-]+\}`[^`]*`|`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|<[^>]*>", "", text)


def typed(text: str) -> set[str]:
    """Decimals and percentages in the prose; 95 % is the level of every interval."""
    found = re.findall(r"(?<![\w.])(?:\d+(?:\.\d+)+(?![\w.]*\d)|\d+(?:\.\d+)?\s?%)", prose(text))
    return {n.replace(" ", "").replace("\N{NO-BREAK SPACE}", "") for n in found} - {"95%"}


@pytest.mark.parametrize("name", [name for name in PAGES if name not in {"glossary", "changelog"}])
def test_no_result_is_typed(name):
    # Glue it ({glue:text}) from the cell that computes it; a constant goes into ALLOWED, with what it is.
    assert typed(PAGES[name].read_text()) - set(ALLOWED.get(name, "").split()) == set()


def test_a_typed_number_is_seen():
    seen = typed(
        "---\na: 0.1\n---\nIt is 0.97, or 12 %, not {glue:text}`a_0.5` or $0.3$ or `0.4` (95 % interval).\n\n"
        "```{code-cell}\nx = 0.2\n```\n\n$$\n0.7\n$$\n\n    papermill 0.6\n"
    )
    assert seen == {"0.97", "12%"}


# What a reader is promised ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name not in FRONT])
def test_a_chapter_says_what_it_teaches_and_takes(name):
    text = PAGES[name].read_text()
    (goals,) = re.findall(r"^:::\{admonition\} You will learn\n:class: goals\n\n(.*?)^:::$", text, flags=re.M | re.S)
    assert 2 <= len(re.findall(r"^- ", goals, flags=re.M)) <= 4
    assert re.search(r"^Read before: .+\.$", goals, flags=re.M)
    assert colophon.stated(goals) in {1, 2, 3}
    assert re.findall(r"^## .*", text, flags=re.M)[-1] == "## What to take away"


def glossary() -> set[str]:
    blocks = re.findall(r"```\{glossary\}\n(.*?)```", PAGES["glossary"].read_text(), flags=re.S)
    return {line for block in blocks for line in block.splitlines() if line and not line.startswith(" ")}


def test_the_glossary_has_the_words_of_both_fields():
    assert len(glossary()) >= 60
    assert {"P wave", "QRS complex", "RR interval", "class activation map", "deletion mask", "held out"} <= glossary()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_terms_are_linked_once_where_they_are_first_used(name):
    used = re.findall(r"\{term\}`(?:[^`<]*<([^>]*)>|([^`<]*))`", PAGES[name].read_text())
    terms = [a or b for a, b in used]
    assert set(terms) <= glossary()
    assert [t for t in set(terms) if terms.count(t) > 1 + name.startswith("case_")] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_papermill_knows_type_and_meaning_of_every_parameter(name):
    from papermill.inspection import inspect_notebook

    found = inspect_notebook(str(PAGES[name].with_suffix(".ipynb")))
    assert found
    assert {p["name"]: (p["inferred_type_name"], p["help"]) for p in found.values()
            if p["inferred_type_name"] not in {"str", "int", "float", "bool"} or len(p["help"]) < 10} == {}  # fmt: skip


def test_papermills_own_help_shows_them():
    command = [sys.executable, "-m", "papermill", "--help-notebook", str(ROOT / "book" / "one_beat.ipynb")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^  time: float \(default -1\.0\)\s+seconds from the beginning of the record", said, flags=re.M)
    assert re.search(r'^  record: str \(default ""\)\s+record, such as 208', said, flags=re.M)
