"""Doob's control reaches the exact posterior on mixtures; half of it and no control do not.

Bounds are stated before the numbers: 5 standard errors + C / n_steps.
"""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor
from worlds import MODES, ONE_GAUSSIAN, exact_process, excess, plane, plane_run

from rbctrl.controllers import Controller, Doob, NoControl, PseudoinverseGuidance, RBModulationProx
from rbctrl.process import Step
from rbctrl.schedules import VE, VP, RectifiedFlow

N, STEPS = 1024, 50
SCHEDULES = {"vp": VP(), "ve": VE(), "flow": RectifiedFlow()}
WORLDS = {"one": ONE_GAUSSIAN, "three": MODES}


@dataclass(frozen=True)
class HalfDoob(Controller):
    """Half of the optimal control: the negative control of every test here."""

    def __call__(self, run, x_t, i, state):
        step, state = Doob()(run, x_t, i, state)
        return Step(step.est, (step.mean + step.free) / 2, step.std, step.free), state


@cache
def measured(schedule: str, world: str, controller: Controller) -> tuple[Tensor, Tensor]:
    """Excess of each row and x_0, [N] and [N, 2]; each setting runs once for all tests."""
    prior = plane(WORLDS[world], SCHEDULES[schedule])
    value, _, x_0 = excess(prior, plane_run(prior, exact_process(prior, STEPS), N), controller)
    return value, x_0


def posterior(world: str) -> tuple[Tensor, Tensor, Tensor]:
    prior = plane(WORLDS[world])
    return tuple(v[0] for v in prior.posterior(plane_run(prior, exact_process(prior, 2), 1).obs))


def coordinate_is_posterior(schedule: str, world: str, controller: Controller) -> bool:
    """Mean and variance of the measured coordinate, within 5 s.e. + C / n."""
    w, means, covariances = posterior(world)
    mean = (w[:, None] * means).sum(0)[0]
    variance = (w * (covariances[:, 0, 0] + (means[:, 0] - mean).square())).sum()
    x = measured(schedule, world, controller)[1][:, 0]
    mean_ok = abs(x.mean() - mean) < 5 * x.std() / N**0.5 + variance.sqrt() / STEPS
    variance_ok = abs(x.var() / variance - 1) < 5 * (2 / N) ** 0.5 + 8 / STEPS
    return bool(mean_ok and variance_ok)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_doob_samples_the_posterior_and_half_of_it_does_not(schedule, world):
    assert coordinate_is_posterior(schedule, world, Doob())
    assert not coordinate_is_posterior(schedule, world, HalfDoob())
    assert not coordinate_is_posterior(schedule, world, NoControl())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_doob_has_the_mode_weights_of_the_posterior_and_the_prior_does_not(schedule):
    w, means, covariances = posterior("three")

    def total_variation(controller):
        x_0 = measured(schedule, "three", controller)[1]
        density = torch.distributions.MultivariateNormal(means, covariances).log_prob(x_0[:, None]) + w.log()
        return float((density.softmax(1).mean(0) - w).abs().sum() / 2)

    bound = 5 * (0.25 / N) ** 0.5 + 2 / STEPS
    assert total_variation(Doob()) < bound < total_variation(NoControl())


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_excess_of_doob_vanishes_and_that_of_others_does_not(schedule, world):
    def mean_and_error(controller):
        value = measured(schedule, world, controller)[0]
        return float(value.mean()), float(value.std()) / N**0.5

    best, error = mean_and_error(Doob())
    assert -4 * error - 2 / STEPS < best < 4 * error + 15 / STEPS
    for controller in (HalfDoob(), NoControl()):
        value, error = mean_and_error(controller)
        assert value > best + 4 * error


@pytest.mark.parametrize("controller", [PseudoinverseGuidance(), RBModulationProx(), HalfDoob()])
def test_no_controller_beats_the_optimal_one(controller):
    value, _ = measured("vp", "three", controller)
    assert value.mean() > -4 * value.std() / N**0.5 - 2 / STEPS


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_excess_falls_as_one_over_n(schedule):
    prior = plane(MODES, SCHEDULES[schedule])
    values = {}
    for n_steps in (50, 200):
        run = plane_run(prior, exact_process(prior, n_steps), 4096)
        value = excess(prior, run, Doob())[0]
        values[n_steps] = (float(value.mean()), float(value.std()) / 4096**0.5)
    assert values[200][0] < values[50][0]
    assert abs(values[200][0]) < 4 * values[200][1] + 15 / 200
