"""kill -9 at random moments: whatever was going on, the next run goes on and ends with the same bytes and numbers.

``make test`` kills each of them once or twice, ``make storm`` (ECGLIB_STORM) twenty times.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ecglib import book, models, phantom, source
from ecglib.databases import folder

STORM = bool(int(os.environ.get("ECGLIB_STORM", "0")))
KILLS = 20 if STORM else 2

# A process that has imported what is slow to import, and then forks for every attempt.  It reads a line an attempt: after
# how many seconds of its own computing, or of the clock, it is killed, or "end"; and answers with status and computing time.
FORKS = """
import os, signal, sys, threading, time
{imports}
if "torch" in sys.modules:
    sys.modules["torch"].set_num_threads(1)

def work():
{body}

def die(seconds):
    while time.process_time() < seconds:
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    how, _, seconds = line.strip().partition(" ")
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if how == "computing":
            threading.Thread(target=die, args=(time.process_time() + float(seconds),), daemon=True).start()
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
    if how == "clock":
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    print(status, used.ru_utime + used.ru_stime, file=answers, flush=True)
"""


@contextlib.contextmanager
def forks(imports: str, body: str, cwd: Path):
    """``attempt(how, seconds)``: status and computing time of one attempt, killed at that moment."""
    code = FORKS.format(imports=imports, body="\n".join(f"    {line}" for line in body.strip().splitlines()))
    settings = os.environ | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=cwd, env=settings, **pipes) as process:

        def attempt(how: str = "end", seconds: float = 0.0) -> tuple[int, float]:
            process.stdin.write(f"{how} {seconds}\n")
            process.stdin.flush()
            status, used = process.stdout.readline().split()
            return int(status), float(used)

        try:
            yield attempt
        finally:
            process.stdin.close()


def kills(attempt: Callable, how: str, longest: float, *, seed: int, anew: Path) -> Iterator[int]:
    """Kill at random moments, `KILLS` times; an attempt that comes to its end before that is followed by a new one."""
    draw, killed = random.Random(None if STORM else seed), 0
    while killed < KILLS:
        status, _ = attempt(how, draw.uniform(0, longest))
        if status == signal.SIGKILL:
            killed += 1
            yield killed
        else:
            assert status == 0
            shutil.rmtree(anew)


# fetch ---------------------------------------------------------------------------------------------------------------


class Slow(http.server.BaseHTTPRequestHandler):
    """A mirror that gives a kilobyte at a time, and goes on where it is asked to."""

    files: Path
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.files / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        body, start = path.read_bytes(), int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        with contextlib.suppress(OSError):
            for k in range(start, len(body), 1024):
                self.wfile.write(body[k : k + 1024])
                time.sleep(0.004)


def test_fetch(tmp_path, record_property):
    tree, draw = tmp_path / "mirror" / "mitdb" / "1.0.0", random.Random(0)
    tree.mkdir(parents=True)
    for k in range(6):
        for kind, n in (("hea", 90), ("atr", 4_000), ("dat", 60_000)):
            (tree / f"10{k}.{kind}").write_bytes(draw.randbytes(n))
    (tree / "RECORDS").write_text("".join(f"10{k}\n" for k in range(6)))
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.name}\n" for p in sorted(tree.iterdir())]
    (tree / "SHA256SUMS.txt").write_text("".join(lines))
    handler = type("Handler", (Slow,), {"files": tmp_path / "mirror"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    body = f'fetch("mitdb", root="data", base_url="{url}", jobs=2, backoff=0.01, progress=False)'
    here = folder("mitdb", tmp_path / "data")
    with forks("from ecglib.download import fetch", body, tmp_path) as attempt:
        for _ in kills(attempt, "clock", 0.6, seed=1, anew=here):
            for file in here.glob("*"):  # what has its name is whole
                if file.suffix != ".part" and file.name != ".lock":
                    assert file.read_bytes() == (tree / file.name).read_bytes()
        assert attempt()[0] == 0
    server.shutdown()
    server.server_close()
    record_property("killed", KILLS)
    found = {p.name: p.read_bytes() for p in here.iterdir() if p.name != ".lock"}
    assert found == {p.name: p.read_bytes() for p in tree.iterdir()}


# train ---------------------------------------------------------------------------------------------------------------

TRAIN = """
own = windows.cut_database("phantom", rule="clean", root="data").subsample(6, seed=0)
part = splits.split(own, level="window", seed=0)[0]
config = training.TrainConfig(epochs=5, draws=16, batch_size=16, device="cpu", validation=0.2)
net = models.build("compact", width=4, seed=0)
run = training.fit(net, own, part, config=config, run_dir="run", progress=False)
models.save(run.model, run.run_dir / "net.safetensors")
"""


def test_train(tmp_path, record_property):
    phantom.write(tmp_path / "data", patients=1, minutes=2, seed=0)
    with forks("from ecglib import models, splits, training, windows", TRAIN, tmp_path) as attempt:
        status, took = attempt()
        assert status == 0
        straight = tmp_path / "straight"
        (tmp_path / "run").rename(straight)
        record_property("killed", sum(1 for _ in kills(attempt, "computing", took, seed=2, anew=tmp_path / "run")))
        assert attempt()[0] == 0
    nets = [models.load(where / "net.safetensors").state_dict() for where in (tmp_path / "run", straight)]
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[1])
    told = [json.loads((where / "run.json").read_text()) for where in (tmp_path / "run", straight)]
    assert told[0]["history"] == told[1]["history"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(p.name for p in straight.iterdir())


# book ----------------------------------------------------------------------------------------------------------------

PAGE = """---
kernelspec: {{display_name: Python 3, language: python, name: python3}}
---

