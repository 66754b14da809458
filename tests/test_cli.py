"""The command line: help with examples that parse, and one clear line with status 2 on bad input."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import typer

import ecglib
from ecglib import book, cli, models, training
from ecglib.splits import split

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]

TOC = "format: jb-book\nroot: book/index\n"
PAGE = """---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A page

```{{code-cell}} ipython3
:tags: [parameters]

record: str = ""
```

```{{code-cell}} ipython3
{code}
```
"""


def shell(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The program itself, as a process."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ECGLIB_")} | {"COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "ecglib", *arguments]
    return subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=60, check=False)


def inside(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What `shell` would find, without a process that must read all libraries anew."""
    out, errors, status = io.StringIO(), io.StringIO(), 0

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        errors.write(warnings.formatwarning(message, category, filename, lineno, line))

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name in [k for k in os.environ if k.startswith("ECGLIB_")]:
            patch.delenv(name)
        patch.setenv("COLUMNS", "200")
        patch.setenv("NO_COLOR", "1")
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["ecglib", *arguments])
        warnings.simplefilter("default")
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)  # as in any process
        warnings.showwarning = show
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                cli.main()
            except SystemExit as end:
                status = end.code or 0
            except Exception:
                traceback.print_exc()
                status = 1
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), errors.getvalue())


