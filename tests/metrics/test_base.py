"""Kinds of metrics: what is none is refused, what cannot be computed too, sums follow the paths they belong to."""

import dataclasses
import math

import pytest
import torch
from worlds import exact_process, plane, plane_run, setup, tiny_prior

from rbctrl.controllers import NoControl, Particles, PseudoinverseGuidance
from rbctrl.metrics import (
    PSNR,
    ControlError,
    CovarianceError,
    Coverage,
    Excess,
    Floor,
    MeanError,
    ModeWeightTV,
    PathMetric,
    Price,
    SlicedWasserstein,
    Surprise,
    VarianceRatio,
    check_metrics,
)
from rbctrl.metrics.base import PathScores
from rbctrl.noise import GaussianNoise, PoissonNoise
from rbctrl.operators import Identity
from rbctrl.operators.matrix import Matrix
from rbctrl.sampling import sample

AGAINST_THE_POSTERIOR = [
    MeanError(),
    VarianceRatio(),
    CovarianceError(),
    SlicedWasserstein(),
    ModeWeightTV(),
    Floor(SlicedWasserstein()),
    Excess(),
    Surprise(),
    ControlError(),
]


@pytest.mark.parametrize("metric", AGAINST_THE_POSTERIOR, ids=lambda m: type(m).__name__)
def test_an_unknown_posterior_is_refused_before_anything_is_sampled(metric):
    matrix = Matrix([[1.0, 0.0]])
    with pytest.raises(ValueError, match="metrics.mine cannot be computed: .*PoissonNoise"):
        check_metrics({"mine": metric}, setup(plane(), matrix, PoissonNoise()))
    check_metrics({"mine": metric}, setup(plane(), matrix, GaussianNoise(0.1)))
    check_metrics({"mine": metric}, setup(tiny_prior(), Identity(), PoissonNoise()))  # NaN there, as documented


def test_metrics_that_need_no_posterior_take_any_noise():
    check_metrics({"c": Coverage(), "p": Price(), "psnr": PSNR()}, setup(plane(), Matrix([[1.0, 0.0]]), PoissonNoise()))


def test_what_is_no_metric_is_refused_by_name():
    somewhere = setup(plane(), Matrix([[1.0, 0.0]]))
    with pytest.raises(TypeError, match="metrics.psnr is the class PSNR, and not an instance of"):
        check_metrics({"psnr": PSNR}, somewhere)
    with pytest.raises(TypeError, match="metrics.mine is a function"):
        check_metrics({"mine": lambda image, truth, obs: image}, somewhere)
    with pytest.raises(TypeError, match="got a list"):
        check_metrics([PSNR()], somewhere)


def test_the_sum_over_the_steps_is_that_of_the_path_a_row_ended_as():
    prior = plane()
    run = plane_run(prior, exact_process(prior, 12), 32)
    for controller in (NoControl(), Particles(PseudoinverseGuidance(), 16, threshold=1.0)):
        began, start = both_ways(run, controller)
        torch.testing.assert_close(began, start)
    assert len(start[:16].unique()) < 16  # paths were resampled


def both_ways(run, controller):
    """The first coordinate of x_T of the path that each row ended as: by its metric, and from the rows of each step."""
    watch, taken = PathScores({"began": Began()}), []
    add = watch.hook(run)
    result = sample(run, controller, lambda i, x_t, step: (add(i, x_t, step), taken.append(step.rows)))
    start = run.process.init(run.rng)[:, 0]
    for rows in [*taken, result.rows]:
        start = start if rows is None else start[rows]
    return watch.finish(run, controller, result)["began"], start


@dataclasses.dataclass(frozen=True)
class Began(PathMetric):
    """The first coordinate of x_T, as the first step sees it."""

    def step(self, run, i, x_t, step):
        return x_t[:, 0] if i == 0 else None

    def __call__(self, run, controller, result, total):
        return total if isinstance(total, torch.Tensor) else torch.full_like(result.control_energy, math.nan)
