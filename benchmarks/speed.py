"""Speeds that the book relies on, each beside a named alternative in the same run (reading needs records).

python benchmarks/speed.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from ecglib import masks, models, source
from ecglib.databases import folder


def seconds(run: Callable[[], object], *, times: int = 3) -> float:
    """Median wall time."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def line(what: str, ours: float, other: str, theirs: float) -> None:
    print(f"{what:<44} {ours:8.2f} s   {other:<36} {theirs:8.2f} s   ratio {theirs / ours:5.1f}")


def reading() -> None:
    """All of MITDB into deck windows, beside wfdb's reader and a loop over annotations."""
    import wfdb

    from ecglib.windows import cut_database

    found = source.find("mitdb")
    if found is None:
        print("MITDB is not on this machine: reading is not timed")
        return

    def plain() -> np.ndarray:
        parts = []
        for record in found.records:
            path = str(folder("mitdb", found.root) / record)
            signal, marks = wfdb.rdrecord(path, channels=[0]).p_signal[:, 0], wfdb.rdann(path, "atr")
            for sample, symbol in zip(marks.sample, marks.symbol, strict=True):
                if symbol in "NVALR" and sample >= 360 and sample + 360 <= len(signal):
                    parts.append(signal[sample - 360 : sample + 360])
        return np.stack(parts)

    ours = seconds(lambda: cut_database("mitdb", rule="deck", root=found.root))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line(f"MITDB to deck windows ({peak:.2f} GB at the peak)", ours, "wfdb and a loop over annotations", seconds(plain))


def counting() -> None:
    """The published table from all annotations of three databases, beside wfdb's reader on the same files."""
    import wfdb

    from ecglib import survey
    from ecglib.databases import record_names
    from ecglib.errors import DataError
    from ecglib.windows import TABLE, count_table

    try:
        files = [(name, r) for name in TABLE for r in record_names(name)]
    except DataError as error:
        print(f"the table is not timed: {error}")
        return
    some = files[::12]  # wfdb takes a minute for all of them
    size = {f: (folder(f[0]) / f"{f[1]}.atr").stat().st_size for f in files}
    share = sum(size[f] for f in some) / sum(size.values())
    theirs = seconds(lambda: [wfdb.rdann(str(folder(d) / r), "atr") for d, r in some], times=1) / share
    ours = seconds(count_table, times=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line(f"count of {len(files)} records ({peak:.2f} GB)", ours, "wfdb's reader alone, without counting", theirs)
    line("survey of the same", seconds(lambda: [survey.survey(n) for n in TABLE], times=1), "the same", theirs)


def importing() -> None:
    """``import ecglib``, beside an interpreter that imports nothing and one that imports torch."""

    def start(code: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True), times=5)

    bare = start("pass")
    line("import ecglib", max(start("import ecglib") - bare, 1e-3), "import torch", start("import torch") - bare)


def masking(n: int = 64, n_iter: int = 50) -> None:
    """Masks of a batch, beside one window at a time."""
    torch.set_num_threads(1)
    net = models.build("murugesan-gap", width=16)
    x = torch.randn(n, 1, 720, generator=torch.Generator().manual_seed(0))

    def run(part: torch.Tensor) -> None:
        masks.learn_mask(masks.lstm_score(net, part, 1), part, n_iter=n_iter)

    one = seconds(lambda: [run(x[i : i + 1]) for i in range(8)]) * n / 8
    line(f"deck mask of the LSTM, {n} windows, {n_iter} steps", seconds(lambda: run(x)), "one window at a time", one)


if __name__ == "__main__":
    importing()
    counting()
    reading()
    masking()
