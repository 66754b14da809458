"""The folder of an explanation: whose it is, what of it is finished, and what an earlier run has left there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ecglib import wfdb_files
from ecglib.errors import DataError
from ecglib.explain_wfdb import file_names
from ecglib.files import write_atomically

_BLOCKS = ("block-[0-9]*.npz", "peaks-[0-9]*.npz")


def claim(out: Path, settings: dict[str, Any], *, resume: bool, replace: bool) -> str:
    """Take a folder for these settings, and say in a line what becomes of what is there ("": nothing is).

    Blocks count as those of the settings only while ``explain.json`` says the same to the letter.  What another
    explanation has left is refused, or removed with ``replace`` or without ``resume``: all of it, so that no table and no
    annotation of another signal lies beside the new one.

    Raises
    ------
    DataError
        The folder holds another explanation.
    """
    file, text = out / "explain.json", json.dumps(settings, indent=1)
    before = file.read_bytes() if file.is_file() else b""
    same = before == text.encode()
    if before and resume and not same and not replace:
        other = _changed(before, settings)
        raise DataError(
            f"{out} holds another explanation ({other}); choose another folder, or resume=False to begin anew"
        )
    done = sum(1 for _ in out.glob(_BLOCKS[0]))
    for pattern in ("block-*.part", "peaks-*.part", "explain.json*.part", "beats.csv*.part"):
        _remove(out.glob(pattern))
    if not (same and resume):
        for pattern in _BLOCKS:
            _remove(out.glob(pattern))
        if before:
            _remove(out / name for name in ["beats.csv", *file_names(settings["record"])])
    write_atomically(file, text, parents=True)
    if same and resume and done:
        return f"taken up from {out}, where {done} block{'s' if done != 1 else ''} stood"
    if before and resume and not same:
        return f"begun anew in {out}, which held another explanation ({_changed(before, settings)})"
    return ""


def kept(file: Path, *names: str) -> tuple[np.ndarray, ...]:
    """Arrays that an earlier run has kept; none if there is no such file, or it is damaged and has to be made again."""
    try:
        with np.load(file, allow_pickle=False) as z:
            return tuple(z[name] for name in names)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return ()


def packed(**arrays: np.ndarray) -> bytes:
    """Bytes of an .npz; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def content(path: str | os.PathLike[str]) -> str:
    """SHA-256 over the bytes that are read of a file of one's own, or of a WFDB record: header, signals, annotations."""
    path = Path(path).expanduser()
    stem = path.with_suffix("") if path.suffix in {".hea", ".dat", ".atr"} else path
    header = stem.with_name(f"{stem.name}.hea")
    files = [path]
    if header.is_file():
        signals = dict.fromkeys(wfdb_files.header(stem).file_name or [])
        files = [header, *(stem.parent / name for name in signals), stem.with_name(f"{stem.name}.atr")]
    digest = hashlib.sha256()
    for own in files:
        if own.is_file():  # a record may have no annotations
            with own.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names and values of a network's tensors."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


# Internals -----------------------------------------------------------------------------------------------------


_WORDS = {"sha256": "the file", "native_fs": "the rate", "first": "the part", "end": "the part", "model": "the network"}


def _changed(before: bytes, settings: dict[str, Any]) -> str:
    """What differs, in words: ``other: the file, the rate``."""
    try:
        old = dict(json.loads(before))
    except (ValueError, TypeError):
        return "which cannot be read"
    now = json.loads(json.dumps(settings))
    differ = [_WORDS.get(k, k.replace("_s", "")) for k in now if old.get(k, ...) != now[k]]
    return f"other: {', '.join(dict.fromkeys(differ)) or 'settings'}"


def _remove(files: Iterable[Path]) -> None:
    for file in list(files):
        file.unlink(missing_ok=True)
