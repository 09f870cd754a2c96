"""Total-variation restoration by ADMM.

The minimum of 1/2 |y - A x|^2 + weight TV(x), split as x = z with the scaled multiplier u:

    x <- argmin |A x - y|^2 + rho |x - (z - u)|^2              the operator's prox
    z <- argmin 1/2 |z - (x + u)|^2 + (weight / rho) TV(z)     Chambolle's denoiser
    u <- u + x - z
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rbctrl.controllers.base import Knob, Setup, needs_linear, needs_pixels
from rbctrl.controllers.classical.base import Classical, needs_images, positive
from rbctrl.controllers.classical.denoise import denoise_tv
from rbctrl.observation import Observation


@dataclass(frozen=True)
class TV(Classical):
    """Total-variation restoration of any linear operator: the classical edge-preserving estimate.

    Rudin, Osher and Fatemi, Nonlinear total variation based noise removal algorithms, Physica D 60, 1992; the splitting
    is that of Afonso, Bioucas-Dias and Figueiredo, SALSA, IEEE TIP 19, 2010. The energy is undefined.

    Args:
        weight: of total variation, isotropic and summed over channels, against 1/2 |y - A x|^2.
        n_steps: ADMM iterations.
        rho: penalty of the splitting. The limit does not depend on it, the speed does; weight / rho is the weight of
            the inner denoiser, which needs the more steps the larger it is.
        inner_steps: iterations of the inner denoiser, at least 2; too few of them move the limit.
    """

    knob: ClassVar[Knob | None] = Knob("weight", 1e-4, 1.0, pulls="less")

    weight: float = 0.01
    n_steps: int = 100
    rho: float = 0.2
    inner_steps: int = 30

    def __post_init__(self) -> None:
        for name in ("weight", "n_steps", "rho"):
            positive(f"controller.{name}", getattr(self, name))
        if self.inner_steps < 2:
            raise ValueError(f"controller.inner_steps must be at least 2, got {self.inner_steps}")

    def check(self, setup: Setup) -> str | None:
        """Needs images and a linear operator."""
        return needs_pixels(setup, "tv") or needs_linear(setup, "tv") or needs_images(setup, "tv")

    def reconstruct(self, obs: Observation, shape: tuple[int, ...]) -> Tensor:
        """The image after the last iteration, [B, C, H, W]."""
        z = u = obs.y.new_zeros(len(obs.y), *shape)
        for _ in range(self.n_steps):
            x = obs.operator.prox(z - u, obs.y, self.rho)
            z = denoise_tv(x + u, self.weight / self.rho, self.inner_steps)
            u = u + x - z
        return z