# Chapter {name}

```{{code-cell}} ipython3
:tags: [parameters]

number: int = 1
wait: float = 0.0
```

```{{code-cell}} ipython3
import time

from myst_nb import glue

time.sleep(wait)
glue("square", number**2, display=False)
print("chapter {name} says", number**2)
```
"""
CONFIG = """
title: A miniature
only_build_toc_files: true
exclude_patterns: ["book/*.ipynb", "_build/**", "data/**"]
execute: {execute_notebooks: force}
html: {use_issues_button: false, use_repository_button: false}
"""
BUILD = """
found = source.Source("phantom", Path("data").resolve(), ("p01",))
source.prepare = lambda **options: found
book.build(progress=False)
"""


@pytest.fixture
def mini(tmp_path):
    root = tmp_path / "mini"
    phantom.write(root / "data", patients=1, minutes=2, seed=0)
    (root / "book").mkdir()
    (root / "_config.yml").write_text(CONFIG)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/a\n- file: book/b\n")
    (root / "book" / "index.md").write_text("# A book\n\nIts first page has no kernel.\n")
    for name in "ab":
        (root / "book" / f"{name}.md").write_text(PAGE.format(name=name))
    return root


def pages(root: Path) -> dict[str, str]:
    """Text of the pages that were built, without what a build stamps on them."""
    found = {p.name: p.read_text() for p in (root / "_build" / "html" / "book").glob("*.html")}
    return {name: re.sub(r"\?v=[0-9a-f]+|\d{4}-\d\d-\d\d|id[0-9]+", "", text) for name, text in found.items()}


@pytest.mark.slow
def test_book(mini, tmp_path, record_property):
    with forks("from pathlib import Path\nfrom ecglib import book, source", BUILD, mini) as attempt:
        if STORM:
            straight = Path(shutil.copytree(mini, tmp_path / "straight"))
            with forks("from pathlib import Path\nfrom ecglib import book, source", BUILD, straight) as other:
                began = time.monotonic()
                assert other()[0] == 0
                took = time.monotonic() - began
            rounds = kills(attempt, "clock", took, seed=3, anew=mini / "_build")
        else:  # while a chapter runs, or the pages are made, as fast as the machine is
            assert attempt("clock", 6.0)[0] == signal.SIGKILL
            rounds = iter([1])
        for _ in rounds:
            for notebook in (mini / "_build" / "executed").glob("*.ipynb"):
                if ".part" not in notebook.name:
                    assert json.loads(notebook.read_text())["nbformat"] == 4
        assert attempt()[0] == 0
    record_property("killed", KILLS if STORM else 1)
    found = pages(mini)
    assert set(found) == {"index.html", "a.html", "b.html"}
    assert all(f"chapter {name} says 1" in found[f"{name}.html"] for name in "ab")
    assert not (mini / "_build" / "html.part").exists()
    assert not (mini / "_build" / "html.old").exists()
    if STORM:
        assert found == pages(straight)
        index = [root / "_build" / "html" / "searchindex.js" for root in (mini, straight)]
        assert index[0].read_text() == index[1].read_text()


def test_two_books_at_once_take_turns(mini, monkeypatch):
    # the second finds the lock held and waits; no kernel and no Sphinx here, but what they would do is told
    told: list[str] = []
    held = source.Source("phantom", mini / "data", ("p01",))
    monkeypatch.chdir(mini)
    monkeypatch.setattr(source, "prepare", lambda **options: (told.append("begins"), time.sleep(0.2), held)[-1])
    monkeypatch.setattr(book, "execute", lambda pages, **options: told.append("runs") or {})
    monkeypatch.setattr(book, "_html", lambda root, staged, **options: told.append("ends") or root)
    monkeypatch.setattr(book, "stage", lambda root: root)
    for name in ("ECGLIB_DATABASE", "ECGLIB_DATA", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    both = [threading.Thread(target=book.build, kwargs={"progress": False}) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    assert told == ["begins", "runs", "ends"] * 2


# sweep ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not STORM, reason="test_sweep kills one; make storm kills twenty")
def test_sweep(tmp_path, record_property):
    (tmp_path / "page.md").write_text(PAGE.format(name="s"))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    plan = {"chapter": "page.md", "out": "out", "parameters": {"number": [1, 2, 3, 4], "wait": [0.5]}}
    (tmp_path / "sweep.yml").write_text(yaml.safe_dump(plan))
    with forks("from ecglib import book", 'book.sweep("sweep.yml", workers=2, progress=False)', tmp_path) as attempt:
        began = time.monotonic()
        assert attempt()[0] == 0
        took = time.monotonic() - began
        straight = yaml.safe_load((tmp_path / "out" / "sweep.json").read_text())
        shutil.rmtree(tmp_path / "out")
        record_property("killed", sum(1 for _ in kills(attempt, "clock", took, seed=4, anew=tmp_path / "out")))
        assert attempt()[0] == 0
    found = yaml.safe_load((tmp_path / "out" / "sweep.json").read_text())
    for row in (*found, *straight):
        row.pop("seconds")
    assert found == straight
    assert [row["square"] for row in found] == [1, 4, 9, 16]
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 4  # no parts are left