def refused(done: subprocess.CompletedProcess[str], *named: str) -> None:
    """Status 2, nothing on stdout, one line on stderr that names the thing."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"ecglib: [^\n]+\n", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    for name in named:
        assert name in done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout whose only chapter asks for networks that are not there."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text(TOC)
    code = 'from ecglib import networks\n\nnetworks.checkpoints("mitdb", "patient")'
    (tmp_path / "book" / "index.md").write_text(PAGE.format(code=code))
    return tmp_path


def test_commands():
    assert {"fetch", "count", "train", "book"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name, tmp_path):
    done = inside(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert f"Example: ecglib {name}" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_parses(name):
    program, command, *arguments = shlex.split(COMMANDS[name].epilog.removeprefix("Example: "))
    assert (program, command) == ("ecglib", name)
    COMMANDS[name].make_context(name, arguments)  # raises on what does not exist


def test_the_examples_of_the_readme_parse():
    blocks = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    lines = [
        shlex.split(line, comments=True)
        for block in blocks
        for line in block.splitlines()
        if line.startswith("ecglib ")
    ]
    assert len(lines) >= 3
    for _, command, *arguments in lines:
        COMMANDS[command].make_context(command, arguments)


def test_version(tmp_path):
    done = shell("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ecglib.__version__}\n", "")


def test_alone_it_shows_its_help(tmp_path):
    done = shell(cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == ""
    assert all(f" {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("fetch mitbd", ["unknown database 'mitbd'", "did you mean 'mitdb'?"]),
        ("fetch phantom", ["'phantom' is simulated"]),
        ("fetch", ["database"]),
        ("fetch mitdb --nope", ["--nope"]),
        ("nonsense", ["nonsense"]),
        ("count --rule dekc", ["--rule", "'dekc'", "'deck'", "'clean'"]),
        ("count --root nowhere", ["nowhere", "ecglib fetch mitdb", "ECGLIB_DATA"]),
        ("train mitbd --out runs/a", ["unknown database 'mitbd'"]),
        ("train mitdb", ["--out"]),
        ("train mitdb --out runs/a --root nowhere", ["nowhere", "ecglib fetch mitdb"]),
        ("train mitdb --out runs/a --model resnet", ["unknown model 'resnet'", "murugesan-gap"]),
        ("train mitdb --out runs/a --rule clear", ["--rule", "'clear'"]),
        ("train mitdb --out runs/a --epochs 0", ["--epochs"]),
        ("train mitdb --out runs/a --epochs many", ["--epochs", "integer"]),
        ("book --database mitbd", ["unknown database 'mitbd'", "did you mean 'mitdb'?"]),
        ("book --chapter indx", ["unknown chapter 'indx'", "did you mean 'index'?"]),
        ("book --chapter index -p record", ["-p name=value", "'record'"]),
        ("book --chapter index --out file/out.ipynb", ["file/out.ipynb"]),
        ("book -p record=208", ["--chapter"]),
    ],
)
def test_bad_input(line, named, project):
    (project / "file").write_text("not a folder")
    refused(inside(*line.split(), cwd=project), *named)
    assert [p for p in project.rglob("*") if p.suffix == ".ipynb" or "runs" in p.parts] == []


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    refused(shell("fetch", "mitdb", "--root", "file", cwd=tmp_path), "cannot write", "file/mitdb/1.0.0", "another root")


def test_a_record_that_the_database_does_not_have(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    tree = tmp_path / "mirror" / "mitdb" / "1.0.0"
    tree.mkdir(parents=True)
    (tree / "100.hea").write_text("100 1 360 10\n")
    (tree / "RECORDS").write_text("100\n")
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.name}\n" for p in sorted(tree.iterdir())]
    (tree / "SHA256SUMS.txt").write_text("".join(sums))
    handler = functools.partial(Quiet, directory=str(tmp_path / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        done = shell("fetch", "mitdb", "--record", "999", "--root", "data", "--base-url", url, cwd=tmp_path)
        server.shutdown()
    refused(done, "unknown record '999'")


def test_a_chapter_whose_networks_are_missing(project):
    done = shell("book", "--chapter", "index", "-p", "record=208", "--out", "out.ipynb", cwd=project)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert re.match(r"ecglib: chapter index failed in cell \d+: DataError: no 'patient' network for 'mitdb' in ", last)
    assert "Traceback" not in done.stderr
    assert not (project / "out.ipynb").exists()


def test_a_chapter_takes_parameters_of_every_type(project):
    page = project / "book" / "index.md"
    page.write_text(PAGE.format(code="print(repr(record), time, label)"))
    given = "-p record=208 -p time=12.5 -p label=PVC=x".split()
    done = shell("book", "--chapter", "index", *given, "--out", "runs/out.ipynb", cwd=project)
    assert (done.returncode, done.stdout) == (0, "runs/out.ipynb\n"), done.stderr
    assert "208 12.5 PVC=x" in (project / "runs" / "out.ipynb").read_text()


@pytest.mark.parametrize("line", ["--debug fetch mitbd", "fetch mitbd --debug"])
def test_debug_shows_the_traceback(line, tmp_path):
    done = shell(*line.split(), cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback (most recent call last)" in done.stderr
    assert "UnknownNameError: unknown database 'mitbd'" in done.stderr


# What the commands do ----------------------------------------------------------------------------------------------


def test_a_count_is_shown_with_commas_and_dashes(tmp_path, monkeypatch):
    asked = []
    table = pd.DataFrame({"mitdb": [75052.0, np.nan], "ltdb": [0.0, 7.0]}, index=["N", "PVC"])
    monkeypatch.setattr(ecglib.windows, "count_table", lambda root, **more: asked.append((root, more)) or table)
    done = inside("count", "--root", "there", "--rule", "clean", "--labels", "mitdb15", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["mitdb", "ltdb"], ["N", "75,052", "0"], ["PVC", "–", "7"],
    ]  # fmt: skip
    assert asked == [(Path("there"), {"rule": "clean", "progress": False, "labels": "mitdb15"})]


def test_a_training_is_scored_on_whom_it_held_out(phantom_root, phantom_clean, tmp_path):
    given = "--model compact --width 4 --epochs 1 --draws 64 --batch-size 32 --per-class 24 --folds 4 --fold 1 --seed 3"
    done = inside("train", "phantom", "--root", str(phantom_root), "--out", "run", *given.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    windows = phantom_clean.subsample(24, seed=3)
    held = split(windows, level="patient", folds=4, seed=3)[1].test
    path = tmp_path / "run" / "model.safetensors"
    notes, net = models.metadata(path), models.load(path).eval()
    assert notes["patients_held_out"] == sorted(set(windows.patient[held].tolist()))
    assert (notes["database"], notes["rule"], notes["run"]["fold"]) == ("phantom", "clean", 1)
    assert {k: notes["run"]["config"][k] for k in ("epochs", "draws", "batch_size", "seed")} == {
        "epochs": 1, "draws": 64, "batch_size": 32, "seed": 3,
    }  # fmt: skip
    assert net.options["width"] == 4
    with torch.no_grad():
        guess = net(torch.from_numpy(windows.x[held])).argmax(1).numpy()
    truth, f1 = windows.y[held], []
    for c in np.union1d(truth, guess):  # by hand, of the classes that were held out or named
        f1.append(2 * ((guess == c) & (truth == c)).sum() / ((guess == c).sum() + (truth == c).sum()))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["scores"]["accuracy"] == pytest.approx((guess == truth).mean(), abs=5e-5)
    assert report["scores"]["f1_macro"] == pytest.approx(np.mean(f1), abs=5e-5)
    assert np.sum(report["confusion"]) == len(held)
    assert report["n_groups"] == len(notes["patients_held_out"])
    said = f"accuracy {(guess == truth).mean():.3f}, macro-F1 {np.mean(f1):.3f} (held out by patient)"
    assert done.stdout == f"run/model.safetensors: {said}\n"


def test_a_fold_that_the_split_does_not_have(phantom_root, tmp_path):
    given = "--per-class 2 --folds 2 --fold 2 --model compact --out run".split()
    done = inside("train", "phantom", "--root", str(phantom_root), *given, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "ecglib: there is no fold 2; the split has 2, counted from 0"
    refused(
        inside("train", "phantom", "--published", "--model", "compact", "--out", "run", cwd=tmp_path),
        "unknown network with a published recipe 'compact'",
    )
    assert not (tmp_path / "run").exists()


def test_other_processes_of_a_training_write_nothing(phantom_root, tmp_path, monkeypatch):
    """torchrun's second process has learnt the same; one of them saves it."""
    monkeypatch.setenv("RANK", "1")
    run = SimpleNamespace(model=None, record={})
    monkeypatch.setattr(training, "fit", lambda *given, **more: run)
    given = "--per-class 2 --folds 2 --model compact --width 4 --out run".split()
    done = inside("train", "phantom", "--root", str(phantom_root), *given, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "run").exists()


