"""Moment matching: pseudo-inverse guidance with the prior's own covariance of x_0, taken from its Jacobian.

By Tweedie's second-order formula

    Cov[x_0 | x_t] = (sigma_t^2 / alpha_t) J,     J = d x0_hat / d x_t (symmetric for an exact x0_hat),

and if x_0 given x_t is N(x0_hat, Cov), then x_0 given x_t and y has the mean

    x0* = x0_hat + Cov A^T w,     (A Cov A^T + sigma_y^2 I) w = y - A x0_hat.

J is never formed: a product with it is one pullback, and w is found by conjugate gradient in the space of y.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State, linearize, needs_linear, needs_pixels
from rbctrl.controllers.guidance import needs_signal
from rbctrl.operators.solve import conjugate_gradient
from rbctrl.process import Step


@dataclass(frozen=True)
class MomentMatching(Controller):
    """MMPS: Rozet et al., Learning Diffusion Priors from Observations by EM, NeurIPS 2024. https://arxiv.org/abs/2405.13712.

    The same Gaussian model is that of TMPD (Boys et al., Tweedie Moment Projected Diffusions, 2023,
    https://arxiv.org/abs/2310.06721), which replaces A Cov A^T by a diagonal where it is too large to solve with.

    Exact for one Gaussian at small steps, if conjugate gradient is run to convergence. One iteration, the default of
    the authors' code, takes A Cov A^T for a multiple of the identity, and leaves a bias and too little variance
    (experiments/gaussian_truth); the default here is 8. A step costs one evaluation and at most max_steps + 1 VJPs.
    The energy is exact where every step has noise.

    Note:
        Pullbacks give J^T, which is J for an exact prior only. A network's J is not quite symmetric, and a direction in
        which A Cov A^T + sigma_y^2 I is not positive ends the iteration of its row.

    Args:
        max_steps: of conjugate gradient, at least 1; each is one VJP.
        tol: residual of w, relative to y - A x0_hat, at which a row stops.
    """

    max_steps: int = 8
    tol: float = 1e-3

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps is at least 1, got {self.max_steps}: controller=none has no control")
        if not 0 <= self.tol < 1:
            raise ValueError(f"tol is a relative residual in [0, 1), got {self.tol}")

    def check(self, setup: Setup) -> str | None:
        name = "moment_matching"
        return needs_linear(setup, name) or needs_pixels(setup, name) or needs_signal(setup, name)

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, obs = run.process, run.obs
        est, pull = linearize(process, x_t, i)
        spread = process.sigma[i] ** 2 / process.alpha[i]

        def covariance(v: Tensor, keep: bool) -> Tensor:
            return spread * pull(v, keep)

        def gram(w: Tensor) -> Tensor:
            return obs.operator(covariance(obs.operator.adjoint(w), keep=True)) + obs.sigma_y**2 * w

        w = conjugate_gradient(gram, obs.residual(est.x0_hat), self.tol, self.max_steps)
        moved = covariance(obs.operator.adjoint(w), keep=False)
        return run.replace_x0(est, i, est.x0_hat + moved, "recomputed"), state
