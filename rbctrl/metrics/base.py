"""What a metric has to offer: one number per image, never one per batch.

There are three kinds, told apart by what they look at: an image (`Metric`), the controlled path that made it
(`PathMetric`), and all samples of one image together (`SampleMetric`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup
from rbctrl.observation import Observation
from rbctrl.priors.base import ExactPrior, Prior
from rbctrl.process import Step
from rbctrl.rng import ImageRNG
from rbctrl.sampling import OnStep, Result


class _Score:
    def check(self, setup: Setup) -> str | None:
        """Why this score cannot be computed, in one sentence; None if it can. Asked before weights are loaded."""
        return None


class Metric(_Score, ABC):
    """(image, truth, observation) to [B]; NaN where it is undefined."""

    @abstractmethod
    def __call__(self, image: Tensor, truth: Tensor | None, obs: Observation) -> Tensor:
        """Scores images [B, C, H, W] in [-1, 1] against a truth of the same shape or None, [B]."""


class FullReference(Metric):
    """A metric that compares with the truth: NaN without one, and where image or truth is not finite.

    Values beyond [-1, 1] are clamped first, as they are in the saved picture. Computed in fp64, image by image, so that
    a score does not depend on the batch.
    """

    def __call__(self, image: Tensor, truth: Tensor | None, obs: Observation) -> Tensor:
        """Scores row by row; raises ValueError if the shapes of image and truth differ."""
        if truth is None:
            return image.new_full((len(image),), math.nan)
        if image.shape != truth.shape:
            raise ValueError(f"the image has shape {list(image.shape)} and the truth {list(truth.shape)}: one is wrong")
        scores = [self._score(a, b) for a, b in zip(image.detach(), truth.detach(), strict=True)]
        return torch.tensor(scores, dtype=image.dtype, device=image.device)

    @abstractmethod
    def compare(self, image: Tensor, truth: Tensor) -> Tensor:
        """The score of one finite, clamped image against one truth, both [1, C, H, W], fp64; a scalar."""

    def _score(self, image: Tensor, truth: Tensor) -> float:
        if not (image.isfinite().all() and truth.isfinite().all()):
            return math.nan
        return float(self.compare(image[None].double().clamp(-1, 1), truth[None].double().clamp(-1, 1)))


class PathMetric(_Score, ABC):
    """Scores what a run did: (run, controller, result) to [B]; NaN where it is undefined.

    Where paths are resampled (populations), the sum over the steps is that along the ancestors of the path that a row
    ended as.
    """

    def step(self, run: Run, i: int, x_t: Tensor, step: Step) -> Tensor | None:
        """What step i from x_t adds, [B]; None (the default) if only the end counts."""
        return None

    @abstractmethod
    def __call__(self, run: Run, controller: Controller, result: Result, total: Tensor | float) -> Tensor:
        """The score [B]; `total` is the sum of what the steps added, [B], or 0.0 if they added nothing."""


class PathScores:
    """Gathers path metrics over one run."""

    def __init__(self, metrics: Mapping[str, PathMetric]) -> None:
        self.metrics = metrics
        self._totals: dict[str, Tensor | float] = dict.fromkeys(metrics, 0.0)

    def hook(self, run: Run) -> OnStep | None:
        """What `sample` calls after each step; None if there is nothing to gather."""
        return partial(self._add, run) if self.metrics else None

    def finish(self, run: Run, controller: Controller, result: Result) -> dict[str, Tensor]:
        """The scores [B], by name."""
        self._follow(result.rows)
        return {name: metric(run, controller, result, self._totals[name]) for name, metric in self.metrics.items()}

    def _add(self, run: Run, i: int, x_t: Tensor, step: Step) -> None:
        self._follow(step.rows)
        for name, metric in self.metrics.items():
            added = metric.step(run, i, x_t, step)
            if added is not None:
                self._totals[name] = self._totals[name] + added

    def _follow(self, rows: Tensor | None) -> None:
        """Each row goes on with the path of `rows`."""
        if rows is not None:
            totals = self._totals.items()
            self._totals = {name: total[rows] if isinstance(total, Tensor) else total for name, total in totals}


@dataclass(frozen=True, eq=False)
class Draws:
    """All samples of one image.

    Attributes:
        samples: [n, *shape], the finite ones; not clamped.
        truth: [*shape] or None.
        obs: their observation, one row.
        prior: what they were drawn with.
        rng: one row, the image's own streams.
        drawn: exact samples that a metric asked for, kept for the next one; `replace` hands them on.
    """

    samples: Tensor
    truth: Tensor | None
    obs: Observation
    prior: Prior
    rng: ImageRNG
    drawn: dict[tuple[object, ...], Tensor] = field(default_factory=dict)

    @property
    def states(self) -> Tensor:
        """The samples as the prior sees them, [n, *state shape]: latents, where it is a latent prior."""
        return self.prior.codec.encode(self.samples)

    def posterior(self, n: int, key: str = "metric/exact") -> Tensor:
        """n exact samples, as images [n, *shape], for priors that know p(x_0 | y) (`ExactPrior`); drawn once."""
        name = (n, key, self.obs, self.prior, self.rng)
        if name not in self.drawn:
            item = self.rng.rows[0][0]
            rng = replace(self.rng, rows=tuple((item, k) for k in range(n)))
            x_0 = self.prior.sample_given(self.obs.take(torch.zeros(n, dtype=torch.long)), rng, key)
            self.drawn[name] = self.prior.codec.render(x_0, rng)
        return self.drawn[name]


class SampleMetric(_Score, ABC):
    """Scores all samples of one image together; NaN where it is undefined."""

    @abstractmethod
    def __call__(self, draws: Draws) -> float:
        """The score."""


AnyMetric = Metric | PathMetric | SampleMetric
Kind = TypeVar("Kind", Metric, PathMetric, SampleMetric)


def check_metrics(metrics: Mapping[str, AnyMetric], setup: Setup) -> None:
    """Refuses what is no metric, and what cannot be computed here, before weights are loaded.

    Raises:
        TypeError: the metrics are no mapping, or one of them is none.
        ValueError: the reason of a metric.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics are a mapping by name, {{'psnr': PSNR()}}; got a {type(metrics).__name__}")
    for name, metric in metrics.items():
        if not isinstance(metric, _Score):
            what = f"the class {metric.__name__}" if isinstance(metric, type) else f"a {type(metric).__name__}"
            raise TypeError(f"metrics.{name} is {what}, and not an instance of Metric, PathMetric or SampleMetric")
        if (reason := metric.check(setup)) is not None:
            raise ValueError(f"metrics.{name} cannot be computed: {reason}")


def needs_posterior(setup: Setup) -> str | None:
    """The reason if the prior knows posteriors, but not that of such a measurement."""
    known = isinstance(setup.prior, ExactPrior)
    return setup.prior.check(setup.operator, setup.noise) if known else None


def of_kind(metrics: Mapping[str, AnyMetric], kind: type[Kind]) -> dict[str, Kind]:
    """The metrics of one kind, by name."""
    return {name: metric for name, metric in metrics.items() if isinstance(metric, kind)}
