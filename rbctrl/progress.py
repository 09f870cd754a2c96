"""How far the cells of a study are, and how long the rest will take.

What a cell wants stands in its journal: every run writes down how many rows it wants before it computes the first. What
nobody began stands among the requests of the sweeps. The time left is that of the rows that are missing, at the seconds
of the rows that are there, divided by the number of processes at work; cells without a row are taken to need what the
most similar ones need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rbctrl.claims import holder, is_claimed
from rbctrl.journal import Record
from rbctrl.results import read_rows

State = Literal["done", "running", "stopped", "failed", "waiting"]


@dataclass(frozen=True)
class CellProgress:
    """How far a cell is.

    Attributes:
        folder: of the cell; None: nobody began it.
        words: of the command line, as last asked for.
        state: "stopped" has missing rows and nobody at work; "failed" has rows that could not be computed, or none at
            all because the cell cannot work; "waiting" is asked for and was not begun.
        wanted: rows.
        done: rows that are there, diverged ones included.
        diverged: rows that became non-finite.
        failed: rows that could not be computed.
        seconds: per row, NaN without one.
        why: of what failed.
        by: who is at work.
    """

    folder: Path | None
    words: tuple[str, ...]
    state: State
    wanted: int = 0
    done: int = 0
    diverged: int = 0
    failed: int = 0
    seconds: float = math.nan
    why: str = ""
    by: str = ""

    @property
    def total(self) -> float:
        """Seconds of all its rows."""
        return self.wanted * self.seconds

    @property
    def left(self) -> float:
        """Seconds of the rows that are missing."""
        return max(self.wanted - self.done, 0) * self.seconds


def survey(study: Path, requested: Sequence[Sequence[str]] = ()) -> list[CellProgress]:
    """The cells in the folder of a study, and those that were asked for and not begun."""
    cells, begun = [], set()
    for folder in sorted(path.parent for path in study.glob("*/journal")):
        rows, records, _ = read_rows(folder)
        begins = [record["begin"] for record in records if "begin" in record]
        begun |= {frozenset(begin["overrides"]) for begin in begins}  # type: ignore[index]
        cells.append(_cell(folder, rows, records, begins))  # type: ignore[arg-type]
    waiting = [tuple(words) for words in requested if frozenset(words) not in begun]
    impossible = {frozenset(cell.words) for cell in cells if cell.state == "failed" and not cell.wanted}
    return cells + [CellProgress(None, words, "waiting") for words in waiting if frozenset(words) not in impossible]


def seconds_left(cells: Sequence[CellProgress]) -> float:
    """Of all cells, by as many processes as are at work now; NaN if no row was measured."""
    known = [cell for cell in cells if math.isfinite(cell.total)]
    if not known:
        return math.nan
    work = sum(cell.left if math.isfinite(cell.left) else _like(cell, known) for cell in cells if _is_open(cell))
    return work / max(sum(cell.state == "running" for cell in cells), 1)


def _is_open(cell: CellProgress) -> bool:
    return cell.state in ("running", "stopped", "waiting")


def _like(cell: CellProgress, known: Sequence[CellProgress]) -> float:
    """The seconds of the cells that share most words with this one."""
    shared = [len(set(cell.words) & set(other.words)) for other in known]
    totals = [other.total for other, count in zip(known, shared) if count == max(shared)]
    return sum(totals) / len(totals)


def _cell(folder: Path, rows: Sequence[Record], records: Sequence[Record], begins: Sequence[dict]) -> CellProgress:
    finished = [row for row in rows if row.get("alive") is not None]
    failed = [row for row in rows if row.get("alive") is None]
    wanted = max((int(begin["rows"]) for begin in begins), default=0)
    marks = [record for record in records if "rows" in record or "failed" in record]
    broke = str(marks[-1].get("failed", "")) if marks else ""
    running = is_claimed(folder)
    words = tuple(begins[-1]["overrides"]) if begins else _words(folder)
    return CellProgress(
        folder,
        words,
        "running" if running else _state(len(finished), wanted, bool(failed), bool(broke)),
        wanted,
        min(len(finished), wanted) if wanted else len(finished),
        sum(row["alive"] is False for row in finished),
        len(failed),
        _seconds(finished),
        broke or next((str(row["error"]) for row in failed), ""),
        holder(folder) if running else "",
    )


def _state(done: int, wanted: int, failed: bool, broke: bool) -> State:
    if broke or (failed and done < wanted):
        return "failed"
    return "done" if done >= wanted else "stopped"


def _seconds(rows: Sequence[Record]) -> float:
    """Seconds of the single rows, spread over all rows: means cost nothing of their own."""
    measured = [row for row in rows if isinstance(row.get("seconds_per_image"), int | float)]
    singles = [row for row in measured if row["sample"] != "mean"] or measured
    return sum(float(row["seconds_per_image"]) for row in singles) / len(rows) if singles else math.nan  # type: ignore[arg-type]


def _words(folder: Path) -> tuple[str, ...]:
    """From config.yaml; none where that is damaged or of something else."""
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from yaml import YAMLError

    file = folder / "config.yaml"
    try:
        node = OmegaConf.load(file) if file.is_file() else {}
    except (YAMLError, UnicodeDecodeError):
        return ()
    words = node.get("overrides") if isinstance(node, DictConfig) else None
    return tuple(map(str, words)) if isinstance(words, ListConfig) else ()
