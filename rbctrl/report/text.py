"""The table as Markdown that also reads well on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd


def to_markdown(table: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> str:
    """One line per cell: labels, n, and `mean ± standard error` of each metric, with (k) for k rows left out."""
    header = [*by, "sample", "n", *(["diverged"] if table["diverged"].any() else []), *metrics]
    lines = []
    for _, line in table.iterrows():
        lines.append([_entry(line, name) if name in metrics else _escaped(line[name]) for name in header])
    widths = [max(3, *(len(row[k]) for row in [header, *lines])) for k in range(len(header))]
    right = [name in metrics or name in ("n", "diverged") for name in header]
    rule = [("-" * (width - 1) + ":") if flag else "-" * width for width, flag in zip(widths, right, strict=True)]
    return "\n".join(_join(row, widths, right) for row in [header, rule, *lines])


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, and no exponent below a million."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e6 else text


def _entry(line: pd.Series, name: str) -> str:
    mean, error, left_out = line[name], line[f"{name}_se"], int(line[f"{name}_nonfinite"])
    text = "-" if math.isnan(mean) else number(mean)
    if error > 0:
        text += f" ± {number(error, 2)}"
    return f"{text} ({left_out})" if left_out else text


def _escaped(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _join(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = [text.rjust(w) if flag else text.ljust(w) for text, w, flag in zip(row, widths, right, strict=True)]
    return f"| {' | '.join(cells)} |"
