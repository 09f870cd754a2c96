"""Worlds in which everything is known: independent standard normal pixels, or such latents of a block codec."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rbctrl.codecs import Codec
from rbctrl.controllers.base import Run
from rbctrl.costs import Cost, ResidualNorm
from rbctrl.grids import LogSNR
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators.base import Operator
from rbctrl.priors.network import NetworkPrior
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.schedules import VE, VP


class UnitGaussian(nn.Module):
    """The exact denoiser of N(0, I): E[x_0 | x_0 + sigma eps] = x / (1 + sigma^2)."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x [B, ...] and sigma [B] to x0_hat."""
        return x / (1 + sigma.square().view(-1, *[1] * (x.ndim - 1)))


class Halves(nn.Module):
    """Half of the image, with the methods of a linear physics of deepinv."""

    def A(self, x: Tensor) -> Tensor:
        """x / 2."""
        return x / 2

    A_adjoint = A

    def A_dagger(self, y: Tensor) -> Tensor:
        """2 y."""
        return 2 * y


def unit_prior(codec: Codec | None = None) -> NetworkPrior:
    """N(0, I) over images of any shape, or over the latents of a codec, run as a VP process."""
    return NetworkPrior(
        UnitGaussian(),
        parameterization="x0",
        time_input="sigma",
        network_schedule=VE(),
        value_range=(-1.0, 1.0),
        schedule=VP(),
        codec=codec,
    )


def unit_run(
    operator: Operator,
    shape: tuple[int, ...],
    n_steps: int = 8,
    cost: Cost | None = None,
    cloud: int = 1,
    codec: Codec | None = None,
    eta: float = 1.0,
) -> Run:
    """Four clouds of `cloud` samples, two of one image, measured with noise 0.1, in fp64, before sampling."""
    clouds = (("a", 0), ("a", 1), ("b", 0), ("c", 0))
    rng = ImageRNG(0, tuple((item, k * cloud + j) for item, k in clouds for j in range(cloud)), torch.float64)
    prior = unit_prior(codec)
    drawn = copy.deepcopy(operator).double().draw(rng, shape)
    obs = observe(drawn, GaussianNoise(0.1), rng.of_items().normal("truth", shape).clamp(-1, 1), rng)
    process = ddim(prior, prior.state_shape(shape), n_steps, LogSNR(-4.0, 6.0), eta)
    return Run(process, Objective(cost or ResidualNorm(), obs, prior.codec, process.evaluations), rng)
