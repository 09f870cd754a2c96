"""Moment matching against dense linear algebra, and against the posterior it claims to sample."""

from functools import partial

import pytest
import torch
from worlds import exact_process, plane, plane_run, setup, tiny_prior

from rbctrl.controllers import Doob, MomentMatching, NoControl, PseudoinverseGuidance, Run
from rbctrl.controllers.base import Setup
from rbctrl.grids import Uniform
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, given
from rbctrl.operators import Identity, Operator
from rbctrl.operators.matrix import Matrix
from rbctrl.priors import GaussianMixture
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.schedules import VP, RectifiedFlow

D, M, SIGMA_Y = 6, 4, 0.2
EYE = partial(torch.eye, dtype=torch.float64)
CONVERGED = MomentMatching(max_steps=50, tol=1e-13)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian():
    """One Gaussian in six dimensions with a full covariance."""
    root = normal(D, D, seed=1) / D**0.5
    return GaussianMixture(VP(), [1.0], normal(1, D, seed=2), (root @ root.T + 0.05 * EYE(D))[None])


def run_of(prior, n, n_steps=50):
    """Four random functionals of x_0, measured once and posed to n rows."""
    rng = ImageRNG(0, tuple(("a", k) for k in range(n)), torch.float64)
    operator = Matrix(normal(M, D, seed=3))
    y = operator(prior.sample(rng.of_items(), "truth")) + SIGMA_Y * normal(1, M, seed=4)
    process = exact_process(prior, n_steps)
    return Run(process, Objective(None, given(operator, GaussianNoise(SIGMA_Y), y)), rng)


def dense(run, x_t, i):
    """x0_hat [D], Cov[x_0 | x_t] [D, D], A and y of one row, from the full Jacobian."""
    process = run.process
    jacobian = torch.autograd.functional.jacobian(
        lambda v: process.prior.predict(v[None], process.times[i]).x0_hat[0], x_t[0]
    )
    x0_hat = process.prior.predict(x_t, process.times[i]).x0_hat[0]
    return x0_hat, process.sigma[i] ** 2 / process.alpha[i] * jacobian, run.obs.operator.matrix, run.obs.y[0]


@pytest.mark.parametrize("i", [0, 15, 25])
def test_on_one_gaussian_the_moved_estimate_is_the_posterior_mean_and_that_of_pigdm_is_not(i):
    prior = gaussian()
    run = run_of(prior, 3)
    x_t = run.process.init(run.rng) + normal(3, D, seed=5)
    exact = prior.predict_given(x_t, run.process.times[i], run.obs).x0_hat
    optimal = Doob()(run, x_t, i, {})[0]
    step = CONVERGED(run, x_t, i, {})[0]
    torch.testing.assert_close(step.est.x0_hat, exact, rtol=0, atol=1e-8)
    torch.testing.assert_close(step.mean, optimal.mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(step.free, optimal.free, rtol=0, atol=1e-8)
    assert (PseudoinverseGuidance()(run, x_t, i, {})[0].est.x0_hat - exact).abs().max() > 1e-2


def test_update_is_the_published_one_on_a_mixture():
    """x0_hat + C A^T (A C A^T + s^2)^-1 (y - A x0_hat) with C = (sigma^2 / alpha) J, where it is no longer exact."""
    prior, i = plane(), 3
    run = plane_run(prior, exact_process(prior, 8), 1)
    x_t = run.process.init(run.rng)
    x0_hat, cov, a, y = dense(run, x_t, i)
    torch.testing.assert_close(cov, cov.T)
    gram = a @ cov @ a.T + run.obs.sigma_y**2 * EYE(1)
    x0 = x0_hat + cov @ a.T @ torch.linalg.solve(gram, y - a @ x0_hat)
    process = run.process
    eps = (x_t[0] - process.alpha[i] * x0) / process.sigma[i]
    c_x0, c_eps, c_z = process.coefficients[i]
    step = CONVERGED(run, x_t, i, {})[0]
    torch.testing.assert_close(step.mean[0], c_x0 * x0 + c_eps * eps, rtol=0, atol=1e-12)
    assert step.std == c_z
    given_y = prior.predict_given(x_t, process.times[i], run.obs).x0_hat[0]
    assert (x0 - given_y).abs().max() > 1e-3


def test_one_iteration_of_conjugate_gradient_as_the_authors_take_has_not_converged():
    """From w = 0 the first iterate is (r.r / r.G r) r."""
    prior, i = gaussian(), 20
    run = run_of(prior, 1)
    x_t = run.process.init(run.rng)
    x0_hat, cov, a, y = dense(run, x_t, i)
    r = y - a @ x0_hat
    gram = a @ cov @ a.T + SIGMA_Y**2 * EYE(M)
    x0 = x0_hat + cov @ a.T @ (r @ r / (r @ gram @ r) * r)
    torch.testing.assert_close(MomentMatching(1)(run, x_t, i, {})[0].est.x0_hat[0], x0, rtol=0, atol=1e-10)
    assert (CONVERGED(run, x_t, i, {})[0].est.x0_hat[0] - x0).abs().max() > 1e-2


def test_an_iteration_costs_one_vjp_and_the_step_one_more():
    for max_steps, vjp in ((1, 2), (3, 4), (50, M + 1)):  # the matrix has M eigenvalues
        run = run_of(gaussian(), 2)
        MomentMatching(max_steps, tol=1e-6)(run, run.process.init(run.rng), 30, {})
        assert (run.process.evaluations.nfe, run.process.evaluations.vjp) == (1, vjp)


def is_posterior(controller, n=1024, n_steps=50):
    """Mean and variances of all coordinates within 5 standard errors + C / n_steps of the exact ones."""
    prior = gaussian()
    run = run_of(prior, n, n_steps)
    mean, variance = (v[0] for v in prior.moments_given(run.obs.take(torch.tensor([0]))))
    x = sample(run, controller).x0_hat
    bias = ((x.mean(0) - mean) / variance.sqrt()).abs().max()
    ratio = x.var(0) / variance
    return bool(bias < 5 / n**0.5 + 2 / n_steps and (ratio - 1).abs().max() < 5 * (2 / n) ** 0.5 + 8 / n_steps)


def test_it_samples_the_posterior_of_one_gaussian_and_pigdm_does_not():
    assert is_posterior(CONVERGED)
    assert not is_posterior(PseudoinverseGuidance())
    assert not is_posterior(NoControl())


class Square(Operator):
    def forward(self, image):
        return image.square()


@pytest.mark.parametrize(
    ("controller", "lacks"), [(MomentMatching(), "linear operator"), (PseudoinverseGuidance(), "pseudo-inverse")]
)
def test_what_cannot_work_is_refused_before_the_run(controller, lacks):
    prior = tiny_prior()
    assert controller.check(setup(prior, Identity())) is None
    assert lacks in controller.check(setup(prior, Square()))
    flow = tiny_prior(RectifiedFlow())

    def on(grid):
        return Setup(ddim(flow, (1,), 4, grid), Identity(), GaussianNoise(0.1), None)

    assert "alpha = 0" in controller.check(on(Uniform()))
    assert controller.check(on(Uniform(t_start=0.999))) is None


@pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"tol": -1e-3}, {"tol": 1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MomentMatching(**wrong)
