"""RB-Modulation in latent space: the proximal problem of Algorithm 2 by Gauss-Newton, through the decoder alone.

    z0* = argmin_z |z - z0_hat|^2 + |y - A D(z)|^2 / rho,     rho = max(sigma_y, sigma_floor)^2 / (strength r_t^2)

with D linearised at z0_hat and K steps of conjugate gradient on the normal equations (I + J^T A^T A J / rho) dz =
J^T A^T r / rho, J the Jacobian of D. Where D is affine and A linear, enough steps are the closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Eps, Knob, Run, Setup, State, check_eps
from rbctrl.controllers.rb_modulation import check_proximal, proximal_weight
from rbctrl.controllers.starts import Init, check_init, needs_start, start
from rbctrl.process import Step

PROBE = 0.01  # length of the finite difference for J d, relative to z0_hat


@dataclass(frozen=True)
class RBModulationLatent(Controller):
    """Rout et al., RB-Modulation, ICLR 2025, Algorithm 2, as a least-squares problem. https://arxiv.org/abs/2405.17401.

    The network is never differentiated. A step costs one of its evaluations, K VJPs of the decoder and K + 1 of its
    forwards; J d is a finite difference. Any differentiable operator will do. If Cov[z_0 | z_t] is strength r_t^2 I and
    D affine, z0* is E[z_0 | z_t, y]: for latents N(m, I) on a VP schedule and strength 1 this is the optimal control.
    In pixels it is `RBModulationProx`. The energy is exact where every step has noise.

    Args:
        strength: of the measurement against z0_hat.
        inner_steps: K, at least 1.
        eps: whether eps_hat stays or follows from z_t and z0*.
        sigma_floor: sigma_y is not taken below this, on [-1, 1].
        init: z_T as the sampler has it ("noise"), or from the encoded measurement, by fresh noise ("forward") or DDIM
            run backwards ("inversion"): for a linear operator, and a grid that starts at less noise.
    """

    knob: ClassVar[Knob | None] = Knob("strength", 0.01, 100.0)

    strength: float = 1.0
    inner_steps: int = 1
    eps: Eps = "recomputed"
    sigma_floor: float = 0.02
    init: Init = "noise"

    def __post_init__(self) -> None:
        check_eps(self.eps)
        check_proximal(self.strength, self.sigma_floor)
        check_init(self.init)
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps is at least 1, got {self.inner_steps}: controller=none has no control")

    def check(self, setup: Setup) -> str | None:
        return needs_start(setup, self.init)

    def start(self, run: Run) -> tuple[Tensor, State]:
        return start(run, self.init), {}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        est = run.process.estimate(x_t, i)
        rho = proximal_weight(run, i, self.strength, self.sigma_floor)
        z0 = est.x0_hat + gauss_newton(run, est.x0_hat, rho, self.inner_steps)
        return run.replace_x0(est, i, z0, self.eps), state


def gauss_newton(run: Run, z0: Tensor, rho: float, n_steps: int) -> Tensor:
    """dz that minimises |dz|^2 + |y - A D(z0) - A J dz|^2 / rho, as far as n_steps get, [B, ...]; row by row."""
    measured, pull = _pullback(run, z0)
    residual = run.obs.y - measured
    moved, slope = torch.zeros_like(z0), pull(residual, n_steps > 1) / rho
    direction, size = slope, _dot(slope, slope)
    least = size * (10 * torch.finfo(z0.dtype).eps) ** 2  # below it is rounding, and a row stays where it is
    for k in range(n_steps):
        ahead = _push(run, z0, measured, direction)
        step = _ratio(size, _dot(direction, direction) + _dot(ahead, ahead) / rho).where(size > least, 0.0)
        moved = moved + _like(step, moved) * direction
        if k + 1 == n_steps:
            break
        residual = residual - _like(step, residual) * ahead
        slope = pull(residual, k + 2 < n_steps) / rho - moved
        new = _dot(slope, slope)
        direction, size = slope + _like(_ratio(new, size), slope) * direction, new
    return moved


def _pullback(run: Run, z0: Tensor) -> tuple[Tensor, Callable[[Tensor, bool], Tensor]]:
    """A D(z0), and (v, keep) -> J^T A^T v."""
    with torch.enable_grad():
        z = z0.detach().requires_grad_()
        measured = run.obs.operator(run.objective.decode(z))
    return measured.detach(), lambda v, keep: torch.autograd.grad(measured, z, v, retain_graph=keep)[0]


def _push(run: Run, z0: Tensor, measured: Tensor, direction: Tensor) -> Tensor:
    """A J d by a finite difference of A D, exact to rounding where both are affine."""
    h = _like(PROBE * _ratio(_dot(z0, z0), _dot(direction, direction)).sqrt().clamp(min=1e-6), z0)
    return (run.obs.operator(run.objective.decode(z0 + h * direction)) - measured) / _like(h.flatten(), measured)


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).flatten(1).sum(1)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below.where(below > 0, 1.0), 0.0)


def _like(row: Tensor, tensor: Tensor) -> Tensor:
    return row.view(-1, *[1] * (tensor.ndim - 1))
