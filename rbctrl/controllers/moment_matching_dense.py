"""Moment matching where y has few entries: A Cov[x_0 | x_t] A^T as a matrix, and with it a belief about y.

With Cov[x_0 | x_t] = (sigma_t^2 / alpha_t) J, J = d x0_hat / d x_t, and a_j the rows of A, one pullback per measurement
gives the columns k_j = Cov a_j, and with them, under x_0 | x_t ~ N(x0_hat, Cov),

    C_ij = a_i . k_j + sigma_y^2 1_ij,      x0* = x0_hat + sum_j k_j w_j,   C w = y - A x0_hat,
    log psi_t(x_t) = -(y - A x0_hat) . w / 2 - log|C| / 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State, linearize, needs_linear, needs_pixels
from rbctrl.controllers.guidance import needs_signal
from rbctrl.controllers.resampling import LOG_PSI
from rbctrl.process import Step


@dataclass(frozen=True)
class DenseMomentMatching(Controller):
    """Tweedie moment matching without conjugate gradient, and with the belief about y that `Particles` weighs paths by.

    The Gaussian model is that of Boys et al., Tweedie Moment Projected Diffusions, 2023
    (https://arxiv.org/abs/2310.06721), solved exactly. What is left is what no Gaussian has: where x_0 given x_t has
    several modes, the control goes between them, and log psi lets a population choose. Exact for one Gaussian at small
    steps. A step costs one evaluation and one VJP per measurement. The energy is exact where every step has noise.

    Args:
        max_measurements: more entries of y than this are refused; `MomentMatching` takes any number.
    """

    max_measurements: int = 16

    def check(self, setup: Setup) -> str | None:
        name = "moment_matching_dense"
        return needs_linear(setup, name) or needs_pixels(setup, name) or needs_signal(setup, name)

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, obs = run.process, run.obs
        self._check_size(obs.y)
        est, pull = linearize(process, x_t, i)
        spread = process.sigma[i] ** 2 / process.alpha[i]
        measured = torch.eye(obs.y[0].numel(), dtype=x_t.dtype, device=x_t.device).view(-1, 1, *obs.y.shape[1:])
        rows = [obs.operator.adjoint(unit.expand_as(obs.y)) for unit in measured]
        columns = torch.stack([spread * pull(row, keep=True) for row in rows], 1).flatten(2)  # [B, m, D]
        gram = torch.einsum("bmd,bnd->bmn", torch.stack(rows, 1).flatten(2), columns).double()
        gram = (gram + gram.mT) / 2 + obs.sigma_y**2 * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        residual = obs.residual(est.x0_hat).flatten(1).double()
        w, log_det = _solve(gram, residual, obs.sigma_y**2)
        x0 = est.x0_hat + (columns * w[..., None].to(columns)).sum(1).view_as(x_t)
        log_psi = -((residual * w).sum(1) + log_det) / 2
        return run.replace_x0(est, i, x0, "recomputed"), {LOG_PSI: log_psi}

    def _check_size(self, y: Tensor) -> None:
        if y[0].numel() > self.max_measurements:
            raise ValueError(
                f"moment_matching_dense takes a VJP per measurement, and y has {y[0].numel()} entries: raise "
                f"controller.max_measurements={self.max_measurements}, or use controller=moment_matching"
            )


def _solve(gram: Tensor, residual: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """C^-1 r and log|C|; eigenvalues of C below sigma_y^2, which no covariance has, count as sigma_y^2."""
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=floor)
    coordinates = (vectors.mT @ residual[..., None])[..., 0] / values
    return (vectors @ coordinates[..., None])[..., 0], values.log().sum(1)
