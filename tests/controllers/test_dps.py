"""DPS against the published update, written out."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from worlds import TinyNet, image_run, tiny_prior

from rbctrl.controllers import DPS, NoControl
from rbctrl.controllers.base import Run
from rbctrl.costs import ResidualNorm
from rbctrl.grids import Uniform
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators.base import Operator
from rbctrl.priors import NetworkPrior
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.schedules import DiscreteVP

T, ZETA = 12, 0.3


class LeftHalf(Operator):
    def forward(self, image):
        return image[..., :4]


class WithVariance(nn.Module):
    """Six channels out: eps, and v that runs over all of [-1, 1] and a little beyond, as networks do."""

    def __init__(self):
        super().__init__()
        self.eps, self.v = TinyNet(), TinyNet(seed=1)

    def forward(self, x, time):
        return torch.cat([self.eps(x, time), 1.1 * self.v(2 * x, time)], dim=1)


def setting(clip=None, learned=False):
    betas = tuple(torch.linspace(0.01, 0.4, T, dtype=torch.float64).tolist())
    net = WithVariance() if learned else TinyNet()
    prior = NetworkPrior(
        net,
        parameterization="eps",
        time_input="index",
        network_schedule=DiscreteVP(betas),
        value_range=(-1, 1),
        clip=clip,
        learned_variance=learned,
    )
    process = ddim(prior, (3, 8, 8), T, Uniform())
    rng = ImageRNG(0, (("a", 0), ("b", 0)), torch.float64)
    truth = rng.normal("truth", (3, 8, 8)).clamp(-1, 1)
    obs = observe(LeftHalf(), GaussianNoise(0.05), truth, rng)
    return net, betas, Run(process, Objective(ResidualNorm(), obs, prior.codec, process.evaluations), rng)


def published(net, betas, run, row, clip, step):
    """Algorithm 1 of Chung et al. with the DDPM posterior mean, one image, noise drawn from the same streams."""
    rng = run.rng.take(torch.tensor([row]))
    y = run.obs.y[row : row + 1]
    alpha_bar = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)
    x = math.sqrt(1 - alpha_bar[-1]) * rng.normal("init", (3, 8, 8))
    for k, t in enumerate(reversed(range(T))):
        ab, ab_prev = alpha_bar[t], alpha_bar[t - 1] if t > 0 else torch.tensor(1.0, dtype=torch.float64)
        x = x.detach().requires_grad_()
        eps, *v = net(x, torch.full((1,), float(t), dtype=torch.float64)).split(3, dim=1)
        x0 = (x - (1 - ab).sqrt() * eps) / ab.sqrt()
        if clip:
            x0 = x0.clamp(-1, 1)
        beta = 1 - ab / ab_prev
        mean = ab_prev.sqrt() * beta / (1 - ab) * x0 + (1 - beta).sqrt() * (1 - ab_prev) / (1 - ab) * x
        variance = beta * (1 - ab_prev) / (1 - ab)
        if v and t > 0:
            f = (v[0] + 1) / 2
            variance = (f * beta.log() + (1 - f) * variance.log()).exp()
        norm = (y - x0[..., :4]).square().sum().sqrt()
        noise = rng.normal(f"step/{k}", (3, 8, 8)) if t > 0 else 0.0
        x = mean + variance.sqrt() * noise - step * torch.autograd.grad(norm, x)[0]
    return x.detach()


def test_released_update_is_the_published_loop():
    net, betas, run = setting()
    ours = sample(run, DPS(ZETA)).x
    theirs = torch.cat([published(net, betas, run, k, False, ZETA) for k in range(2)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_released_update_with_clipping_is_the_published_loop():
    net, betas, run = setting(clip=(-1.0, 1.0))
    ours = sample(run, DPS(ZETA)).x
    theirs = torch.cat([published(net, betas, run, k, True, ZETA) for k in range(2)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert not torch.allclose(ours, sample(setting()[2], DPS(ZETA)).x)  # clipping does something here


def test_learned_variance_with_clipping_is_the_published_loop():
    net, betas, run = setting(clip=(-1.0, 1.0), learned=True)
    ours = sample(run, DPS(ZETA, variance="learned")).x
    theirs = torch.cat([published(net, betas, run, k, True, ZETA) for k in range(2)])
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-12)
    assert not torch.allclose(ours, sample(setting(clip=(-1.0, 1.0), learned=True)[2], DPS(ZETA)).x, atol=1e-2)


def test_learned_variance_is_refused_where_there_is_none():
    _, _, run = setting(learned=True)
    assert DPS(variance="learned").check(run.setup) is None
    assert "learned one" in DPS(variance="learned").check(setting()[2].setup)
    ddim_0 = replace(run, process=ddim(run.process.prior, (3, 8, 8), T, Uniform(), eta=0.0))
    assert "DDPM step" in DPS(variance="learned").check(ddim_0.setup)
    assert DPS().check(ddim_0.setup) is None
    with pytest.raises(ValueError, match="variance is"):
        DPS(variance="large")


def test_paper_rule_is_the_gradient_of_the_squared_norm_over_the_norm():
    """zeta_t grad |r|^2 with zeta_t = zeta / |r| is twice the released step."""
    net, betas, run = setting()
    ours = sample(run, DPS(ZETA, rule="paper")).x
    theirs = torch.cat([published(net, betas, run, k, False, 2 * ZETA) for k in range(2)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_zero_step_is_no_control():
    run = image_run(LeftHalf(), prior=tiny_prior())
    assert torch.equal(sample(run, DPS(0.0)).x, sample(run, NoControl()).x)


def test_the_norm_of_the_whole_batch_would_be_another_method():
    """The bug of the released code: the same image, alone and beside another, differs."""
    net, betas, run = setting()

    class BatchNorm(ResidualNorm):
        def forward(self, image, obs):
            whole = obs.residual(image).square().sum().sqrt()
            return (whole / len(image)).expand(len(image))

    coupled = Run(run.process, Objective(BatchNorm(), run.obs), run.rng)
    together = sample(coupled, DPS(ZETA)).x[:1]
    alone = sample(coupled.take(torch.tensor([0])), DPS(ZETA)).x
    assert not torch.allclose(together, alone, atol=1e-3)
