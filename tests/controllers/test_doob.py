"""The optimal control: exact at any number of steps on one Gaussian, with its exact variance."""

import pytest
import torch
from worlds import ONE_GAUSSIAN, exact_process, plane, plane_run, setup, tiny_prior

from rbctrl.controllers import Doob
from rbctrl.noise import GaussianNoise, NoNoise, PoissonNoise
from rbctrl.operators.base import Operator
from rbctrl.operators.matrix import Matrix
from rbctrl.priors import Empirical
from rbctrl.sampling import sample
from rbctrl.schedules import VE, VP, RectifiedFlow


@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()])
def test_mean_is_that_of_the_conditional_process(schedule):
    """Spec 1.4 (*): x0_hat + S A^T (A S A^T + s^2)^-1 (y - A x0_hat) with S = Cov[x_0 | x_t]."""
    prior = plane(ONE_GAUSSIAN, schedule)
    run = plane_run(prior, exact_process(prior, 8), 4)
    i = 3
    x_t = run.process.init(run.rng)
    alpha, sigma = run.process.alpha[i], run.process.sigma[i]
    m, c = prior.means[0], prior.covariances[0]
    p = alpha**2 * c + sigma**2 * torch.eye(2, dtype=torch.float64)
    x0_hat = m + alpha * (x_t - alpha * m) @ torch.linalg.inv(p) @ c
    s = c - alpha**2 * c @ torch.linalg.inv(p) @ c
    gain = s[:, 0] / (s[0, 0] + run.obs.sigma_y**2)
    given = x0_hat + (run.obs.y - x0_hat[:, :1]) * gain
    step, _ = Doob()(run, x_t, i, {})
    torch.testing.assert_close(step.est.x0_hat, given, rtol=0, atol=1e-10)


def test_exact_variance_samples_the_posterior_of_one_gaussian_in_five_steps():
    prior = plane(ONE_GAUSSIAN)
    n = 4000
    run = plane_run(prior, exact_process(prior, 5), n)
    truth = float(prior.posterior(run.obs)[2][0, 0, 0, 0])
    alpha, sigma = run.process.alpha[-1], run.process.sigma[-1]
    ratios = {}
    for exact in (True, False):
        x_0 = sample(run, Doob(exact)).x[:, 0] / alpha
        ratios[exact] = float(x_0.var()) / (truth + (sigma / alpha) ** 2)
    bound = 5 * (2 / n) ** 0.5
    assert abs(ratios[True] - 1) < bound
    assert abs(ratios[False] - 1) > bound  # without it five steps are far too few


def test_a_prior_without_a_posterior_is_refused():
    assert "closed form" in Doob().check(setup(tiny_prior(), Matrix([[1.0]])))
    assert Doob().check(setup(plane(), Matrix([[1.0, 0.0]]))) is None


class Square(Operator):
    def forward(self, image):
        return image.square()


def test_a_measurement_whose_posterior_the_prior_does_not_know_is_refused():
    """A mixture wants a linear operator and Gaussian noise; a finite set of images wants a likelihood."""
    matrix = Matrix([[1.0, 0.0]])
    images = Empirical(VP(), torch.eye(2, dtype=torch.float64))
    for prior, operator, noise, reason in (
        (plane(), matrix, PoissonNoise(50.0), "Gaussian noise, not PoissonNoise: use noise=gaussian"),
        (plane(), matrix, NoNoise(), "Gaussian noise, not NoNoise"),
        (plane(), Square(), GaussianNoise(0.1), "linear operators, and Square is not one"),
        (images, Square(), NoNoise(), "NoNoise leaves undefined: use noise=gaussian"),
    ):
        assert reason in Doob().check(setup(prior, operator, noise))
    for noise in (GaussianNoise(0.1), PoissonNoise(50.0)):
        assert Doob().check(setup(images, Square(), noise)) is None
