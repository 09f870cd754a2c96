"""Proximal control of x0_hat by the operator's own solver: DDNM, DiffPIR and what lies between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rbctrl.controllers.base import Controller, Eps, Knob, Run, Setup, State, check_eps, needs_linear, needs_pixels
from rbctrl.process import Step


@dataclass(frozen=True)
class Proximal(Controller):
    """x0* = argmin |y - A x0|^2 + rho_t |x0 - x0_hat|^2, rho_t = weight (sigma_y alpha_t / sigma_t)^2.

    weight = 0 is the nearest image with A x0 = y. Two methods of the literature are settings of this one:

    * DDNM (Wang et al., ICLR 2023, Algorithm 1, https://arxiv.org/abs/2212.00490): weight 0, eps frozen, on `renoise`
      with its eta;
    * DiffPIR (Zhu et al., CVPRW 2023, Algorithm 1, https://arxiv.org/abs/2305.08995): eps recomputed, on `renoise` with
      eta^2 = its zeta; `weight` is its lambda.

    The energy is exact where every step has noise; on `renoise` the free chain is no discretisation of the reverse SDE.

    Args:
        weight: of x0_hat against the measurement.
        eps: whether eps_hat stays or follows from x_t and x0*.
    """

    knob: ClassVar[Knob | None] = Knob("weight", 0.01, 100.0, pulls="less")

    weight: float = 1.0
    eps: Eps = "recomputed"

    def __post_init__(self) -> None:
        check_eps(self.eps)
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")

    def check(self, setup: Setup) -> str | None:
        return needs_linear(setup, "proximal") or needs_pixels(setup, "proximal")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, obs = run.process, run.obs
        est = process.estimate(x_t, i)
        rho = self.weight * (obs.sigma_y * process.alpha[i] / process.sigma[i]) ** 2
        return run.replace_x0(est, i, obs.operator.prox(est.x0_hat, obs.y, rho), self.eps), state
