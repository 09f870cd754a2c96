"""The winner of a search as a preset, conf/experiment/tuned_CONTROLLER_OPERATOR.yaml, with where it came from.

A preset carries its provenance as `tuned`, and with it a hash of the settings it was tuned for. The configuration of
every cell holds both, so a table can tell a tuned cell from one whose settings were changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

TASK = ("prior", "operator", "noise", "cost", "running_cost", "sampler", "controller")
SCALARS = ("n_samples", "dtype")


def settings_of(config: Mapping[str, Any]) -> str:
    """A hash of the task and of all settings of the method, of a resolved configuration."""
    settings = {name: config.get(name) for name in TASK}
    if config.get("strength") not in (None, 1):
        settings["strength"] = config["strength"]
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_tuned(config: Mapping[str, Any]) -> bool:
    """Whether a cell runs with the settings that `rbctrl tune` found for its task.

    Args:
        config: the resolved configuration, as under `config` in config.yaml. A preset whose controller, sampler,
            operator, noise, cost or prior was overridden is no longer what was tuned.
    """
    tuned = config.get("tuned")
    return isinstance(tuned, Mapping) and tuned.get("settings") == settings_of(config)


def preset_text(
    winner: Mapping[str, Any],
    plain: Mapping[str, Any],
    choices: Mapping[str, str],
    tuned: Mapping[str, object],
    notes: Sequence[str],
) -> str:
    """The YAML of a preset.

    Args:
        winner: the configuration of the best trial, not resolved.
        plain: the one that the choices of groups alone compose.
        choices: what the preset chooses, by group.
        tuned: the provenance.
        notes: lines of comment.

    Raises:
        ValueError: the winner lacks a key that the choices bring: no preset can take one away.
    """
    defaults: list[dict[str, str]] = [{f"override /{group}": option} for group, option in choices.items()]
    body: dict[str, Any] = {"defaults": defaults}
    body |= _changed({name: winner[name] for name in (*TASK, *SCALARS) if name in winner}, plain, "")
    body["tuned"] = dict(tuned)
    comments = "".join(f"# {line}\n" for line in notes)
    return f"# @package _global_\n{comments}{yaml.safe_dump(body, sort_keys=False, width=120)}"


def write_preset(folder: Path, name: str, text: str) -> Path:
    """Writes a preset; one that `rbctrl tune` made before is replaced.

    Raises:
        FileExistsError: a preset of that name was written by somebody else.
    """
    file = Path(folder) / f"{name}.yaml"
    if file.is_file() and "tuned" not in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}):
        raise FileExistsError(f"{file} was not written by rbctrl tune: move it, or choose another folder with --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
    return file


def _changed(new: Mapping[str, Any], old: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The leaves of `new` that differ from `old`."""
    gone = [f"{where}{key}" for key in old if where and key not in new]
    if gone:
        raise ValueError(f"{gone[0]} was taken away, and a preset can only set values: leave it in, or write a part")
    changed: dict[str, Any] = {}
    for key, value in new.items():
        if key in old and old[key] == value:
            continue
        both = isinstance(value, Mapping) and isinstance(old.get(key), Mapping)
        changed[key] = _changed(value, old[key], f"{where}{key}.") if both else value
    return changed
