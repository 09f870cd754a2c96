"""The tables as Markdown that also reads well on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from rbctrl.report.bootstrap import Interval
from rbctrl.report.compare import Comparisons, Difference, is_problem, part
from rbctrl.report.table import Line

_COUNTS = ("n", "diverged", "failed")


def to_markdown(table: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> str:
    """One line per cell: labels, n, and `mean ± standard error` of each metric, with (k) for k rows left out."""
    chosen = [name for name in ("tuned", "chosen") if name in table]
    header = [*by, *chosen, "sample", "n", *(w for w in ("diverged", "failed") if table[w].any()), *metrics]
    lines = []
    for _, line in table.iterrows():
        lines.append([_entry(line, name) if name in metrics else _escaped(line[name]) for name in header])
    return _aligned(header, lines, [name in metrics or name in _COUNTS for name in header])


def differences_to_markdown(compared: Comparisons) -> str:
    """The table of `differences`, as Markdown."""
    header, *lines = differences(compared)
    words = sum(is_problem(name) for name in compared.units.by) + 2
    return _aligned(header, lines, [k >= words for k in range(len(header))])


def differences(compared: Comparisons) -> list[list[str]]:
    """A header, and one line per comparison: problem, method, the other one, n, and the difference of each metric."""
    units = compared.units
    metrics = [name for name in units.metrics if any(d.metric == name for d in compared.differences)]
    table: dict[tuple[int, int], dict[str, Difference]] = {}
    for found in compared.differences:
        table.setdefault((found.line, found.other), {})[found.metric] = found
    lines = []
    for (line, other), cells in sorted(table.items()):
        n = _span([found.interval.n for found in cells.values()])
        names = [_escaped(value) for value in part(units.lines[line], units.by, True)]
        names += [_escaped(method_name(units.lines[k], units.by)) for k in (line, other)]
        lines.append([*names, n, *(_difference(cells[m].interval) if m in cells else "" for m in metrics)])
    return [[*(name for name in units.by if is_problem(name)), "method", "minus", "n", *metrics], *lines]


def comparison_note(compared: Comparisons) -> str:
    """What the table of differences shows."""
    other = " ".join(f"{name}={value}" for name, value in compared.against.items())
    unit = {"item": "images", "seed": "seeds"}[compared.units.kind]
    return (
        f"method minus {other or 'the best of its problem'}, over the {unit} that both have; in brackets the 95 % "
        f"interval of a paired bootstrap over {unit}, from 5 {unit} on"
    )


def _span(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def method_name(line: Line, by: Sequence[str]) -> str:
    """The settings of a line that name its method, as words: `dps zeta=0.5`."""
    pairs = [(name, value) for name, value in zip(by, line.label, strict=True) if not is_problem(name) and value]
    words = [value if name == "controller" else f"{name.rpartition('.')[2]}={value}" for name, value in pairs]
    return " ".join([*words, *(["(mean of samples)"] if line.sample == "mean" else [])]) or "all"


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, and no exponent below a million."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e6 else text


def _difference(found: Interval) -> str:
    mean, low, high = (f"{number(v, 3) if v < 0 else '+' + number(v, 3)}" for v in (found.mean, found.low, found.high))
    return mean if math.isnan(found.low) else f"{mean} [{low}, {high}]"


def _entry(line: pd.Series, name: str) -> str:
    mean, error, left_out = line[name], line[f"{name}_se"], int(line[f"{name}_nonfinite"])
    text = "-" if math.isnan(mean) else number(mean)
    if error > 0:
        text += f" ± {number(error, 2)}"
    return f"{text} ({left_out})" if left_out else text


def _escaped(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _aligned(header: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    widths = [max(3, *(len(row[k]) for row in [header, *lines])) for k in range(len(header))]
    rule = [("-" * (width - 1) + ":") if flag else "-" * width for width, flag in zip(widths, right, strict=True)]
    return "\n".join(_join(row, widths, right) for row in [header, rule, *lines])


def _join(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = [text.rjust(w) if flag else text.ljust(w) for text, w, flag in zip(row, widths, right, strict=True)]
    return f"| {' | '.join(cells)} |"
