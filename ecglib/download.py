"""Bring a database here over HTTP: verified against ``SHA256SUMS.txt``, resumable, safe to run twice at once.

A file grows as ``<file>.part``, where a later run goes on, and gets its final name only when it is whole and verified.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import requests
from filelock import FileLock
from tqdm import tqdm
from urllib3.exceptions import HTTPError, MaxRetryError

from ecglib.databases import PHYSIONET, database, folder
from ecglib.errors import DownloadError, EcglibError, check_name

ESCAPE = re.compile(r"^/|^[A-Za-z]:|\\|\0|(^|/)\.\.(/|$)")  # names that leave the folder, on any system
# Settings of the WAVE viewer and superseded copies (no reader opens them, mirrors leave them out), and our own .part.
BYSTANDER = re.compile(r"\.(xws|part)$|[-_~]$")


def fetch(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    records: Iterable[str] | None = None,
    base_url: str = PHYSIONET,
    signals: bool = True,
    jobs: int = 4,
    retries: int = 5,
    timeout: float = 20.0,
    backoff: float = 0.5,
    progress: bool = True,
) -> Path:
    """Download a database, or some of its records, and return its folder ``<root>/<name>/<version>``.

    A record's files are those of ``SHA256SUMS.txt`` named ``<record>.*`` or ``<record>-*.*`` (``102-0.atr`` belongs to
    102, ``1020.atr`` does not), without viewer settings (``.xws``) and superseded copies (``.hea-``, ``.at_``).
    ``RECORDS`` and ``ANNOTATORS`` come along.  What is already here with the right SHA-256 is left alone.
    Without a ``SHA256SUMS.txt`` (LTDB on some mirrors) ``.hea``, ``.atr`` and ``.dat`` are fetched and checked only by
    size, as they arrive; a warning says so.  Runs at the same time take turns, by a lock on ``.lock`` in the folder.

    Parameters
    ----------
    name : str
        A database of `ecglib.databases.DATABASES`.
    root : path, optional
        Folder of the databases; see `ecglib.databases.data_root`.
    records : iterable of str, optional
        Records to fetch; all of them if not given.
    base_url : str
        Where ``<name>/<version>/`` is found, by http or https.
    signals : bool
        Without them only headers and annotations come: enough to count, and megabytes where all are gigabytes.
    jobs, retries : int
        Files to fetch at once; further attempts at each file (after a lost connection, HTTP 429 or 5xx).
    timeout, backoff : float
        Seconds to wait for a silent server; before the first retry (then doubled, less a random part up to a half).
    progress : bool
        Show a progress bar over files on stderr.

    Raises
    ------
    UnknownNameError, DownloadError
        If the database or a record is unknown; if a file cannot be fetched, verified or written.
    """
    db = database(name)
    if db.name == "phantom":
        raise DownloadError("'phantom' is simulated, not downloaded; write it with ecglib.phantom.write")
    if jobs < 1 or retries < 0 or timeout <= 0 or backoff < 0:
        raise EcglibError(f"expected jobs >= 1, timeout > 0, others >= 0; got {jobs=} {retries=} {timeout=} {backoff=}")
    where, url = folder(name, root), f"{base_url.rstrip('/')}/{db.name}/{db.version}/"
    try:
        where.mkdir(parents=True, exist_ok=True)
        # One session for all threads: its connection pool is thread-safe.  It knows http and https, nothing else.
        with FileLock(where / ".lock"), requests.Session() as session, ThreadPoolExecutor(jobs) as pool:
            mirror = _Mirror(base_url, url, where, session, retries, timeout, backoff)
            files = _plan(mirror, [records] if isinstance(records, str) else records)
            wanted = [(file, expected) for file, expected in files.items() if signals or not file.endswith(".dat")]
            tasks = [pool.submit(mirror.bring, file, expected) for file, expected in wanted]
            try:
                for task in tqdm(as_completed(tasks), name, len(tasks), unit="file", disable=not progress):
                    task.result()
            finally:  # the first failure, or Ctrl-C, ends the others; their .part files stay
                mirror.stop.set()
                pool.shutdown(cancel_futures=True)
    except OSError as error:  # those of the network are DownloadErrors by now
        raise DownloadError(f"cannot write {where}: {error.strerror or error}; give another root") from error
    return where


def reachable(base_url: str = PHYSIONET, timeout: float = 5.0) -> bool:
    """Whether a server answers at ``base_url``, each step within ``timeout`` seconds, and not with a server error."""
    try:
        with requests.get(base_url, timeout=timeout, stream=True) as reply:  # stream: the headers are enough
            return reply.status_code < 500
    except requests.RequestException:
        return False


def _plan(mirror: _Mirror, records: Iterable[str] | None) -> dict[str, str | None]:
    """Files to have, each with its SHA-256 (None where the mirror lists no sums)."""
    sums: dict[str, str | None] = {}
    for line in filter(None, map(str.strip, mirror.text("SHA256SUMS.txt", None, anew=True).split("\n"))):
        if not (pair := re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(.+)", line)):  # a guest network's login page?
            raise DownloadError(f"{mirror.url}SHA256SUMS.txt is no list of sums: {line[:40]!r}; check base_url")
        sums[pair[2]] = pair[1].lower()
    known = mirror.text("RECORDS", sums.get("RECORDS")).split()
    known = known or [file.removesuffix(".hea") for file in sums if re.fullmatch(r"[^/]+\.hea", file)]
    if not known:
        raise DownloadError(f"no RECORDS, nor headers in a SHA256SUMS.txt, at {mirror.url}; check base_url")
    if outside := list(filter(ESCAPE.search, [*sums, *known])):
        raise DownloadError(f"{mirror.url} lists {outside[0]!r}, outside its folder; give a base_url that you trust")
    wanted = dict.fromkeys(known if records is None else [check_name("record", r, known) for r in records])
    if not sums:
        warnings.warn(f"{mirror.url} has no SHA256SUMS.txt: files are checked by size only", stacklevel=3)
        return {f"{record}.{kind}": None for record in wanted for kind in ("hea", "atr", "dat")}
    owners = {file: _owner(file, set(known)) for file in sums if not BYSTANDER.search(file)}
    if lost := wanted.keys() - owners.values():
        raise DownloadError(f"{mirror.url}SHA256SUMS.txt has no file of record {min(lost)!r}; give another base_url")
    return {file: sums[file] for file, owner in owners.items() if owner in wanted or file == "ANNOTATORS"}


def _owner(file: str, records: set[str]) -> str:
    """Record that a file belongs to: ``102-0.atr`` is 102's, unless there is a record ``102-0``."""
    stem = re.sub(r"\.[^/]*$", "", file)  # from the first dot of the last part of the path
    return stem if stem in records else stem.rpartition("-")[0]


