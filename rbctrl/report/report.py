"""What the rows below some folders say: tables, paired differences, a picture, and what all of it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pandas as pd
from PIL import Image

from rbctrl.report.bootstrap import MIN_UNITS
from rbctrl.report.compare import Comparisons
from rbctrl.report.directions import Direction, parse_metrics
from rbctrl.report.footnote import footnote
from rbctrl.report.grid import make_grid
from rbctrl.report.labels import FIRST, columns, pooled
from rbctrl.report.runs import Row, RunFolder, find_runs
from rbctrl.report.scores import scored_from, set_scores
from rbctrl.report.select import Selection, select
from rbctrl.report.table import Sample, Units, gather, make_table, metric_names, unique_rows
from rbctrl.report.text import comparison_note, differences_to_markdown, to_markdown
from rbctrl.report.tuned import untuned_lines

Rows = Sequence[tuple[RunFolder, Row]]


@dataclass(frozen=True, eq=False)
class Report:
    """What `report` found.

    Attributes:
        table: one line per cell; `rbctrl.report.table.make_table` names the columns.
        compared: the values by image, the paired differences, and which entries are best beyond doubt.
        rows: all rows that count, with their runs.
        footnote: n, split, seeds, sigma, evaluations, hardware and versions.
        notes: sentences on rows that were left out, on runs that share a cell, and on how settings were chosen.
        grid: the picture; None if the runs saved none.
    """

    table: pd.DataFrame
    compared: Comparisons
    rows: Rows
    footnote: str
    notes: Sequence[str] = field(default_factory=tuple)
    grid: Image.Image | None = None

    @property
    def by(self) -> tuple[str, ...]:
        """The settings that label the cells."""
        return self.compared.units.by

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns that were averaged."""
        return self.compared.units.metrics

    def to_text(self) -> str:
        """The table, the notes, the paired differences and the footnote, as Markdown."""
        parts = [to_markdown(self.table, self.by, self.metrics), "\n".join(f"- {note}" for note in self.notes)]
        if self.compared.differences:
            parts += [f"Paired differences: {comparison_note(self.compared)}.", differences_to_markdown(self.compared)]
        return "\n\n".join([*parts, self.footnote])

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
    against: Mapping[str, str] | None = None,
    select_by: str | None = None,
    on: Sequence[str] = (),
) -> Report:
    """Averages the rows of all runs below the folders.

    Args:
        folders: searched with all folders below them.
        by: settings that label a cell, such as operator or controller.zeta, and item or seed; None: operator,
            controller and whatever else differs (with `select_by`: operator and controller).
        metrics: columns to average, as NAME, NAME:higher or NAME:lower, whichever is better; None: all that have
            values, except batch size, memory and pullbacks of codecs.
        sample: "all" takes the single samples, "mean" the means over samples, "auto" both, on lines of their own.
        against: settings of the method that differences are taken to; None: the best of each problem.
        select_by: the metric by which one setting per label is chosen; None: settings are told apart or pooled.
        on: names or patterns of the items to choose on, which are not reported then; empty: on all of them.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: there are no runs or no rows, or a setting, column, item or sample does not exist.
    """
    if sample not in get_args(Sample):
        raise ValueError(f"sample={sample!r} is unknown: use {', '.join(get_args(Sample))}")
    if on and select_by is None:
        raise ValueError(
            "--on names the items that a setting is chosen on: name the metric to choose by, --select psnr"
        )
    runs = find_runs(folders)
    rows, repeated = unique_rows(runs)
    if not any(run.rows for run in runs):
        raise ValueError(f"none of the {len(runs)} runs below {', '.join(map(str, folders))} has a finished row yet")
    names, directions = parse_metrics([*(metrics or ()), *([select_by] if select_by else [])])
    chosen = None
    if select_by is not None:
        by = columns(runs, by if by is not None else [n for n in FIRST if any(n in run.settings for run in runs)])
        chosen = _selected(rows, by, names.pop(), directions, on, sample == "mean")
        rows, runs = chosen.rows, list({id(run): run for run, _ in chosen.rows}.values())
    by = columns(runs, by)
    scores = set_scores(runs) if chosen is None else []  # a set is not split into items to choose on and to report
    of_sets = list(dict.fromkeys(score.metric for score in scores))
    shown = metric_names((row for _, row in rows), names if metrics is not None else None, of_sets)
    units = gather(runs, rows, by, shown, sample, scores)
    compared = Comparisons(units, directions, against or {}, untuned_lines(units, runs))
    table = make_table(units)
    if chosen is not None:
        table.insert(len(by), "chosen", [chosen.chosen[line.label] for line in units.lines])
    if compared.untuned:
        table.insert(len(by), "tuned", ["no" if k in compared.untuned else "yes" for k in range(len(table))])
    notes = _notes(runs, rows, repeated, table, units, chosen)
    grid = make_grid(rows, columns(runs, None), "mean" if sample == "mean" else "0")
    return Report(table, compared, rows, footnote(runs, rows), notes, grid)


def _selected(
    rows: Rows, by: Sequence[str], metric: str, directions: Mapping[str, Direction], on: Sequence[str], means: bool
) -> Selection:
    metric_names((row for _, row in rows), [metric])
    if metric not in directions:
        raise ValueError(f"--select {metric}: write {metric}:higher or {metric}:lower, whichever is better")
    return select(rows, by, metric, directions[metric], on, means)


def _notes(
    runs: Sequence[RunFolder],
    rows: Rows,
    repeated: int,
    table: pd.DataFrame,
    units: Units,
    chosen: Selection | None,
) -> list[str]:
    empty = [str(run.folder) for run in runs if not run.rows and not run.failed]
    broken = sum(run.broken for run in runs)
    diverged = sum(row.status == "diverged" for _, row in rows)
    failed = [row.error for _, row in rows if row.status == "failed"]
    mixed = pooled(runs, units.by) if chosen is None else []
    left_out = any(table[f"{name}_nonfinite"].any() for name in units.metrics)
    averaged = {"item": "images; samples and seeds of one image", "seed": "seeds of one image; samples of one seed"}
    few = len(units.lines) > 1 and table["n"].max() < MIN_UNITS
    sets = {metric: n for (_, metric), (_, n) in units.sets.items()}
    later = [f"{name} from {source}" for name, source in scored_from(runs).items() if name in units.metrics]
    notes = [
        (f"mean ± standard error over {averaged[units.kind]} are averaged first", True),
        (chosen.note() if chosen else "", chosen),
        ("(k): k rows are infinite or undefined there, and not in the mean", left_out),
        (f"{', '.join(sets)}: one number per cell, of {min(sets.values(), default=0)} images or more", sets),
        (f"scored after the run: {', '.join(later)}; a picture is clamped and rounded to 1/127.5", later),
        (f"{diverged} rows diverged (alive = False); they are counted and not averaged", diverged),
        (f"{len(failed)} rows or cells failed and are in no mean: {'; '.join(dict.fromkeys(failed[:3]))}", failed),
        (f"no intervals and nothing in bold below {MIN_UNITS} {units.kind}s per cell", few),
        (f"{repeated} rows were computed more than once with the same settings; the newest counts", repeated),
        (f"{broken} lines of rows.csv are cut or damaged and left out", broken),
        (f"no finished row in {', '.join(empty)}", empty),
        (f"cells hold runs that differ in {', '.join(mixed)}; name them by --by to tell them apart", mixed),
    ]
    return [text for text, applies in notes if applies]
