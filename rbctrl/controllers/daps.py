"""DAPS: at every level a whole denoised image, a Langevin chain to the measurement, and fresh noise of the next level.

In x = x_t / alpha_t and s = sigma_t / alpha_t, so that x = x_0 + s eps whatever the schedule, one step is

    x0_hat  the end of dx/ds = eps_hat(x, s), from (x, s_i) to s_end, by n_ode Euler steps
    x       langevin_steps times x <- x + lr grad log q(x) + sqrt(2 lr) n from x0_hat, with
            log q(x) = -|y - A x|^2 / (2 variance) - |x - x0_hat|^2 / (2 s_i^2)
    x_{i+1} = x + s_{i+1} z
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, Setup, State, gradient
from rbctrl.controllers.guidance import needs_signal
from rbctrl.costs import GaussianNLL
from rbctrl.observation import Objective
from rbctrl.priors.base import Estimate
from rbctrl.process import ReverseProcess, Step


@dataclass(frozen=True)
class DAPS(Controller):
    """Zhang et al., Decoupled Noise Annealing (DAPS), CVPR 2025, Algorithm 1. https://arxiv.org/abs/2407.01521.

    Takes any differentiable operator; the cost of the run is not asked. Only the levels of the sampler are used, not
    its integrator. A step costs n_ode evaluations of the network, no VJP of it, and langevin_steps VJPs of the operator
    (and of the decoder of a latent prior). The energy is undefined (NaN): a step is no control of the reverse process.

    Note:
        The released code descends |y - A x|^2 / tau^2 with tau = 0.01 whatever the noise, i.e. a likelihood of variance
        tau^2 / 2, against sigma_y^2 in the paper; tau=None is the paper's.

        N(x0_hat, s_i^2) stands for p(x_0 | x_t). It is too wide, and the end of the ODE is not E[x_0 | x_t]: for one
        Gaussian N(m, C), small s and a chain at rest, the law of x tends to the posterior of N(m, 2 C) if n_ode is
        large, and to the posterior of N(m, C) itself if n_ode = 1 and s_end = 0 (tests/controllers/test_daps.py).

    Args:
        n_ode: Euler steps per level, spaced as Karras' grid with rho = 7.
        s_end: sigma / alpha at which the ODE ends; at lower levels it is left out and x0_hat is x.
        langevin_steps: per level.
        lr: of Langevin at the first level; larger than 2 / (|A|^2 / variance + 1 / s_i^2) diverges.
        lr_min_ratio: lr falls linearly in i / n, towards this share of itself.
        tau: half of tau^2 is the variance of the likelihood; None takes sigma_y^2.
    """

    knob: ClassVar[Knob | None] = Knob("lr", 1e-6, 0.01)

    n_ode: int = 5
    s_end: float = 0.01
    langevin_steps: int = 100
    lr: float = 1e-4
    lr_min_ratio: float = 0.01
    tau: float | None = 0.01

    def __post_init__(self) -> None:
        if self.n_ode < 1 or self.langevin_steps < 0:
            raise ValueError(
                f"daps needs n_ode >= 1 and langevin_steps >= 0, got {self.n_ode} and {self.langevin_steps}"
            )
        if not (self.lr > 0 and 0 <= self.lr_min_ratio <= 1):
            raise ValueError(f"daps needs lr > 0 and lr_min_ratio in [0, 1], got {self.lr} and {self.lr_min_ratio}")
        if self.s_end < 0:
            raise ValueError(f"s_end must not be negative, got {self.s_end}")
        if self.tau is not None and not self.tau > 0:
            raise ValueError(f"tau must be positive, or None for sigma_y; got {self.tau}")

    def check(self, setup: Setup) -> str | None:
        if self.tau is None and setup.noise.sigma_y == 0:
            return "daps with tau=null divides by sigma_y, which is 0 here: set controller.tau or add noise"
        return needs_signal(setup, "daps")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process = run.process
        s = process.sigma[i] / process.alpha[i]
        x0_hat = self._denoise(process, x_t / process.alpha[i], s)
        x = self._langevin(run, x0_hat, s, i)
        step = Step(Estimate(x, torch.zeros_like(x)), process.alpha[i + 1] * x, process.sigma[i + 1], None)
        return step, state

    def _denoise(self, process: ReverseProcess, x: Tensor, s: float) -> Tensor:
        """The end of the probability-flow ODE from (x, s)."""
        if s <= self.s_end:
            return x
        nodes = torch.linspace(s ** (1 / 7), self.s_end ** (1 / 7), self.n_ode + 1, dtype=torch.float64) ** 7
        for now, after in zip(nodes[:-1], nodes[1:]):
            t = process.prior.schedule.time(-2 * now.log())
            alpha = float(process.prior.schedule.levels(t)[0])
            x = x + float(after - now) * process.estimate_at(alpha * x, t).eps_hat
        return x

    def _langevin(self, run: Run, x0_hat: Tensor, s: float, i: int) -> Tensor:
        """A sample of the likelihood times N(x0_hat, s^2), as far as the chain gets."""
        lr = self.lr * (1 + (self.lr_min_ratio - 1) * i / run.process.n_steps)
        objective = self._likelihood(run)
        x = x0_hat
        for k in range(self.langevin_steps):
            drift = gradient(objective, x) + (x - x0_hat) / s**2
            x = x - lr * drift + (2 * lr) ** 0.5 * run.rng.normal(f"daps/langevin/{i}/{k}", run.process.shape)
        return x

    def _likelihood(self, run: Run) -> Objective:
        return replace(run.objective, cost=GaussianNLL(None if self.tau is None else self.tau / 2**0.5))
