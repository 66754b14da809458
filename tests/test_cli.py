"""The command line: help with examples that parse, and one clear line with status 2 on bad input."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import os
import re
import shlex
import subprocess
import sys
import threading
import traceback
import warnings
from pathlib import Path

import pytest
import typer

import ecglib
from ecglib import cli

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
