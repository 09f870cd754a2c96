"""What the benchmarks share: two clocks, a median with its quartiles, a CSV file."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}


def seconds(call: Callable[[], object], clock: str = "wall") -> float:
    """Of one call, in passing time (wall) or in processor time of this thread (cpu)."""
    begin = CLOCKS[clock]()
    call()
    return CLOCKS[clock]() - begin


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * values
    return low, median, high


def save(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """One line per row; the columns are those of the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(path)
