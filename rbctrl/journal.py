"""What a process did to a cell, appended record by record and never changed: the files all results are read from.

A record is one line of JSON, and every process writes a file of its own, so processes never share one. A line is
written at once and brought to the disk. What a kill or a full disk leaves of a line has no end or does not parse, and
is dropped on reading: a record is there as a whole or not at all. NaN becomes null, infinities become strings.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from rbctrl.loggers import plain

Record = dict[str, object]
_INFINITE = {math.inf: "inf", -math.inf: "-inf"}
_TEXTS = ("item", "sample", "seed", "error", "content")  # columns that may hold one


class Journal:
    """The journal of one cell, for one process.

    Args:
        folder: of the files; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._name = f"{time.time_ns():020d}-{socket.gethostname()}"

    def append(self, record: Mapping[str, object], sync: bool = True) -> None:
        """Writes a record, whole or not at all.

        Args:
            record: anything that JSON can hold; the time is added.
            sync: wait until it is on the disk. A record without it survives a kill of the process, not of the machine.

        Raises:
            OSError: the disk is full, or refuses for another reason; what was written of the record is taken back.
        """
        line = json.dumps({**record, "time": time.time()}, default=str, allow_nan=False).encode() + b"\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        file = os.open(self.folder / f"{self._name}-{os.getpid()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(file).st_size
            try:
                _write(file, line)
                if sync:
                    os.fsync(file)
            except OSError:
                os.ftruncate(file, size)
                raise
        finally:
            os.close(file)


def read(folder: Path) -> tuple[list[Record], int]:
    """All whole records, oldest first, and the number of lines that are none."""
    records, broken = [], 0
    for file in sorted(folder.glob("*.jsonl")):
        *lines, rest = file.read_bytes().split(b"\n")  # a line without its end was cut in the middle
        broken += bool(rest)
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if _is_whole(record):
                records.append(record)
            else:
                broken += 1
    return records, broken


def _is_whole(record: object) -> bool:
    """Whether it is a record, and its rows and what a run wanted are as they were written: not so after damage."""
    if not isinstance(record, dict):
        return False
    rows, begin = record.get("rows", []), record.get("begin", {"overrides": [], "rows": 0})
    if not isinstance(rows, list) or not all(map(_is_row, rows)) or not isinstance(begin, dict):
        return False
    return isinstance(begin.get("overrides"), list) and isinstance(begin.get("rows"), int)


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not {"item", "sample", "seed"} <= set(row):
        return False
    numbers = (value for name, value in row.items() if name not in _TEXTS)
    return all(value is None or isinstance(value, int | float) or value in _INFINITE.values() for value in numbers)


def encode(row: Mapping[str, object]) -> Record:
    """The values of a row as JSON has them: undefined is null, infinities are strings."""
    return {name: _encode(value) for name, value in row.items()}


def decode(row: Mapping[str, object]) -> Record:
    """The row that was encoded; undefined values stay None."""
    infinities = {text: number for number, text in _INFINITE.items()}
    return {name: value if name in _TEXTS else infinities.get(value, value) for name, value in row.items()}  # type: ignore[call-overload]


def _encode(value: object) -> object:
    value = plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return _INFINITE.get(value)
    return value


def _write(file: int, line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(file, view) :]
