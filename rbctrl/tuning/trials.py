"""One controller on one operator: trials as cells of a study, their table, and the preset of the best.

Every trial of every controller sees the same items, samples and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from rbctrl.config import CONF_DIR
from rbctrl.literal import build
from rbctrl.report.directions import KNOWN, Direction
from rbctrl.reuse import build_experiment
from rbctrl.tuning.guard import check_disjoint, contents
from rbctrl.tuning.preset import preset_text, settings_of, write_preset
from rbctrl.tuning.search import Trial, best_of, search
from rbctrl.tuning.space import Parameter, read_space
from rbctrl.versions import versions

OUTPUTS = Path("outputs")


@dataclass(frozen=True)
class Task:
    """What is tuned, and on what.

    Args:
        controller: option of the group.
        operator: option of the group.
        words: of the command line, for all trials; sweeps among them vary.
        seeds: of the noise; a score is the mean over them.
        n_trials: of each controller.
        search_seed: of the search.
        metric: NAME, NAME:higher or NAME:lower.
        held_out: words that compose the data no tuning image may be in.
    """

    controller: str
    operator: str
    words: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    n_trials: int = 20
    search_seed: int = 0
    metric: str = "psnr"
    held_out: tuple[str, ...] = ("data=photos",)

    @property
    def direction(self) -> Direction:
        """Which scores are better; raises ValueError if nobody says."""
        name, _, direction = self.metric.partition(":")
        direction = direction or KNOWN.get(name, "")
        if direction not in ("higher", "lower"):
            raise ValueError(f"--metric {self.metric}: write {name}:higher or {name}:lower, whichever is better")
        return direction  # type: ignore[return-value]

    @property
    def fixed(self) -> list[str]:
        """Words of every trial, and by default the images that settings are tuned on."""
        given = {word.lstrip("+").partition("=")[0] for word in self.words}
        defaults = [word for word in ("data=photos_train", "study=tune") if word.partition("=")[0] not in given]
        fixed, _ = read_space(self.controller, self.operator, self.words)
        return [f"controller={self.controller}", f"operator={self.operator}", *defaults, *fixed]

    @property
    def space(self) -> tuple[Parameter, ...]:
        """What varies."""
        return read_space(self.controller, self.operator, self.words)[1]

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        return OUTPUTS / str(composed(self.fixed)[0].study)


@dataclass(frozen=True, eq=False)
class Tuned:
    """A finished search: its trials, and the best of them.

    Attributes:
        items: names of the images.
    """

    task: Task
    trials: Sequence[Trial]
    items: tuple[str, ...]

    @property
    def best(self) -> Trial:
        """The winner."""
        return best_of(self.trials, self.task.direction)

    @property
    def edges(self) -> dict[str, str]:
        """Which parameters of the winner lie at the edge of their range: the optimum may lie beyond."""
        found = {parameter.key: parameter.edge(self.best.values[parameter.key]) for parameter in self.task.space}
        return {key: edge for key, edge in found.items() if edge}

    def table_rows(self) -> list[dict[str, object]]:
        """All trials, in their order."""
        return [{"trial": trial.number, **trial.values, self.metric: trial.score} for trial in self.trials]

    def table(self) -> str:
        """All trials in Markdown, the best first."""
        rows, sign = self.table_rows(), -1 if self.task.direction == "higher" else 1
        rows.sort(key=lambda row: math.inf if math.isnan(row[self.metric]) else sign * row[self.metric])  # type: ignore[operator,arg-type]
        lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
        lines += [" | ".join(_short(value) for value in row.values()) for row in rows]
        return "\n".join(f"| {line} |" for line in lines)

    def verdict(self) -> str:
        """The winner in one line, and the edges it lies at."""
        best, ranges = self.best, {parameter.key: parameter for parameter in self.task.space}
        text = f"best of {len(self.trials)}: {self.metric} {best.score:.4g} with {' '.join(best.words) or 'no setting'}"
        for key, edge in self.edges.items():
            text += f"\n{key}={best.values[key]} lies at the {edge} edge of {ranges[key]}: widen the range"
        return text

    @property
    def metric(self) -> str:
        """Its name."""
        return self.task.metric.partition(":")[0]

    def write(self, folder: Path, command: str, today: date) -> Path:
        """Writes tuned_CONTROLLER_OPERATOR.yaml; the same search on the same day writes the same file."""
        task = self.task
        winner, choices = composed([*task.fixed, *self.best.words])
        resolved: dict[str, Any] = OmegaConf.to_container(winner, resolve=True)  # type: ignore[assignment]
        chosen = _chosen(choices, composed([])[1])
        plain, _ = composed([f"{group}={option}" for group, option in chosen.items()])
        tuned = {
            "controller": task.controller,
            "operator": task.operator,
            "metric": self.metric,
            "score": round(self.best.score, 4),
            "trials": len(self.trials),
            "items": list(self.items),
            "seeds": list(task.seeds),
            "edges": self.edges,
            "date": today.isoformat(),
            "commit": versions().get("commit", "unknown"),
            "command": command,
            "settings": settings_of(resolved),
        }
        notes = [
            f"{task.controller} on {task.operator}, tuned: {self.verdict().splitlines()[0]}.",
            *(f"{key} is at the {edge} edge of what was searched." for key, edge in self.edges.items()),
            f"Images: {', '.join(self.items)}; noise seeds {', '.join(map(str, task.seeds))}.",
            command,
        ]
        plain_nodes, winner_nodes = (OmegaConf.to_container(cfg, resolve=False) for cfg in (plain, winner))
        text = preset_text(winner_nodes, plain_nodes, chosen, tuned, notes)  # type: ignore[arg-type]
        return write_preset(folder, f"tuned_{task.controller}_{task.operator}", text)


def tune(task: Task, on_trial: Callable[[Trial], None] | None = None) -> Tuned:
    """Runs the search.

    Raises:
        ValueError: a tuning image is held out, the metric is not measured, or no trial has a score.
    """
    cfg, _ = composed(task.fixed)
    metric, direction = task.metric.partition(":")[0], task.direction
    if metric not in cfg.metrics:
        raise ValueError(f"--metric {metric} is not measured: {', '.join(cfg.metrics)} are; metrics=... has others")
    data, test_data = (build(c, "data") for c in (cfg, composed(task.held_out)[0]))
    check_disjoint(data, test_data)
    space, default = task.space, _default(cfg, task.space)
    score = partial(_score, task)
    trials = search(space, task.n_trials, task.search_seed, score, direction, default, on_trial)
    return Tuned(task, trials, tuple(contents(data).values()))


def composed(words: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of these words, and what they choose of each group."""
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3"):
        cfg = compose("config", list(words), return_hydra_config=True)
    choices = {str(group): str(option) for group, option in cfg.hydra.runtime.choices.items() if option is not None}
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, {group: option for group, option in choices.items() if not group.startswith("hydra/")}


