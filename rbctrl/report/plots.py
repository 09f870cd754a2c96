"""Quality against what it cost: one panel per problem, one line per controller, one point per setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rbctrl.report.compare import groups, part
from rbctrl.report.directions import Direction
from rbctrl.report.table import Units
from rbctrl.report.text import method_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {"seconds": ("seconds_per_image",), "evaluations": ("nfe", "vjp")}
_LABELS = {"seconds": "seconds per image", "evaluations": "network evaluations and VJPs per image"}
_MARKERS = "osD^vP*Xhd<>"
_COLOURS = tuple("#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000 #8C6D31 #7F7F7F #6A3D9A".split())
_BETTER = {"higher": " (higher is better)", "lower": " (lower is better)", None: ""}
_SMALL = 9  # points


def plot(units: Units, metric: str, cost: str, direction: Direction | None = None) -> Figure | None:
    """A figure of `metric` against "seconds" or "evaluations"; None if no line has both.

    Error bars are standard errors over images. Points of one controller are joined in the order of their cost, so that
    a sweep of a setting is a curve. The axis of cost is logarithmic where the costs differ by more than 5 times.

    Args:
        units: with the columns of the metric and of the cost.
        metric: the quality.
        cost: a key of `COSTS`.
        direction: which way the metric is better, for the label.
    """
    points = _points(units, metric, cost)
    panels = [group for group in groups(units) if any(k in points for k in group)]
    if not panels:
        return None
    from matplotlib.figure import Figure  # no pyplot: no window, no global state

    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(1.2 + 3.4 * columns, 0.8 + 2.9 * lines), layout="constrained")
    styles = _styles(units)
    for k, group in enumerate(panels):
        axes = figure.add_subplot(lines, columns, k + 1)
        _panel(axes, units, [line for line in group if line in points], points, styles)
        axes.set_title(_title(units, group[0]), fontsize=10)
        axes.set_xlabel(_LABELS[cost], fontsize=_SMALL)
        axes.set_ylabel(metric + _BETTER[direction], fontsize=_SMALL)
    _legend(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, whatever number of files it is saved to
    return figure


def _legend(figure: Figure) -> None:
    handles = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels())}
    columns = min(4, len(handles))
    place = "outside lower center"
    figure.legend(handles.values(), handles.keys(), loc=place, ncols=columns, frameon=False, fontsize=_SMALL)


def _points(units: Units, metric: str, cost: str) -> dict[int, tuple[float, float, float]]:
    """(cost, mean, standard error) of the lines that have both."""
    found = {}
    if any(name not in units.metrics for name in (metric, COSTS[cost][0])):
        return found
    for k in range(len(units.lines)):
        values = units.of_line(k, metric)
        costs = [units.of_line(k, name) for name in COSTS[cost] if name in units.metrics]
        spent = sum(values.mean() for values in costs if len(values))
        if len(values) and len(units.of_line(k, COSTS[cost][0])):
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            found[k] = (float(spent), float(values.mean()), float(error))
    return found


def _styles(units: Units) -> Mapping[str, tuple[str, str]]:
    names = list(dict.fromkeys(_controller(units, k) for k in range(len(units.lines))))
    return {name: (_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)]) for k, name in enumerate(names)}


def _panel(axes: Axes, units: Units, lines: list[int], points: Mapping, styles: Mapping) -> None:
    for name in dict.fromkeys(_controller(units, k) for k in lines):
        x, y, error = zip(*sorted(points[k] for k in lines if _controller(units, k) == name))
        colour, marker = styles[name]
        axes.errorbar(x, y, error, color=colour, marker=marker, ms=5, lw=1, capsize=2, elinewidth=1, label=name)
    spent = [points[k][0] for k in lines]
    if min(spent) > 0 and max(spent) > 5 * min(spent):
        axes.set_xscale("log")
    elif max(spent) > 0 and min(spent) == 0:  # classical methods need no evaluation
        axes.set_xscale("symlog", linthresh=max(1e-3, min((v for v in spent if v > 0), default=1.0)))
    axes.margins(0.12)
    axes.grid(True, color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _controller(units: Units, k: int) -> str:
    named = dict(zip(units.by, units.lines[k].label, strict=True))
    return named.get("controller") or method_name(units.lines[k], units.by)


def _title(units: Units, k: int) -> str:
    words = " ".join(value for value in part(units.lines[k], units.by, True) if value)
    return words + (" (mean of samples)" if units.lines[k].sample == "mean" else "")
