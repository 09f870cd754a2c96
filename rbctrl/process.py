"""The uncontrolled reverse process on a time grid: all that a controller may ask of the prior.

One step is x_s = c_x0 x0_hat + c_eps eps_hat + c_z z. A controller moves its mean by u; with std the standard
deviation it chooses, the energy of the step is KL(N(mean, std^2) || N(free, c_z^2)), and the sum over the steps is
the KL of the whole controlled chain from the free one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from rbctrl.grids import TimeGrid, check_times
from rbctrl.integrators import DDIM, EulerMaruyama, FlowRenoise, Integrator, Renoise, ScaledDDPM, forward_kernel
from rbctrl.observation import Evaluations
from rbctrl.priors.base import Estimate, ExactPrior, Prior
from rbctrl.rng import ImageRNG


@dataclass(frozen=True, eq=False)
class Rotated:
    """Standard deviations along the columns of an orthonormal V: `rotated * z` is V (std z).

    Attributes:
        std: [1 or B, *shape], in the coordinates of V.
        rotate: c to V c, both [B, *shape]; V is the same for all rows.
    """

    std: Tensor
    rotate: Callable[[Tensor], Tensor]

    def __mul__(self, z: Tensor) -> Tensor:
        return self.rotate(self.std * z)

    def __getitem__(self, rows: Tensor) -> Rotated:
        return Rotated(self.std[rows] if len(self.std) > 1 else self.std, self.rotate)


@dataclass(frozen=True, eq=False)
class Step:
    """What a controller decided: x_s = mean + std z. The control u = mean - free is derived, never declared.

    Attributes:
        est: what the controller believes; that of the last step is the image.
        mean: [B, ...].
        std: one number, a tensor like `mean`, or one such in other coordinates (`Rotated`).
        free: mean of the uncontrolled step at x_t; None where there is none (the energy is then NaN).
        rows: [B], the row whose path each row goes on with; None: its own. Populations resample by it, and everything
            else in the step is already that of the chosen rows.
    """

    est: Estimate
    mean: Tensor
    std: float | Tensor | Rotated
    free: Tensor | None
    rows: Tensor | None = None

    def take(self, rows: Tensor) -> Step:
        """The step of rows that go on with the paths of `rows`."""
        if stays(rows):
            return self
        std = self.std[rows] if isinstance(self.std, Tensor | Rotated) else self.std
        x0_hat, eps_hat, mean = (v.index_select(0, rows) for v in (self.est.x0_hat, self.est.eps_hat, self.mean))
        free = None if self.free is None else self.free.index_select(0, rows)
        return Step(Estimate(x0_hat, eps_hat), mean, std, free, rows)


def stays(rows: Tensor) -> bool:
    """Whether every row is known to go on as itself; on a GPU nobody asks, since the answer would stop its queue."""
    return rows.device.type == "cpu" and torch.equal(rows, torch.arange(len(rows)))


class ReverseProcess:
    """A prior on a time grid.

    Args:
        prior: gives the schedule and the estimates.
        integrator: gives the coefficients of a step; up-moves of the grid use the forward kernel.
        times: [n_steps + 1], from noise to image.
        shape: of one x_t.
        start: x_T from N(0, sigma_T^2) or, for exact priors, from its true marginal p_T.
    """

    def __init__(
        self,
        prior: Prior,
        integrator: Integrator,
        times: Tensor,
        shape: tuple[int, ...],
        start: Literal["normal", "marginal"] = "normal",
    ) -> None:
        if start not in ("normal", "marginal"):
            raise ValueError(f"start is 'normal' or 'marginal', got {start!r}")
        if start == "marginal" and not isinstance(prior, ExactPrior):
            raise ValueError("start=marginal needs an exact prior (gmm2d, empirical, ...): use start=normal")
        self.prior, self.times, self.shape, self.start = prior, check_times(times), tuple(shape), start
        self.integrator = integrator
        self.n_steps = len(times) - 1
        self.evaluations = Evaluations()
        alpha, sigma = prior.schedule.levels(times)
        self.alpha, self.sigma = alpha.tolist(), sigma.tolist()
        levels = list(zip(self.alpha, self.sigma))
        self.coefficients = []
        for now, after in zip(levels, levels[1:]):
            up = after[1] * now[0] > now[1] * after[0]
            self.coefficients.append((forward_kernel if up else integrator.coefficients)(*now, *after))

    def init(self, rng: ImageRNG, x0: Tensor | float = 0.0) -> Tensor:
        """x_T: pure noise, noise around a clean state x0, or (start = "marginal") a draw from p_T."""
        if self.start == "marginal":
            return self.prior.sample_marginal(self.times[0], rng, self.shape)
        return self.alpha[0] * x0 + self.sigma[0] * rng.normal("init", self.shape)

    def estimate(self, x_t: Tensor, i: int) -> Estimate:
        """The prior's estimate before step i; counted."""
        return self.estimate_at(x_t, self.times[i])

    def estimate_at(self, x_t: Tensor, t: Tensor) -> Estimate:
        """The prior's estimate at any time t, a scalar fp64 tensor on the host; counted."""
        return self.prior.predict(self._counted(x_t, self.prior.evaluations), t)

    def estimate_prompted(self, x_t: Tensor, i: int, prompt: Tensor) -> Estimate:
        """The estimate of a `TextPrior` before step i, under an embedded prompt [B, L, D] of each row; counted."""
        if not x_t.requires_grad and prompt.requires_grad:
            prompt = prompt.view_as(prompt)
            prompt.register_hook(partial(self._count_vjp, 1))
        return self.prior.predict_prompted(self._counted(x_t, 1), self.times[i], prompt)

    def _counted(self, x_t: Tensor, evaluations: int) -> Tensor:
        self.evaluations.nfe += evaluations
        if x_t.requires_grad:
            x_t = x_t.view_as(x_t)
            x_t.register_hook(partial(self._count_vjp, evaluations))
        return x_t

    def _count_vjp(self, evaluations: int, _: Tensor) -> None:
        self.evaluations.vjp += evaluations

    def mean(self, est: Estimate, i: int) -> Tensor:
        """Mean of x_s after step i, given the estimate before it."""
        c_x0, c_eps, _ = self.coefficients[i]
        mean = c_x0 * est.x0_hat
        return mean if c_eps == 0 else mean.add_(est.eps_hat, alpha=c_eps)

    def noise(self, i: int) -> float:
        """c_z, the standard deviation of the free step i."""
        return self.coefficients[i][2]

    def learned_noise(self, est: Estimate, i: int) -> float | Tensor:
        """Standard deviation of a DDPM step whose variance was learned, per pixel; 0 where it lands on sigma = 0.

        With beta = sigma_t^2 - (alpha_t sigma_s / alpha_s)^2 and beta_tilde = c_z^2 = beta sigma_s^2 / sigma_t^2, the
        published log var = f log beta + (1 - f) log beta_tilde is std = c_z (sigma_t / sigma_s)^f.
        """
        if self.sigma[i + 1] == 0:
            return 0.0
        return self.noise(i) * (self.sigma[i] / self.sigma[i + 1]) ** est.variance_fraction

    def gain(self, i: int, eps: Literal["frozen", "recomputed"] = "recomputed") -> float:
        """d x_s / d x0_hat while eps_hat stays ("frozen"), or while x_t stays and eps_hat follows ("recomputed")."""
        c_x0, c_eps, _ = self.coefficients[i]
        return c_x0 if eps == "frozen" else c_x0 - c_eps * self.alpha[i] / self.sigma[i]

    def kl(self, step: Step, i: int) -> Tensor:
        """Control energy of step i in nats, [B]: KL(N(mean, std^2) || N(free, c_z^2)).

        inf, never 0, where c_z = 0 and the step is not the free one; NaN where `free` is None.
        """
        if step.free is None:
            return step.mean.new_full((len(step.mean),), math.nan)
        shift, c_z, scale = (step.mean - step.free).flatten(1), self.noise(i), _entries(step.std)
        if c_z == 0.0:
            std = torch.as_tensor(scale, dtype=shift.dtype, device=shift.device).expand_as(step.mean).flatten(1)
            return torch.where(((shift != 0) | (std != 0)).any(1), math.inf, 0.0).to(shift)
        energy = shift.square_().sum(1) / (2 * c_z**2)
        if isinstance(scale, Tensor):
            rows = len(scale) if scale.ndim == step.mean.ndim else 1
            ratio = (scale.expand(rows, *step.mean.shape[1:]).flatten(1) / c_z).square()
            return energy + (ratio - 1 - ratio.log()).sum(1) / 2
        ratio = (scale / c_z) ** 2
        return energy + shift.shape[1] * (ratio - 1 - math.log(ratio) if ratio > 0 else math.inf) / 2

    def log_ratio(self, step: Step, i: int, z: Tensor) -> Tensor:
        """log P_free(x_s) - log P_u(x_s) at x_s = mean + std z, [B]: the importance weight of a controlled step."""
        std = torch.as_tensor(_entries(step.std), dtype=z.dtype, device=z.device).expand_as(z)
        free_z = (step.mean + step.std * z - step.free) / self.noise(i)
        return ((z.square() - free_z.square()) / 2 + (std / self.noise(i)).log()).flatten(1).sum(1)


