"""Many runs of a chapter, or many records, on the cores of this machine or on a Dask cluster.

A run is one notebook executed by papermill in a process of its own.  Its file is named after all that it depends on and
appears when its last cell is done, so a file that is there is a run that need not be done again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from filelock import FileLock, Timeout
from tqdm import tqdm

from ecglib import book, source, sweep_book, sweep_plan, sweep_run, sweep_task
from ecglib.databases import DATABASES, data_root, folder
from ecglib.errors import DataError
from ecglib.files import write_atomically


@dataclass(frozen=True)
class Sweep:
    """What came of a sweep.

    Attributes
    ----------
    table : DataFrame
        One line a run: run (from 1), key, status ("done", "failed", "not run"), seconds, error, its parameters and its
        glued values; also in ``sweep.csv`` and ``sweep.json``.
    out : Path
        Folder of the results; ``out/book`` is a book of the notebooks.
    parameters : tuple of dict
        Of each run, as given.
    """

    table: pd.DataFrame
    out: Path
    parameters: tuple[dict[str, Any], ...]

    @property
    def done(self) -> int:
        """Number of runs that are done."""
        return int((self.table.status == "done").sum())

    @property
    def failed(self) -> int:
        """Number of runs that are not."""
        return len(self.table) - self.done


def sweep(
    file: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Sweep:
    """Do all runs of a ``sweep.yml``; those that an earlier sweep finished stand, those that fail stop nobody.

    Parameters
    ----------
    file : path
        See `ecglib.sweep_plan.read`, and the chapter on sweeps.
    workers : int, optional
        Runs side by side on this machine, each with its share of the cores; by default one for every core.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:port``: its workers do the runs instead, one a thread.  They need the
        same ecglib, the records, and the folder of the results under the same path.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Sweep

    Raises
    ------
    EcglibError
        The file is wrong, ``out`` belongs to something else or to a sweep that is running, or there is no scheduler.
    """
    if workers is not None and workers < 1:
        raise DataError(f"workers is {workers}; give 1 or more")
    plan = sweep_plan.read(file)
    runs = plan.out / "runs"
    with _claimed(plan.out):
        if plan.task:
            write_atomically(plan.page, sweep_task.EXPLAIN)
        runs.mkdir(exist_ok=True)
        keys = _keys(plan)
        rows: list[dict[str, Any]] = [{"key": key, "status": "not run"} for key in keys]
        todo = [n for n, key in enumerate(keys) if not (runs / f"{key}.ipynb").is_file()]
        try:
            with _executor(workers or os.cpu_count() or 1, scheduler, at_most=len(todo)) as pool:
                tasks: dict[Future[str], int] = {}
                for n in todo:
                    own = {"folder": f"explained/{keys[n]}"} if plan.task else {}
                    target = str(runs / f"{keys[n]}.ipynb")
                    tasks[
                        pool.submit(sweep_run.perform, str(plan.page), target, plan.runs[n] | own, sweep_run.code())
                    ] = n
                stood = len(keys) - len(todo)
                ends = tqdm(as_completed(tasks), total=len(keys), initial=stood, desc="runs", disable=not progress)
                for task in ends:
                    rows[tasks[task]] |= _failure(task)
        finally:  # also when it is stopped: what is done can be read
            for old in runs.glob("*.part.ipynb"):
                old.unlink()
            for n, key in enumerate(keys):
                if (runs / f"{key}.ipynb").is_file():
                    rows[n] = {"key": key} | _read(runs / f"{key}.ipynb")
            table = sweep_book.table_of(plan, rows)
            sweep_book.write(plan, table)
    return Sweep(table, plan.out, plan.runs)


# Internals -----------------------------------------------------------------------------------------------------


def _failure(task: Future[str]) -> dict[str, Any]:
    try:
        error = task.result()
    except (Exception, CancelledError) as lost:  # the worker's end, not the chapter's
        error = f"no worker could finish this run ({sweep_run.line(lost)}); sweep again"
    return {"status": "failed", "error": error} if error else {}


def _read(file: Path) -> dict[str, Any]:
    """What a finished run found; one whose file has been damaged since is taken away, for the next sweep to do again."""
    try:
        found = sweep_book.row(nbformat.read(file, as_version=4))
    except Exception as error:  # whatever nbformat trips over
        file.unlink(missing_ok=True)
        return {"status": "failed", "error": f"its notebook is damaged ({sweep_run.line(error)[:80]}); sweep again"}
    return {"status": "done", "seconds": found.pop("seconds"), "values": found}


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Hold the folder of the results; one that has files of another kind, or another sweep at work, is refused."""
    lock = out / "sweep.lock"
    try:
        if out.is_dir() and not lock.is_file() and any(out.iterdir()):
            raise DataError(f"{out} holds other files; give out an empty folder or that of an earlier sweep")
        out.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"another sweep is at work in {out}; wait for it, or give another out") from error
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}; choose a writable folder") from error
    try:
        with held:
            yield
    finally:
        lock.touch()  # it also marks the folder, and filelock may have removed it


@contextmanager
def _executor(workers: int, scheduler: str | None, *, at_most: int) -> Iterator[Executor]:
    """Threads here, each waiting for the process of its run; or the workers of a cluster."""
    workers = max(1, min(workers, at_most))
    if scheduler is None:
        # kernels inherit these: relative roots would count from the chapter's folder, and threads would crowd the cores
        before = {name: os.environ.get(name) for name in ("ECGLIB_DATA", "OMP_NUM_THREADS")}
        if os.environ.get("ECGLIB_DATA"):
            os.environ["ECGLIB_DATA"] = str(data_root().resolve())
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
        pool: Executor = ThreadPoolExecutor(workers)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            for name, value in before.items():
                os.environ.pop(name, None)
                os.environ |= {name: value} if value is not None else {}
        return
    if not re.fullmatch(r"(tcp|tls|ws|wss|ucx)://\S+:\d+", scheduler):
        raise DataError(f"scheduler is {scheduler!r}; give an address such as tcp://host:8786")
    try:
        from distributed import Client
    except ImportError as error:
        raise DataError("a cluster needs dask.distributed; install it with pip install 'ecglib[cluster]'") from error
    try:
        client = Client(scheduler, timeout=10)
    except OSError as error:
        raise DataError(f"no Dask scheduler answers at {scheduler}; start one with 'dask scheduler'") from error
    with client:
        if not client.nthreads():
            print(f"no worker has joined {scheduler} yet: dask worker {scheduler} --nthreads 1", file=sys.stderr)
        pool = client.get_executor(pure=False)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False)


def _keys(plan: sweep_plan.Plan) -> list[str]:
    """Names of the runs: a hash over parameters, chapter, package, committed results, and what records are there."""
    there = []
    for root, name in itertools.product(source._roots(), DATABASES):
        where = folder(name, root)
        files = sorted(p for p in where.glob("*") if p.suffix in {".hea", ".dat", ".atr"})
        there += [f"{name} {p.name} {p.stat().st_size}" for p in files]
    # Sizes, not contents: a hash of a long database at every start would cost more than a run.  The phantom's networks
    # do not count: they follow from records and code, and the first run may be what trains them.
    found = source.find()
    data = hashlib.sha256(f"{found and (found.database, found.records)} {there}".encode()).hexdigest()
    base = book._key(plan.page, data)
    return [hashlib.sha256(f"{base} {json.dumps(run, sort_keys=True)}".encode()).hexdigest()[:16] for run in plan.runs]
