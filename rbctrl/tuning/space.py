"""What a tuner may vary, in Hydra's grammar of sweeps.

    controller.zeta=tag(log,interval(0.1,100))     a number, evenly in its logarithm
    controller.inner_steps=int(interval(1,8))      a whole number
    controller.eps=frozen,recomputed               one of these

The space of a controller is `conf/tune/CONTROLLER.yaml`, in the current folder, shipped, or of an installed package:

    fixed: [sampler=ddpm]            words of every trial
    space: [controller.zeta=...]     what varies; [] declares that there is nothing to tune
    tasks: {sr4: {fixed: [], space: [...]}}     for single operators: replaces what has the same key

Words of the command line go before both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from rbctrl.config import conf_dirs

if TYPE_CHECKING:
    from optuna import Trial

EDGE = 0.05  # share of a range that counts as its edge


@dataclass(frozen=True)
class Parameter:
    """One key that varies.

    Args:
        key: of the configuration.
        choices: the values, as words; empty for a number.
        low: of a number.
        high: of a number.
        log: whether it is searched in its logarithm.
        whole: whether it is an integer.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial) -> str:
        """The value of a trial, as a word."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, self.choices))
        if self.whole:
            return str(trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log))
        return f"{trial.suggest_float(self.key, self.low, self.high, log=self.log):.4g}"  # a preset is to be read

    def given(self, value: object) -> object | None:
        """A value of the configuration as one of this parameter's, None if it is not in the range."""
        if self.choices:
            text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            return text if text in self.choices else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        return int(value) if self.whole else float(value)

    def edge(self, word: str) -> str | None:
        """Whether a value lies at the "lower" or "upper" edge of the range; None: inside, or one of a few choices."""
        if self.choices:
            return None
        low, value, high = (math.log(v) if self.log else v for v in (self.low, float(word), self.high))
        share = (value - low) / (high - low)
        return "lower" if share < EDGE else "upper" if share > 1 - EDGE else None

    def __str__(self) -> str:
        if self.choices:
            return f"{{{', '.join(self.choices)}}}"
        kind = " (log)" if self.log else ""
        return f"[{self.low:g}, {self.high:g}]{kind}"


def read_space(controller: str, operator: str, words: Sequence[str]) -> tuple[tuple[str, ...], tuple[Parameter, ...]]:
    """Fixed words and parameters of a controller on an operator; `words` of the command line replace what is declared.

    Raises:
        ValueError: nobody declared a space, or a word of it cannot be read.
    """
    file = _file(controller)
    declared = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file else {}
    task = (declared.get("tasks") or {}).get(operator) or {}
    layers = [[*(part.get("fixed") or []), *(part.get("space") or [])] for part in (declared, task)]
    merged: dict[str, Override] = {}
    for override in _parse([*layers[0], *layers[1], *words]):
        merged.pop(override.key_or_group, None)  # the last one stands last
        merged[override.key_or_group] = override
    space = tuple(_parameter(override) for override in merged.values() if override.is_sweep_override())
    if file is None and not space:
        raise ValueError(
            f"controller={controller} has no search space: write conf/tune/{controller}.yaml, or name what varies, "
            f"such as 'controller.key=tag(log,interval(0.1,10))'"
        )
    fixed = tuple(override.input_line for override in merged.values() if not override.is_sweep_override())
    return fixed, space


def _file(controller: str) -> Path | None:
    files = [folder / "tune" / f"{controller}.yaml" for folder in (Path("conf"), *conf_dirs())]
    return next((file for file in files if file.is_file()), None)


def _parse(words: Iterable[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides([str(word) for word in words])


def _parameter(override: Override) -> Parameter:
    key = override.key_or_group
    value = override.value()
    if override.is_choice_sweep():
        return Parameter(key, tuple(override.sweep_string_iterator()))
    if not override.is_interval_sweep():
        raise ValueError(f"{override.input_line}: write interval(low,high), tag(log,interval(low,high)) or values a,b")
    low, high, log = value.start, value.end, "log" in value.tags
    if not low < high or (log and low <= 0):
        raise ValueError(f"{override.input_line}: low is below high, and above 0 where the scale is log")
    return Parameter(key, (), low, high, log, isinstance(low, int))
