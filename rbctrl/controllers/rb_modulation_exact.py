"""RB-Modulation, Algorithm 1: the control is a shift of x_t, descended through the network.

    v <- v - lr grad_v cost(decode(x0_hat(x_t + v))), M times from v = 0;     x_s = mean(estimate(x_t + v)) + c_z z

The paper's step DDIM(x0*, x*) starts from the shifted state x* = x_t + v, so that both x0_hat and eps_hat are those at
x*. Against the uncontrolled step the control is u = mean(estimate(x_t + v)) - mean(estimate(x_t)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, State, adam_step, gradient, linearize
from rbctrl.process import Step


@dataclass(frozen=True)
class RBModulationExact(Controller):
    """Rout et al., RB-Modulation, ICLR 2025, Algorithm 1. https://arxiv.org/abs/2405.17401.

    A step costs M + 1 evaluations and M VJPs of the network: the free mean comes with the first of them. The energy is
    exact where every step has noise.

    Note:
        The released code has Algorithm 2 only (`RBModulation`). Its optimiser, Adam with a learning rate that decays as
        lr (1 - i / n), is offered for this one as rule="released". Adam is scale-free and moves every coordinate by the
        learning rate; plain descent moves by lr times the gradient, which is small for most costs. The paper gives
        lr = 0.1 and M = 3 for all of its experiments and none for this algorithm alone.

    Args:
        inner_steps: M, at least 1; v is 0 again at every denoising step.
        lr: step size, in units of the state per unit gradient ("paper") or in units of the state ("released").
        rule: plain gradient descent at a constant lr ("paper") or Adam at a decaying one ("released").
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("lr", 0.003, 1.0)

    inner_steps: int = 3
    lr: float = 0.1
    rule: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps is at least 1, got {self.inner_steps}: controller=none has no control")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}: controller=none has no control")
        if self.rule not in ("paper", "released"):
            raise ValueError(f"rule is 'paper' or 'released', got {self.rule!r}")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process = run.process
        shift = first = second = torch.zeros_like(x_t)
        lr = self.lr * (1 - i / process.n_steps)
        free = x_t
        for k in range(1, self.inner_steps + 1):
            est, pull = linearize(process, x_t + shift, i)
            grad = pull(gradient(run.objective, est.x0_hat))
            if k == 1:
                free = process.mean(est, i)
            if self.rule == "paper":
                shift = shift - self.lr * grad
            else:
                shift, first, second = adam_step(shift, grad, first, second, k, lr)
        est = process.estimate(x_t + shift, i)
        return Step(est, process.mean(est, i), process.noise(i), free), state
