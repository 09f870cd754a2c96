"""STSL: DPS's step in latent space with the trace of the second derivative of log p_t, by one random vector.

    L(z) = weight cost(D(z0_hat(z)), y) + (curvature / d) e^T (s(z + e) - s(z)),    e ~ N(0, I),    s = grad log p_t

Before each step of the sampler z_t takes K steps z <- z - grad L, each with an e of its own. The expectation of the
second term over e is, to first order in e, the trace of grad s. By Tweedie's formula s(z) = (alpha_t z0_hat(z) - z) /
sigma_t^2, so that with J = d z0_hat / d z

    grad L = J(z)^T (weight grad cost - r e) + r J(z + e)^T e,      r = curvature alpha_t / (d sigma_t^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, Setup, State, gradient, linearize
from rbctrl.controllers.starts import Init, check_init, needs_start, start
from rbctrl.process import Step


@dataclass(frozen=True)
class STSL(Controller):
    """Rout et al., Beyond First-Order Tweedie, CVPR 2024. https://arxiv.org/abs/2312.00852.

    There is no released code: this follows the loss, the start and the K inner steps as the paper's summaries give
    them. The paper runs 50 steps of DDIM (eta = 0) with K = 5. A step costs 2 K + 1 evaluations and 2 K VJPs of the
    network and K of the decoder; the paper counts K.

    Its control acts on z_t with noise of its own, so its energy is an upper bound where every step has noise. The start
    depends on y, and is not charged.

    Note:
        The paper's first term is lambda |y - A D|^2, lambda = O(1 / sigma_y^2), and its value is not known. Here it is
        weight times the cost of the run: the norm itself (cost=residual_norm), or the paper's (cost=gaussian_nll).
        E(A^T y) is the start in the paper; a damped A^+ (see `starts`) has the right brightness where A A^T is not I.

    Args:
        weight: of the cost.
        curvature: eta of the paper.
        inner_steps: K, at least 1.
        init: z_T from the encoded measurement under noise ("forward"), by DDIM run backwards from it ("inversion", one
            more evaluation per step), or as the sampler has it ("noise").
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("weight", 0.01, 100.0)

    weight: float = 1.0
    curvature: float = 0.02
    inner_steps: int = 5
    init: Init = "forward"

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps is at least 1, got {self.inner_steps}: controller=none has no control")
        check_init(self.init)

    def check(self, setup: Setup) -> str | None:
        return needs_start(setup, self.init)

    def start(self, run: Run) -> tuple[Tensor, State]:
        return start(run, self.init), {}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, z = run.process, x_t
        free = x_t
        for k in range(self.inner_steps):
            est, pull = linearize(process, z, i)
            if k == 0:
                free = process.mean(est, i)
            e = run.rng.normal(f"stsl/{i}/{k}", process.shape)
            _, pull_shifted = linearize(process, z + e, i)
            rate = self.curvature * process.alpha[i] / (e[0].numel() * process.sigma[i] ** 2)
            first = self.weight * gradient(run.objective, est.x0_hat)
            z = z - pull(first - rate * e) - rate * pull_shifted(e)
        est = process.estimate(z, i)
        return Step(est, process.mean(est, i), process.noise(i), free), state
