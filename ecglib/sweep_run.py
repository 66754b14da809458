"""One run of a sweep, in a process of its own, on whatever machine.

Several notebooks driven from threads of one process disturb one another's sockets; a process apiece also sees the code as
it is now, whatever a worker that has been up for days once imported, and takes nobody along when it is killed.
"""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from ecglib import book
from ecglib.errors import DataError


def perform(page: str, target: str, parameters: dict[str, Any], code: str) -> str:
    """Execute ``page`` into ``target``: "" or the one line that says why it failed.

    ``code`` is `code` of whoever asks; a machine whose own differs refuses.
    """
    job = json.dumps([page, target, parameters, code])
    command = [sys.executable, "-P", "-c", "from ecglib.sweep_run import alone; alone()", job]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as child:
        assert child.stdout is not None
        said = child.stdout.read().splitlines()
        status = child.wait()
    return f"its process ended with status {status}" if status else said[-1] if said else ""


def ends_with_parent() -> None:
    """End this process, whose standard input is held by the one who started it, when that one dies."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)  # and the kernel, which watches its parent, ends as well

    threading.Thread(target=watch, daemon=True).start()


def alone() -> None:
    """Body of that process."""
    ends_with_parent()
    print(here(*json.loads(sys.argv[1])))


def here(page: str, target: str, parameters: dict[str, Any], wanted: str) -> str:
    """As `perform`, in this process."""
    try:
        if not Path(page).is_file() or not Path(target).parent.is_dir():
            raise DataError(
                f"{socket.gethostname()} does not see {target}; put it into a folder that all machines share"
            )
        if wanted != code():
            raise DataError(f"{socket.gethostname()} has another ecglib or other results; bring all to one version")
        if not Path(target).is_file():  # it is there when a worker was lost after it had written, before it could tell
            book.run(page, target, parameters=parameters, progress=False)
    except Exception as error:
        return line(error)
    return ""


def line(error: BaseException) -> str:
    """An error in one line of at most 300 characters."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return (text or type(error).__name__)[:300]


@functools.cache
def code() -> str:
    """Hash of this package and of the committed results beside it."""
    return book._key(Path(__file__), "")
