"""The notebook of a sweep's ``task: explain``: one record, a window for every beat, and the counts that a table needs."""

#: The notebook of ``task: explain``.  ``folder`` is set by the sweep: a run that was killed goes on there.
EXPLAIN = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A record, explained

```{code-cell} ipython3
:tags: [parameters, hide-input]

database: str = "auto"  # key of ecglib.databases.DATABASES
record: str = ""  # its record
start: float = 0.0  # seconds from the beginning of the record
stop: float = -1.0  # seconds; -1: the end
lead: str = ""  # empty: as ecglib.records.read_record chooses
method: str = "cam"  # key of ecglib.attribution.METHODS
target: str = ""  # class that is explained; empty: the predicted one of each window
model: str = "patient"  # "patient" (never saw this patient where possible), "window", or a checkpoint's path
folder: str = "explained"
```

```{code-cell} ipython3
:tags: [hide-input]

import time

from ecglib import networks, source
from ecglib.explain_io import explain_file
from ecglib.explained import disagreements, timeline

book = source.setup(database=database, record=record)
network, notes = networks.network(book, level=model, record=record)
began, busy = time.perf_counter(), time.process_time()
found = explain_file(
    book.database, record, model=network, out_dir=folder, root=book.root, start=start, lead=lead or None,
    stop=None if stop < 0 else stop, method=method, target=target or None, progress=False,
)
took, busy = time.perf_counter() - began, time.process_time() - busy
```

```{code-cell} ipython3
:tags: [hide-input]

from myst_nb import glue

beats, length = found.beats, found.stop - found.start
judged = int((beats.expected.isin(found.classes) & (beats.predicted != "")).sum())
glue("beats", len(beats), display=False)
glue("judged", judged, display=False)
glue("agreement", round(1 - len(disagreements(found)) / judged, 4) if judged else None, display=False)
glue("signal_s", round(length, 1), display=False)
glue("computing_s", round(took, 2), display=False)
glue("computing_cpu_s", round(busy, 2), display=False)
glue("cpu_s", round(time.process_time(), 2), display=False)
timeline(found, every_s=max(60.0, round(length / 30))).round(3)
```
"""