def _score(task: Task, words: Sequence[str]) -> float:
    """Mean of the metric over images and seeds; NaN if a row diverged."""
    scores = [_run([*task.fixed, *words, f"seed={seed}"], task.metric.partition(":")[0]) for seed in task.seeds]
    return sum(scores) / len(scores)


def _run(words: Sequence[str], metric: str) -> float:
    cfg, choices = composed(words)
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    config["metrics"] = {metric: config["metrics"][metric], **config["metrics"]}  # a run returns the first
    experiment = build_experiment(config)
    record = {"choices": choices, "overrides": list(words), "config": config}
    value = experiment.run(OUTPUTS / str(cfg.study), record)
    failed = [problem for problem in experiment.problems if problem not in experiment.data.skipped]
    return math.nan if failed else float(value)


def _default(cfg: DictConfig, space: Sequence[Parameter]) -> dict[str, object]:
    """The settings that the configuration has by itself, where they are in the ranges."""
    values = {parameter.key: parameter.given(OmegaConf.select(cfg, parameter.key)) for parameter in space}
    return {key: value for key, value in values.items() if value is not None}


def _chosen(choices: Mapping[str, str], default: Mapping[str, str]) -> dict[str, str]:
    """The groups a preset chooses: the task and the method, and whatever else is not the default; no data."""
    skipped = ("data", "metrics", "logger", "experiment")
    named = ("operator", "controller")
    return {
        group: option
        for group, option in choices.items()
        if group.partition("/")[0] not in skipped and (group in named or default.get(group) != option)
    }


def _short(value: object) -> str:
    try:
        return f"{float(value):.5g}"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)
