"""Running costs: what a path costs on its way."""

import pytest
import torch
from torch.autograd import gradcheck
from worlds import ONE_GAUSSIAN, exact_process, plane, plane_run

from rbctrl.codecs import Codec
from rbctrl.controllers.base import Run
from rbctrl.costs import OutOfRange, ResidualNorm, RunningCost
from rbctrl.grids import LogSNR
from rbctrl.observation import Evaluations, Objective
from rbctrl.rng import ImageRNG

RNG = ImageRNG(0, tuple((str(k), 0) for k in range(3)), torch.float64)
T = torch.tensor(0.5, dtype=torch.float64)


def with_running(run, cost):
    objective = Objective(run.objective.cost, run.obs, run.objective.codec, run.objective.evaluations, cost)
    return Run(run.process, objective, run.rng)


def image():
    return 3 * RNG.uniform("image", (3, 4, 4)) - 1.5


def test_out_of_range_is_the_mean_square_of_the_excess():
    x = torch.tensor([[[[0.5, -1.0]]], [[[1.2, -1.4]]]], dtype=torch.float64)
    cost = OutOfRange(weight=2.0)(x, x, T, None)
    torch.testing.assert_close(cost, torch.tensor([0.0, 2 * (0.04 + 0.16) / 2], dtype=torch.float64))


def test_out_of_range_keeps_rows_apart_and_has_the_gradient_of_finite_differences():
    cost, x = OutOfRange(), image()
    whole = cost(x, x, T, None)
    for k in range(3):
        torch.testing.assert_close(cost(x[k : k + 1], x[k : k + 1], T, None), whole[k : k + 1])
    assert gradcheck(lambda v: cost(v, v, T, None), (x.requires_grad_(),))


class One(RunningCost):
    def forward(self, x_t, image, t, obs):
        return torch.ones_like(x_t[:, 0])


def test_a_constant_cost_adds_up_to_the_time_that_passes_on_any_grid():
    prior = plane(ONE_GAUSSIAN)
    for n_steps in (4, 9):
        process = exact_process(prior, n_steps, LogSNR(-4.0, 8.0))
        run = with_running(plane_run(prior, process, 3), One())
        x_t = process.init(run.rng)
        total = sum(run.running_cost(i, x_t) for i in range(n_steps))
        passed = float(process.times[0] - process.times[-1])
        torch.testing.assert_close(total, torch.full_like(total, passed))
        assert abs(passed - n_steps) > 1  # without dt it would be the number of steps


def test_it_is_that_of_the_prior_s_estimate_and_counts_as_no_evaluation():
    prior = plane(ONE_GAUSSIAN)
    process = exact_process(prior, 4)
    run = with_running(plane_run(prior, process, 3), OutOfRange(-0.1, 0.1))
    x_t = process.init(run.rng)
    cost = run.running_cost(2, x_t)
    assert process.evaluations.nfe == 0
    est = process.estimate(x_t, 2)
    assert torch.equal(run.running_cost(2, x_t, est), cost)
    beyond = (est.x0_hat.abs() - 0.1).clamp(min=0).square().mean(1)
    torch.testing.assert_close(cost, beyond * (process.times[2] - process.times[3]))
    assert (cost > 0).all()


def test_without_one_nothing_is_added():
    prior = plane(ONE_GAUSSIAN)
    run = plane_run(prior, exact_process(prior, 4), 3)
    assert torch.equal(run.running_cost(1, run.process.init(run.rng)), torch.zeros(3).double())


class Twice(Codec):
    def encode(self, image):
        return image / 2

    def decode(self, x0):
        return 2 * x0


def test_it_sees_decoded_images_and_counts_the_decoder_s_gradients():
    objective = Objective(ResidualNorm(), None, Twice(), Evaluations(), OutOfRange())
    latent = image().requires_grad_()
    cost = objective.running_cost(latent, latent, T)
    torch.testing.assert_close(cost, OutOfRange()(latent, 2 * latent, T, None))
    assert not torch.allclose(cost, OutOfRange()(latent, latent, T, None))
    cost.sum().backward()
    assert objective.evaluations.decoder_vjp == 1


def test_rows_keep_their_running_cost():
    prior = plane(ONE_GAUSSIAN)
    run = with_running(plane_run(prior, exact_process(prior, 4), 3), OutOfRange(-0.1, 0.1))
    x_t = run.process.init(run.rng)
    row = torch.tensor([1])
    torch.testing.assert_close(run.take(row).running_cost(0, x_t[row]), run.running_cost(0, x_t)[row])


def test_an_empty_range_and_a_weight_of_zero_are_refused():
    with pytest.raises(ValueError, match="low < high"):
        OutOfRange(1.0, -1.0)
    with pytest.raises(ValueError, match="weight"):
        OutOfRange(weight=0.0)
