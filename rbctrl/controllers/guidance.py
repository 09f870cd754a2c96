"""Pseudo-inverse guidance: the likelihood score under a Gaussian belief about x_0, pulled back through the network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State, linearize, needs_linear, needs_pixels
from rbctrl.controllers.resampling import LOG_PSI
from rbctrl.process import Step


def needs_signal(setup: Setup, name: str) -> str | None:
    """The reason if a step starts at alpha = 0: (sigma_t^2 / alpha_t) J, the covariance of x_0 given x_t, is 0 / 0."""
    if all(alpha > 0 for alpha in setup.process.alpha[:-1]):
        return None
    return (
        f"{name} divides by alpha, and this grid starts at alpha = 0, where x_t says nothing of the image: "
        "start later, with sampler.grid.t_start=0.999 or sampler/grid=log_snr"
    )


@dataclass(frozen=True)
class PseudoinverseGuidance(Controller):
    """Song et al., Pseudoinverse-Guided Diffusion Models, ICLR 2023, eq. 7. https://openreview.net/forum?id=9_gsMA8MRKQ.

    With p(x_0 | x_t) ~ N(x0_hat, r_t^2 I), r_t^2 = sigma_t^2 / (alpha_t^2 + sigma_t^2) (images of unit variance), the
    likelihood score is

        g = J^T A^T (r_t^2 A A^T + sigma_y^2 I)^-1 (y - A x0_hat),     J = d x0_hat / d x_t,

    and by Tweedie's formula it moves x0_hat by (sigma_t^2 / alpha_t) g; the step is that of the moved x0_hat, with
    eps_hat recomputed. At sigma_y = 0 this is J^T (A^+ y - A^+ A x0_hat) / r_t^2. `Particles` weighs paths by the
    belief N(y; A x0_hat, r_t^2 A A^T + sigma_y^2 I). The energy is exact where every step has noise.

    Args:
        scale: multiplies g; 1 is the model above.
    """

    scale: float = 1.0

    def check(self, setup: Setup) -> str | None:
        return needs_linear(setup, "guidance") or needs_pixels(setup, "guidance") or needs_signal(setup, "guidance")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, obs = run.process, run.obs
        alpha, sigma = process.alpha[i], process.sigma[i]
        est, pull = linearize(process, x_t, i)
        spread = sigma**2 / (alpha**2 + sigma**2)
        residual = obs.residual(est.x0_hat)
        solved = obs.operator.gram_solve(residual, obs.sigma_y**2 / spread)
        moved = (self.scale * sigma**2 / (alpha * spread)) * pull(obs.operator.adjoint(solved))
        step = run.replace_x0(est, i, est.x0_hat + moved, "recomputed")
        return step, {LOG_PSI: -(residual * solved).flatten(1).sum(1) / (2 * spread)}
