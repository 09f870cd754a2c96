"""`rbctrl status DIR | study=NAME`: what of a study is done, running, failed and missing, and how long it will take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rbctrl.commands.latest import folder_of

ORDER = ("failed", "running", "stopped", "waiting", "done")
SHOWN = 20  # finished or waiting cells that are listed one by one


def run(args: list[str]) -> int:
    """Prints how far the cells are.

    Returns:
        The exit status: 1 if a cell or a row failed.

    Raises:
        ValueError: not one folder is named, or there is no cell.
        FileNotFoundError: the folder does not exist.
    """
    if len(args) != 1 or args[0].startswith("-"):
        raise ValueError("rbctrl status takes one folder, or study=NAME")
    folder = folder_of(args[0])
    from rbctrl.commands.requests import requested  # here: a wrong word should not wait for Hydra
    from rbctrl.progress import seconds_left, survey

    folder = folder.parent if (folder / "journal").is_dir() else folder
    cells = survey(folder, requested(folder))
    if not cells:
        raise ValueError(f"there is no cell in {folder}: run `rbctrl` first")
    common = set.intersection(*(set(cell.words) for cell in cells)) if len(cells) > 1 else set()
    for state in ORDER:
        of_state = [cell for cell in cells if cell.state == state]
        listed = of_state if state in ("failed", "running", "stopped") else of_state[:SHOWN]
        for cell in listed:
            print(f"{state:<8} {_count(cell.done, cell.wanted):>11}  {_name(cell.words, common)}{_remark(cell)}")
        if len(listed) < len(of_state):
            print(f"{state:<8} {'':>11}  and {len(of_state) - len(listed)} more")
    print(_summary(cells, seconds_left(cells)))
    return int(any(cell.state == "failed" or cell.failed for cell in cells))


def duration(seconds: float) -> str:
    """A time span for people: 40 s, 12 min, 3.5 h, 2.1 days; ? if it is not known."""
    if not math.isfinite(seconds):
        return "?"
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _count(done: int, wanted: int) -> str:
    return f"{done} of {wanted}" if wanted else ""


def _name(words: Sequence[str], common: set[str]) -> str:
    return " ".join(word for word in words if word not in common) or "the default run"


def _remark(cell) -> str:  # noqa: ANN001  (CellProgress, which is imported late)
    remarks = [cell.by, cell.why]
    remarks.append(f"{cell.diverged} rows diverged" if cell.diverged else "")
    remarks.append(f"{cell.failed} rows failed" if cell.failed else "")
    text = "; ".join(remark for remark in remarks if remark)
    return f"  ({text})" if text else ""


def _summary(cells: Sequence, left: float) -> str:
    states = Counter(cell.state for cell in cells)
    counts = ", ".join(f"{states[state]} {state}" for state in reversed(ORDER) if states[state])
    rows = f"{sum(cell.done for cell in cells)} rows there"
    if states["done"] + states["failed"] == len(cells):
        return f"{len(cells)} cells: {counts}; {rows}"
    runners = states["running"]
    pace = f"at the pace of {runners} running cell{'s' * (runners > 1)}" if runners else "once one process goes on"
    return f"{len(cells)} cells: {counts}; {rows}; {duration(left)} left {pace}"
