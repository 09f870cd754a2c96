"""MCGDiff's mixture benchmark: its definition, and its DPS baseline written out."""

import pytest
import torch

from rbctrl.controllers import DPS, Run
from rbctrl.costs import ResidualNorm
from rbctrl.data.mcgdiff import ProblemData, grid, noise, operator, prior, problem, schedule
from rbctrl.observation import Objective, given
from rbctrl.process import ddim, scaled_ddpm
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample


@pytest.mark.parametrize(("d", "d_y"), [(8, 1), (80, 4), (800, 2)])
def test_a_problem_has_the_published_form(d, d_y):
    p = problem(d, d_y, 3)
    values = torch.linalg.svdvals(p.matrix)
    torch.testing.assert_close(values, p.singular_values)
    assert p.matrix.shape == (d_y, d) and p.x_0.shape == (d,) and p.y.shape == (d_y,)
    assert ((values > 0) & (values < 1)).all() and (values.diff() <= 0).all()
    assert 0 < p.sigma_y < values[0]
    assert ((p.y - p.matrix @ p.x_0).abs() < 6 * p.sigma_y).all()
    torch.testing.assert_close(
        schedule().log_snr(schedule().time(torch.tensor(p.matched))), torch.tensor(p.matched).double()
    )


def test_the_mixture_has_25_means_on_a_grid_and_squared_normal_weights():
    mixture = prior(schedule(), 8)
    assert mixture.means.shape == (25, 8) and len(mixture.basis) == 2 and mixture.variance == 1.0
    assert (mixture.means[:, ::2] == mixture.means[:, :1]).all() and (
        mixture.means[:, 1::2] == mixture.means[:, 1:2]
    ).all()
    assert sorted(mixture.means[:, 0].unique().tolist()) == [-16, -8, 0, 8, 16]
    assert len(mixture.means.unique(dim=0)) == 25
    assert float(mixture.weights.sum()) == pytest.approx(1)
    many = torch.cat([prior(schedule(), 8, seed).weights for seed in range(80)]) * 25
    assert float(many.square().mean()) == pytest.approx(3 * 25 / 27, rel=0.15)  # of chi^2_1, E w^2 / (E w)^2 = 3
    assert not float(many.square().mean()) == pytest.approx(2 * 25 / 26, rel=0.15)  # of an exponential


def test_problems_follow_from_their_numbers_alone():
    again = problem.__wrapped__(8, 2, 5)
    for name in ("matrix", "x_0", "y"):
        assert torch.equal(getattr(again, name), getattr(problem(8, 2, 5), name))
        for other in (problem(8, 2, 6), problem(8, 2, 5, seed=1)):
            assert not torch.equal(getattr(again, name), getattr(other, name))
    assert torch.equal(prior(schedule(), 8).weights, prior(schedule(), 8).weights)
    assert not torch.equal(prior(schedule(), 8).weights, prior(schedule(), 80).weights)


def test_data_operator_noise_and_grid_are_of_one_problem():
    p = problem(8, 2, 5)
    item = next(ProblemData(8, 2, 5).items())
    assert torch.equal(item.image, p.x_0) and torch.equal(item.y, p.y)
    assert torch.equal(operator(8, 2, 5).matrix, p.matrix) and noise(8, 2, 5).sigma_y == p.sigma_y
    times = grid(8, 2, 5).times(schedule(), 19)
    taus = (schedule().time(torch.tensor(p.matched)) * 999).round() / 999
    assert all(((times - tau).abs() < 1e-12).any() for tau in taus)


def test_the_schedule_falls_from_much_noise_per_step_to_little():
    """alpha_bar of the paper: 0.98 after one step, 0.147 after 100, 4.1e-5 at the end; 0.9 with rising betas."""
    alpha_bar = schedule().alpha_bar(torch.tensor([0, 1, 100, 999]) / 999)
    assert alpha_bar.tolist() == pytest.approx([1, 0.98, 0.147, 4.1e-5], rel=0.02)


def released_dps(p, mixture, x, times, white, eta, zeta):
    """The loop of the released script: posterior mean of DDPM, noise times eta, and (zeta / |r|) grad |r|^2."""
    alpha_bar = schedule().alpha_bar(times)
    for i in range(len(times) - 1):
        ab_t, ab_s = alpha_bar[i], alpha_bar[i + 1]
        z = x.clone().requires_grad_()
        normal = torch.distributions.MultivariateNormal(ab_t.sqrt() * mixture.means, torch.eye(8, dtype=torch.float64))
        law = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(mixture.weights), normal)
        (score,) = torch.autograd.grad(law.log_prob(z).sum(), z, create_graph=True)
        x_0 = (z + (1 - ab_t) * score) / ab_t.sqrt()
        r = x_0 @ p.matrix.T - p.y
        (slope,) = torch.autograd.grad(r.square().sum(), z)
        from_x = (ab_t / ab_s).sqrt() * (1 - ab_s) / (1 - ab_t)
        from_x_0 = ab_s.sqrt() * (1 - ab_t / ab_s) / (1 - ab_t)
        std = eta * ((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)).sqrt()
        x = (
            from_x * x
            + from_x_0 * x_0.detach()
            + std * white(i)
            - zeta / r.detach().square().sum(1, True).sqrt() * slope
        )
    return x


def test_the_baseline_is_dps_by_the_papers_rule_on_scaled_ddpm():
    p, mixture, n = problem(8, 2, 5), prior(schedule(), 8), 4
    rng = ImageRNG(0, tuple((p.name, k) for k in range(n)), torch.float64)
    obs = given(operator(8, 2, 5), noise(8, 2, 5), p.y.expand(n, -1))

    def ours(sampler, controller):
        process = sampler(mixture, (8,), 9, grid(8, 2, 5), 0.6)
        return sample(Run(process, Objective(ResidualNorm(), obs), rng), controller).x, process

    x, process = ours(scaled_ddpm, DPS(0.1, "paper"))
    start = process.init(rng)
    theirs = released_dps(p, mixture, start, process.times, lambda i: rng.normal(f"step/{i}", (8,)), 0.6, 0.1)
    torch.testing.assert_close(x, theirs, rtol=1e-9, atol=1e-9)
    for other in (ours(ddim, DPS(0.1, "paper")), ours(scaled_ddpm, DPS(0.1))):
        assert not torch.allclose(other[0], theirs, rtol=1e-3)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="d_y"):
        problem(8, 9)
    with pytest.raises(ValueError, match="even"):
        prior(schedule(), 7)
