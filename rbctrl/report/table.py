"""Rows to cells: mean and standard error over items and seeds.

The samples of one item are averaged first, since they are no independent items:

    v_u = mean over the finite samples of unit u = (item, seed)
    mean = sum_u v_u / n,  se^2 = sum_u (v_u - mean)^2 / (n (n - 1))

Rows that diverged, and values that are infinite or undefined, are counted and never averaged in.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import pandas as pd

from rbctrl.report.labels import OF_ROWS, identity, label, sort_key
from rbctrl.report.runs import Row, RunFolder

Sample = Literal["auto", "mean", "all"]
Cell = tuple[tuple[str, ...], str]  # the label, and "single" or "mean"
_NOT_SHOWN = ("decoder_vjp", "batch_size", "peak_memory", "n_alive")  # on request only


def unique_rows(runs: Iterable[RunFolder]) -> tuple[list[tuple[RunFolder, Row]], int]:
    """Every row once, with its run, and how many rows were repetitions: of those the newest counts."""
    found: dict[tuple, tuple[RunFolder, Row]] = {}
    total = 0
    for run in runs:
        key = identity(run)
        for row in run.rows:
            found[(key, row.item, row.sample, row.seed)] = (run, row)
            total += 1
    return list(found.values()), total - len(found)


def metric_names(rows: Iterable[Row], metrics: Sequence[str] | None) -> list[str]:
    """The columns to average: those asked for, or all that have a value somewhere.

    Raises:
        ValueError: there is no such column.
    """
    columns: dict[str, bool] = {}
    for row in rows:
        for name, value in row.values.items():
            columns[name] = columns.get(name, False) or value is not None
    if metrics is None:
        return [name for name, has_values in columns.items() if has_values and name not in _NOT_SHOWN]
    unknown = [name for name in metrics if name not in columns]
    if unknown:
        raise ValueError(f"rows.csv has no column {', '.join(map(repr, unknown))}: there are {', '.join(columns)}")
    return list(metrics)


def make_table(
    runs: Sequence[RunFolder],
    rows: Sequence[tuple[RunFolder, Row]],
    by: Sequence[str],
    metrics: Sequence[str],
    sample: Sample,
) -> pd.DataFrame:
    """One line per label, and one for single samples beside one for their mean where both are there.

    Columns: the settings in `by`; sample ("single" or "mean"); n, the number of (item, seed) with a row that did not
    diverge; diverged, the number of rows that did; and for each metric NAME its mean, NAME_se (blank for n = 1), NAME_n
    (units in the mean) and NAME_nonfinite (rows that did not diverge, but are infinite or undefined).

    Raises:
        ValueError: the means of samples are asked for, and no run has any.
    """
    cells: dict[Cell, list[Row]] = defaultdict(list)
    for run, row in rows:
        which = "mean" if row.sample == "mean" else "single"
        if sample in ("auto", {"mean": "mean", "single": "all"}[which]):
            cells[label(run, by, row), which].append(row)
    if not cells:
        raise ValueError("no run has a row for the mean of its samples: use sample=auto, or run with n_samples above 1")
    if not set(by) & set(OF_ROWS):
        labels = {name for name, _ in cells}
        missing = "mean" if sample == "mean" else "single"
        cells |= {(label(run, by), missing): [] for run in runs if label(run, by) not in labels}
    order = sorted(cells, key=lambda cell: (sort_key(cell[0]), cell[1] == "mean"))
    return pd.DataFrame([_line(cell, cells[cell], by, metrics) for cell in order])


def _line(cell: Cell, rows: Sequence[Row], by: Sequence[str], metrics: Sequence[str]) -> dict[str, object]:
    units: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.alive:
            units[row.item, row.seed].append(row)
    line: dict[str, object] = dict(zip(by, cell[0], strict=True))
    line |= {"sample": cell[1], "n": len(units), "diverged": sum(not row.alive for row in rows)}
    for name in metrics:
        line |= _summary(name, units)
    return line


def _summary(name: str, units: Mapping[tuple[str, str], Sequence[Row]]) -> dict[str, object]:
    values, nonfinite = [], 0
    for rows in units.values():
        finite = [v for v in (row.values.get(name) for row in rows) if v is not None and math.isfinite(v)]
        nonfinite += len(rows) - len(finite)
        if finite:
            values.append(math.fsum(finite) / len(finite))
    mean, error = _mean_error(values)
    return {name: mean, f"{name}_se": error, f"{name}_n": len(values), f"{name}_nonfinite": nonfinite}


def _mean_error(values: Sequence[float]) -> tuple[float, float]:
    n = len(values)
    if n == 0:
        return math.nan, math.nan
    mean = math.fsum(values) / n
    if n == 1:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n * (n - 1)))
