"""MCGDiff: particles whose observed coordinates are pulled along the path of the noised measurement.

In the coordinates of A = U S V^T the measurement is ybar_j = x_0j + (sigma_y / s_j) n, that is, a state of the
diffusion at the level tau_j where sigma_tau / alpha_tau = sigma_y / s_j. Above that level x_tj given ybar_j is nearly
Gaussian,

    g_t(x_tj) = N(x_tj; alpha_t ybar_j, v_t),
    v_t = sigma_t^2 - alpha_t^2 (sigma_y / s_j)^2 + kappa (alpha_t / alpha_tau)^2,

and each step is the product of the free kernel N(m, c_z^2) and g_s, after resampling by the integral of that product
over g_t(x_t). Below tau_j the coordinate is free; below all of them so is the path, and at the end the likelihood
replaces the last g.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State, needs_pixels
from rbctrl.controllers.resampling import check_clouds, effective_number, resample
from rbctrl.controllers.spectral import needs_svd, svd_of
from rbctrl.noise import GaussianNoise
from rbctrl.operators.svd import SVD
from rbctrl.priors.base import Estimate
from rbctrl.process import Rotated, Step


@dataclass(frozen=True)
class MCGDiff(Controller):
    """Cardoso, Janati El Idrissi, Le Corff and Moulines, Monte Carlo guided diffusion, ICLR 2024, Algorithm 1.

    https://arxiv.org/abs/2308.07983. No network is differentiated. Samples k P to (k + 1) P - 1 of one image are one
    cloud, resampled while it is filtered at every step; here systematically, where the paper draws multinomially.
    Columns: `ess`, the smallest effective number of paths before a resampling, the one at the end included; 0 if no
    path had any weight. A row's energy is that of the path that survived, not a KL.

    Note:
        Paths pinned to y at tau_j are posterior samples at the end; the last weights then count y a second time, unless
        g was wide enough for them to undo. With the published kappa = 0.01 the variance along the measurement comes out
        too small, with 0.1 and more it does not (tests/controllers/test_mcgdiff.py).

    Args:
        particles: P; 1000 on the paper's mixtures.
        kappa: variance of g at tau_j. 1e-2 in the code of the paper's experiments, 1e-4 in the released package.
    """

    particles: int = 1000
    kappa: float = 1e-2

    def __post_init__(self) -> None:
        if self.particles < 2:
            raise ValueError(f"a cloud has at least 2 particles, got particles={self.particles}")
        if not self.kappa > 0:
            raise ValueError(f"kappa is a variance above 0, got {self.kappa}")

    @property
    def population(self) -> int:
        return self.particles

    def check(self, setup: Setup) -> str | None:
        if not isinstance(setup.noise, GaussianNoise):
            return "mcgdiff weighs paths by p(y | x), with Gaussian noise: use noise=gaussian"
        if not any(c_z > 0 for _, _, c_z in setup.process.coefficients):
            return "mcgdiff pulls its paths through the noise of the steps: set sampler.eta above 0"
        return needs_pixels(setup, "mcgdiff") or needs_svd(setup, "mcgdiff")

    def start(self, run: Run) -> tuple[Tensor, State]:
        check_clouds(run, self.particles)
        x_t = run.process.init(run.rng)
        zero = x_t.new_zeros(len(x_t), dtype=torch.float64)
        return x_t, {"left": zero, "i": zero, "ess": zero + self.particles}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, svd = run.process, svd_of(run, x_t)
        seen, c_z = svd.seen, process.noise(i)
        ybar = seen.solve(run.obs.y)
        est = process.estimate(x_t, i)
        free = process.mean(est, i)
        gap = process.alpha[i + 1] * ybar - seen.to_v(free)
        reach, gain = self._reach(run, i, seen.s, ybar.shape[1:])
        current, here = self._belief(run, x_t, i, seen, ybar)
        filtering = (reach > 0).flatten(1).any(1).expand_as(current)
        last = here & ~filtering
        left = torch.where(last, current, state["left"])
        weight = torch.where(filtering, _log_normal(gap, reach) - current, 0.0)
        weight = torch.where(state["i"] == i, weight, -torch.inf)  # a row that died stopped counting
        number = effective_number(weight, self.particles)
        ess = torch.where(filtering, number.minimum(state["ess"]), state["ess"])
        rows = resample(run, weight, self.particles, f"mcgdiff/resample/{i}", filtering)
        mean = free + seen.from_v(gain.to(free) * gap)
        _, everywhere = self._reach(run, i, svd.s, free.shape[1:])
        shrunk = c_z * (1 - everywhere.to(free)).sqrt()
        step = Step(est, mean, Rotated(shrunk, svd.from_v), free).take(rows)
        if process.sigma[i + 1] == 0:
            step = replace(step, est=Estimate(step.mean, step.est.eps_hat))
        return step, {"left": left[rows], "i": torch.full_like(left, i + 1), "ess": ess[rows]}

    def finish(self, run: Run, x: Tensor, state: State) -> tuple[Tensor | None, dict[str, Tensor]]:
        n_steps, seen = run.process.n_steps, svd_of(run, x).seen
        end, filtered = self._belief(run, x, n_steps, seen, seen.solve(run.obs.y))
        left = torch.where(filtered, end, state["left"])
        weight = -run.obs.nll(x / run.process.alpha[-1]).double() - left
        weight = torch.where(state["i"] == n_steps, weight, -torch.inf)
        rows = resample(run, weight, self.particles, "mcgdiff/resample/end")
        return rows, {"ess": effective_number(weight, self.particles).minimum(state["ess"][rows])}

    def _belief(self, run: Run, x_t: Tensor, i: int, svd: SVD, ybar: Tensor) -> tuple[Tensor, Tensor]:
        """log g_t(x_t) at level i over the coordinates that are still pulled, [B], and whether any is, [1 or B]."""
        v_t = self._variance(run, i, svd.s, ybar.shape[1:])
        gap = run.process.alpha[i] * ybar - svd.to_v(x_t)
        return _log_normal(gap, v_t), (v_t > 0).flatten(1).any(1)

    def _reach(self, run: Run, i: int, s: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """v_s + c_z^2 of step i, and the share of it that is c_z^2, like `_variance`."""
        after, c_z = self._variance(run, i + 1, s, shape), run.process.noise(i)
        reach = torch.where(after > 0, after + c_z**2, 0.0)
        return reach, (c_z**2 / reach).where(after > 0, 0.0)

    def _variance(self, run: Run, i: int, s: Tensor, shape: torch.Size) -> Tensor:
        """v_t of each coordinate, [1 or B, *shape], 0 where it is free at level i."""
        alpha, sigma = run.process.alpha[i], run.process.sigma[i]
        pinned = torch.where(s > 0, (run.obs.sigma_y / s).square(), torch.inf).double()
        pinned = pinned.expand(len(pinned) if pinned.ndim > len(shape) else 1, *shape)
        bound = sigma**2 - alpha**2 * pinned
        v_t = bound + self.kappa * alpha**2 * (1 + pinned)  # 1 / alpha_tau^2 = 1 + (sigma_tau / alpha_tau)^2
        return torch.where(bound >= -1e-9 * sigma**2, v_t, 0.0)


def _log_normal(gap: Tensor, variance: Tensor) -> Tensor:
    """log N(gap; 0, variance) over the coordinates with variance > 0, but for the constant, [B]."""
    gap, variance = gap.flatten(1), variance.flatten(1)
    some = (variance > 0).any(0)
    gap, variance = gap[:, some].double(), variance[:, some]
    terms = gap.square() / variance + variance.log()
    return -terms.where(variance > 0, 0.0).sum(1) / 2
