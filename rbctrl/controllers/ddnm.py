"""DDNM+: the null-space method for noisy measurements (DDNM itself is a setting of `Proximal`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State, needs_linear, needs_pixels
from rbctrl.controllers.spectral import needs_levels, needs_svd, spectral_step
from rbctrl.priors.base import Estimate
from rbctrl.process import Step


@dataclass(frozen=True)
class DDNMPlus(Controller):
    """Wang et al., Denoising Diffusion Null-Space Model, ICLR 2023, eq. 17, 19 and 51. https://arxiv.org/abs/2212.00490.

    x0_hat is moved onto A x = y as far as the noise that this brings in, alpha_s lam A^+ sigma_y n, fits into sigma_s:

        scalar    x0* = x0_hat + lam A^+(y - A x0_hat),   x_s = alpha_s x0* + (gam / sigma_s) (c_eps eps_hat + c_z z),
                  lam = min(1, sigma_s / (alpha_s sigma_y)),   gam^2 = sigma_s^2 - (lam alpha_s sigma_y)^2
        spectral  the like per singular direction, with sigma_y / s_j for sigma_y

    and sigma_y = 0 is DDNM in both. `scalar` takes A^+ n for unit noise along every direction, null space included, and
    eps_hat for free of n: true where all s_j = 1 and eta = 1. `spectral` with sigma_y > 0 is the step of DDRM with
    eta_b = 1; the start is pure noise.

    eta is that of the sampler: sampler=renoise sampler.eta=0.85 sampler.n_steps=100 is the released setting. Time
    travel is a grid that also goes up, by q(x_s | x_t), where the released code noises x0_hat afresh. The released code
    names sigma_y for images in [0, 1] and doubles it inside; here it is on [-1, 1]. No network is differentiated. The
    energy is exact where every free step has noise; `scalar` costs inf once gam = 0.

    Note:
        The released script of the scalar form has alpha_s^2 for alpha_s in lam and gam, and multiplies the noise by gam
        instead of gam / sigma_s; the released super-resolution and colourisation apply V to eps_hat without V^T first.
        Neither keeps the noise level, so neither is done here.

    Args:
        form: of lam and gam.
    """

    form: Literal["spectral", "scalar"] = "spectral"

    def __post_init__(self) -> None:
        if self.form not in ("spectral", "scalar"):
            raise ValueError(f"form is 'spectral' or 'scalar', got {self.form!r}")

    def check(self, setup: Setup) -> str | None:
        needs_operator = needs_svd if self.form == "spectral" else needs_linear
        return (
            needs_pixels(setup, "ddnm_plus") or needs_operator(setup, "ddnm_plus") or needs_levels(setup, "ddnm_plus")
        )

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        est = run.process.estimate(x_t, i)
        if self.form == "spectral" and run.obs.sigma_y > 0:
            return spectral_step(run, est, i, eta_b=1.0), state
        return _scalar_step(run, est, i), state


def _scalar_step(run: Run, est: Estimate, i: int) -> Step:
    process, obs = run.process, run.obs
    c_x0, c_eps, c_z = process.coefficients[i]
    sigma, noise = process.sigma[i + 1], process.alpha[i + 1] * obs.sigma_y
    fits = noise <= sigma
    lam = 1.0 if fits else sigma / noise
    left = math.sqrt(1 - (noise / sigma) ** 2) if fits and sigma > 0 else 0.0  # gam / sigma_s
    moved = lam * (obs.operator.prox(est.x0_hat, obs.y, 0.0) - est.x0_hat)
    x0 = est.x0_hat + moved
    mean = (c_x0 * x0).add(est.eps_hat, alpha=c_eps * left)
    return Step(Estimate(x0, est.eps_hat), mean, c_z * left, process.mean(est, i))
