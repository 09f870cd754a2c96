"""A setting chosen on some items and scored on the others.

For every label of the table, the settings that differ within it are candidates. Chosen is the one with the best mean on
the items for selection, over those that all candidates of the label have; a candidate that diverged on one of them is
out, unless all did. Without items of its own the selection uses the items that are reported, and the report says that
its numbers are optimistic.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rbctrl.report.directions import Direction
from rbctrl.report.labels import OF_ROWS, identity, label, pooled
from rbctrl.report.runs import Row, RunFolder

Rows = Sequence[tuple[RunFolder, Row]]


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen.

    Attributes:
        rows: of the chosen settings, on the items to report.
        metric: by which.
        items: on which; empty: on those that are reported.
        chosen: per label, the settings that differed, as text.
    """

    rows: Rows
    metric: str
    items: tuple[str, ...]
    chosen: Mapping[tuple[str, ...], str]

    def note(self) -> str:
        """One sentence on the selection."""
        if self.items:
            return f"settings were chosen by {self.metric} on {len(self.items)} other items, which are not in the table"
        return (
            f"settings were chosen by {self.metric} on the items that the table reports: its numbers are optimistic; "
            "give the items for selection by --on"
        )


def select(
    rows: Rows, by: Sequence[str], metric: str, direction: Direction, on: Sequence[str], means: bool = False
) -> Selection:
    """Chooses one setting per label.

    Args:
        rows: all of them.
        by: the settings in the labels.
        metric: the column to choose by.
        direction: which way it is better.
        on: names or patterns (*, ?) of the items to choose on; the others are reported. Empty: all are for both.
        means: choose by the rows of means over samples, where there are any, and not by those of single samples.

    Raises:
        ValueError: a pattern matches no item, no item is left to report, a label has no finite value to choose by, or
            the labels tell items or seeds apart.
    """
    per_row = [name for name in by if name in OF_ROWS]
    if per_row:
        raise ValueError(f"a setting is chosen over all items and seeds: leave {', '.join(per_row)} out of --by")
    items = _matching(sorted({row.item for _, row in rows}), on)
    candidates: dict[tuple[str, ...], dict[tuple, list[tuple[RunFolder, Row]]]] = defaultdict(lambda: defaultdict(list))
    for run, row in rows:
        candidates[label(run, by, row)][identity(run)].append((run, row))
    kept, chosen = [], {}
    kind = _kind(rows, means)
    for name, settings in candidates.items():
        judged = {key: [row for _, row in own if (row.sample == "mean") == kind] for key, own in settings.items()}
        best = _best(judged, metric, direction, items)
        if best is None:
            raise ValueError(f"{', '.join(name)}: no setting has a finite {metric} on the items for selection")
        differing = pooled([settings[key][0][0] for key in settings], by)
        chosen[name] = " ".join(f"{n}={settings[best][0][0].settings.get(n, '')}" for n in differing) or "the only one"
        kept += [(run, row) for run, row in settings[best] if not on or row.item not in items]
    if not kept:
        raise ValueError("every item is used for selection, and none is left to report: name fewer by --on")
    return Selection(kept, metric, tuple(items) if on else (), chosen)


def _kind(rows: Rows, means: bool) -> bool:
    """Whether rows of means are judged: if they are asked for, or if there are no others."""
    return means or all(row.sample == "mean" for _, row in rows)


def _best(
    settings: Mapping[tuple, Sequence[Row]], metric: str, direction: Direction, items: Sequence[str]
) -> tuple | None:
    shared = set(items).intersection(*({row.item for row in rows} for rows in settings.values()))
    scores = {key: _score(rows, metric, shared) for key, rows in settings.items()}
    whole = {key: score for key, (score, lost) in scores.items() if not lost and math.isfinite(score)}
    usable = whole or {key: score for key, (score, _) in scores.items() if math.isfinite(score)}
    sign = 1 if direction == "higher" else -1
    return max(usable, key=lambda key: sign * usable[key]) if usable else None


def _score(rows: Sequence[Row], metric: str, items: set[str]) -> tuple[float, int]:
    """Mean over items of the means over their samples and seeds, and how many rows were lost."""
    values: dict[str, list[float]] = defaultdict(list)
    lost = 0
    for row in rows:
        if row.item in items:
            value = row.values.get(metric)
            if row.alive and value is not None and math.isfinite(value):
                values[row.item].append(value)
            else:
                lost += 1
    means = [math.fsum(v) / len(v) for v in values.values()]
    return (math.fsum(means) / len(means) if means else math.nan), lost


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            raise ValueError(f"--on {pattern!r} matches no item: there are {shown}")
    return [name for name in names if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]