def test_pairs_that_were_brought_in_step_are_named(project, monkeypatch):
    monkeypatch.setattr(book, "pair", lambda: [Path("book/a.ipynb"), Path("book/b.ipynb")])
    done = inside("book", "--pair", cwd=project)
    assert (done.returncode, done.stdout) == (0, "updated book/a.ipynb\nupdated book/b.ipynb\n")


def test_a_build_is_asked_for_with_its_options(project, monkeypatch):
    asked = []
    monkeypatch.setattr(book, "build", lambda **options: asked.append(options))
    assert inside("book", "--database", "phantom", "--jobs", "3", cwd=project).returncode == 0
    assert inside("book", cwd=project).returncode == 0
    assert asked == [{"database": "phantom", "jobs": 3}, {"database": "auto", "jobs": 2}]


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [
        (KeyboardInterrupt(), "stopped", 130),
        (MemoryError(), "the memory is full; take a shorter part or fewer windows", 2),
        (
            OSError(28, "No space left on device", "runs/x"),
            "runs/x: No space left on device; free space, or choose a place that can be read and written", 2,
        ),
        (OSError(28, "No space left"), "No space left; free space, or choose a place that can be read and written", 2),
        (OSError("odd\n  news"), "odd news", 2),
    ],
)  # fmt: skip
def test_what_the_machine_does_is_one_line(error, said, status, project, monkeypatch):
    def build(**options):
        raise error

    monkeypatch.setattr(book, "build", build)
    done = inside("book", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"ecglib: {said}\n")
