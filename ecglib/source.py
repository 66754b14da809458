"""What a page of the book is made from: the records found on this machine, and the network trained for them.

`find` looks, `prepare` makes what is missing, `setup` is the first call of every chapter.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ecglib import CLASSES, __version__
from ecglib.databases import DATABASES, PHYSIONET, data_root, folder, record_names
from ecglib.errors import DataError, DownloadError, check_name

#: MITDB records whose windows of the class look like a textbook's, first choice first; any other record may stand in
TEXTBOOK = {
    "N": "103", "PVC": "119", "PAC": "100", "AFIB": "219", "SVTA": "209", "SBR": "117", "LBBB": "109", "RBBB": "118",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Records behind a build.

    Attributes
    ----------
    database : str
        Key of `ecglib.databases.DATABASES`.
    root : Path
        Data root, absolute.
    records : tuple of str
    """

    database: str
    root: Path
    records: tuple[str, ...]

    @property
    def simulated(self) -> bool:
        """Whether the records are the embedded phantom."""
        return self.database == "phantom"

    @property
    def line(self) -> str:
        """One line that says what was built from what, and when."""
        db = DATABASES[self.database]
        count = f"{len(self.records)} record{'s' if len(self.records) != 1 else ''}"
        return f"Built from {db.title} ({db.name} {db.version}, {count}) · {stamp()}"

    def fingerprint(self) -> str:
        """SHA-256 over the contents of every file of the records."""
        digest = hashlib.sha256(f"{self.database} {' '.join(self.records)}".encode())
        for path in sorted(
            p for p in folder(self.database, self.root).iterdir() if p.suffix != ".lock" and p.is_file()
        ):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def companions() -> str:
    """SHA-256 over the annotations of the other databases that are here, and the names of excerpts: chapters count them."""
    digest = hashlib.sha256()
    for root in _roots():
        for name in DATABASES:
            for path in sorted(folder(name, root).glob("*.atr")):
                digest.update(f"{name} {path.name}".encode() + path.read_bytes())
        for path in sorted([*root.glob("excerpts/*/*.hea"), *root.parent.glob("excerpts/*/*.hea")]):
            digest.update(path.name.encode())
    return digest.hexdigest()


MITDB_RECORDS = 48  #: a build on its own account takes all of MITDB or the phantom: a part would mislead

BANNER = (
    "Simulated records: this build found no ECG database, so its figures show the embedded phantom. "
    "Reference results on MIT-BIH records are marked as such. Run <code>ecglib fetch mitdb</code> and build again."
)


def project_root() -> Path:
    """The checkout: the nearest folder upwards, from here or from the package, that holds ``_toc.yml``."""
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for where in (start, *start.parents):
            if (where / "_toc.yml").is_file():
                return where
    return Path.cwd()


