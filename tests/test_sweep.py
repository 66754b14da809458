"""Sweeps: what a file asks for, runs here and on a Dask cluster, kills, the table and the book; on toy chapters."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from markdown_it import MarkdownIt

from ecglib import book, sweep, sweep_book, sweep_plan, sweep_run
from ecglib.errors import EcglibError

CHAPTER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A toy

```{code-cell} ipython3
:tags: [parameters]

n: int = 1  # a number
x: float = 0.5
name: str = "a"
quick: bool = True
free = None
```

```{code-cell} ipython3
import time
from pathlib import Path

from myst_nb import glue

with Path("diary.txt").open("a") as diary:
    diary.write(f"{n}\\n")
if n < 0:
    raise ValueError(f"n is {n}")
until = time.monotonic() + (0 if quick else 600)
while time.monotonic() < until and not Path("go").exists():
    time.sleep(0.05)
glue("square", n * n, display=False)
glue("name", name + "!", display=False)
n * n
```

The square is {glue:text}`square`, as {doc}`notation` says.
"""
EVIL = "<script>alert(1)</script> | [x](javascript:1) {{y}} `z` $a$\n# B: - {c: d}"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with the chapter, a checkout of its own."""
    (tmp_path / "toy.md").write_text(CHAPTER)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: toy\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def ask(folder: Path, **keys: object) -> Path:
    file = folder / "sweep.yml"
    file.write_text(yaml.safe_dump({"chapter": "toy.md", "out": "out"} | keys, sort_keys=False))
    return file


def diary(folder: Path) -> list[int]:
    file = folder / "diary.txt"
    return sorted(int(line) for line in file.read_text().split()) if file.is_file() else []


def wait(condition: Callable[[], object], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def shell(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ecglib", "sweep", *arguments]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


# The file ------------------------------------------------------------------------------------------------------------

GOOD = "chapter: toy.md\nout: out\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, ["cannot read", "sweep.yml"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
        ("", ["NoneType", "chapter"]),
        ("- a\n- b\n", ["list", "chapter"]),
        ("a: [1, 2\n", ["no YAML", "line 2"]),
        ("a: !!python/object/apply:os.system [ls]\n", ["no YAML", "python/object"]),
        (GOOD + "paramters: {n: [1]}\n", ["'paramters'", "did you mean 'parameters'?"]),
        (GOOD + "parameters: {n: [1]}\nparameters: {n: [2]}\n", ["'parameters' is given twice"]),
        ("out: out\nparameters: {n: [1]}\n", ["a chapter or a task"]),
        (GOOD + "task: explain\n", ["a chapter or a task"]),
        ("task: explian\nout: out\n", ["unknown task 'explian'", "'explain'"]),
        ("chapter: toy.md\nparameters: {n: [1]}\n", ["out: runs/mine"]),
        ("chapter: toy.md\nout: 3\n", ["out", "3"]),
        ("chapter: [toy.md]\nout: out\n", ["chapter", "['toy.md']"]),
        ("chapter: nowhere.md\nout: out\n", ["no chapter", "nowhere.md"]),
        ("chapter: tyo\nout: out\n", ["unknown chapter 'tyo'", "did you mean 'toy'?"]),
        ("chapter: text.md\nout: out\nparameters: {n: [1]}\n", ["text.md", "no parameters"]),
        (GOOD + "parameters: {m: [1]}\n", ["unknown parameter 'm'", "n, x, name, quick"]),
        (GOOD + "parameters: {n: []}\n", ["n", "empty list"]),
        (GOOD + "parameters: {}\n", ["parameters", "{}"]),
        (GOOD + "runs: []\n", ["runs", "[]"]),
        (GOOD, ["0 runs"]),
        (GOOD + "parameters: [n]\n", ["parameters", "['n']"]),
        (GOOD + "runs: {n: 1}\n", ["runs", "{'n': 1}"]),
        (GOOD + "runs: [1]\n", ["runs", "1", "name: value"]),
        (GOOD + "parameters: {n: [1, two]}\n", ["n", "int", "'two'"]),
        (GOOD + "parameters: {n: [1.5]}\n", ["n", "int", "1.5"]),
        (GOOD + "parameters: {n: [true]}\n", ["n", "int", "True"]),
        (GOOD + "parameters: {x: [fast]}\n", ["x", "float", "'fast'"]),
        (GOOD + "parameters: {name: [no]}\n", ["name", "str", "False", "quotes"]),
        (GOOD + "parameters: {quick: [1]}\n", ["quick", "bool", "1"]),
        (GOOD + "parameters: {free: [{a: 1}]}\n", ["free", "{'a': 1}"]),
        (GOOD + "parameters: {n: [1, 2, 1]}\n", ["runs 1 and 3", "n = 1"]),
        (GOOD + "parameters: {name: [208, '208']}\n", ["runs 1 and 2", "name = 208"]),
        (GOOD + "parameters: {n: [1]}\nruns: [{n: 1}]\n", ["runs 1 and 2", "n = 1"]),
        (GOOD + f"parameters: {{n: {list(range(101))}, x: {list(range(100))}}}\n", ["10,100 runs", "10,000"]),
        ("task: explain\nout: out\nparameters: {method: [cam]}\n", ["run 1", "no record"]),
        ("task: explain\nout: out\nparameters: {record: [a], folder: [b]}\n", ["unknown parameter 'folder'"]),
        ("task: explain\nout: out\nparameters: {record: all, database: [mitdb, ltdb]}\n", ["record: all"]),
    ],
)
def test_a_bad_file_gives_one_line(text, named, toy):
    (toy / "text.md").write_text("# No kernel\n")
    if text is not None:
        (toy / "sweep.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EcglibError) as error:
        sweep_plan.read(toy / "sweep.yml")
    assert len(str(error.value).splitlines()) == 1
    for part in named:
        assert part in str(error.value)
    assert not (toy / "out").exists()


def test_the_shell_says_it_too(toy):
    process = shell(toy, str(ask(toy, parameters={"m": [1]})))
    out, line = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"ecglib: unknown parameter 'm'[^\n]*\n", line)


def test_lists_are_multiplied_and_runs_are_added(toy):
    file = ask(toy, parameters={"n": [1, 2], "name": ["a", "b"], "x": 2}, runs=[{"n": 9}, {}])
    plan = sweep_plan.read(file)
    assert plan.page == toy / "toy.md"
    assert plan.out == toy / "out"
    grid = [{"n": n, "name": name, "x": 2.0} for n in (1, 2) for name in "ab"]
    assert list(plan.runs) == [*grid, {"n": 9}, {}]


def test_values_get_the_type_of_the_parameter(toy):
    (toy / "sweep.yml").write_text(GOOD + "runs: [{name: 208, x: 1e-3, n: 3, quick: off, free: 7}]\n")
    (run,) = sweep_plan.read(toy / "sweep.yml").runs
    assert run == {"name": "208", "x": 0.001, "n": 3, "quick": False, "free": 7}
    assert [type(run[k]) for k in ("name", "x", "n", "quick")] == [str, float, int, bool]


def test_paths_count_from_the_folder_of_the_file(toy, monkeypatch, tmp_path_factory):
    file = ask(toy, parameters={"n": [1]})
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    plan = sweep_plan.read(file)
    assert (plan.page, plan.out) == (toy / "toy.md", toy / "out")


def test_all_records_of_a_database(toy, phantom_root, monkeypatch):
    monkeypatch.setenv("ECGLIB_DATA", str(phantom_root))
    (toy / "sweep.yml").write_text("task: explain\nout: out\nparameters: {database: phantom, record: all, stop: 60}\n")
    plan = sweep_plan.read(toy / "sweep.yml")
    names = (phantom_root / "phantom" / "1.0.0" / "RECORDS").read_text().split()
    assert [run["record"] for run in plan.runs] == names
    assert len(names) == 12
    assert plan.task


def test_keys_follow_parameters_and_text(toy):
    file = ask(toy, parameters={"n": [1, 2]})
    before = sweep._keys(sweep_plan.read(file))
    assert len(set(before)) == 2
    assert sweep._keys(sweep_plan.read(ask(toy, parameters={"n": [2, 3]})))[0] == before[1]
    (toy / "toy.md").write_text(CHAPTER.replace("A toy", "Another"))
    assert not set(before) & set(sweep._keys(sweep_plan.read(ask(toy, parameters={"n": [1, 2]}))))


# Table and pages -----------------------------------------------------------------------------------------------------


def notebook(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def scrap(name: str, data: dict[str, str], prefix: str = "application/papermill.record/") -> nbformat.NotebookNode:
    found = {f"{prefix}{kind}": text for kind, text in data.items()}
    metadata = {"scrapbook": {"name": name, "mime_prefix": prefix}}
    return nbformat.v4.new_output("display_data", data=found, metadata=metadata)


def test_glued_values():
    texts = {"i": "3", "f": "0.25", "s": "'a b'", "t": "True", "np": "np.float64(1.5)", "nan": "nan", "o": "<object>"}
    cell = nbformat.v4.new_code_cell("")
    cell.outputs = [scrap(name, {"text/plain": text}) for name, text in texts.items()]
    cell.outputs += [
        scrap("shown", {"text/plain": "7"}, prefix=""),
        scrap("chart", {"text/html": "<p>", "text/plain": "x"}),
    ]
    cell.outputs += [
        nbformat.v4.new_output("stream", text="no"),
        nbformat.v4.new_output("execute_result", data={"text/plain": "9"}),
    ]
    found = sweep_book.glued(notebook(cell))
    assert found.pop("nan") != found.get("nan")
    assert found == {"i": 3, "f": 0.25, "s": "a b", "t": True, "np": 1.5, "o": "<object>", "shown": 7}


def test_runs_keep_their_labels_apart():
    figure = nbformat.v4.new_code_cell("1", metadata={"mystnb": {"figure": {"name": "fig-a", "caption": "A"}}})
    text = "(sec-a)=\n# Title\n\nSee {numref}`fig-a`, {ref}`here <sec-a>`, {doc}`cam`, {doc}`a map <cam>`; a sec-a.\n\n"
    text += "$$ x $$ (eq-a)\n\nas {eq}`eq-a` and {numref}`fig-b`\n"
    found = sweep_book._renamed(notebook(figure, nbformat.v4.new_markdown_cell(text)), "run2")
    assert found.cells[0].metadata.mystnb.figure == {"name": "fig-a-run2", "caption": "A"}
    want = "(sec-a-run2)=\n# Title\n\nSee {numref}`fig-a-run2`, {ref}`here <sec-a-run2>`, cam, a map; a sec-a.\n\n"
    want += "$$ x $$ (eq-a-run2)\n\nas {eq}`eq-a-run2` and {numref}`fig-b`\n"
    assert found.cells[1].source == want


def finished(n: int, **parameters: object) -> nbformat.NotebookNode:
    book = notebook(nbformat.v4.new_markdown_cell("# A toy\n\nText."))
    book.metadata["papermill"] = {"duration": 1.25, "parameters": parameters}
    return book


def test_values_are_shown_letter_for_letter(tmp_path):
    runs = ({"name": EVIL}, {"name": "x: [y"})
    plan = sweep_plan.Plan(tmp_path / "to<b>y.md", False, runs, tmp_path / "out")
    (plan.out / "runs").mkdir(parents=True)
    nbformat.write(finished(1, **runs[0]), plan.out / "runs" / "k1.ipynb")
    rows = [{"key": "k1", "status": "done", "seconds": 1.25, "values": {"name": EVIL}}]
    rows += [{"key": "k2", "status": "failed", "error": EVIL}]
    table = sweep_book.table_of(plan, rows)
    assert list(table.columns) == [*"run key status seconds error name".split(), "name (glued)"]
    sweep_book.write(plan, table)
    where = plan.out / "book"
    page = MarkdownIt("commonmark").enable("table").render((where / "index.md").read_text())
    seen = " ".join(EVIL.split())
    escaped = seen.replace("<", "&lt;").replace(">", "&gt;")
    assert page.count(f"<td>{escaped}</td>") == 3  # parameter, glued value, error
    assert "<script" not in page
    assert re.findall('href="([^"]*)"', page) == ["runs/run1.ipynb"]
    assert page.count("<tr>") == 3
    assert "<h1>Sweep of to&lt;b&gt;y</h1>" in page
    assert yaml.safe_load((where / "_config.yml").read_text())["title"] == "Sweep of to<b>y"
    assert yaml.safe_load((where / "_toc.yml").read_text()) == {
        "format": "jb-book", "root": "index", "chapters": [{"file": "runs/run1"}],
    }  # fmt: skip
    title = nbformat.read(where / "runs" / "run1.ipynb", as_version=4).cells[0].source
    assert MarkdownIt().render(title).startswith(f"<h1>A toy: name = {escaped}</h1>")
    assert pd.read_csv(plan.out / "sweep.csv").name.tolist() == [EVIL, "x: [y"]
    assert json.loads((plan.out / "sweep.json").read_text())[1]["error"] == EVIL


# The folder ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_something_else_is_left_alone(toy):
    (toy / "out").mkdir()
    (toy / "out" / "thesis.tex").write_text("years")
    with pytest.raises(EcglibError, match="holds other files"):
        book.sweep(ask(toy, parameters={"n": [1]}), progress=False)
    assert [p.name for p in (toy / "out").iterdir()] == ["thesis.tex"]


def test_two_sweeps_do_not_share_a_folder(toy):
    (toy / "out").mkdir()
    with FileLock(toy / "out" / "sweep.lock"), pytest.raises(EcglibError, match="another sweep is at work"):
        book.sweep(ask(toy, parameters={"n": [1]}), progress=False)


def test_a_folder_that_cannot_be_made(toy):
    (toy / "file").write_text("")
    with pytest.raises(EcglibError, match=r"cannot write .*file/out"):
        book.sweep(ask(toy, parameters={"n": [1]}, out="file/out"), progress=False)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"scheduler": "localhost"}, "tcp://host:8786"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "no Dask scheduler answers at tcp://127.0.0.1:1"),
    ],
)
def test_bad_options(options, line, toy):
    pytest.importorskip("distributed")
    with pytest.raises(EcglibError) as error:
        book.sweep(ask(toy, parameters={"n": [1]}), progress=False, **options)
    assert line in str(error.value)
    assert diary(toy) == []


# Runs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failure_stops_nobody_and_what_is_done_stands(toy):
    file = ask(toy, parameters={"n": [3, -1, 4]})
    process = shell(toy, str(file), "--workers", "2")
    out, errors = process.communicate(timeout=500)
    assert process.returncode == 1, errors
    assert out == f"2 done, 1 failed: {toy}/out/sweep.csv, book in {toy}/out/book\n"
    line = r"ecglib: run 2 \(n = -1\): chapter toy failed in cell \d: ValueError: n is -1\n"
    assert re.fullmatch(line, errors), errors
    table = pd.read_csv(toy / "out" / "sweep.csv")
    assert table.n.tolist() == [3, -1, 4]
    assert table.status.tolist() == ["done", "failed", "done"]
    assert table.square.tolist()[::2] == [9, 16]
    assert table.name.tolist()[::2] == ["a!", "a!"]
    assert (table.seconds[::2] > 0).all()
    assert table.square.isna()[1]
    assert diary(toy) == [-1, 3, 4]

    text = (toy / "toy.md").read_text()
    again = book.sweep(ask(toy, parameters={"n": [4, 3, 5]}), workers=1, progress=False)  # one more, none bad
    assert (again.done, again.failed) == (3, 0)
    assert again.table.square.tolist() == [16, 9, 25]
    assert diary(toy) == [-1, 3, 4, 5]
    assert (toy / "toy.md").read_text() == text
    assert sorted(p.name for p in (toy / "out" / "book" / "runs").iterdir()) == [
        "run1.ipynb",
        "run2.ipynb",
        "run3.ipynb",
    ]
    assert "OMP_NUM_THREADS" in os.environ

    start = "from jupyter_book.cli.main import main; main()"
    build = [sys.executable, "-c", start, "build", str(toy / "out" / "book"), "-n", "-W", "--keep-going"]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    html = toy / "out" / "book" / "_build" / "html"
    assert "A toy: n = 5" in (html / "runs" / "run3.html").read_text()
    assert "The square is 25" in re.sub("<[^>]+>", "", (html / "runs" / "run3.html").read_text())
    assert 'href="runs/run3.html"' in (html / "index.html").read_text()


@pytest.mark.slow
def test_a_kernel_that_dies_is_one_failed_run(toy):
    text = CHAPTER.replace('    raise ValueError(f"n is {n}")', "    import os\n\n    os._exit(9)")
    (toy / "toy.md").write_text(text)
    found = book.sweep(ask(toy, parameters={"n": [-1, 2]}), workers=1, progress=False)
    assert found.table.status.tolist() == ["failed", "done"]
    assert "ernel died" in found.table.error[0]


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on(toy):
    file = ask(toy, runs=[{"n": 1}, {"n": 2, "quick": False}, {"n": 3}])
    process = shell(toy, str(file), "--workers", "1")
    wait(lambda: diary(toy) == [1, 2])  # the second is under way
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert not (toy / "out" / "sweep.csv").exists()
    assert len([p for p in (toy / "out" / "runs").glob("*.ipynb") if ".part" not in p.name]) == 1
    (toy / "go").touch()
    found = book.sweep(file, workers=1, progress=False)
    assert found.table.square.tolist() == [1, 4, 9]
    assert diary(toy) == [1, 2, 2, 3]  # the first stood
    assert len(list((toy / "out" / "runs").iterdir())) == 3  # and no parts are left


@pytest.fixture
def cluster(toy: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address of a scheduler, and its two workers, each a process of its own."""
    pytest.importorskip("distributed")
    file = toy / "scheduler.json"
    dask = [sys.executable, "-c", "from dask.__main__ import main; main()"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": toy}
    front = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    processes = [subprocess.Popen([*dask, *front], **quiet)]  # type: ignore[call-overload]
    try:
        wait(lambda: file.is_file() and file.stat().st_size)
        worker = ["worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        processes += [subprocess.Popen([*dask, *worker], **quiet) for _ in range(2)]  # type: ignore[call-overload]
        from distributed import Client

        address = json.loads(file.read_text())["address"]
        with Client(address) as client:
            client.wait_for_workers(2, timeout=300)
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=30)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_finishes(toy, cluster):
    address, workers = cluster
    runs = [{"n": 1, "quick": False}, {"n": 2, "quick": False}, {"n": -3}, {"n": 4}]
    process = shell(toy, str(ask(toy, runs=runs)), "--scheduler", address)
    wait(lambda: diary(toy)[-2:] == [1, 2])  # one on each worker
    workers[0].kill()
    (toy / "go").touch()
    out, errors = process.communicate(timeout=500)
    assert process.returncode == 1, errors
    assert out.startswith("3 done, 1 failed: ")
    table = pd.read_csv(toy / "out" / "sweep.csv")
    assert table.status.tolist() == ["done", "done", "failed", "done"]
    assert table.square.tolist()[:2] == [1, 4]
    assert "ValueError: n is -3" in table.error[2]
    assert diary(toy) in ([-3, 1, 1, 2, 4], [-3, 1, 2, 2, 4])  # the lost one was begun again, on the other


def test_a_worker_with_other_code_refuses(toy, monkeypatch):
    plan = sweep_plan.read(ask(toy, parameters={"n": [1]}))
    target = toy / "out" / "runs" / "k.ipynb"
    assert "does not see" in sweep_run.perform(str(plan.page), str(target), {}, sweep_run.code())
    target.parent.mkdir(parents=True)
    assert "has another ecglib" in sweep_run.perform(str(plan.page), str(target), {}, "another")
    assert diary(toy) == []
