"""What `rbctrl score` noted in the journals of cells: scores of sets, and what other scores were made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rbctrl.report.runs import RunFolder
from rbctrl.results import read_rows


@dataclass(frozen=True)
class SetScore:
    """A score of all images of a cell together.

    Attributes:
        run: the cell.
        metric: its name.
        sample: "single" or "mean".
        value: NaN where it is undefined.
        n: number of images.
    """

    run: RunFolder
    metric: str
    sample: str
    value: float
    n: int


def set_scores(runs: Sequence[RunFolder]) -> list[SetScore]:
    """The newest score of each set metric of each cell."""
    found: dict[tuple[int, str, str], SetScore] = {}
    for run in runs:
        for record in read_rows(run.folder)[1]:
            note = record.get("score_of_set")
            if isinstance(note, dict):
                value = math.nan if note["value"] is None else float(note["value"])
                score = SetScore(run, note["metric"], note["sample"], value, int(note["n"]))
                found[id(run), score.metric, score.sample] = score
    return list(found.values())


def scored_from(runs: Sequence[RunFolder]) -> dict[str, str]:
    """Metric to what it was scored from, "8-bit PNG" or "exact", for metrics that were added to finished cells."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for record in read_rows(run.folder)[1]:
            names = record.get("scored") or ()
            note = record.get("score_of_set")
            names = [*names, note["metric"]] if isinstance(note, dict) else names  # type: ignore[misc]
            for name in names:  # type: ignore[attr-defined]
                found.setdefault(str(name), set()).add(str(record.get("source") or (note or {}).get("source")))
    return {name: " and ".join(sorted(sources)) for name, sources in found.items()}
