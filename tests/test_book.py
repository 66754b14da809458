"""Running chapters and building the book, on a miniature book of two chapters; its records are a tiny phantom."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from ecglib import book, networks, phantom, source
from ecglib.errors import DataError, EcglibError, UnknownNameError

ROOT = Path(__file__).resolve().parent.parent

CONFIG = """
title: A miniature
only_build_toc_files: true
exclude_patterns: ["book/*.ipynb", "_build/**"]
execute: {execute_notebooks: force}
html: {use_issues_button: false, use_repository_button: false}
"""
TOC = "format: jb-book\nroot: book/index\nchapters:\n- file: book/a\n- file: book/b\n"
HEADER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

"""
CHAPTER = """# Chapter {name}

```{{code-cell}} ipython3
:tags: [parameters]

number: int = 1
```

```{{code-cell}} ipython3
from pathlib import Path

from ecglib import CLASSES

with Path("../ran.txt").open("a") as diary:
    diary.write("{name}")
print(f"chapter {name}, class {{CLASSES[number]}}, {{type(number).__name__}}")
```
"""
BUILD = """
import sys
from pathlib import Path
from ecglib import book, source

found = source.Source("phantom", Path(sys.argv[1]), ("p01", "p02"))
source.prepare = lambda **options: found
book.build(progress=False)
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    phantom.write(root, patients=2, minutes=2)
    return root


def write_book(root: Path) -> Path:
    (root / "book" / "_static").mkdir(parents=True)
    (root / "_config.yml").write_text(CONFIG)
    (root / "_toc.yml").write_text(TOC)
    (root / "book" / "index.md").write_text("# A book\n\nIts first page has no kernel.\n")
    (root / "book" / "_static" / "a.css").write_text("/* nothing */")
    for name in "ab":
        (root / "book" / f"{name}.md").write_text(HEADER + CHAPTER.format(name=name))
    return root


def enter(monkeypatch: pytest.MonkeyPatch, root: Path, records: Path) -> source.Source:
    """Make ``root`` the checkout of this process, with the tiny phantom as what `source.prepare` found."""
    found = source.Source("phantom", records, ("p01", "p02"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("ECGLIB_DATABASE", "phantom")  # a build sets these: this way they are taken back
    monkeypatch.setenv("ECGLIB_DATA", str(records))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(source, "prepare", lambda **options: found)
    return found


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Path) -> Path:
    enter(monkeypatch, write_book(tmp_path / "mini"), records)
    return tmp_path / "mini"


@pytest.fixture
def ran(mini: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Chapters that were run, by a `book.run` that starts no kernel."""
    names: list[str] = []

    def run(page: Path, out: Path, **options: object) -> Path:
        names.append(page.stem)
        out.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(book.notebook(page), out)
        return out

    monkeypatch.setattr(book, "run", run)
    return names


def execute(data: str = "records") -> dict[str, float]:
    pages = [page for page in book.chapters().values() if book.is_executable(page)]
    return book.execute(pages, data=data, jobs=2, progress=False)


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)


# Chapters and pairs ------------------------------------------------------------------------------------------------


def test_chapters(mini):
    assert {name: page.relative_to(mini).as_posix() for name, page in book.chapters().items()} == {
        "index": "book/index.md",
        "a": "book/a.md",
        "b": "book/b.md",
    }
    assert [name for name, page in book.chapters().items() if book.is_executable(page)] == ["a", "b"]
    with pytest.raises(DataError, match=r"no _toc\.yml"):
        book.chapters(mini / "book")


def test_pairs(mini):
    a, b = mini / "book" / "a.ipynb", mini / "book" / "b.ipynb"
    assert book.pair(write=False) == [a, b]
    assert not a.exists()
    assert book.pair() == [a, b]
    assert book.pair() == []
    first = a.read_bytes()
    with (mini / "book" / "a.md").open("a") as text:
        text.write("\nOne more line.\n")
    assert book.pair(write=False) == [a]
    assert a.read_bytes() == first
    assert book.pair() == [a]
    assert "One more line." in a.read_text()
    a.unlink()
    assert book.pair() == [a]


def test_the_same_text_gives_the_same_notebook(mini):
    twice = [nbformat.writes(book.notebook(mini / "book" / "a.md")) for _ in range(2)]
    assert twice[0] == twice[1]
    assert [cell.id for cell in nbformat.reads(twice[0], as_version=4).cells] == ["a-0", "a-1", "a-2"]


# Running -------------------------------------------------------------------------------------------------------------


def test_run_executes_and_passes_parameters(mini):
    out = mini / "runs" / "a.ipynb"
    assert book.run("a", out, parameters={"number": 3}, progress=False) == out
    assert outputs(out) == "chapter a, class AFIB, int\n"
    (injected,) = (c for c in nbformat.read(out, as_version=4).cells if "injected-parameters" in c.metadata.tags)
    assert "number = 3" in injected.source
    assert [p.name for p in out.parent.iterdir()] == ["a.ipynb"]


