import torch
from worlds import ONE_GAUSSIAN, exact_process, plane, plane_run

from rbctrl.controllers import PseudoinverseGuidance
from rbctrl.sampling import sample


def test_update_is_the_published_score():
    """g = J^T A^T (r^2 A A^T + s^2)^-1 (y - A x0_hat); x_s is the DDPM step of x0_hat + (sigma^2 / alpha) g."""
    prior = plane()
    run = plane_run(prior, exact_process(prior, 8), 3)
    process, i = run.process, 3
    x_t = process.init(run.rng)
    step, _ = PseudoinverseGuidance()(run, x_t, i, {})
    for k in range(3):
        x = x_t[k : k + 1].clone()
        jacobian = torch.autograd.functional.jacobian(
            lambda v: process.prior.predict(v[None], process.times[i]).x0_hat[0], x[0]
        )
        x0 = process.prior.predict(x, process.times[i]).x0_hat[0]
        spread = 1 - process.alpha[i] ** 2
        g = jacobian[0] * (run.obs.y[k, 0] - x0[0]) / (spread + run.obs.sigma_y**2)  # A = (1, 0)
        x0 = x0 + process.sigma[i] ** 2 / process.alpha[i] * g
        eps = (x[0] - process.alpha[i] * x0) / process.sigma[i]
        c_x0, c_eps, _ = process.coefficients[i]
        torch.testing.assert_close(step.mean[k], c_x0 * x0 + c_eps * eps, rtol=0, atol=1e-12)


def test_on_a_standard_normal_it_is_the_exact_posterior_mean():
    """Its model is x_0 | x_t ~ N(x0_hat, r^2 I): true for a unit Gaussian, wrong for a narrow one."""
    unit = ([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
    for parts, exact in ((unit, True), (ONE_GAUSSIAN, False)):
        prior = plane(parts)
        run = plane_run(prior, exact_process(prior, 8), 3)
        x_t = run.process.init(run.rng)
        step, _ = PseudoinverseGuidance()(run, x_t, 3, {})
        given = prior.predict_given(x_t, run.process.times[3], run.obs).x0_hat
        assert torch.allclose(step.est.x0_hat, given, atol=1e-10) is exact


def test_scale_zero_is_no_control():
    prior = plane()
    run = plane_run(prior, exact_process(prior, 5), 3)
    assert (sample(run, PseudoinverseGuidance(0.0)).control_energy == 0).all()
