"""DDRM: denoising along the singular directions of A, each with the noise of its own measurement."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State, needs_pixels
from rbctrl.controllers.spectral import needs_levels, needs_svd, spectral_start, spectral_step
from rbctrl.process import Step


@dataclass(frozen=True)
class DDRM(Controller):
    """Kawar et al., Denoising Diffusion Restoration Models, NeurIPS 2022. https://arxiv.org/abs/2201.11793.

    The start and the step are those of `spectral`; eta is that of the sampler: sampler=renoise sampler.eta=0.85
    sampler.n_steps=20 is the published setting. The released code names sigma_y for images in [0, 1] and doubles it
    inside; here it is on [-1, 1], so its 0.05 is sigma_y = 0.1. No network is differentiated.

    The energy is exact where every free step has noise, in whatever coordinates the step draws its own, and inf for
    eta = 0. With sigma_y > 0 the last step onto the image is free. x_T is drawn given y, which is not charged.

    Note:
        On a tie, s_j sigma_s = alpha_s sigma_y, the released code falls back to the free step. That happens where
        sigma_y = 0, at the last step: it returns x0_hat; here the image then agrees with y (eta_b = 1). It also scales
        x_T by alpha_T / sigma_T instead of alpha_T, which is the same where sigma_T is near 1.

    Args:
        eta_b: share of the measurement where it is cleaner than x_s.
    """

    eta_b: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta_b <= 1:
            raise ValueError(f"eta_b is a share in [0, 1], got {self.eta_b}")

    def check(self, setup: Setup) -> str | None:
        return needs_pixels(setup, "ddrm") or needs_svd(setup, "ddrm") or needs_levels(setup, "ddrm")

    def start(self, run: Run) -> tuple[Tensor, State]:
        return spectral_start(run), {}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        return spectral_step(run, run.process.estimate(x_t, i), i, self.eta_b), state
