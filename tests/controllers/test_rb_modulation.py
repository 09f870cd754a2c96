"""RB-Modulation against its released loop, written out, and its limits."""

import pytest
import torch
from worlds import image_run, setup

from rbctrl.controllers import NoControl, Proximal, RBModulation, RBModulationProx
from rbctrl.costs import GaussianNLL
from rbctrl.operators.base import Operator
from rbctrl.operators.matrix import Matrix
from rbctrl.sampling import sample


class LeftHalf(Operator):
    def forward(self, image):
        return image[..., :4]


@pytest.mark.parametrize("eps_mode", ["frozen", "recomputed"])
@pytest.mark.parametrize("prox_weight", [0.0, 1.0])
def test_update_is_the_released_loop(eps_mode, prox_weight):
    """Algorithm 2 with torch.optim.Adam, lr decayed by 1 - i/N, a fresh optimiser in each step; one image at a time."""
    run = image_run(LeftHalf(), n=2, n_steps=5)
    process, lr, inner = run.process, 0.1, 3
    ours = sample(run, RBModulation(inner, lr, prox_weight, eps_mode))
    for row in range(2):
        one = run.take(torch.tensor([row]))
        y, rng = one.obs.y, one.rng
        x = process.sigma[0] * rng.normal("init", (3, 8, 8))
        for i in range(5):
            a, b, a_next, b_next = process.alpha[i], process.sigma[i], process.alpha[i + 1], process.sigma[i + 1]
            x0_hat = process.prior.predict(x, process.times[i]).x0_hat.detach()
            eps = (x - a * x0_hat) / b
            z = x0_hat.clone().requires_grad_()
            optimizer = torch.optim.Adam([z], lr=lr * (1 - i / 5))
            for _ in range(inner):
                optimizer.zero_grad()
                loss = (y - z[..., :4]).square().sum().sqrt() + prox_weight * torch.nn.functional.mse_loss(z, x0_hat)
                loss.backward()
                optimizer.step()
            z = z.detach()
            if eps_mode == "recomputed":
                eps = (x - a * z) / b
            s = b_next * (1 - (a * b_next / (a_next * b)) ** 2) ** 0.5  # eta = 1
            x = a_next * z + (b_next**2 - s**2) ** 0.5 * eps + s * rng.normal(f"step/{i}", (3, 8, 8))
        torch.testing.assert_close(ours.x[row : row + 1], x, rtol=0, atol=1e-10)
        torch.testing.assert_close(ours.x0_hat[row : row + 1], z, rtol=0, atol=1e-10)


def matrix_run(n_steps=6):
    from worlds import exact_process, plane, plane_run

    prior = plane()
    return plane_run(prior, exact_process(prior, n_steps), 5, GaussianNLL())


@pytest.mark.parametrize("eps", ["frozen", "recomputed"])
def test_many_small_steps_on_a_quadratic_cost_reach_the_closed_form(eps):
    """cost |r|^2 / (2 s^2) + w mean |x0 - x0_hat|^2 has its minimum at prox with rho = 2 w s^2 / D."""
    run = matrix_run()
    process, w = run.process, 3.0
    x_t = process.init(run.rng)
    i = 3
    step, _ = RBModulation(inner_steps=4000, lr=0.004, prox_weight=w, eps=eps)(run, x_t, i, {})
    est = process.estimate(x_t, i)
    closed = run.obs.operator.prox(est.x0_hat, run.obs.y, 2 * w * run.obs.sigma_y**2 / 2)
    torch.testing.assert_close(step.est.x0_hat, closed, rtol=0, atol=1e-4)
    assert not torch.allclose(est.x0_hat, closed, atol=1e-2)
    torch.testing.assert_close(step.mean, run.replace_x0(est, i, closed, eps).mean, rtol=0, atol=1e-4)


def test_closed_form_is_the_written_formula():
    """x0_hat + g A^T (I + g A A^T)^-1 (y - A x0_hat), spec 8.1."""
    run, i, strength = matrix_run(), 2, 0.7
    process = run.process
    x_t = process.init(run.rng)
    step, _ = RBModulationProx(strength=strength)(run, x_t, i, {})
    est = process.estimate(x_t, i)
    alpha_bar = process.alpha[i] ** 2  # VP
    g = strength * (1 - alpha_bar) / run.obs.sigma_y**2
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    gram = torch.linalg.inv(torch.eye(1, dtype=torch.float64) + g * a @ a.T)
    residual = run.obs.y - est.x0_hat @ a.T
    written = est.x0_hat + g * residual @ gram.T @ a
    torch.testing.assert_close(step.est.x0_hat, written, rtol=0, atol=1e-12)


def test_closed_form_is_diffpir_with_its_weight():
    """g = (1 - alpha_bar) / s^2 is rho = w (s alpha / sigma)^2 with w = 1 / alpha^2: equal at one step."""
    run, i = matrix_run(), 4
    x_t = run.process.init(run.rng)
    ours, _ = RBModulationProx(strength=1.0, eps="recomputed")(run, x_t, i, {})
    theirs, _ = Proximal(weight=1 / run.process.alpha[i] ** 2)(run, x_t, i, {})
    torch.testing.assert_close(ours.mean, theirs.mean)


def test_no_control_is_the_limit_of_a_vanishing_learning_rate():
    run = image_run(LeftHalf())
    free = sample(run, NoControl()).x
    torch.testing.assert_close(sample(run, RBModulation(lr=1e-13)).x, free, rtol=0, atol=1e-11)
    assert not torch.allclose(sample(run, RBModulation()).x, free, atol=1e-2)


@pytest.mark.parametrize("setting", [{"inner_steps": 0}, {"inner_steps": -1}, {"lr": 0.0}, {"lr": -0.1}])
def test_settings_without_a_control_are_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} .* controller=none"):
        RBModulation(**setting)


def test_unknown_eps_and_operators_are_refused():
    with pytest.raises(ValueError, match="frozen"):
        RBModulation(eps="cold")
    with pytest.raises(ValueError, match="strength"):
        RBModulationProx(strength=0.0)
    run = image_run(LeftHalf())
    assert "pseudo-inverse" in RBModulationProx().check(setup(run.process.prior, LeftHalf()))
    assert RBModulation().check(setup(run.process.prior, LeftHalf())) is None
    assert RBModulationProx().check(setup(run.process.prior, Matrix([[1.0]]))) is None
