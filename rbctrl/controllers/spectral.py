"""What DDRM and DDNM+ share: a step that takes the noise of the measurement for its own, in each singular direction.

With A = U S V^T, xbar = V^T x and ybar = S^+ U^T y, coordinate j of ybar is x0bar_j + (sigma_y / s_j) n: a state of the
diffusion at a level of its own. A step to (alpha_s, sigma_s) is in these coordinates

    before  0 < alpha_s sigma_y <= s_j sigma_s:  mean alpha_s (x0bar + eta_b (ybar - x0bar)),
                                                 std^2 = sigma_s^2 - (eta_b alpha_s sigma_y / s_j)^2
    after   0 < s_j sigma_s < alpha_s sigma_y:   mean alpha_s x0bar + c_eps (U^T y - s x0bar)_j / sigma_y,  std c_z
    unseen  s_j = 0:                             the free step

and x_s = V xbar_s. If x0_hat were x_0, the noises would add up to x_s ~ N(alpha_s x_0, sigma_s^2 I) whatever A, as long
as the sampler itself keeps that law (c_x0 = alpha_s, c_eps^2 + c_z^2 = sigma_s^2): the claim of both methods. `before`
is the side of much noise, where the measurement is the cleaner of the two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rbctrl.controllers.base import Run, Setup, needs_linear
from rbctrl.operators.base import LinearOperator
from rbctrl.operators.svd import SVD
from rbctrl.priors.base import Estimate
from rbctrl.process import Rotated, Step


def svd_of(run: Run, like: Tensor) -> SVD:
    """That of the drawn operator, for images like `like` [B, ...].

    Raises:
        ValueError: it has none.
    """
    svd = run.obs.operator.svd(like)
    if svd is None:
        raise ValueError(_no_svd(run.obs.operator, "this method"))
    return svd


def spectral_start(run: Run) -> Tensor:
    """x_T given y: N(alpha_T ybar, sigma_T^2 - (alpha_T sigma_y / s)^2) where that is a law, else N(0, sigma_T^2).

    With start=marginal it is the draw from p_T that was asked for.
    """
    process, obs = run.process, run.obs
    if process.start == "marginal":
        return process.init(run.rng)
    white = run.rng.normal("init", process.shape)
    svd = svd_of(run, white)
    known, spread = _cleaner(svd, process.alpha[0] * obs.sigma_y, process.sigma[0])
    mean = torch.where(known, process.alpha[0] * svd.solve(obs.y), 0.0)
    return svd.from_v(mean + _rest(process.sigma[0], spread) * white)


def spectral_step(run: Run, est: Estimate, i: int, eta_b: float) -> Step:
    """The step above, from an estimate before step i; its belief is x0_hat with eta_b of ybar in it where `before`."""
    process, obs = run.process, run.obs
    svd = svd_of(run, est.x0_hat)
    seen = svd.seen
    x0, eps = seen.to_v(est.x0_hat), seen.to_v(est.eps_hat)
    gap = torch.where(seen.s > 0, seen.solve(obs.y) - x0, 0.0)
    _, c_eps, c_z = process.coefficients[i]
    alpha, sigma = process.alpha[i + 1], process.sigma[i + 1]
    before, _ = _cleaner(seen, alpha * obs.sigma_y, sigma)
    after = (seen.s > 0) & ~before
    moved = torch.where(before, eta_b * gap, 0.0)
    eps_y = torch.where(after, seen.s * gap / (obs.sigma_y or 1.0), 0.0)  # eps_hat, as the measurement has it
    u = alpha * moved + c_eps * torch.where(before | after, eps_y - eps, 0.0)
    free = process.mean(est, i)
    belief = Estimate(est.x0_hat + seen.from_v(moved), est.eps_hat)
    cleaner, spread = _cleaner(svd, alpha * obs.sigma_y, sigma)
    std = torch.where(cleaner, _rest(sigma, eta_b * spread), c_z)
    if svd.is_diagonal:
        return Step(belief, free + seen.from_v(u), std.expand_as(free), free)
    std = std.expand(len(std) if std.ndim == free.ndim else 1, *free.shape[1:])
    return Step(belief, free + seen.from_v(u), Rotated(std, svd.from_v), free)


def _cleaner(svd: SVD, noise: float, sigma: float) -> tuple[Tensor, Tensor]:
    """Where noise / s is at most sigma, and noise / s there, 0 elsewhere."""
    cleaner = (svd.s > 0) & (noise <= svd.s * sigma)
    spread = noise / torch.where(cleaner, svd.s, 1.0)
    return cleaner, torch.where(cleaner, spread, 0.0)


def _rest(sigma: float, spread: Tensor) -> Tensor:
    return (sigma**2 - spread.square()).clamp(min=0).sqrt()


def needs_svd(setup: Setup, name: str) -> str | None:
    """The reason if the operator has no singular value decomposition."""
    operator = setup.operator
    if isinstance(operator, LinearOperator) and type(operator).svd is LinearOperator.svd:
        return _no_svd(operator, name)
    return needs_linear(setup, name)


def needs_levels(setup: Setup, name: str) -> str | None:
    """The reason if the sampler's steps do not lead from q(x_t | x_0) to q(x_s | x_0)."""
    process = setup.process
    for (c_x0, c_eps, c_z), alpha, sigma in zip(process.coefficients, process.alpha[1:], process.sigma[1:]):
        if not (math.isclose(c_x0, alpha) and math.isclose(math.hypot(c_eps, c_z), sigma, abs_tol=1e-12)):
            return f"{name} counts on steps that keep the noise level: use sampler=renoise (the paper's), ddim or ddpm"
    return None


def _no_svd(operator: object, name: str) -> str:
    return (
        f"{name} works along the singular directions of A, which {type(operator).__name__} does not offer; identity, "
        "masks, downsampling, Gaussian blur and matrices do, and dps, ddnm or guidance do without"
    )
