"""P2L: latent DPS under a prompt that is tuned on the way, and a periodic projection through pixels.

At each step, with C the embedded prompt of each row:

    C         <- K steps of Adam on mean |y - A D(z0_hat(z_t, C))|^2, one optimiser for the whole run
    z0_hat    = z0_hat(z_t, C)
    z0*       = E(argmin_x |y - A x|^2 + prox_weight |x - D(z0_hat)|^2) in every `project_every`-th step, else z0_hat
    z_s       = the sampler's step from z0* and eps_hat, - rho grad_{z_t} |y - A D(z0_hat)|
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from rbctrl.controllers.base import (
    Controller,
    Knob,
    Run,
    Setup,
    State,
    adam_step,
    gradient,
    linearize,
    needs_linear,
)
from rbctrl.operators.solve import conjugate_gradient
from rbctrl.priors.base import Estimate, TextPrior
from rbctrl.process import Step


@dataclass(frozen=True)
class P2L(Controller):
    """Chung et al., Prompt-tuning latent diffusion models for inverse problems, ICML 2024. https://arxiv.org/abs/2310.01110.

    The authors' code is not public: this follows the objectives of their survey chapter. Without prompt and projection
    (inner_steps=0, project_every=null) it is latent DPS with zeta = rho. A step costs K + 1 evaluations and VJPs of
    network and decoder, and an encoding where it projects. Under a tuned prompt there is no free step and the energy is
    undefined (NaN), else it is exact where every step has noise.

    Args:
        inner_steps: K, Adam steps on the prompt; 0 for priors without one.
        lr: of these.
        rho: step size of the gradient.
        project_every: every so many steps one, the last of them, projects; None: none does.
        prox_weight: lambda, of D(z0_hat) in the projection.
        cg_steps: of conjugate gradient from D(z0_hat), for the projection; None: the operator's own solution.
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("rho", 0.01, 10.0)

    inner_steps: int = 1
    lr: float = 1e-4
    rho: float = 1.0
    project_every: int | None = 10
    prox_weight: float = 1e-4
    cg_steps: int | None = 5

    def __post_init__(self) -> None:
        if self.inner_steps < 0:
            raise ValueError(f"inner_steps must not be negative, got {self.inner_steps}")
        for name in ("project_every", "cg_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1 or null, got {getattr(self, name)}")
        if not self.lr > 0 or self.prox_weight < 0:
            raise ValueError(f"p2l needs lr > 0 and prox_weight >= 0, got {self.lr} and {self.prox_weight}")

    def check(self, setup: Setup) -> str | None:
        if self.inner_steps > 0 and not isinstance(setup.prior, TextPrior):
            return (
                "p2l tunes the prompt of a text-to-image prior, and this prior has none: there is nothing to tune. "
                "controller.inner_steps=0 runs the rest of it"
            )
        return None if self.project_every is None else needs_linear(setup, "the projection of p2l")

    def start(self, run: Run) -> tuple[Tensor, State]:
        x_T, state = super().start(run)
        if self.inner_steps > 0:
            prompt = run.process.prior.prompt_embedding().to(x_T.device)
            prompt = prompt.expand(len(x_T), *prompt.shape[-2:])
            state = {"prompt": prompt, "m": torch.zeros_like(prompt), "v": torch.zeros_like(prompt)}
        return x_T, state

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        state = self._tune(run, x_t, i, state)
        est, pull = linearize(run.process, x_t, i, state.get("prompt"))
        u = -self.rho * pull(gradient(run.objective, est.x0_hat))
        if self.project_every is not None and (i + 1) % self.project_every == 0:
            step = _shifted(run, run.replace_x0(est, i, self._project(run, est.x0_hat), "frozen"), i, u)
        else:
            step = run.push(est, i, u)
        return step if self.inner_steps == 0 else replace(step, free=None), state

    def _tune(self, run: Run, x_t: Tensor, i: int, state: State) -> State:
        """The prompt after K steps of Adam; the network's Jacobian with respect to it takes the decoder's gradient."""

        def error(z0: Tensor) -> Tensor:
            return run.obs.residual(run.objective.decode(z0)).square().flatten(1).sum(1) / run.obs.n_measured

        for k in range(self.inner_steps):
            with torch.enable_grad():
                prompt = state["prompt"].detach().requires_grad_()
                x0_hat = run.process.estimate_prompted(x_t, i, prompt).x0_hat
            (grad,) = torch.autograd.grad(x0_hat, prompt, gradient(error, x0_hat))
            count = i * self.inner_steps + k + 1
            tuned, m, v = adam_step(prompt.detach(), grad, state["m"], state["v"], count, self.lr)
            state = {"prompt": tuned, "m": m, "v": v}
        return state

    def _project(self, run: Run, z0: Tensor) -> Tensor:
        obs, codec = run.obs, run.objective.codec
        image = codec.decode(z0)
        if self.cg_steps is None:
            return codec.encode(obs.operator.prox(image, obs.y, self.prox_weight))

        def normal(x: Tensor) -> Tensor:
            return obs.operator.adjoint(obs.operator(x)) + self.prox_weight * x

        moved = conjugate_gradient(normal, obs.operator.adjoint(obs.residual(image)), 1e-4, self.cg_steps)
        return codec.encode(image + moved)


def _shifted(run: Run, step: Step, i: int, u: Tensor) -> Step:
    """The step, displaced by u; as in `Run.push`, its mean is the image where it lands on sigma = 0."""
    mean = step.mean + u
    est = step.est if run.process.sigma[i + 1] > 0 else Estimate(mean, step.est.eps_hat)
    return replace(step, est=est, mean=mean)