def test_a_failing_cell_is_one_line_and_leaves_no_file(mini):
    page, out = mini / "bad.md", mini / "runs" / "bad.ipynb"
    page.write_text(
        HEADER + '```{code-cell} ipython3\n1 + 1\n```\n\n```{code-cell} ipython3\nraise ValueError("x\\ny")\n```\n'
    )
    with pytest.raises(EcglibError) as caught:
        book.run(page, out, progress=False)
    assert str(caught.value) == "chapter bad failed in cell 2: ValueError: x"
    assert list(out.parent.iterdir()) == []
    out.write_text("an earlier run")
    with pytest.raises(EcglibError):
        book.run(page, out, progress=False)
    assert [p.read_text() for p in out.parent.iterdir()] == ["an earlier run"]


def test_bad_arguments(mini):
    with pytest.raises(UnknownNameError, match=r"unknown chapter 'c'; \(known: a, b\)"):
        book.run("c", mini / "c.ipynb")
    with pytest.raises(UnknownNameError, match="unknown chapter 'index'"):  # it has no kernel
        book.run("index", mini / "index.ipynb")
    (mini / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot write"):
        book.run("a", mini / "file" / "a.ipynb")


# What is run again -----------------------------------------------------------------------------------------------


def test_only_what_changed_runs_again(mini, ran):
    assert set(execute()) == {"a", "b"}
    assert sorted(ran) == ["a", "b"]
    assert execute() == {"a": 0.0, "b": 0.0}
    assert sorted(ran) == ["a", "b"]
    with (mini / "book" / "b.md").open("a") as text:
        text.write("\nOne more line.\n")
    seconds = execute()
    assert seconds["a"] == 0.0
    assert seconds["b"] > 0.0
    assert ran[2:] == ["b"]
    (mini / "_build" / "executed" / "a.ipynb").unlink()
    execute()
    assert ran[3:] == ["a"]


@pytest.mark.parametrize("name", ["requirements.lock", "results/reference.json"])
def test_all_run_again_with_other_versions_or_results(mini, ran, name):
    execute()
    (mini / name).parent.mkdir(exist_ok=True)
    (mini / name).write_text("{}")
    execute()
    assert sorted(ran) == ["a", "a", "b", "b"]
    execute()
    assert len(ran) == 4


def test_all_run_again_after_a_change_of_the_package(mini, ran, monkeypatch):
    package = mini / "ecglib"
    shutil.copytree(ROOT / "ecglib", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(book, "__file__", str(package / "book.py"))
    execute()
    execute()
    assert sorted(ran) == ["a", "b"]
    (package / "models" / "murugesan.py").open("a").write("# another thought\n")
    execute()
    assert sorted(ran) == ["a", "a", "b", "b"]


def test_every_module_of_the_package_counts(mini, monkeypatch):
    package = mini / "ecglib"
    shutil.copytree(ROOT / "ecglib", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(book, "__file__", str(package / "book.py"))
    page = mini / "book" / "a.md"
    keys = [book._key(page, "records")]
    for module in sorted(package.rglob("*.py")):
        module.open("a").write("# another thought\n")
        keys.append(book._key(page, "records"))
    assert len(set(keys)) == len(keys) > 25


def test_all_run_again_after_a_change_of_a_record(mini, ran, records, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(records, own)
    found = source.Source("phantom", own, ("p01", "p02"))
    execute(found.fingerprint())
    execute(found.fingerprint())
    assert sorted(ran) == ["a", "b"]
    signal = own / "phantom" / "1.0.0" / "p02.dat"
    content = bytearray(signal.read_bytes())
    content[1000] ^= 1
    signal.write_bytes(content)
    execute(found.fingerprint())
    assert sorted(ran) == ["a", "a", "b", "b"]


def test_all_run_again_after_a_change_of_the_phantoms_network(mini, ran, monkeypatch):
    monkeypatch.setattr(book, "_html", lambda *args, **options: mini / "index.html")
    (source.work_folder() / "phantom-1").mkdir(parents=True)
    (source.work_folder() / "phantom-current").write_text("phantom-1")
    for content in (b"one", b"one", b"two"):
        networks.checkpoint("phantom", "patient").write_bytes(content)
        book.build(progress=False)
    assert sorted(ran) == ["a", "a", "b", "b"]


# Staging -----------------------------------------------------------------------------------------------------------


def test_stage_sets_notebooks_in_place_of_texts(mini, ran):
    execute()
    where = book.stage()
    files = sorted(p.relative_to(where).as_posix() for p in where.rglob("*") if p.is_file())
    assert files == sorted("_config.yml _toc.yml book/_static/a.css book/a.ipynb book/b.ipynb book/index.md".split())
    assert "execute_notebooks: 'off'" in (where / "_config.yml").read_text()
    assert (where / "book" / "a.ipynb").read_bytes() == (mini / "_build" / "executed" / "a.ipynb").read_bytes()


def test_stage_leaves_what_did_not_change_and_removes_what_went(mini, ran):
    execute()
    where = book.stage()
    page = where / "_build" / "html" / "page.html"  # of an earlier build: none of its business
    page.parent.mkdir(parents=True)
    page.touch()
    for path in (p for p in where.rglob("*") if p.is_file()):
        os.utime(path, (1000, 1000))
    (mini / "book" / "_static" / "a.css").unlink()
    (mini / "book" / "index.md").write_text("# Another book\n")
    (mini / "_toc.yml").write_text(TOC.replace("- file: book/b\n", ""))
    book.stage()
    times = {p.relative_to(where).as_posix(): p.stat().st_mtime for p in where.rglob("*") if p.is_file()}
    assert {name for name, time in times.items() if time == 1000} == {
        "_config.yml",
        "book/a.ipynb",
        "_build/html/page.html",
    }
    assert {name for name, time in times.items() if time != 1000} == {"_toc.yml", "book/index.md"}


# Building ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, records: Path) -> Path:
    """The miniature, built by two processes at once."""
    root = write_book(tmp_path_factory.mktemp("built") / "mini")
    command = [sys.executable, "-c", BUILD, str(records)]
    both = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("unchanged" in out for out, _ in said) == [False, True]
    assert all(out.startswith("Built from Phantom") for out, _ in said)
    return root


@pytest.fixture
def rebuild(built: Path, monkeypatch: pytest.MonkeyPatch, records: Path) -> Iterator[Callable[[], str]]:
    """Build again in this process; gives the names of the chapters that ran."""
    enter(monkeypatch, built, records)
    diary = built / "ran.txt"

    def build() -> str:
        before = len(diary.read_text())
        book.build(progress=False)
        return "".join(sorted(diary.read_text()[before:]))

    yield build
    for name in "ab":
        (built / "book" / f"{name}.md").write_text(HEADER + CHAPTER.format(name=name))


def test_two_builds_at_once_run_each_chapter_once(built):
    assert sorted((built / "ran.txt").read_text()) == ["a", "b"]
    html = built / "_build" / "html" / "book"
    assert {p.name for p in html.glob("*.html")} == {"index.html", "a.html", "b.html"}
    for name in "ab":
        assert f"chapter {name}, class PVC, int" in (html / f"{name}.html").read_text()
        assert not (built / "book" / f"{name}.ipynb").exists()
    assert list((built / "_build").rglob("*.part*")) == []


def test_a_build_after_an_edit_runs_and_renders_that_chapter_alone(built, rebuild):
    html = built / "_build" / "html" / "book"
    before = {p.name: p.stat().st_mtime for p in html.glob("*.html")}
    text = (built / "book" / "b.md").read_text()
    (built / "book" / "b.md").write_text(text.replace("number: int = 1", "number: int = 2"))
    assert rebuild() == "b"
    assert "chapter b, class PAC, int" in (html / "b.html").read_text()
    after = {p.name: p.stat().st_mtime for p in html.glob("*.html")}
    assert {name for name in after if after[name] != before[name]} - {"index.html"} == {"b.html"}  # the root always is


def test_a_failing_chapter_stops_the_build_and_spares_the_book(built, rebuild):
    pages = {p: p.read_bytes() for p in (built / "_build" / "html").rglob("*") if p.is_file()}
    text = (built / "book" / "a.md").read_text()
    (built / "book" / "a.md").write_text(text.replace("CLASSES[number]", "CLASSES[99]"))
    with pytest.raises(EcglibError, match=r"^chapter a failed in cell 2: IndexError: tuple index out of range$"):
        rebuild()
    assert {p: p.read_bytes() for p in pages} == pages


def test_a_page_that_sphinx_warns_of_stops_the_build(built, rebuild):
    with (built / "book" / "a.md").open("a") as text:
        text.write("\nSee {doc}`nowhere`.\n")
    with pytest.raises(EcglibError, match=r"^jupyter-book failed: .*nowhere.*html\.log\)$"):
        rebuild()


# papermill -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("database", ["phantom", pytest.param("mitdb", marks=pytest.mark.data)])
def test_papermills_own_command_runs_a_chapter_of_the_book(database, tmp_path):
    """As in the README; in a copy of the checkout, since the phantom's networks are written beside the book."""
    for name in ("book", "results", "ecglib"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    module = tmp_path / "ecglib" / "networks.py"
    module.write_text(module.read_text().replace('"epochs": 3, "draws": 2400', '"epochs": 1, "draws": 64'))
    assert '"draws": 64' in module.read_text()  # the phantom's networks need not know anything here
    found = source.find("mitdb") if database == "mitdb" else None
    if database == "mitdb" and found is None:
        pytest.skip("no records of mitdb: set ECGLIB_DATA or run 'ecglib fetch mitdb'")
    if found is None:
        phantom.write(tmp_path / "data", patients=4, minutes=3)
    record, time = ("208", "120") if found else ("p02", "60")
    environment = os.environ | {"ECGLIB_DATABASE": database, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment |= {"ECGLIB_DATA": str(found.root if found else tmp_path / "data")}
    command = [sys.executable, "-m", "papermill", "book/one_beat.ipynb", "out.ipynb", "-p", "record", record]
    done = subprocess.run(
        [*command, "-p", "time", time], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shown = (tmp_path / "out.ipynb").read_text()
    assert f"Record {record}, lead" in shown
    assert "ecglib-provenance" in shown
    assert ("ecglib-simulated" in shown) is (database == "phantom")
