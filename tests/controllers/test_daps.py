"""DAPS against the released loop, written out, and what it samples on one Gaussian."""

from functools import cache

import pytest
import torch
from worlds import ONE_GAUSSIAN, SIGMA_Y, Y, image_run, plane, setup, tiny_prior

from rbctrl.controllers import DAPS
from rbctrl.controllers.base import Run
from rbctrl.costs import ResidualNorm
from rbctrl.grids import LogSNR, Uniform
from rbctrl.noise import GaussianNoise, NoNoise
from rbctrl.observation import Objective, given
from rbctrl.operators.base import Operator
from rbctrl.operators.matrix import Matrix
from rbctrl.process import renoise
from rbctrl.sampling import sample
from rbctrl.schedules import VE, VP, RectifiedFlow

N_STEPS, N_ODE, K, LR, RATIO, S_END = 4, 3, 4, 2e-5, 0.1, 0.02


class LeftHalf(Operator):
    def forward(self, image):
        return image[..., :4]


def released(run, weight):
    """One image in x = x_t / alpha_t; weight times |y - A x|^2 is the fit: 1 / tau^2 as released."""
    process, y, rng = run.process, run.obs.y, run.rng
    schedule = process.prior.schedule
    s = process.sigma[0] / process.alpha[0]
    x = s * rng.normal("init", (3, 8, 8))
    for i in range(N_STEPS):
        s = process.sigma[i] / process.alpha[i]
        for k in range(N_ODE):  # Euler on dx/ds = (x - D(x; s)) / s over the grid of Karras et al.
            now, after = (
                (s ** (1 / 7) + r * (S_END ** (1 / 7) - s ** (1 / 7))) ** 7 for r in (k / N_ODE, (k + 1) / N_ODE)
            )
            t = schedule.time(torch.tensor(now, dtype=torch.float64).log() * -2)
            d = (x - process.prior.predict(schedule.levels(t)[0] * x, t).x0_hat) / now
            x = x + (after - now) * d
        x0_hat, lr = x, LR * (1 + (RATIO - 1) * i / N_STEPS)
        for k in range(K):
            x = x.detach().requires_grad_()
            loss = weight * (y - x[..., :4]).square().sum() + (x - x0_hat).square().sum() / (2 * s**2)
            noise = rng.normal(f"daps/langevin/{i}/{k}", (3, 8, 8))
            x = (x - lr * torch.autograd.grad(loss, x)[0] + (2 * lr) ** 0.5 * noise).detach()
        x0 = x
        x = x0 + process.sigma[i + 1] / process.alpha[i + 1] * rng.normal(f"step/{i}", (3, 8, 8))
    return x0, process.alpha[-1] * x


@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()])
@pytest.mark.parametrize(("tau", "weight"), [(0.01, 1e4), (None, 1 / (2 * 0.05**2))])
def test_update_is_the_released_loop_of_each_image_alone(schedule, tau, weight):
    """tau as released is a variance of tau^2 / 2; without it sigma_y^2."""
    run = image_run(LeftHalf(), n=2, n_steps=N_STEPS, prior=tiny_prior(schedule), cost=ResidualNorm())
    ours = sample(run, DAPS(N_ODE, S_END, K, LR, RATIO, tau))
    for row in range(2):
        one = run.take(torch.tensor([row]))
        x0, x_end = released(one, weight)
        torch.testing.assert_close(ours.x0_hat[row : row + 1], x0, rtol=0, atol=1e-9)
        torch.testing.assert_close(ours.x[row : row + 1], x_end, rtol=0, atol=1e-9)
        halved = released(one, weight / 2)[0]  # the likelihood that tau^2 suggests
        assert not torch.allclose(x0, halved, atol=1e-3)
    assert ours.control_energy.isnan().all()


class OneGenerator:
    """Noise of thousands of rows from one stream: a row here depends on the others, and thousands are cheap."""

    def __init__(self, n):
        self.n, self.generator = n, torch.Generator().manual_seed(0)

    def __len__(self):
        return self.n

    def normal(self, key, shape):
        return torch.randn(self.n, *shape, generator=self.generator, dtype=torch.float64)


