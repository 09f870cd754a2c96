"""ReSample: latent DPS, and now and then a latent that fits the measurement, mixed back into z_s under fresh noise.

With r = n - 1 - i steps to come, step i is z_s = DDIM - scale alpha_t^2 grad_{z_t} |y - A D(z0_hat)|, and where `every`
divides r, in the last two thirds of the run and before its last step:

    z0     after up to `ahead` more steps of DDIM from z_s, uncontrolled
    z0y    in the second third E(x), with x near D(z0) and A x = y; in the last z near z0 with A D(z) = y
    z_s    ~ N((v alpha_s z0y + sigma_s^2 z_s) / (v + sigma_s^2), v sigma_s^2 / (v + sigma_s^2)),    v = gamma c^2

c being the noise of a DDPM step. The image is the last state, fitted once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, Setup, State, adam_step, gradient, linearize, needs_linear
from rbctrl.integrators import DDIM
from rbctrl.priors.base import Estimate
from rbctrl.process import Step

DECAY = 0.01  # of AdamW, torch's default
PATIENCE = 200  # steps over which the loss in latent space has to fall


@dataclass(frozen=True)
class ReSample(Controller):
    """Song et al., Solving inverse problems with latent diffusion models via hard data consistency, ICLR 2024.

    https://arxiv.org/abs/2307.08123. As in the released code (500 steps of DDIM with eta = 0, sigma_y = 0.01), but that
    a fit stops for each image on its own, that its loss is the mean over what is measured, and that the steps ahead go
    from one time to the next (there each is told the time after its own). A step costs one evaluation and VJP of the
    network, one of every `every` in the last two thirds `ahead` more evaluations. The energy is undefined (inf): the
    sampler has no noise.

    Args:
        scale: of the gradient, times alpha_t^2.
        every: steps from one fit to the next.
        ahead: uncontrolled steps before a fit.
        gamma: weight of the fitted latent; the authors tune it per task.
        pixel_fit: the fit in pixels by AdamW ("released") or, at once, the nearest image with A x = y ("pinv").
        pixel_steps: of AdamW at a learning rate of 0.01, at most.
        latent_steps: of AdamW at a learning rate of 0.005 through the decoder, at most; a fit also ends where 200 steps
            brought nothing.
        tol: mean square of y - A x at which a fit ends.
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("scale", 0.01, 10.0)

    scale: float = 0.5
    every: int = 10
    ahead: int = 5
    gamma: float = 40.0
    pixel_fit: Literal["released", "pinv"] = "released"
    pixel_steps: int = 2000
    latent_steps: int = 500
    tol: float = 1e-6

    def __post_init__(self) -> None:
        if self.pixel_fit not in ("released", "pinv"):
            raise ValueError(f"pixel_fit is 'released' or 'pinv', got {self.pixel_fit!r}")
        for name in ("every", "ahead", "pixel_steps", "latent_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if not self.gamma > 0:
            raise ValueError(f"gamma must be positive, got {self.gamma}")

    def check(self, setup: Setup) -> str | None:
        if any(c_z > 0 for _, _, c_z in setup.process.coefficients):
            return "resample brings its own noise into steps without: use sampler=ddim (eta = 0)"
        return needs_linear(setup, "resample with pixel_fit=pinv") if self.pixel_fit == "pinv" else None

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, to_come = run.process, run.process.n_steps - 1 - i
        est, pull = linearize(process, x_t, i)
        step = run.push(est, i, -self.scale * process.alpha[i] ** 2 * pull(gradient(run.objective, est.x0_hat)))
        if to_come == 0:
            z0 = self._fit_latent(run, step.mean / process.alpha[-1])
            return Step(Estimate(z0, est.eps_hat), process.alpha[-1] * z0, 0.0, step.free), state
        third = process.n_steps // 3
        if to_come % self.every or to_come > process.n_steps - third:
            return step, state
        z0 = self._look_ahead(run, step.mean, i)
        fitted = self._fit_pixels(run, z0) if to_come >= third else self._fit_latent(run, z0)
        mean, std = self._mix(run, i, fitted, step.mean)
        return Step(Estimate(fitted, est.eps_hat), mean, std, step.free), state

    def _look_ahead(self, run: Run, z: Tensor, i: int) -> Tensor:
        """z0_hat after `ahead` steps from z, the state before step i + 1, or as many as there are."""
        process = run.process
        for k in range(i + 1, min(i + 1 + self.ahead, process.n_steps)):
            est = process.estimate(z, k)
            z = process.mean(est, k)
        return est.x0_hat

    def _mix(self, run: Run, i: int, fitted: Tensor, z: Tensor) -> tuple[Tensor, float]:
        """Mean and standard deviation of the product of two Gaussian beliefs about z_s."""
        alpha, sigma = run.process.alpha, run.process.sigma
        fresh = DDIM(1.0).coefficients(alpha[i], sigma[i], alpha[i + 1], sigma[i + 1])[2]
        v, level = self.gamma * fresh**2, sigma[i + 1] ** 2
        return (v * alpha[i + 1] * fitted + level * z) / (v + level), (v * level / (v + level)) ** 0.5

    def _fit_pixels(self, run: Run, z0: Tensor) -> Tensor:
        codec, obs = run.objective.codec, run.obs
        image = codec.decode(z0)
        if self.pixel_fit == "pinv":
            return codec.encode(obs.operator.prox(image, obs.y, 0.0))
        return codec.encode(adamw(lambda x: _error(run, x), image, self.pixel_steps, 1e-2, self.tol))

    def _fit_latent(self, run: Run, z0: Tensor) -> Tensor:
        return adamw(lambda z: _error(run, run.objective.decode(z)), z0, self.latent_steps, 5e-3, self.tol, PATIENCE)


def adamw(
    value: Callable[[Tensor], Tensor], x: Tensor, n_steps: int, lr: float, tol: float, patience: int | None = None
) -> Tensor:
    """Up to n_steps of AdamW on value [B] from x [B, ...]; a row ends below tol or if `patience` steps were in vain."""
    m = v = torch.zeros_like(x)
    active = torch.ones(len(x), dtype=torch.bool, device=x.device)
    losses: list[Tensor] = []
    for k in range(1, n_steps + 1):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            loss = value(z)
            (grad,) = torch.autograd.grad(loss.sum(), z)
        new, m, v = adam_step((1 - lr * DECAY) * x, grad, m, v, k, lr)
        x = torch.where(active.view(-1, *[1] * (x.ndim - 1)), new, x)
        losses.append(loss.detach())
        active = active & ~(losses[-1] < tol)
        if patience is not None and k > patience:
            active = active & ~(losses[-1] > losses[-1 - patience])
        if not active.any():
            break
    return x


def _error(run: Run, image: Tensor) -> Tensor:
    """Mean square of y - A x over what is measured, [B]."""
    return run.obs.residual(image).square().flatten(1).sum(1) / run.obs.n_measured
