"""Small worlds that many tests share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rbctrl.controllers import Controller, Run
from rbctrl.controllers.base import Setup
from rbctrl.costs import Cost, ResidualNorm
from rbctrl.grids import LogSNR, TimeGrid
from rbctrl.noise import GaussianNoise, Noise
from rbctrl.observation import Objective, given, observe
from rbctrl.operators.base import Operator
from rbctrl.operators.matrix import Matrix
from rbctrl.priors import GaussianMixture, NetworkPrior, Prior
from rbctrl.process import ReverseProcess, ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import Result, sample
from rbctrl.schedules import VE, VP, NoiseSchedule

MODES = (
    [0.5, 0.3, 0.2],
    [[1.0, -1.0], [-1.0, 0.5], [0.5, 1.5]],
    [[[0.2, 0.1], [0.1, 0.3]], [[0.1, 0.0], [0.0, 0.2]], [[0.3, -0.1], [-0.1, 0.1]]],
)
ONE_GAUSSIAN = ([1.0], [[1.0, -1.0]], [[[0.4, 0.1], [0.1, 0.3]]])
Y, SIGMA_Y = 0.4, 0.2


def rows(n: int, item: str = "a") -> tuple[tuple[str, int], ...]:
    return tuple((item, k) for k in range(n))


def plane(parts: tuple = MODES, schedule: NoiseSchedule | None = None) -> GaussianMixture:
    return GaussianMixture(schedule or VP(), *parts)


def plane_run(prior: Prior, process: ReverseProcess, n: int, cost: Cost | None = None, seed: int = 0) -> Run:
    """n posterior samples of y = x[0] + 0.2 n, in fp64."""
    obs = given(Matrix([[1.0, 0.0]]), GaussianNoise(SIGMA_Y), torch.full((n, 1), Y, dtype=torch.float64))
    objective = Objective(cost or ResidualNorm(), obs, prior.codec, process.evaluations)
    return Run(process, objective, ImageRNG(seed, rows(n), torch.float64))


def setup(prior: Prior, operator: Operator, noise: Noise | None = None, cost: Cost | None = None) -> Setup:
    """What a controller is asked about before a run."""
    return Setup(ddim(prior, (1,), 4, LogSNR(-4.0, 6.0)), operator, noise or GaussianNoise(0.1), cost or ResidualNorm())


def exact_process(prior: Prior, n_steps: int, grid: TimeGrid | None = None) -> ReverseProcess:
    return ddim(prior, prior.shape, n_steps, grid or LogSNR(), eta=1.0, start="marginal")


def excess(prior: GaussianMixture, run: Run, controller: Controller) -> tuple[Tensor, Result, Tensor]:
    """J + log h_T(x_T) of each row, the result, and x_end / alpha_end."""
    result = sample(run, controller)
    x_0 = result.x / run.process.alpha[-1]
    price = result.control_energy + run.obs.nll(x_0)
    x_start, _ = controller.start(run)
    return price + prior.log_likelihood(x_start, run.process.times[0], run.obs), result, x_0


class TinyNet(nn.Module):
    """A random smooth network of images and time, each row on its own."""

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(
            0.3 * torch.randn(channels, channels, 3, 3, generator=generator, dtype=torch.float64)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        mixed = nn.functional.conv2d(x, self.weight.to(x.dtype), padding=1)
        return torch.tanh(mixed + 0.1 * time.view(-1, 1, 1, 1))


def tiny_prior(schedule: NoiseSchedule | None = None) -> NetworkPrior:
    return NetworkPrior(
        TinyNet(),
        parameterization="x0",
        time_input="t",
        network_schedule=schedule or VP(),
        value_range=(-1, 1),
    )


class UnitGaussian(nn.Module):
    """The exact denoiser of N(0, I): E[x_0 | x_0 + sigma eps] = x / (1 + sigma^2)."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma.square().view(-1, 1, 1, 1))


def unit_prior() -> NetworkPrior:
    return NetworkPrior(
        UnitGaussian(),
        parameterization="x0",
        time_input="sigma",
        network_schedule=VE(),
        value_range=(-1, 1),
        schedule=VP(),
    )


def image_run(
    operator: nn.Module, n: int = 4, size: int = 8, n_steps: int = 4, eta: float = 1.0, **kwargs: object
) -> Run:
    """n random images of size x size, measured by `operator`, in fp64, on a random network."""
    prior = kwargs.pop("prior", None) or tiny_prior()
    rng = ImageRNG(0, tuple((f"image{k}", 0) for k in range(n)), torch.float64)
    truth = rng.normal("truth", (3, size, size)).clamp(-1, 1)
    drawn = operator.double().draw(rng, (3, size, size))
    obs = observe(drawn, kwargs.pop("noise", None) or GaussianNoise(0.05), truth, rng)
    grid = kwargs.pop("grid", None) or LogSNR(-4.0, 6.0)
    process = ddim(prior, (3, size, size), n_steps, grid, eta)
    cost = kwargs.pop("cost", None) or ResidualNorm()
    return Run(process, Objective(cost, obs, prior.codec, process.evaluations), rng)