class _NotFoundError(DownloadError):
    """HTTP 404: an error for a file that is listed, an answer for a listing."""


@dataclass(frozen=True)
class _Mirror:
    """A database's folder ``url`` on a server, its copy ``where`` here, and how patiently to ask (see `fetch`)."""

    base_url: str
    url: str
    where: Path
    session: requests.Session
    retries: int
    timeout: float
    backoff: float
    answered: threading.Event = field(default_factory=threading.Event)  # the host has answered at least once
    stop: threading.Event = field(default_factory=threading.Event)  # a file has failed: the others give up

    def text(self, file: str, expected: str | None, *, anew: bool = False) -> str:
        """Bring a listing and read it; empty if the mirror has none."""
        try:
            return self.bring(file, expected, anew=anew).read_text(errors="replace")
        except _NotFoundError:
            return ""

    def bring(self, file: str, expected: str | None, *, anew: bool = False) -> Path:
        """Have one file here, with the SHA-256 ``expected`` if there is one, or ``anew`` whatever is here."""
        path, received = self.where / file, ""
        part = path.with_name(path.name + ".part")
        if anew:
            part.unlink(missing_ok=True)
        elif path.is_file() and expected in (None, _sha256(path)):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # a wrong sum may come from an old .part or a glitch: once more, from the first byte
            self._fill(part, self.url + quote(file))
            if expected in (None, received := _sha256(part)):
                os.replace(part, path)
                return path
            part.unlink()
        sums = f"expected {str(expected)[:12]}…, received {received[:12]}…"
        raise DownloadError(f"{self.url}{file}: wrong SHA-256 twice, {sums}; damaged there, give another base_url")

    def _fill(self, part: Path, url: str) -> None:
        """Stream a file into its ``.part``, in as many attempts as that takes."""
        for attempt in range(self.retries + 1):
            try:
                return self._stream(part, url)
            except (requests.RequestException, HTTPError) as error:
                cause = error.args[0] if error.args else error
                # No connection could be made, and none ever was: do not keep an offline reader waiting.
                offline = isinstance(cause, MaxRetryError) and not self.answered.is_set()
                # A generator of its own: the reader's seeded `random` must not notice a download.
                wait = min(30.0, self.backoff * 2**attempt) * random.Random().uniform(0.5, 1.0)
                if offline or isinstance(error, ValueError) or attempt == self.retries or self.stop.wait(wait):
                    problem = f"cannot reach {self.base_url}: {getattr(cause, 'reason', cause)}, at {part.stem}"
                    raise DownloadError(f"{problem}; give base_url of a mirror or set ECGLIB_DATA") from error

    def _stream(self, part: Path, url: str) -> None:
        """Add to ``part`` what it lacks, by one request; urllib3 sees to it that a body has its Content-Length."""
        have = part.stat().st_size if part.exists() else 0
        # Identity: a gzipped body has other lengths, offsets and sums than the file.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self.session.get(url, headers=headers, stream=True, timeout=self.timeout) as reply:
            self.answered.set()
            if reply.status_code == 416:  # nothing lies beyond our .part: it is whole, or not of this file
                part.unlink(missing_ok=True)
            elif 400 <= reply.status_code < 500 and reply.status_code != 429:
                kind = _NotFoundError if reply.status_code == 404 else DownloadError
                raise kind(f"{url}: HTTP {reply.status_code} ({reply.reason}); give the base_url of a complete mirror")
            reply.raise_for_status()
            with open(part, "ab" if reply.status_code == 206 else "wb") as out:  # 200: all of it, whatever the Range
                for chunk in reply.raw.stream(1 << 16, decode_content=False):
                    if self.stop.is_set():
                        raise DownloadError("stopped, because another file failed")
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