N = 1000


@cache
def drawn(n_ode, s_end, tau):
    """N samples of one Gaussian world, the Langevin chain near rest and a grid that ends at s = .105."""
    prior = plane(ONE_GAUSSIAN)
    process = renoise(prior, (2,), 60, LogSNR(-5.0, 4.5))
    obs = given(Matrix([[1.0, 0.0]]), GaussianNoise(SIGMA_Y), torch.full((N, 1), Y, dtype=torch.float64))
    run = Run(process, Objective(ResidualNorm(), obs), OneGenerator(N))
    return sample(run, DAPS(n_ode, s_end, 30, 4e-3, 1.0, tau)).x0_hat


def posterior(temper):
    """Mean and variances of p(x_0 | y) under N(m, temper C)."""
    m, c = torch.tensor(ONE_GAUSSIAN[1][0]).double(), temper * torch.tensor(ONE_GAUSSIAN[2][0]).double()
    gain = c[:, 0] / (c[0, 0] + SIGMA_Y**2)
    return m + gain * (Y - m[0]), (c - gain[:, None] * c[0]).diagonal()


def agrees(x, mean, variance):
    """Within 5 s.e., and .03 in the mean and 15 % in the variance for a grid and a Langevin step that are not small."""
    mean_ok = (x.mean(0) - mean).abs() < 5 * (variance / N) ** 0.5 + 0.03
    return bool((mean_ok & ((x.var(0) / variance - 1).abs() < 5 * (2 / N) ** 0.5 + 0.15)).all())


def test_one_euler_step_to_zero_and_the_true_noise_sample_the_posterior_of_one_gaussian():
    """x0_hat is then E[x_0 | x_t]. A likelihood of variance tau^2 / 2 = .005 where sigma_y^2 = .04 is overconfident."""
    assert agrees(drawn(1, 0.0, None), *posterior(1))
    assert not agrees(drawn(1, 0.0, None), *posterior(2))
    assert not agrees(drawn(1, 0.0, 0.1), *posterior(1))


def test_a_whole_ode_per_level_samples_the_posterior_of_a_prior_twice_as_wide():
    """Its end moves half as far towards the prior's mean as E[x_0 | x_t], so the prior's precision counts half."""
    assert agrees(drawn(20, 0.01, None), *posterior(2))
    assert not agrees(drawn(20, 0.01, None), *posterior(1))


def test_below_the_end_of_the_ode_the_network_is_not_asked():
    for s_end, levels in ((0.5, 3), (0.1, 4)):  # sigma / alpha is 7.4, 2.1, .61 and .17 before the four steps
        run = image_run(LeftHalf(), n_steps=4)
        sample(run, DAPS(n_ode=3, s_end=s_end, langevin_steps=1, lr=1e-6))
        assert run.process.evaluations.nfe == 3 * levels


def test_where_the_grid_ends_on_the_image_the_state_is_the_last_sample():
    run = image_run(LeftHalf(), grid=Uniform())
    result = sample(run, DAPS(2, langevin_steps=2, lr=1e-6))
    assert torch.equal(result.x, result.x0_hat)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"n_ode": 0}, "n_ode"),
        ({"langevin_steps": -1}, "langevin_steps"),
        ({"lr": 0.0}, "lr"),
        ({"lr_min_ratio": 2.0}, "lr_min_ratio"),
        ({"s_end": -1.0}, "s_end"),
        ({"tau": 0.0}, "tau"),
    ],
)
def test_wrong_settings_are_refused(settings, word):
    with pytest.raises(ValueError, match=word):
        DAPS(**settings)


def test_a_likelihood_of_variance_zero_and_a_start_without_signal_are_refused():
    assert "sigma_y" in DAPS(tau=None).check(setup(tiny_prior(), LeftHalf(), NoNoise()))
    assert DAPS().check(setup(tiny_prior(), LeftHalf(), NoNoise())) is None
    flow = image_run(LeftHalf(), prior=tiny_prior(RectifiedFlow()), grid=Uniform())
    assert "alpha" in DAPS().check(flow.setup)
