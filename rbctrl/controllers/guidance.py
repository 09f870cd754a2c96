"""Pseudo-inverse guidance: the likelihood score under a Gaussian belief about x_0, pulled back through the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, Setup, State, linearize, needs_pinv, needs_pixels
from rbctrl.controllers.resampling import LOG_PSI
from rbctrl.observation import Observation
from rbctrl.operators.base import LinearOperator
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
    eps_hat recomputed. At sigma_y = 0 this is J^T (A^+ y - A^+ A x0_hat) / r_t^2, which the paper's section 3.3 also
    takes for a non-linear A with A A^+ A = A, such as JPEG. `Particles` weighs paths by the belief
    N(y; A x0_hat, r_t^2 A A^T + sigma_y^2 I). The energy is exact where every step has noise.

    Note:
        Of a non-linear A the paper has the noise-free case. With noise r_t^2 becomes r_t^2 + sigma_y^2 here, as if
        A^+ y = A^+ A x_0 + sigma_y n: right where A^+ has slope 1, as for JPEG and quantisation, ours.

    Args:
        scale: multiplies g; 1 is the model above.
    """

    knob: ClassVar[Knob | None] = Knob("scale", 0.1, 10.0)

    scale: float = 1.0

    def check(self, setup: Setup) -> str | None:
        return needs_pinv(setup, "guidance") or needs_pixels(setup, "guidance") or needs_signal(setup, "guidance")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, obs = run.process, run.obs
        alpha, sigma = process.alpha[i], process.sigma[i]
        est, pull = linearize(process, x_t, i)
        spread = sigma**2 / (alpha**2 + sigma**2)
        pulled, misfit = _towards_y(obs, est.x0_hat, obs.sigma_y**2 / spread)
        moved = (self.scale * sigma**2 / (alpha * spread)) * pull(pulled)
        step = run.replace_x0(est, i, est.x0_hat + moved, "recomputed")
        return step, {LOG_PSI: -misfit / (2 * spread)}


def _towards_y(obs: Observation, x0_hat: Tensor, rho: float) -> tuple[Tensor, Tensor]:
    """A^T K r and r^T K r [B] for r = y - A x0_hat, K = (A A^T + rho I)^-1; for a non-linear A see the Note."""
    operator = obs.operator
    if isinstance(operator, LinearOperator):
        residual = obs.residual(x0_hat)
        solved = operator.gram_solve(residual, rho)
        return operator.adjoint(solved), (residual * solved).flatten(1).sum(1)
    difference = operator.pinv(obs.y) - operator.pinv(operator(x0_hat))
    return difference / (1 + rho), difference.square().flatten(1).sum(1) / (1 + rho)
