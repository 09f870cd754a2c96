"""RED-diff: an image mu that fits the measurement and that the prior, asked at every noise level, leaves as it is.

    x_t = alpha_t mu + sigma_t z,      mu <- Adam(mu; grad cost(mu) + lambda w_t (M / N) (eps_hat(x_t) - z))

with w_t a function of sigma_t / alpha_t, M measured entries and N pixels. The network is not differentiated. Since

    eps_hat - z = (alpha_t / sigma_t) (mu - x0_hat),

w_t = sigma_t / alpha_t pulls mu to x0_hat with the same strength at every level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, Setup, State, adam_step, gradient
from rbctrl.controllers.guidance import needs_signal
from rbctrl.priors.base import Estimate
from rbctrl.process import Step

Weighting = Literal["linear", "sqrt", "square", "log", "trunc_linear", "const"]

_WEIGHTINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
    "square": lambda ratio: ratio**2,
    "log": math.log1p,
    "trunc_linear": lambda ratio: min(ratio, 1.0),
    "const": lambda ratio: 1.0,
}


@dataclass(frozen=True)
class REDdiff(Controller):
    """Mardani et al., RED-diff, ICLR 2024, Algorithm 1. https://arxiv.org/abs/2305.04391.

    A point estimate and no sampler: samples of one image differ by what Adam makes of the noise, which falls with lr,
    and not by the posterior's spread. Its energy is undefined (NaN): no step is a control of the reverse process. Only
    the levels of the sampler are used, not its integrator. A step costs one evaluation. It starts from A^+ y, or where
    the operator has no pseudo-inverse from its `guess`.

    Note:
        The released loss is mean |y - A mu|^2 / 2 over the M measured entries, and its second term a mean over the N
        pixels. Times M that is this one with cost=gaussian_nll cost.sigma_y=1. With the sigma_y of the noise the
        measurement counts for 1 / sigma_y^2 times as much.

    Args:
        weight: lambda, of the prior against the measurement.
        lr: Adam's learning rate, in units of the image.
        weighting: w_t of sigma_t / alpha_t =: r, one of r, sqrt(r), r^2, log(1 + r), min(r, 1) and 1.
        betas: of Adam.
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("weight", 0.01, 64.0, pulls="less")

    weight: float = 0.25
    lr: float = 0.1
    weighting: Weighting = "linear"
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.weighting not in get_args(Weighting):
            raise ValueError(f"weighting is one of {', '.join(get_args(Weighting))}; got {self.weighting!r}")
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}: controller=pinv has no steps")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are two numbers in [0, 1), got {self.betas}")

    def check(self, setup: Setup) -> str | None:
        return needs_signal(setup, "red_diff")

    def start(self, run: Run) -> tuple[Tensor, State]:
        process = run.process
        mu = run.objective.codec.encode(run.obs.operator.guess(run.obs.y))
        zero = torch.zeros_like(mu)
        x_T = process.alpha[0] * mu + process.sigma[0] * run.rng.normal("init", process.shape)
        return x_T, {"mu": mu, "m": zero, "v": zero}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, mu = run.process, state["mu"]
        alpha, sigma = process.alpha[i], process.sigma[i]
        measured = run.obs.n_measured.view(-1, *[1] * (mu.ndim - 1)) / mu[0].numel()
        z = (x_t - alpha * mu) / sigma
        prior = (process.estimate(x_t, i).eps_hat - z) * measured
        grad = gradient(run.objective, mu) + self.weight * _WEIGHTINGS[self.weighting](sigma / alpha) * prior
        mu, m, v = adam_step(mu, grad, state["m"], state["v"], i + 1, self.lr, self.betas)
        step = Step(Estimate(mu, torch.zeros_like(mu)), process.alpha[i + 1] * mu, process.sigma[i + 1], None)
        return step, {"mu": mu, "m": m, "v": v}
