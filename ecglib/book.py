"""Running chapters and building the book.

A chapter is a MyST notebook ``book/<name>.md``; `run` converts it with jupytext and executes it with papermill, `build`
does so for every chapter whose inputs changed, sets the executed notebooks in place of the texts (`stage`), and calls
jupyter-book on the result with execution off.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
import yaml
from filelock import FileLock
from tqdm import tqdm

from ecglib import source
from ecglib.databases import DATABASES
from ecglib.errors import DataError, EcglibError, check_name
from ecglib.files import write_atomically
from ecglib.pages import chapters, is_executable, notebook, pair

__all__ = ["build", "chapters", "execute", "is_executable", "notebook", "pair", "run", "stage", "sweep"]

_KEY = "ecglib_key"  # notebook metadata: hash of everything that an executed chapter came from


def run(
    chapter: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    parameters: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Path:
    """Execute one chapter through papermill.

    Parameters
    ----------
    chapter : str or path
        Name in the table of contents, or the path of a MyST text or notebook.
    out : path
        Executed notebook; written only when every cell ran.
    parameters : mapping, optional
        For the chapter's ``parameters`` cell, e.g. ``{"record": "208"}``.

    Raises
    ------
    EcglibError
        A cell failed: the message is the cell's own last line.
    """
    import papermill

    page = Path(chapter)
    if page.suffix not in {".md", ".ipynb"}:
        known = {name: path for name, path in chapters().items() if is_executable(path)}
        page = known[check_name("chapter", str(chapter), known)]
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}; choose a writable folder") from error
    part = out.with_name(f"{out.stem}.{os.getpid()}.part.ipynb")
    try:
        nbformat.write(notebook(page), part)
        papermill.execute_notebook(
            str(part), str(part), parameters=dict(parameters or {}), cwd=str(page.parent), progress_bar=progress,
            log_output=False, kernel_name="python3", extra_arguments=["--IPKernelApp.log_level=40"],
        )  # fmt: skip
        part.replace(out)
    except papermill.PapermillExecutionError as error:
        last = f"{error.ename}: {error.evalue}".splitlines()[0]
        raise EcglibError(f"chapter {page.stem} failed in cell {error.exec_count}: {last}") from error
    finally:
        part.unlink(missing_ok=True)
    return out


def execute(pages: Iterable[Path], *, data: str, jobs: int, progress: bool) -> dict[str, float]:
    """Run the pages whose key changed, ``jobs`` at a time; returns seconds by chapter, 0 for one that stood."""
    done = _executed()
    seconds: dict[str, float] = {}

    def one(page: Path) -> tuple[str, float]:
        target, key = done / f"{page.stem}.ipynb", _key(page, data)
        if _key_of(target) == key:
            return page.stem, 0.0
        began = time.perf_counter()
        run(page, target, progress=False)
        book = nbformat.read(target, as_version=4)
        book.metadata[_KEY] = key
        write_atomically(target, nbformat.writes(book))
        return page.stem, time.perf_counter() - began

    pages = list(pages)
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(one, page) for page in pages]
        for task in tqdm(as_completed(tasks), total=len(tasks), desc="chapters", disable=not progress):
            try:
                name, took = task.result()
            except EcglibError:
                for other in tasks:
                    other.cancel()
                raise
            seconds[name] = took
    return {page.stem: seconds[page.stem] for page in pages}


def stage(root: Path | None = None) -> Path:
    """Copy of the book in which executed notebooks stand for their texts and nothing is executed again."""
    root = root or source.project_root()
    where = root / "_build" / "stage"
    wanted: dict[Path, bytes] = {}
    config = yaml.safe_load((root / "_config.yml").read_text())
    config["execute"] = {"execute_notebooks": "off"}
    config["exclude_patterns"] = []
    wanted[where / "_config.yml"] = yaml.safe_dump(config, allow_unicode=True).encode()
    wanted[where / "_toc.yml"] = (root / "_toc.yml").read_bytes()
    pages = chapters(root).values()
    for page in pages:
        shown = _executed(root) / f"{page.stem}.ipynb" if is_executable(page) else page
        wanted[where / "book" / shown.name] = shown.read_bytes()
    for extra in (root / "book").rglob("*"):
        if extra.is_file() and extra.suffix not in {".md", ".ipynb"}:
            wanted[where / extra.relative_to(root)] = extra.read_bytes()
    for old in [p for p in where.rglob("*") if p.is_file() and "_build" not in p.relative_to(where).parts]:
        if old not in wanted:
            old.unlink()
    for path, content in wanted.items():
        if not path.is_file() or path.read_bytes() != content:  # an untouched page is not rendered again
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return where


def build(*, database: str = "auto", jobs: int = 2, progress: bool = True) -> Path:
    """Make the whole book: records, networks, chapters, HTML.

    Returns
    -------
    Path
        The first page of the built book.

    Raises
    ------
    EcglibError
        A chapter or the HTML build failed; nothing of an earlier book is lost.
    """
    if database != "auto":
        check_name("database", database, DATABASES)
    root = source.project_root()
    pages = list(chapters(root).values())
    times: dict[str, float] = {}
    (root / "_build").mkdir(exist_ok=True)
    with FileLock(root / "_build" / "book.lock"):
        began = time.perf_counter()
        found = source.prepare(database=database, fetch=True, progress=progress)
        times["records and networks"] = time.perf_counter() - began
        print(found.line)
        # Kernels and Sphinx look for records themselves: tell them what was decided here.
        os.environ |= {"ECGLIB_DATABASE": found.database, "ECGLIB_DATA": str(found.root)}
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        data = f"{found.database} {found.fingerprint()} {source.companions()}"
        times |= execute([p for p in pages if is_executable(p)], data=data, jobs=jobs, progress=progress)
        began = time.perf_counter()
        html = _html(root, stage(root), progress=progress)
        times["HTML"] = time.perf_counter() - began
    for name, took in times.items():
        print(f"{name:>24}  {f'{took:6.1f} s' if took else 'unchanged'}")
    print(f"The book is at {html}")
    return html


def sweep(file: str | os.PathLike[str], **options: Any) -> Any:
    """Run a chapter, or explain a record, once for every setting that a file lists: `ecglib.sweep.sweep`."""
    from ecglib import sweep as sweeps  # which runs them by `run`

    return sweeps.sweep(file, **options)


# Internals -----------------------------------------------------------------------------------------------------


def _executed(root: Path | None = None) -> Path:
    return (root or source.project_root()) / "_build" / "executed"


def _key_of(target: Path) -> str | None:
    """Key of an executed chapter; none if it is not there, or damaged and to be run again."""
    try:
        return json.loads(target.read_text())["metadata"][_KEY]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _key(page: Path, data: str) -> str:
    """Hash of all that a chapter's outputs depend on: text, package, committed results, records, networks.

    The whole package counts, not only what a chapter imports: one run too many is cheap, a stale number is not.
    """
    root = source.project_root()
    digest = hashlib.sha256(page.read_bytes() + data.encode())
    tracked = [*Path(__file__).parent.rglob("*.py"), *(root / "results").glob("*"), root / "requirements.lock"]
    if "phantom" in data:
        from ecglib import networks  # and with it torch, which those who only run chapters need not wait for

        tracked += [networks.checkpoint("phantom", level) for level in ("window", "patient")]
    for path in sorted(p for p in tracked if p.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _html(root: Path, staged: Path, *, progress: bool) -> Path:
    """Call jupyter-book, nitpicky and with warnings as errors; its talk goes to a log and is shown if it fails."""
    html = root / "_build" / "html"
    log, whole = root / "_build" / "html.log", staged / "_build" / "whole"
    if not whole.is_file():  # a build that was killed leaves pages that are not in the index of the search
        shutil.rmtree(staged / "_build", ignore_errors=True)
    whole.unlink(missing_ok=True)
    start = "from ecglib import sweep_run; from jupyter_book.cli.main import main; sweep_run.ends_with_parent(); main()"
    command = [sys.executable, "-c", start, "build", str(staged), "-n", "-W", "--keep-going"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with (
        log.open("w") as file,
        subprocess.Popen(command, text=True, **pipes) as sphinx,
        tqdm(total=200, desc="HTML", bar_format="{l_bar}{bar}| {elapsed}", disable=not progress) as bar,
    ):
        for line in sphinx.stdout or ():
            file.write(line)
            done = re.search(r"(reading sources|writing output)\.\.\..*?\[\s*(\d+)%\]", line)
            if done:  # each page is read once and written once
                bar.update(max(0, int(done[2]) + 100 * (done[1] == "writing output") - bar.n))
        bar.update(200 - bar.n)
    if sphinx.returncode:
        telling = [line for line in log.read_text().splitlines() if re.search("WARNING|ERROR|Error", line)]
        raise EcglibError(f"jupyter-book failed: {(telling or ['see the log'])[0]} (all of it: {log})")
    whole.touch()
    fresh, old = html.with_name("html.part"), html.with_name("html.old")
    for left in (fresh, old):  # by a build that was killed here
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(staged / "_build" / "html", fresh)
    if html.is_dir():  # pages that are gone from the contents go with it
        html.rename(old)
    fresh.rename(html)
    shutil.rmtree(old, ignore_errors=True)
    return html / "book" / "index.html"
