"""One table and one picture of all runs below some folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pandas as pd
from PIL import Image

from rbctrl.report.grid import make_grid
from rbctrl.report.labels import columns, pooled
from rbctrl.report.runs import Row, RunFolder, find_runs
from rbctrl.report.table import Sample, make_table, metric_names, unique_rows
from rbctrl.report.text import to_markdown


@dataclass(frozen=True, eq=False)
class Report:
    """What `report` found.

    Attributes:
        table: one line per cell; `rbctrl.report.table.make_table` names the columns.
        by: the settings that label the cells.
        metrics: the columns that were averaged.
        notes: sentences on rows that were left out, and on runs that share a cell.
        grid: the picture; None if the runs saved none.
    """

    table: pd.DataFrame
    by: Sequence[str]
    metrics: Sequence[str]
    notes: Sequence[str] = field(default_factory=tuple)
    grid: Image.Image | None = None

    def to_text(self) -> str:
        """The table and the notes, as Markdown."""
        table = to_markdown(self.table, self.by, self.metrics)
        return "\n".join([table, "", *(f"- {note}" for note in self.notes)]).rstrip()

    def save(self, folder: Path) -> Path:
        """Writes report.md, report.csv and, if there are pictures, grid.png; returns the path of report.md."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.table.to_csv(folder / "report.csv", index=False)
        text = f"# Report\n\n{self.to_text()}\n"
        if self.grid is not None:
            self.grid.save(folder / "grid.png")
            text += "\n![measurement, methods and truth](grid.png)\n"
        (folder / "report.md").write_text(text, encoding="utf-8")
        return folder / "report.md"


def report(
    folders: Sequence[Path],
    by: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    sample: Sample = "auto",
) -> Report:
    """Averages the rows of all runs below the folders.

    Args:
        folders: searched with all folders below them.
        by: settings that label a cell, such as operator or controller.zeta, and item or seed; None: operator,
            controller and whatever else differs.
        metrics: columns to average; None: all that have values, except batch size, memory and pullbacks of decoders.
        sample: "all" takes the single samples, "mean" the means over samples, "auto" both, on lines of their own.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: there are no runs or no rows, or a setting, column or sample does not exist.
    """
    if sample not in get_args(Sample):
        raise ValueError(f"sample={sample!r} is unknown: use {', '.join(get_args(Sample))}")
    runs = find_runs(folders)
    rows, repeated = unique_rows(runs)
    if not rows:
        raise ValueError(f"none of the {len(runs)} runs below {', '.join(map(str, folders))} has a finished row yet")
    by = columns(runs, by)
    metrics = metric_names((row for _, row in rows), metrics)
    table = make_table(runs, rows, by, metrics, sample)
    grid = make_grid(rows, columns(runs, None), "mean" if sample == "mean" else "0")
    return Report(table, by, metrics, _notes(runs, rows, repeated, by, table, metrics), grid)


def _notes(
    runs: Sequence[RunFolder],
    rows: Sequence[tuple[RunFolder, Row]],
    repeated: int,
    by: Sequence[str],
    table: pd.DataFrame,
    metrics: Sequence[str],
) -> list[str]:
    empty = [str(run.folder) for run in runs if not run.rows]
    broken = sum(run.broken for run in runs)
    diverged = sum(not row.alive for _, row in rows)
    mixed = pooled(runs, by)
    left_out = any(table[f"{name}_nonfinite"].any() for name in metrics)
    notes = [
        ("mean ± standard error over items and seeds; samples of one item are averaged first", True),
        ("(k): k rows are infinite or undefined there, and not in the mean", left_out),
        (f"{diverged} rows diverged (alive = False); they are counted and not averaged", diverged),
        (f"{repeated} rows were computed more than once with the same settings; the newest counts", repeated),
        (f"{broken} lines of rows.csv are cut or damaged and left out", broken),
        (f"no finished row in {', '.join(empty)}", empty),
        (f"cells hold runs that differ in {', '.join(mixed)}; name them by --by to tell them apart", mixed),
    ]
    return [text for text, applies in notes if applies]
