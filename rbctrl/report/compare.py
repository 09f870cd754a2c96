"""Paired comparisons of methods on the same problem.

Settings of operator, noise and data, and the item, name the problem; all other settings name the method. Methods are
compared on the units that both have, by the difference per unit: what makes one image harder than another cancels.
Single samples are never compared with means over samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rbctrl.report.bootstrap import Interval, interval
from rbctrl.report.directions import Direction
from rbctrl.report.table import Line, Units

_PROBLEM = ("operator", "noise", "data", "item")


def is_problem(name: str) -> bool:
    """Whether a setting belongs to the problem rather than to the method."""
    return name.partition(".")[0] in _PROBLEM


def part(line: Line, by: Sequence[str], problem: bool) -> tuple[str, ...]:
    """The values of a line's label that name its problem, or its method."""
    return tuple(value for name, value in zip(by, line.label, strict=True) if is_problem(name) == problem)


@dataclass(frozen=True)
class Difference:
    """One method minus another, per unit, on one problem.

    Attributes:
        line: position of the method in `Units.lines`.
        other: position of what it is compared with.
        metric: the column.
        interval: of the mean difference, over the units that both have.
        better: "yes" or "no" where the interval excludes 0, else "open".
    """

    line: int
    other: int
    metric: str
    interval: Interval
    better: str


@dataclass(frozen=True, eq=False)
class Comparisons:
    """All lines against the best of their problem, or against a named method.

    Attributes:
        units: the values.
        directions: of the metrics that have one; others are not compared.
        against: settings that name the method to compare with; empty: the best of each problem and metric.
        untuned: lines to mark, since other lines are tuned and these are not.
        differences: those over enough units for an interval.
        winners: (line, metric) of the best lines that beat every other one of their problem.
    """

    units: Units
    directions: Mapping[str, Direction]
    against: Mapping[str, str] = field(default_factory=dict)
    untuned: frozenset[int] = frozenset()
    differences: tuple[Difference, ...] = field(init=False)
    winners: frozenset[tuple[int, str]] = field(init=False)

    def __post_init__(self) -> None:
        found, winners = [], set()
        for group in groups(self.units):
            other = self._named(group)
            for metric in [name for name in self.units.metrics if name in self.directions]:
                best = self.best(group, metric)
                if best is None:
                    continue
                versus = self._versus(group, best, metric)
                winners |= {(best, metric)} if self._wins(best, metric, versus) else set()
                shown = self._versus(group, other, metric) if self.against else versus
                found += [difference for difference in shown.values() if math.isfinite(difference.interval.low)]
        object.__setattr__(self, "differences", tuple(found))
        object.__setattr__(self, "winners", frozenset(winners))

    def best(self, group: Sequence[int], metric: str) -> int | None:
        """The line with the best mean; None where no line has one."""
        means = {k: self.units.of_line(k, metric).mean() for k in group if len(self.units.of_line(k, metric))}
        sign = 1 if self.directions[metric] == "higher" else -1
        return max(means, key=lambda k: sign * means[k]) if means else None

    def compare(self, line: int, other: int, metric: str) -> Difference:
        """`line` minus `other` on the units that both have."""
        one, two = self.units.of_line(line, metric), self.units.of_line(other, metric)
        found = interval((one - two).dropna().to_numpy())
        gain = found.mean if self.directions[metric] == "higher" else -found.mean
        return Difference(line, other, metric, found, ("yes" if gain > 0 else "no") if found.excludes_zero else "open")

    def _versus(self, group: Sequence[int], other: int | None, metric: str) -> dict[int, Difference]:
        return {} if other is None else {k: self.compare(k, other, metric) for k in group if k != other}

    def _wins(self, best: int, metric: str, versus: Mapping[int, Difference]) -> bool:
        """Whether every other line is worse beyond doubt, or has no value; a line that lost rows wins nothing."""
        lost = self.units.diverged[best] + self.units.failed[best] + self.units.nonfinite.loc[best, metric]
        beaten = [found.better == "no" or not len(self.units.of_line(k, metric)) for k, found in versus.items()]
        return not lost and bool(beaten) and all(beaten)

    def _named(self, group: Sequence[int]) -> int | None:
        """The line of a problem that `against` names.

        Raises:
            ValueError: the settings name no setting of the table, or several lines of one problem.
        """
        by = self.units.by
        unknown = [name for name in self.against if name not in by]
        if unknown:
            raise ValueError(f"--against names {', '.join(unknown)}, which is not in the table: {', '.join(by)}")
        if not self.against:
            return None
        labels = {k: dict(zip(by, self.units.lines[k].label, strict=True)) for k in group}
        lines = [k for k, label in labels.items() if self.against.items() <= label.items()]
        if len(lines) > 1:
            words = " ".join(f"{name}={value}" for name, value in self.against.items())
            raise ValueError(f"--against {words} names {len(lines)} lines of one problem: add a setting")
        return lines[0] if lines else None


def groups(units: Units) -> list[list[int]]:
    """Positions of the lines that are compared with each other: same problem, same kind of sample."""
    found: dict[tuple, list[int]] = {}
    for k, line in enumerate(units.lines):
        found.setdefault((part(line, units.by, True), line.sample), []).append(k)
    return list(found.values())