def stamp() -> str:
    """Version and day of what is built now; nothing else looks at the clock of the wall."""
    return f"ecglib {code_version()} · {datetime.datetime.now(datetime.UTC).date()}"


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of the package, with the commit if it runs from a checkout."""
    try:
        git = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
        return f"{__version__} ({commit})"
    except (OSError, subprocess.SubprocessError):
        return __version__


def find(database: str = "auto") -> Source | None:
    """Records that are on this machine, or None.

    Parameters
    ----------
    database : str
        A name, or "auto": ``$ECGLIB_DATABASE`` if set, else mitdb where all of it is, else the phantom.
    """
    if database == "auto":
        database = os.environ.get("ECGLIB_DATABASE", "auto")
    if database != "auto":
        check_name("database", database, DATABASES)
    for name in ("mitdb", "phantom") if database == "auto" else (database,):
        for root in _roots():
            try:
                found = Source(name, root, tuple(record_names(name, root)))
            except DataError:
                continue
            if database == name or name == "phantom" or len(found.records) >= MITDB_RECORDS:
                return found
    return None


def prepare(*, database: str = "auto", fetch: bool = False, progress: bool = True) -> Source:
    """Find records, else fetch mitdb (if asked to), else write the phantom; train a phantom network if none is there.

    ``$ECGLIB_MIRROR`` may name another server with PhysioNet's ``/files/`` tree to fetch from.
    Safe to call from several processes at once; the later ones wait, and find everything done.
    """
    from ecglib import download, networks, phantom

    found = find(database)
    wanted = os.environ.get("ECGLIB_DATABASE", "auto") if database == "auto" else database
    if fetch and wanted in {"auto", "mitdb"} and (found is None or found.database != "mitdb"):
        try:
            mirror = os.environ.get("ECGLIB_MIRROR", PHYSIONET)
            download.fetch("mitdb", root=_roots()[-1], base_url=mirror, progress=progress, retries=2, timeout=10.0)
            found = find("mitdb")
        except DownloadError as error:
            print(f"MIT-BIH records could not be fetched ({error}); using simulated records instead.")
    if found is None and wanted not in {"auto", "phantom"}:
        record_names(wanted)  # raises, and says how to get it
    work_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(work_folder() / "prepare.lock"):
        if found is None or found.simulated:
            root = _roots()[-1] if found is None else found.root
            if found is None:
                phantom.write(root)
            found = Source("phantom", root, tuple(record_names("phantom", root)))
            networks.train_phantom(found, progress=progress)
    assert found is not None
    return found


def setup(*, database: str = "auto", record: Any = "") -> Source:
    """Open a chapter: find its records, choose charts that a static page can show, print what it was built from."""
    if record and database == "auto":  # the record names its database where only one has it
        database = next((n for n in ("mitdb", "phantom") if (f := find(n)) and str(record) in f.records), database)
    source = prepare(database=database, progress=False)
    if record:
        check_name("record", str(record), source.records, hint=f"records of {source.database}")
    warning = f'<p class="ecglib-simulated"><strong>{BANNER}</strong></p>' if source.simulated else ""
    begin(f'<p class="ecglib-provenance">{source.line}</p>{warning}')
    return source


def begin(html: str) -> None:
    """Choose charts that a static page can show, and the number of threads; show what the page was built from."""
    import altair as alt
    import torch
    from IPython.display import HTML, display

    from ecglib import plots

    plots.use_theme()
    alt.renderers.register("ecglib", _html)
    alt.renderers.enable("ecglib")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    display(HTML(html))


def example(source: Source, label: str, *, record: str = "", time: float | None = None) -> Any:
    """One clean window of a class as a `WindowSet` of length 1: the textbook record's, else the first that has one.

    With ``record`` (and ``time``) given, the window of that record nearest to the time, whatever its class if the
    record has none of ``label``.
    """
    from ecglib.records import read_record
    from ecglib.windows import cut

    check_name("class", label, CLASSES)
    preferred = [str(record)] if record else [TEXTBOOK[label], *source.records]
    for name in dict.fromkeys(r for r in preferred if r in source.records):
        found = cut(read_record(source.database, name, root=source.root), rule="clean")
        own = np.flatnonzero(found.y == CLASSES.index(label))
        index = own if len(own) else np.arange(len(found)) if record else own
        if len(index):
            near = index[len(index) // 2] if time is None else index[np.argmin(abs(found.anchor[index] - time))]
            return found[[near]]
    raise DataError(f"no clean {label} window in {record or 'any record'} of {source.database}; choose another")


# Internals -----------------------------------------------------------------------------------------------------


def _html(spec: Any, **options: Any) -> dict[str, str]:
    """Altair's own HTML, but that no name from somebody's file can end the script that holds the chart."""
    from altair.vegalite.v6 import display

    page, text = display.html_renderer(spec, **options)["text/html"], json.dumps(spec)
    return {"text/html": page.replace(text, text.replace("<", "\\u003c"))}


def _roots() -> list[Path]:
    """Data roots to look in, the last one being the checkout's own, which can be written."""
    own = project_root() / "data"
    named = data_root()
    return list(dict.fromkeys([named.resolve(), own.resolve()])) if os.environ.get("ECGLIB_DATA") else [own.resolve()]


def work_folder() -> Path:
    """Where builds keep what they can make again."""
    return project_root() / "_build" / "ecglib"