def _entries(std: float | Tensor | Rotated) -> float | Tensor:
    """The standard deviations themselves: a rotation changes no distance and no determinant, hence no KL."""
    return std.std if isinstance(std, Rotated) else std


def ddim(
    prior: Prior,
    shape: tuple[int, ...],
    n_steps: int,
    grid: TimeGrid,
    eta: float = 1.0,
    start: Literal["normal", "marginal"] = "normal",
) -> ReverseProcess:
    """DDIM(eta); eta = 1 is DDPM. `shape` is that of one x_t."""
    return ReverseProcess(prior, DDIM(eta), grid.times(prior.schedule, n_steps), shape, start)


def scaled_ddpm(
    prior: Prior,
    shape: tuple[int, ...],
    n_steps: int,
    grid: TimeGrid,
    eta: float = 1.0,
    start: Literal["normal", "marginal"] = "normal",
) -> ReverseProcess:
    """DDPM's posterior mean with eta times its noise."""
    return ReverseProcess(prior, ScaledDDPM(eta), grid.times(prior.schedule, n_steps), shape, start)


def renoise(
    prior: Prior,
    shape: tuple[int, ...],
    n_steps: int,
    grid: TimeGrid,
    eta: float = 1.0,
    start: Literal["normal", "marginal"] = "normal",
) -> ReverseProcess:
    """x0_hat under partly fresh noise, as DDNM and DiffPIR step (DiffPIR's zeta is eta^2)."""
    return ReverseProcess(prior, Renoise(eta), grid.times(prior.schedule, n_steps), shape, start)


def flow_renoise(
    prior: Prior,
    shape: tuple[int, ...],
    n_steps: int,
    grid: TimeGrid,
    start: Literal["normal", "marginal"] = "normal",
) -> ReverseProcess:
    """The steps of FlowDPS on a rectified flow."""
    return ReverseProcess(prior, FlowRenoise(), grid.times(prior.schedule, n_steps), shape, start)


def euler_maruyama(
    prior: Prior,
    shape: tuple[int, ...],
    n_steps: int,
    grid: TimeGrid,
    start: Literal["normal", "marginal"] = "normal",
) -> ReverseProcess:
    """Euler-Maruyama on the reverse SDE; needs a grid that ends at sigma > 0."""
    return ReverseProcess(prior, EulerMaruyama(), grid.times(prior.schedule, n_steps), shape, start)
