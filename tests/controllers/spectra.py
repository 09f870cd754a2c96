"""What the tests of DDRM and DDNM+ share: dense singular values, a prior that knows x_0, and the law they claim."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from worlds import image_run

from rbctrl.controllers import Controller, Run
from rbctrl.controllers.base import Setup
from rbctrl.costs import ResidualNorm
from rbctrl.grids import LogSNR, TimeGrid
from rbctrl.noise import GaussianNoise, NoNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators import Downsample, GaussianBlur, LinearOperator, RandomMask
from rbctrl.priors.base import Estimate, Prior
from rbctrl.process import renoise
from rbctrl.rng import ImageRNG
from rbctrl.schedules import VP, NoiseSchedule

ETA, SIZE = 0.85, 6
OPERATORS = {"mask": lambda: RandomMask(0.5), "mean": lambda: Downsample(2), "blur": lambda: GaussianBlur(0.6)}


def published_run(operator: LinearOperator, sigma_y: float = 0.1, grid: TimeGrid | None = None) -> Run:
    """Three images of 6 px on a random network, with the sampler of the two papers."""
    noise = GaussianNoise(sigma_y) if sigma_y else NoNoise()
    run = image_run(operator, n=3, size=SIZE, noise=noise)
    process = renoise(run.process.prior, run.process.shape, 6, grid or LogSNR(-4.0, 5.0), ETA)
    return Run(process, replace(run.objective, evaluations=process.evaluations), run.rng)


def dense_svd(run: Run, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """U [m, m], s [m] and V [D, D] of one row's operator as a matrix; rounding is cut at 1e-6."""
    shape = run.process.shape
    basis = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape)
    one = run.obs.operator.take(torch.full((len(basis),), row))
    u, s, v_t = torch.linalg.svd(one(basis).flatten(1).T)
    return u, torch.where(s > 1e-6, s, 0.0), v_t.T


def rotated_noise(run: Run, key: str, row: int) -> Tensor:
    """The white noise of this key as the controllers place it in the image, flat: V z."""
    z = run.rng.normal(key, run.process.shape)
    return run.obs.operator.svd(z).from_v(z)[row].flatten()


class TimeTravel(TimeGrid):
    """Four steps of which the third goes up."""

    def times(self, schedule: NoiseSchedule, n_steps: int) -> Tensor:
        return schedule.time(torch.tensor([-2.0, 1.0, 4.0, 1.0, 5.0], dtype=torch.float64))


class Known(Prior):
    """A prior of one image: x0_hat = x_0."""

    def __init__(self, x0: Tensor) -> None:
        super().__init__(VP())
        self.register_buffer("x0", x0)

    def predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        return Estimate(self.x0.expand_as(x_t), (x_t - alpha * self.x0) / sigma)


def keeps_the_law(
    controller: Controller,
    operator: LinearOperator,
    eta: float = ETA,
    believed: float | None = None,
    grid: TimeGrid | None = None,
) -> bool:
    """Whether x_s ~ N(alpha_s x_0, sigma_s^2 I) over y and noise after each of 4 steps from such an x_T, within 5 s.e.

    `believed` is the sigma_y that the controller is told; the true one is 0.3.
    """
    n, shape = 4096, (1, 4, 4)
    x0 = ImageRNG(0, (("x0", 0),), torch.float64).normal("x0", shape)
    rng = ImageRNG(0, tuple((f"y{k}", 0) for k in range(n)), torch.float64)
    obs = observe(operator.double().draw(rng, shape), GaussianNoise(0.3), x0.expand(n, *shape), rng)
    obs = replace(obs, noise=GaussianNoise(believed or 0.3))
    process = renoise(Known(x0), shape, 4, grid or LogSNR(-2.0, 5.0), eta)
    run = Run(process, Objective(ResidualNorm(), obs, evaluations=process.evaluations), rng)
    one = torch.eye(16, dtype=torch.float64)
    x = process.alpha[0] * x0 + process.sigma[0] * rng.normal("init", shape)
    for i in range(process.n_steps):
        step, _ = controller(run, x, i, {})
        x = step.mean + step.std * rng.normal(f"step/{i}", shape)
        white = ((x - process.alpha[i + 1] * x0) / process.sigma[i + 1]).flatten(1)
        gap = (white.T @ white / n - one).abs() / (1 + one).sqrt()
        if max(gap.max(), white.mean(0).abs().max()) > 5 / n**0.5:
            return False
    return True


def setup_with(process: object, operator: object) -> Setup:
    """What `check` is asked about."""
    return Setup(process, operator, GaussianNoise(0.1), ResidualNorm())
