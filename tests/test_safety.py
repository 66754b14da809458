"""Nothing that comes in from outside can run, escape its folder or speak through a page."""

from __future__ import annotations

import ast
import functools
import json
import re
from pathlib import Path

import edfio
import numpy as np
import pytest
import torch

from ecglib import book, explain, models, networks, phantom, plots, records, report_html, source, sweep_book, sweep_plan
from ecglib.databases import record_names
from ecglib.download import ESCAPE
from ecglib.errors import DataError, UnknownNameError

ROOT = Path(__file__).resolve().parent.parent
PAGE = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{code-cell}
:tags: [parameters]

name: str = ""
```
"""
SOURCES = sorted((ROOT / "ecglib").rglob("*.py"))
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


RUNS = set(
    "eval exec compile __import__ torch.load torch.save yaml.unsafe_load yaml.full_load os.system os.popen".split()
)


@functools.cache
def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call of a file, with its dotted name."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in nodes]


def code_of_chapters() -> dict[str, str]:
    blocks = {p.name: re.findall(r"^```\{code-cell\}.*?\n(.*?)^```", p.read_text(), flags=re.M | re.S) for p in
              (ROOT / "book").glob("*.md")}  # fmt: skip
    lines = {
        name: [re.sub(r"\A---\n.*?^---\n|^:.*\n", "", b, flags=re.M | re.S) for b in bs] for name, bs in blocks.items()
    }
    return {name: "\n".join(bs) for name, bs in lines.items()}


# Code ----------------------------------------------------------------------------------------------------------------


def test_no_file_can_hold_code():
    # pickles run what they hold; so do YAML's full loaders, and texts that are evaluated
    imports, bad = set(), []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports |= {alias.name.split(".")[0] for alias in node.names}
                imports.add((getattr(node, "module", "") or "").split(".")[0])
        for name, node in calls(path):
            words = {k.arg: k.value for k in node.keywords}
            if name in {
                "eval",
                "exec",
                "compile",
                "__import__",
                "torch.load",
                "torch.save",
                "yaml.unsafe_load",
                "yaml.full_load",
            }:
                bad.append((path.name, name))
            if name.endswith(("read_pickle", "to_pickle")) or name in {"joblib.load", "os.system", "os.popen"}:
                bad.append((path.name, name))
            if name == "np.load" and ast.literal_eval(words.get("allow_pickle", ast.Constant(False))) is not False:
                bad.append((path.name, name))
            if name == "yaml.load" and ast.unparse(node.args[1]) not in {"_Loader", "Loader"}:  # SafeLoaders, see below
                bad.append((path.name, name))
    assert bad == []
    assert imports.isdisjoint({"pickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"})


def test_the_own_loaders_of_yaml_are_safe_ones():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name in {"_Loader", "Loader"}:
                assert [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"], path.name


def test_no_shell_is_given_a_file_name():
    found = 0
    for path in SOURCES:
        for name, node in calls(path):
            if name in {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_output"}:
                found += 1
                assert "shell" not in {k.arg for k in node.keywords}, path.name
                assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr), path.name  # a list, not a line
    assert found >= 4


def test_chapters_read_nothing_that_runs():
    for name, code in code_of_chapters().items():
        assert not re.search(r"torch\.load\(|pickle|os\.system|shell=True|(?<![.\w])(eval|exec)\(", code), name


def test_a_pickle_of_weights_is_refused_before_it_is_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"trap": Trap()}, tmp_path / "net.safetensors")
    with pytest.raises(DataError, match="only safetensors are read"):
        models.load(tmp_path / "net.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_a_page_reads_windows_without_objects(tmp_path):
    from ecglib.windowset import load_windows

    np.savez(tmp_path / "w.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(DataError, match="is no window set"):
        load_windows(tmp_path / "w.npz")


# Folders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../100", "a/../../b", "/etc/passwd", "C:x", "..", "a\\b", "..\\b", "a\0b", "x/..", "/"]
)
def test_names_that_leave_their_folder(name):
    assert ESCAPE.search(name)


@pytest.mark.parametrize("name", ["100", "100.hea", "x_mitdb/x_108.hea", "102-0.atr", "a..b", "..."])
def test_names_that_do_not(name):
    assert not ESCAPE.search(name)


def test_a_list_of_records_adds_no_record_that_is_not_in_the_folder(tmp_path):
    where = phantom.write(tmp_path, patients=2, minutes=2, seed=0)
    (where / "RECORDS").write_text("../../p99\n/etc/passwd\np02\np01\n")
    assert record_names("phantom", tmp_path) == ["p02", "p01"]
    for name in ("../p01", "..", "/etc/passwd", "p01/../p02"):
        with pytest.raises(UnknownNameError):
            records.read_record("phantom", name, root=tmp_path)


@pytest.mark.parametrize("file", ["../secret.dat", "/etc/passwd", ".", "..", "sub/p01.dat", "~"])
def test_a_header_opens_no_file_of_another_folder(file, tmp_path):
    (tmp_path / "secret.dat").write_bytes(bytes(999))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.hea").write_text(f"a 1 360 100\n{file} 16 200/mV\n")
    with pytest.raises(DataError):
        records.open_record(tmp_path / "own" / "a")


def test_a_header_of_segments_opens_none_of_them(tmp_path):
    (tmp_path / "a.hea").write_text("a/1 1 360 100\n../b 100\n")
    with pytest.raises(DataError):
        records.open_record(tmp_path / "a")


def test_the_files_of_a_sweep_are_named_by_us(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text(PAGE)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    monkeypatch.chdir(tmp_path)
    names = ["../../x", "/etc/x", "a\0b", "$(touch x)", "; touch x", "<b>", "x" * 5000]
    (tmp_path / "sweep.yml").write_text(f"chapter: page.md\nout: out\nparameters: {{name: {json.dumps(names)}}}\n")
    from ecglib.sweep import _keys

    keys = _keys(sweep_plan.read(tmp_path / "sweep.yml"))
    assert len(set(keys)) == len(names)
    assert all(re.fullmatch(r"[0-9a-f]{16}", key) for key in keys)


def test_results_and_chapters_are_taken_by_name_alone():
    with pytest.raises(UnknownNameError):
        book.run("../../etc/passwd", "out.ipynb")
    with pytest.raises(UnknownNameError):
        networks.checkpoint("mitdb", "../../x")


# Pages ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spiteful(tmp_path_factory):
    """A recording whose every name would be markup, explained."""
    where = tmp_path_factory.mktemp("spite")
    folder = phantom.write(where, patients=1, minutes=2, seed=0)
    wave = records.open_record(folder / "p01").signal[: 360 * 10].astype(float)
    signal = edfio.EdfSignal(wave, 360, label="<b>ECG</b>", physical_dimension="mV", physical_range=(-4, 4))
    notes = [edfio.EdfAnnotation(float(k), None, EVIL if k == 5 else "N") for k in range(1, 9)]
    file = where / "<img src=x onerror=alert(3)>&.edf"
    edfio.Edf([signal], annotations=notes).write(file)
    record = records.open_record(file)
    return record, explain.explain_record(record, model=models.build("murugesan-gap", width=4), progress=False)


def test_a_report_shows_names_as_text(spiteful, tmp_path):
    record, found = spiteful
    page = report_html.write_report(
        found, record, tmp_path / "r.html", model_name=EVIL, notes={EVIL: EVIL, "file": EVIL}
    )
    text = page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;img src=x onerror=alert(3)&gt;&amp;" in text
    assert not re.search(r"<(script|img|b|iframe|object|embed|link)\b", text)
    assert not re.search(r"\b(src|href|action)=|url\(|@import", re.sub(r"&lt;.*?&gt;", "", text))
    assert "default-src 'none'" in text


def test_a_chart_closes_no_script(spiteful):
    record, _ = spiteful
    chart = plots.strip(record.signal[:720], start=0.0, title=f"</script>{EVIL}", description=f"<!--{EVIL}")
    page = source._html(chart.to_dict())["text/html"]
    assert page.count("<script") == page.count("</script>")
    assert "alert(1)" in page  # as text of the chart
    assert not re.search(r"<[/!]?(script>alert|img|!--)", page)
    shown = json.loads(re.search(r'(\{"config".*?\}), \{"mode"', page, flags=re.S)[1])
    assert shown["title"] == f"</script>{EVIL}"


def test_chapters_show_charts_that_way():
    # every chart of a chapter goes through the renderer above, since its first cell calls source.setup
    assert 'alt.renderers.enable("ecglib")' in (ROOT / "ecglib" / "source.py").read_text()
    for page in book.chapters(ROOT).values():
        if book.is_executable(page):
            assert "renderers" not in page.read_text()
            assert "source.setup(" in page.read_text(), page.name


def test_the_line_on_every_page_is_text(monkeypatch, tmp_path):
    found = source.Source("phantom", tmp_path, (EVIL, "p02"))
    assert "<" not in found.line


def test_a_table_of_a_sweep_shows_letters():
    assert "<" not in re.sub(r"\\<", "", sweep_book.plain(EVIL))


def test_static_files_ask_nobody_for_anything():
    # what the pages load besides charts: no address of another host in styles and scripts of our own
    for path in (ROOT / "book" / "_static").glob("*"):
        if path.is_file() and path.suffix in {".css", ".js"}:
            assert not re.search(r"https?://(?!www\.w3\.org/)|@import|url\((?!['\"]?data:)", path.read_text()), (
                path.name
            )
