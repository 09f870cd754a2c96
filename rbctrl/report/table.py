"""Rows to cells: mean and standard error over images.

The unit is the image. Its samples and seeds are averaged first, since they are no independent images:

    v_u = mean over the finite rows of unit u,   mean = sum_u v_u / n,   se^2 = sum_u (v_u - mean)^2 / (n (n - 1))

Where all rows belong to one image, or the images are told apart by `--by item`, the unit is the seed. Rows that
diverged, and values that are infinite or undefined, are counted and never averaged in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from rbctrl.report.labels import OF_ROWS, identity, label, sort_key
from rbctrl.report.runs import Row, RunFolder
from rbctrl.report.scores import SetScore

Sample = Literal["auto", "mean", "all"]
_NOT_SHOWN = ("decoder_vjp", "encoder_vjp", "batch_size", "peak_memory", "n_alive", "n_samples")  # on request only


class Line(NamedTuple):
    """What a line of the table stands for: values of the settings, and "single" samples or their "mean"."""

    label: tuple[str, ...]
    sample: str


@dataclass(frozen=True, eq=False)
class Units:
    """The rows of each line, by unit.

    Attributes:
        by: the settings in the labels.
        metrics: the columns.
        kind: what a unit is, "item" or "seed".
        lines: in the order of the table.
        values: one line per (position in `lines`, unit) with a row that did not diverge; NaN where no row of the unit
            is finite.
        diverged: number of rows that did, per line.
        failed: number of rows that could not be computed, per line; a cell that failed as a whole counts once.
        nonfinite: number of rows that did not diverge but are infinite or undefined, per line and metric.
        sets: scores of sets (FID) by (line, metric): one value per cell, and the number of images.
    """

    by: tuple[str, ...]
    metrics: tuple[str, ...]
    kind: str
    lines: tuple[Line, ...]
    values: pd.DataFrame
    diverged: pd.Series
    failed: pd.Series
    nonfinite: pd.DataFrame
    sets: Mapping[tuple[int, str], tuple[pd.Series, int]] = field(default_factory=dict)

    def of_line(self, k: int, metric: str) -> pd.Series:
        """The finite values of line k by unit; of a set metric, by cell."""
        if (k, metric) in self.sets:
            return self.sets[k, metric][0].dropna()
        if k not in self.values.index.get_level_values(0):
            return pd.Series(dtype=float)
        return self.values.loc[k, metric].dropna()


def unique_rows(runs: Sequence[RunFolder]) -> tuple[list[tuple[RunFolder, Row]], int]:
    """Every row once, with its run, and how many rows were repetitions: of those the newest counts.

    Rows that failed are among them, if nobody computed them.
    """
    found = {(identity(run), row.item, row.sample, row.seed): (run, row) for run in runs for row in run.failed}
    failed, total = set(found), len(found)
    for run in runs:
        key = identity(run)
        for row in run.rows:
            total += (key, row.item, row.sample, row.seed) not in failed
            found[(key, row.item, row.sample, row.seed)] = (run, row)
    return list(found.values()), total - len(found)


def metric_names(rows: Iterable[Row], metrics: Sequence[str] | None, of_sets: Sequence[str] = ()) -> list[str]:
    """The columns to average: those asked for, or all that have a value somewhere.

    Raises:
        ValueError: there is no such column.
    """
    columns: dict[str, bool] = {}
    for row in rows:
        for name, value in row.values.items():
            columns[name] = columns.get(name, False) or value is not None
    columns |= dict.fromkeys(of_sets, True)
    if metrics is None:
        return [name for name, has_values in columns.items() if has_values and name not in _NOT_SHOWN]
    unknown = [name for name in metrics if name not in columns]
    if unknown:
        raise ValueError(f"rows.csv has no column {', '.join(map(repr, unknown))}: there are {', '.join(columns)}")
    return list(metrics)


def gather(
    runs: Sequence[RunFolder],
    rows: Sequence[tuple[RunFolder, Row]],
    by: Sequence[str],
    metrics: Sequence[str],
    sample: Sample,
    scores: Sequence[SetScore] = (),
) -> Units:
    """The rows by line and unit: one line per label, and one for single samples beside one for their mean.

    Raises:
        ValueError: the means of samples are asked for, and no run has any.
    """
    wanted = {"auto": ("single", "mean"), "mean": ("mean",), "all": ("single",)}[sample]
    missing = "mean" if sample == "mean" else "single"  # where a cell without rows is listed
    kinds = {"mean": "mean", "": missing}
    of_rows = [Line(label(run, by, row), kinds.get(row.sample, "single")) for run, row in rows]
    kept = [(line, row) for line, (_, row) in zip(of_rows, rows, strict=True) if line.sample in wanted]
    if not kept:
        raise ValueError("no run has a row for the mean of its samples: use sample=auto, or run with n_samples above 1")
    lines = {line for line, _ in kept}
    if not set(by) & set(OF_ROWS):
        have = {line.label for line in lines}
        lines |= {Line(label(run, by), missing) for run in runs if label(run, by) not in have}
    order = sorted(lines, key=lambda line: (sort_key(line.label), line.sample == "mean"))
    place = {line: k for k, line in enumerate(order)}
    kind = "seed" if "item" in by or len({row.item for _, row in kept if row.item}) == 1 else "item"
    frame = pd.DataFrame(
        {
            "line": [place[line] for line, _ in kept],
            "unit": [getattr(row, kind) for _, row in kept],
            "status": [row.status for _, row in kept],
        }
    )
    values = pd.DataFrame({name: [row.values.get(name) for _, row in kept] for name in metrics}, dtype=float)
    units = _units(frame, values, tuple(by), tuple(metrics), kind, tuple(order))
    return units if "item" in by else replace(units, sets=_sets(scores, by, place, metrics))


def _units(
    frame: pd.DataFrame,
    values: pd.DataFrame,
    by: tuple[str, ...],
    metrics: tuple[str, ...],
    kind: str,
    lines: tuple[Line, ...],
) -> Units:
    alive = (frame["status"] == "ok").to_numpy()
    finite = values.where(np.isfinite(values))
    everywhere = range(len(lines))
    diverged, failed = (
        frame[frame["status"] == status].groupby("line").size().reindex(everywhere, fill_value=0)
        for status in ("diverged", "failed")
    )
    lost = finite[alive].isna().groupby(frame["line"][alive]).sum().reindex(everywhere, fill_value=0)
    means = finite[alive].groupby([frame["line"][alive], frame["unit"][alive]]).mean()
    return Units(by, metrics, kind, lines, means, diverged, failed, lost)


def _sets(
    scores: Sequence[SetScore], by: Sequence[str], place: Mapping[Line, int], metrics: Sequence[str]
) -> dict[tuple[int, str], tuple[pd.Series, int]]:
    found: dict[tuple[int, str], list[SetScore]] = {}
    for score in scores:
        line = Line(label(score.run, by), score.sample)
        if line in place and score.metric in metrics:
            found.setdefault((place[line], score.metric), []).append(score)
    return {
        key: (pd.Series({str(score.run.folder): score.value for score in own}), min(score.n for score in own))
        for key, own in found.items()
    }


def make_table(units: Units) -> pd.DataFrame:
    """One line per line of `units`.

    Columns: the settings in `by`; sample ("single" or "mean"); n, the number of units with a row that did not diverge;
    diverged and failed, the numbers of rows that did; and for each metric NAME its mean, NAME_se (blank for n = 1),
    NAME_n (units in the mean; of a set metric, images in a set) and NAME_nonfinite (rows that did not diverge, but are
    infinite or undefined).
    """
    return pd.DataFrame([_line(units, k) for k in range(len(units.lines))])


def _line(units: Units, k: int) -> Mapping[str, object]:
    line: dict[str, object] = dict(zip(units.by, units.lines[k].label, strict=True))
    n = int((units.values.index.get_level_values(0) == k).sum())
    lost = {"diverged": int(units.diverged[k]), "failed": int(units.failed[k])}
    line |= {"sample": units.lines[k].sample, "n": n, **lost}
    for name in units.metrics:
        values = units.of_line(k, name)
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        mean = values.mean() if len(values) else np.nan
        n_values = units.sets[k, name][1] if (k, name) in units.sets else len(values)
        line |= {name: mean, f"{name}_se": error, f"{name}_n": n_values}
        line[f"{name}_nonfinite"] = int(units.nonfinite.loc[k, name])
    return line
