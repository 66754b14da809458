"""Wall time of a sweep over eight records by number of workers, here and on Dask, and what LTAFDB would take on 100.

    python benchmarks/sweep_scaling.py                            # 8 records of MITDB, 5 minutes of each
    python benchmarks/sweep_scaling.py --seconds 60 --json results/scaling.json

Each run is a process that loads the package, the network and a record, and then explains a window for every beat.  The
plan separates the two: what a run costs before it computes, and what a second of signal costs after.  It assumes that
workers do not slow one another down, which cores of one machine do.  Wall times belong to the machine and to its load,
which is printed; the plan takes processor time, which hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import yaml

from ecglib import book, wfdb_files
from ecglib.databases import folder, record_names

RECORDS = "100 105 119 200 208 213 222 233".split()  # quiet and busy ones


def duration_s(database: str) -> list[float]:
    """Length of every record of a database, s, from the headers alone."""
    headers = [wfdb_files.header(folder(database) / name) for name in record_names(database)]
    return [(header.sig_len or 0) / header.fs for header in headers]


def pieces(records: list[float], piece_s: float) -> list[float]:
    """Runs that records are cut into, longest first, s."""
    return sorted((min(piece_s, d - a * piece_s) for d in records for a in range(math.ceil(d / piece_s))), reverse=True)


def makespan(costs: list[float], workers: int) -> float:
    """Seconds until the last of the runs is done when each worker takes the next from the list."""
    free = [0.0] * workers
    for cost in costs:
        k = free.index(min(free))
        free[k] += cost
    return max(free)


def plan(records: list[float], *, start_s: float, rate: float, workers: int, piece_h: float, price: float) -> dict:
    """Wall time and cost of explaining records on a cluster; ``rate`` is seconds of computing for a second of signal."""
    costs = [start_s + rate * d for d in pieces(records, piece_h * 3600)]
    wall = makespan(costs, workers)
    row = {"workers": workers, "piece_h": piece_h, "runs": len(costs), "wall_h": wall / 3600}
    row |= {"core_h": sum(costs) / 3600, "busy": sum(costs) / (wall * workers)}
    row["price"] = wall / 3600 * workers * price  # a machine is paid for while it waits, too
    return {name: round(value, 4) for name, value in row.items()}


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Address of a Dask scheduler with workers of one thread, each a process."""
    from distributed import Client

    dask = [sys.executable, "-c", "from dask.__main__ import main; main()"]
    with tempfile.TemporaryDirectory() as where:
        file = Path(where) / "scheduler.json"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        front = "scheduler --host 127.0.0.1 --port 0 --no-dashboard --scheduler-file".split()
        back = "worker --nthreads 1 --no-dashboard --scheduler-file".split()
        started = [subprocess.Popen([*dask, *front, str(file)], **quiet)]
        try:
            while not (file.is_file() and file.stat().st_size):
                time.sleep(0.1)
            started += [subprocess.Popen([*dask, *back, str(file)], **quiet) for _ in range(workers)]
            with Client(json.loads(file.read_text())["address"]) as client:
                client.wait_for_workers(workers, timeout=300)
                yield client.scheduler.address
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(timeout=30)


def measure(records: list[str], *, seconds: float, workers: int, dask: bool) -> dict[str, Any]:
    """One sweep from nothing, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as where, cluster(workers) if dask else nullcontext(None) as address:
        file = Path(where) / "sweep.yml"
        grid = {"database": "mitdb", "record": records, "stop": seconds}
        file.write_text(yaml.safe_dump({"task": "explain", "out": "out", "parameters": grid}))
        load, began = os.getloadavg()[0], time.perf_counter()
        found = book.sweep(file, workers=workers, scheduler=address, progress=sys.stderr.isatty())
        wall = time.perf_counter() - began
    if found.failed:
        raise SystemExit(f"{found.failed} runs failed: {found.table.error.dropna().iloc[0]}")
    table = found.table.astype({name: float for name in ("seconds", "cpu_s", "computing_cpu_s", "signal_s")})
    return {
        "how": "dask" if dask else "local", "workers": workers, "wall_s": round(wall, 1), "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1), "run_s": round(table.seconds.median(), 1),
        "start_cpu_s": round((table.cpu_s - table.computing_cpu_s).median(), 2),
        "cpu_per_s": round(table.computing_cpu_s.sum() / table.signal_s.sum(), 5),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="of each record")
    parser.add_argument("--most", type=int, default=8, help="records")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--price", type=float, default=0.05, help="of a core for an hour, an assumption, in any currency"
    )
    parser.add_argument("--json", type=Path, help="write it here too")
    options = parser.parse_args()
    records = RECORDS[: options.most]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {len(records)} records, {options.seconds:g} s of each"
    )
    rows = []
    for dask in (False, True):
        for workers in options.workers:
            rows.append(measure(records, seconds=options.seconds, workers=workers, dask=dask))
            print(json.dumps(rows[-1]), flush=True)
    whole = duration_s("ltafdb")
    cost = rows[0]
    plans = [
        plan(whole, start_s=cost["start_cpu_s"], rate=cost["cpu_per_s"], workers=n, piece_h=h, price=options.price)
        for n, h in ((1, 48), (100, 48), (100, 6), (100, 1))
    ]
    print(f"LTAFDB: {len(whole)} records, {sum(whole) / 86400:.1f} days")
    for row in plans:
        print(json.dumps(row))
    if options.json:
        head = {"cores": os.cpu_count(), "machine": platform.machine(), "records": records, "seconds": options.seconds}
        long = {"records": len(whole), "days": round(sum(whole) / 86400, 2), "price": options.price, "plans": plans}
        options.json.write_text(json.dumps({**head, "rows": rows, "ltafdb": long}, indent=1) + "\n")


if __name__ == "__main__":
    main()
