"""RB-Modulation, Algorithm 2: a proximal control on x0_hat. The network is never differentiated.

    x0* ~ argmin_x0 cost(decode(x0)) + weight |x0 - x0_hat|^2,     u = gain (x0* - x0_hat)

Where released code and paper differ, `rule` switches the optimiser, and the rest are parameters:

                      released code                    paper                      here
    optimiser         Adam, lr (1 - i / n)             plain descent, lr          rule
    distance          1 - cos                          |.|^2 of unit vectors,     cost=cosine; lr twice as large with
                                                       which is 2 (1 - cos)       rule=paper, and weight half
    proximal term     mean square, 0 or 1              sum, lambda not given      prox_weight = lambda D, of a mean
    eps_hat           frozen                           not said                   eps
    controlled steps  the first tau                    all                        controller=window
    guidance rescale  deviation of the batch           -                          of each image (`Guidance`)
    token sets        the prompt in every branch       no text in image branches  attention.rule
    embedding         CLIP in the demo, CSD by flag    CSD                        attention.style: picture or embedding

The released code also loads its descriptor and masks within each call, keeps gradients of the descriptor's weights and
computes the reference's features in every step; here y is computed once and weights never have gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rbctrl.controllers.base import (
    Controller,
    Eps,
    Knob,
    Run,
    Setup,
    State,
    adam,
    check_eps,
    descend,
    needs_linear,
    needs_pixels,
)
from rbctrl.process import Step


@dataclass(frozen=True)
class RBModulation(Controller):
    """Rout et al., RB-Modulation, ICLR 2025, Algorithm 2, as released: a few Adam steps. https://arxiv.org/abs/2405.17401.

    Adam is scale-free: its first step moves every coordinate by the learning rate, whatever the cost, and the
    learning rate decays as lr (1 - i / n). The energy is exact where every step has noise.

    FlowDPS (Kim et al., 2025, https://arxiv.org/abs/2503.08136) is a setting of it on a rectified-flow prior: plain
    descent, blend="sigma", cost=residual_norm with cost.space=pinv, sampler=flowdps (`experiment=flowdps`).

    Args:
        inner_steps: M, optimiser steps per denoising step; the optimiser is fresh in each.
        lr: Adam's learning rate before decay, in units of the state; or, with rule="paper", of plain descent.
        prox_weight: of the mean square of x0 - x0_hat (the released code's `lam_txt_alignment`; 0 by default there).
        eps: "frozen" keeps eps_hat (released code), "recomputed" lets it follow from x_t and x0* (a reading of the
            paper's DDIM(x0*, x_t)); the second is a much weaker control at the same settings.
        rule: Adam at a decaying learning rate ("released"), or plain descent at a constant one ("paper").
        blend: how much of x0* - x0_hat is taken: all of it, or the share sigma_t, as FlowDPS does.
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("lr", 0.003, 1.0)

    inner_steps: int = 3
    lr: float = 0.1
    prox_weight: float = 0.0
    eps: Eps = "frozen"
    rule: Literal["released", "paper"] = "released"
    blend: Literal["full", "sigma"] = "full"

    def __post_init__(self) -> None:
        check_eps(self.eps)
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps is at least 1, got {self.inner_steps}: controller=none has no control")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}: controller=none has no control")
        for name, options in {"rule": ("released", "paper"), "blend": ("full", "sigma")}.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is one of {', '.join(options)}; got {getattr(self, name)!r}")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        est = run.process.estimate(x_t, i)

        def value(x0: Tensor) -> Tensor:
            cost = run.objective(x0)
            if self.prox_weight == 0:
                return cost
            return cost + self.prox_weight * (x0 - est.x0_hat).flatten(1).square().mean(1)

        if self.rule == "released":
            x0 = adam(value, est.x0_hat, self.inner_steps, self.lr * (1 - i / run.process.n_steps))
        else:
            x0 = descend(value, est.x0_hat, self.inner_steps, self.lr)
        if self.blend == "sigma":
            x0 = torch.lerp(est.x0_hat, x0, run.process.sigma[i])
        return run.replace_x0(est, i, x0, self.eps), state


@dataclass(frozen=True)
class RBModulationProx(Controller):
    """Algorithm 2 solved in closed form, for a linear operator and a quadratic cost.

        x0* = argmin |x0 - x0_hat|^2 + g |y - A x0|^2,
        g = strength r_t^2 / sigma_y^2,   r_t^2 = sigma_t^2 / (alpha_t^2 + sigma_t^2)

    This is E[x_0 | x_t, y] where Cov[x_0 | x_t] = strength r_t^2 I. The energy is exact where every step has noise.

    Args:
        strength: of the measurement against x0_hat.
        eps: as in `RBModulation`.
        sigma_floor: sigma_y is not taken below this, on [-1, 1]; with less the control fits the noise of the network.
    """

    knob: ClassVar[Knob | None] = Knob("strength", 0.01, 100.0)

    strength: float = 1.0
    eps: Eps = "frozen"
    sigma_floor: float = 0.02

    def __post_init__(self) -> None:
        check_eps(self.eps)
        check_proximal(self.strength, self.sigma_floor)

    def check(self, setup: Setup) -> str | None:
        return needs_linear(setup, "rb_modulation_prox") or needs_pixels(setup, "rb_modulation_prox")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        est, obs = run.process.estimate(x_t, i), run.obs
        rho = proximal_weight(run, i, self.strength, self.sigma_floor)
        return run.replace_x0(est, i, obs.operator.prox(est.x0_hat, obs.y, rho), self.eps), state


def proximal_weight(run: Run, i: int, strength: float, sigma_floor: float) -> float:
    """rho = 1 / g at step i: of |x0 - x0_hat|^2 against |y - A x0|^2."""
    alpha, sigma = run.process.alpha[i], run.process.sigma[i]
    return max(run.obs.sigma_y, sigma_floor) ** 2 * (alpha**2 + sigma**2) / (strength * sigma**2)


def check_proximal(strength: float, sigma_floor: float) -> None:
    """Raises ValueError unless strength > 0 and sigma_floor >= 0."""
    if not strength > 0:
        raise ValueError(f"strength must be positive, got {strength}: controller=none has no control")
    if sigma_floor < 0:
        raise ValueError(f"sigma_floor must not be negative, got {sigma_floor}")
