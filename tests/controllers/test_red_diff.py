"""RED-diff against the released loop, written out, and the point it converges to."""

import math

import pytest
import torch
from worlds import ONE_GAUSSIAN, Y, image_run, plane, plane_run, setup, tiny_prior

from rbctrl.controllers import REDdiff
from rbctrl.controllers.red_diff import Weighting
from rbctrl.costs import GaussianNLL
from rbctrl.grids import LogSNR, Uniform
from rbctrl.operators.base import Operator
from rbctrl.operators.inpainting import HalfMask
from rbctrl.process import renoise
from rbctrl.sampling import sample
from rbctrl.schedules import RectifiedFlow

N_STEPS = 6
RELEASED = {
    "linear": lambda r: r,
    "sqrt": lambda r: r**0.5,
    "square": lambda r: r**2,
    "log": lambda r: math.log(r + 1),
    "trunc_linear": lambda r: min(r, 1.0),
    "const": lambda r: 1.0,
}


def released(run, weight, lr, weighting, betas):
    """One image: x_t at every level from fresh noise, means over measured entries and pixels, torch's Adam."""
    process, rng, y = run.process, run.rng, run.obs.y
    seen = run.obs.operator.observed.expand_as(y) > 0
    mu = y.clone().requires_grad_()  # A^+ y of a mask
    optimizer = torch.optim.Adam([mu], lr=lr, betas=betas, eps=1e-8 / int(seen.sum()))  # ours: the loss times M
    for i in range(N_STEPS):
        a, b = process.alpha[i], process.sigma[i]
        z = rng.normal("init" if i == 0 else f"step/{i - 1}", (3, 8, 8))
        x_t = a * mu + b * z
        eps_hat = (x_t - a * process.prior.predict(x_t, process.times[i]).x0_hat) / b
        fit = (y - mu)[seen].square().mean() / 2
        prior = ((eps_hat - z).detach() * mu).mean()
        optimizer.zero_grad()
        (fit + weight * RELEASED[weighting](b / a) * prior).backward()
        optimizer.step()
    return mu.detach()


@pytest.mark.parametrize("weighting", Weighting.__args__)
def test_update_is_the_released_loop_of_each_image_alone(weighting):
    run = image_run(HalfMask(), n=2, n_steps=N_STEPS, cost=GaussianNLL(1.0))
    ours = sample(run, REDdiff(0.25, 0.1, weighting)).x0_hat
    for row in range(2):
        one = run.take(torch.tensor([row]))
        theirs = released(one, 0.25, 0.1, weighting, (0.9, 0.99))
        torch.testing.assert_close(ours[row : row + 1], theirs, rtol=0, atol=1e-9)
        usual_betas = released(one, 0.25, 0.1, weighting, (0.9, 0.999))
        assert not torch.allclose(theirs, usual_betas, atol=1e-4)


def minimum(weight, alpha, sigma):
    """Where the mean gradient vanishes at one level, A^T (A mu - y) + weight (M / N) sigma^2 P^-1 (mu - m) = 0."""
    m, c = torch.tensor(ONE_GAUSSIAN[1][0]).double(), torch.tensor(ONE_GAUSSIAN[2][0]).double()
    pull = weight / 2 * sigma**2 * torch.linalg.inv(alpha**2 * c + sigma**2 * torch.eye(2).double())
    a = torch.tensor([[1.0, 0.0]]).double()
    return m + torch.linalg.solve(a.T @ a + pull, a.T @ (Y - a @ m))


def test_one_gaussian_at_one_level_goes_to_the_minimum_of_its_own_weights():
    """x0_hat is affine, so the mean gradient vanishes at a known point. The posterior mean is another."""
    prior, weight = plane(ONE_GAUSSIAN), 4.0
    process = renoise(prior, (2,), 400, LogSNR(-0.5, -0.4))
    run = plane_run(prior, process, 64, GaussianNLL(1.0))
    end = sample(run, REDdiff(weight, lr=0.02)).x0_hat
    own = minimum(weight, process.alpha[200], process.sigma[200])
    error = 5 * end.std(0) / 64**0.5
    assert ((end.mean(0) - own).abs() < error + 0.005).all()
    for wrong in (minimum(weight / 2, process.alpha[200], process.sigma[200]), run.obs.y.new_tensor([5 / 11, -1.136])):
        assert ((end.mean(0) - wrong).abs() > error + 0.005).any()


def test_it_is_a_point_estimate_and_no_sampler():
    """Over the whole grid mu fits y, not the posterior mean, and seeds differ by Adam's noise, which falls with lr."""
    prior, spread = plane(ONE_GAUSSIAN), {}
    for lr in (0.1, 0.02):
        run = plane_run(prior, renoise(prior, (2,), 200, LogSNR(-4.0, 8.0)), 64, GaussianNLL())
        result = sample(run, REDdiff(lr=lr))
        assert (result.x0_hat[:, 0] - Y).abs().max() < 0.01
        assert result.control_energy.isnan().all()
        spread[lr] = float(result.x0_hat[:, 1].var())
    mean, variance = prior.moments_given(run.obs)
    assert abs(mean[0, 0] - Y) > 0.05
    assert spread[0.02] < 0.2 * spread[0.1] < 0.2 * 0.5 * variance[0, 1]


def test_where_the_grid_ends_on_the_image_the_state_is_mu():
    run = image_run(HalfMask(), grid=Uniform(), cost=GaussianNLL(1.0))
    result = sample(run, REDdiff())
    assert torch.equal(result.x, result.x0_hat)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"weighting": "cubic"}, "weighting"),
        ({"weight": -1.0}, "weight"),
        ({"lr": 0.0}, "lr"),
        ({"betas": [1.0]}, "betas"),
    ],
)
def test_wrong_settings_are_refused(settings, word):
    with pytest.raises(ValueError, match=word):
        REDdiff(**settings)


class LeftHalf(Operator):
    def forward(self, image):
        return image[..., :4]


def test_without_a_pseudo_inverse_it_starts_from_the_operators_guess():
    class Bright(LeftHalf):
        def guess(self, y):
            return torch.cat([y, y], -1)

        def image_shape(self, y_shape):
            return (*y_shape[:-1], 8)

    run = image_run(Bright(), n=2)
    mu = REDdiff().start(run)[1]["mu"]
    assert torch.equal(mu, torch.cat([run.obs.y, run.obs.y], -1))
    assert not LeftHalf().guess(run.obs.y).any()  # mid-grey where an operator knows nothing


def test_a_start_without_signal_is_refused():
    assert REDdiff().check(setup(tiny_prior(), HalfMask())) is None
    flow = image_run(HalfMask(), prior=tiny_prior(RectifiedFlow()), grid=Uniform())
    assert "alpha" in REDdiff().check(flow.setup)
