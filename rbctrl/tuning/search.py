"""The search: ask for a setting, run it, tell its score.

The first trial is the default setting, where that lies in the ranges: a winner is never worse than the default on the
tuning images. Given a seed the settings follow from the scores alone, so a search that was interrupted starts again at
trial 0 and finds the scores of what it had run in the study (a trial is a cell), until it is where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rbctrl.report.directions import Direction
from rbctrl.tuning.space import Parameter

Score = Callable[[Sequence[str]], float]


@dataclass(frozen=True)
class Trial:
    """One setting and its score.

    Attributes:
        number: from 0.
        values: the words behind the keys of the parameters.
        score: mean of the metric over images and seeds; NaN if a row of it is undefined.
    """

    number: int
    values: Mapping[str, str]
    score: float

    @property
    def words(self) -> tuple[str, ...]:
        """The setting as words of the command line."""
        return tuple(f"{key}={value}" for key, value in self.values.items())


def search(
    space: Sequence[Parameter],
    n_trials: int,
    seed: int,
    score: Score,
    direction: Direction,
    default: Mapping[str, object] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Runs the trials: Optuna's TPE, by ask and tell.

    Args:
        space: what varies; with nothing to vary there is one trial.
        n_trials: how many settings.
        seed: of the search, not of the noise in the images.
        score: of the words of a setting; NaN where the run diverged, which counts as a trial.
        direction: which scores are better.
        default: values of the first trial, by key; None, or a key that is missing: drawn.
        on_trial: told of each.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(sampler=sampler, direction="maximize" if direction == "higher" else "minimize")
    if space and default:
        study.enqueue_trial(dict(default))
    trials = []
    for number in range(n_trials if space else 1):
        asked = study.ask()
        values = {parameter.key: parameter.suggest(asked) for parameter in space}
        trial = Trial(number, values, score([f"{key}={value}" for key, value in values.items()]))
        if math.isnan(trial.score):
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(asked, trial.score)
        trials.append(trial)
        if on_trial is not None:
            on_trial(trial)
    return trials


def best_of(trials: Sequence[Trial], direction: Direction) -> Trial:
    """The best trial; of equals the first.

    Raises:
        ValueError: no trial has a score.
    """
    scored = [trial for trial in trials if not math.isnan(trial.score)]
    if not scored:
        raise ValueError(f"none of the {len(trials)} settings gave a finite score: narrow the ranges")
    return (max if direction == "higher" else min)(scored, key=lambda trial: trial.score)
