import pytest
import torch
from worlds import ONE_GAUSSIAN, image_run, plane, rows, setup

from rbctrl.controllers import DenseMomentMatching, PseudoinverseGuidance
from rbctrl.controllers.resampling import LOG_PSI
from rbctrl.costs import ResidualNorm
from rbctrl.grids import LogSNR
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, given
from rbctrl.operators.inpainting import HalfMask
from rbctrl.operators.matrix import Matrix
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import Run
from rbctrl.schedules import VE, VP, RectifiedFlow
from rbctrl.testing import check_controller


def gaussian_run(schedule, n=5):
    """Three measurements of one Gaussian in the plane."""
    prior = plane(ONE_GAUSSIAN, schedule)
    process = ddim(prior, (2,), 6, LogSNR(-3, 5))
    y = torch.tensor([[0.4, -0.2, 1.0]], dtype=torch.float64).expand(n, 3)
    obs = given(Matrix([[1.0, 0.3], [-0.5, 0.7], [0.2, 2.0]]), GaussianNoise(0.2), y)
    return Run(process, Objective(ResidualNorm(), obs), ImageRNG(0, rows(n), torch.float64))


@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()], ids=["vp", "ve", "flow"])
def test_one_gaussian_is_solved_exactly(schedule):
    run = gaussian_run(schedule)
    prior, i = run.process.prior, 2
    x_t = run.process.init(run.rng)
    exact = prior.predict_given(x_t, run.process.times[i], run.obs).x0_hat
    step, state = DenseMomentMatching()(run, x_t, i, {})
    assert torch.allclose(step.est.x0_hat, exact, rtol=1e-8, atol=1e-10)
    guided, _ = PseudoinverseGuidance()(run, x_t, i, {})
    assert not torch.allclose(guided.est.x0_hat, exact, rtol=1e-2)
    belief, truth = state[LOG_PSI], prior.log_likelihood(x_t, run.process.times[i], run.obs)
    assert torch.allclose(belief - belief[0], truth - truth[0], rtol=1e-8, atol=1e-10)


def test_the_belief_of_guidance_is_a_gaussian_of_its_own_spread():
    run = gaussian_run(VP())
    x_t, i = run.process.init(run.rng), 2
    _, state = PseudoinverseGuidance()(run, x_t, i, {})
    alpha, sigma = run.process.alpha[i], run.process.sigma[i]
    matrix = torch.tensor([[1.0, 0.3], [-0.5, 0.7], [0.2, 2.0]], dtype=torch.float64)
    covariance = sigma**2 / (alpha**2 + sigma**2) * matrix @ matrix.T + 0.04 * torch.eye(3, dtype=torch.float64)
    mean = run.process.prior.predict(x_t, run.process.times[i]).x0_hat @ matrix.T
    expected = torch.distributions.MultivariateNormal(mean, covariance).log_prob(run.obs.y)
    assert torch.allclose(state[LOG_PSI] - state[LOG_PSI][0], expected - expected[0], rtol=1e-9, atol=1e-10)


def test_it_costs_one_vjp_per_measurement():
    run = gaussian_run(VP())
    DenseMomentMatching()(run, run.process.init(run.rng), 2, {})
    assert (run.process.evaluations.nfe, run.process.evaluations.vjp) == (1, 3)


def test_it_passes_the_suite_of_controllers():
    check_controller(DenseMomentMatching(), run=gaussian_run(VP()))


def test_what_cannot_work_is_refused():
    run = image_run(HalfMask())
    with pytest.raises(ValueError, match="192 entries"):
        DenseMomentMatching()(run, run.process.init(run.rng), 0, {})
    start = ddim(plane(), (2,), 4, LogSNR(-4, 6))
    start.alpha[0] = 0.0
    refused = setup(plane(), Matrix([[1.0, 0.0]]))
    object.__setattr__(refused, "process", start)
    assert "alpha = 0" in DenseMomentMatching().check(refused)
