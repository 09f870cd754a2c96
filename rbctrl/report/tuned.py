"""Which cells run with the settings that `rbctrl tune` found for their task."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import OmegaConf

from rbctrl.report.labels import label
from rbctrl.report.runs import RunFolder
from rbctrl.report.table import Units
from rbctrl.tuning import is_tuned


def untuned_lines(units: Units, runs: Sequence[RunFolder]) -> frozenset[int]:
    """Lines of a table with a cell that is not tuned; empty where no cell is: then nothing claims to be."""
    tuned = {id(run) for run in runs if "tuned.settings" in run.settings and _is_tuned(run)}
    if not tuned:
        return frozenset()
    labels = {label(run, units.by) for run in runs if id(run) not in tuned}
    return frozenset(k for k, line in enumerate(units.lines) if line.label in labels)


def _is_tuned(run: RunFolder) -> bool:
    record = OmegaConf.to_container(OmegaConf.load(run.folder / "config.yaml"), resolve=True)
    return is_tuned(record["config"])  # type: ignore[index, call-overload]
