"""The best of several restarts, for problems that a method solves on some of its tries, such as phase retrieval.

The best sample is the one of the least residual |y - A(x)| over the measured entries: y decides, not the truth.
Every restart keeps its own row; these scores stand in the row of the mean.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rbctrl.controllers.base import Setup
from rbctrl.metrics.base import Draws, Metric, SampleMetric
from rbctrl.observation import Observation


class Residual(Metric):
    """Root mean square of y - A(x) over the measured entries, in units of y."""

    def __call__(self, image: Tensor, truth: Tensor | None, obs: Observation) -> Tensor:
        """[B]; the truth is not used."""
        squares = obs.residual(image).detach().square()
        observed = obs.operator.observed
        if observed is not None:
            squares = torch.where(observed > 0, squares, 0.0)
        return (squares.flatten(1).sum(1) / obs.n_measured).sqrt()


class BestOf(SampleMetric):
    """The score of the sample of least residual among all finite samples of one image; of equal ones the first.

    Args:
        metric: of that sample. `Residual` names the row it stands in.
    """

    def __init__(self, metric: Metric) -> None:
        if not isinstance(metric, Metric):
            raise TypeError(f"BestOf takes a metric of single images, such as PSNR, got a {type(metric).__name__}")
        self.metric = metric

    def check(self, setup: Setup) -> str | None:
        return self.metric.check(setup)

    def __call__(self, draws: Draws) -> float:
        """The score; NaN if no sample is finite."""
        if not len(draws.samples):
            return math.nan
        everyone = draws.obs.take(torch.zeros(len(draws.samples), dtype=torch.long))
        best = draws.samples[int(Residual()(draws.samples, None, everyone).argmin())][None]
        truth = None if draws.truth is None else draws.truth[None].to(best)
        return float(self.metric(best, truth, draws.obs)[0])
