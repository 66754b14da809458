"""Writing a file so that nobody ever finds half of it."""

from __future__ import annotations

import os
from pathlib import Path

from ecglib.errors import DataError


def write_atomically(path: Path, content: bytes | str, *, parents: bool = False) -> Path:
    """Write beside ``path`` and rename; what was there stays until the whole of the new content is on disk.

    ``parents`` makes the folder if it is not there.

    Raises
    ------
    DataError
        The folder cannot be made or written, or the disk is full.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        if part.exists():
            part.unlink()
        why = error.strerror or error
        raise DataError(f"cannot write {path}: {why}; free space or choose a writable folder") from error
    return path
