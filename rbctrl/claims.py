"""One process at a time computes a cell.

The claim is a lock of the operating system on a file beside the rows: it ends with the process, however that ends, so a
killed run leaves nothing to clean up. Processes on several machines see each other's claims where their shared file
system has locks (NFS 4 and Lustre mounted with `flock` do).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_GLANCE = 0.5  # seconds: `rbctrl status` holds a lock for less, when it looks whether somebody else does


class Claimed(RuntimeError):
    """Another process computes this cell."""


@contextmanager
def claim(folder: Path, wait: bool = True) -> Iterator[None]:
    """Holds a cell; the operating system gives it back when the process ends.

    Args:
        folder: of the cell; made if needed.
        wait: for a process that holds it.

    Raises:
        Claimed: another process holds it, and `wait` is False.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=-1 if wait else _GLANCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise Claimed(f"{holder(folder) or 'another process'} is computing it") from error
    try:
        text = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        (folder / "holder.json").write_text(json.dumps(text), encoding="utf-8")
        yield
    finally:
        lock.release()


def is_claimed(folder: Path) -> bool:
    """Whether a process computes the cell at this moment."""
    if not (folder / "lock").is_file():
        return False
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def holder(folder: Path) -> str:
    """Who holds the cell, or held it last: "host, process 12"; blank if nobody is known."""
    try:
        record = json.loads((folder / "holder.json").read_text(encoding="utf-8"))
        return f"{record['host']}, process {record['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
