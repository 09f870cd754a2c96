"""The suites for other people's parts: ours pass, broken ones are named."""

from dataclasses import dataclass

import pytest
import torch
from controllers.cases import EXACT, LATENT, PIXEL, WITHOUT_NOISE

from rbctrl.controllers import DPS, NoControl
from rbctrl.controllers.base import Controller
from rbctrl.costs import Cost, ResidualNorm
from rbctrl.priors import NetworkPrior
from rbctrl.process import Step
from rbctrl.schedules import VE, VP
from rbctrl.testing import CheckError, check_controller, check_cost, check_prior
from rbctrl.testing.report import as_text
from rbctrl.testing.worlds import UnitGaussian, unit_prior


@pytest.mark.parametrize("name", {**PIXEL, **EXACT, **LATENT, **WITHOUT_NOISE})
def test_our_controllers_pass(name):
    checks = [check for check, _ in check_controller((PIXEL | EXACT | LATENT | WITHOUT_NOISE)[name])]
    assert "latent: rows" in checks or name not in LATENT


class WholeBatch(Cost):
    def forward(self, image, obs):
        return obs.residual(image).square().mean().expand(len(image))


class Scalar(Cost):
    def forward(self, image, obs):
        return image.square().mean()


class Detached(Cost):
    def forward(self, image, obs):
        return image.detach().square().flatten(1).mean(1)


class HalfGradient(Cost):
    def forward(self, image, obs):
        return (image * image.detach()).flatten(1).mean(1)


@pytest.mark.parametrize(
    ("cost", "word"),
    [(WholeBatch(), "rows"), (Scalar(), "one number"), (Detached(), "no gradient"), (HalfGradient(), "slope")],
)
def test_broken_costs_are_named(cost, word):
    with pytest.raises(CheckError, match=word):
        check_cost(cost)


def test_a_cost_of_ours_passes():
    names = [name for name, _ in check_cost(ResidualNorm())]
    assert {"rows", "slope", "fp32"} <= set(names)


class NotFrozen(Controller):
    def __call__(self, run, x_t, i, state):
        return run.push(run.process.estimate(x_t, i), i), state


@dataclass(frozen=True)
class Mixing(Controller):
    def __call__(self, run, x_t, i, state):
        est = run.process.estimate(x_t, i)
        return run.push(est, i, 0.1 * est.x0_hat.mean(0, keepdim=True)), state


@dataclass(frozen=True)
class Leaky(Controller):
    def __call__(self, run, x_t, i, state):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            return run.push(run.process.estimate(x, i), i), state


@dataclass(frozen=True)
class Explosive(Controller):
    def __call__(self, run, x_t, i, state):
        step, state = NoControl()(run, x_t, i, state)
        return Step(step.est, step.mean / 0, step.std, step.free), state


@pytest.mark.parametrize(
    ("controller", "word"),
    [(NotFrozen(), "frozen"), (Mixing(), "rows"), (Leaky(), "graph"), (Explosive(), "non-finite")],
)
def test_broken_controllers_are_named(controller, word):
    with pytest.raises(CheckError, match=word):
        check_controller(controller)
    assert check_controller(DPS(0.1))


class BatchStatistic(torch.nn.Module):
    def forward(self, x, sigma):
        return x / (1 + sigma.square().view(-1, 1, 1, 1)) - 0.1 * x.mean()


def test_a_prior_with_a_batch_statistic_is_named():
    prior = NetworkPrior(
        BatchStatistic(), parameterization="x0", time_input="sigma", network_schedule=VE(), value_range=(-1, 1)
    )
    with pytest.raises(CheckError, match="alone is denoised otherwise"):
        check_prior(prior)


def test_a_check_that_is_repeated_is_one_line_with_its_largest_value():
    report = [("rows", 0.0), ("rows", 0.5), ("rows", 0.25), ("fp32", 1e-7), ("psnr at 0.1", 20.0)]
    lines = as_text(report).splitlines()
    assert [line.split() for line in lines] == [["level", "psnr"], ["0.1", "20"], ["rows", "0.5"], ["fp32", "1e-07"]]


def test_the_unit_gaussian_is_exact():
    t = torch.tensor(0.4, dtype=torch.float64)
    x_t = torch.linspace(-1, 1, 12, dtype=torch.float64).view(1, 3, 2, 2)
    alpha = float(VP().levels(t)[0])
    torch.testing.assert_close(unit_prior().predict(x_t, t).x0_hat, alpha * x_t)
    assert UnitGaussian()(x_t, torch.tensor([0.0])).equal(x_t)
