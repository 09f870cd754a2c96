"""The linear estimate under a smooth prior (Wiener, Tikhonov), for any linear operator and boundary.

    argmin_x |y - A x|^2 + balance |D x|^2,        (A^T A + balance L) x = A^T y,        L = D^T D

D is the forward difference, 0 across the border; L is minus the Laplacian. Where A is a blur this is the Wiener filter
of white noise and a Gaussian image of power spectrum 1 / f^2, which natural images have on average. scikit-image's
`wiener` solves these equations by FFT where A and L are circular (with L^T L by default, a spectrum of 1 / f^4); the
blurs of the benchmarks are not, so conjugate gradient solves them here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rbctrl.controllers.base import Knob, Setup, needs_linear, needs_pixels
from rbctrl.controllers.classical.base import Classical, needs_images, positive
from rbctrl.observation import Observation
from rbctrl.operators.solve import conjugate_residual


@dataclass(frozen=True)
class Wiener(Classical):
    """Wiener-Hunt restoration of any linear operator: the linear estimate under a 1/f^2 image prior.

    Hunt, The application of constrained least squares estimation to image restoration by digital computer, IEEE
    Transactions on Computers 22, 1973. The energy is undefined.

    Args:
        balance: weight of smoothness against |y - A x|^2; the best one grows with sigma_y^2.
    """

    knob: ClassVar[Knob | None] = Knob("balance", 1e-4, 1.0, pulls="less")

    balance: float = 0.03

    def __post_init__(self) -> None:
        positive("controller.balance", self.balance)

    def check(self, setup: Setup) -> str | None:
        """Needs images and a linear operator."""
        return needs_pixels(setup, "wiener") or needs_linear(setup, "wiener") or needs_images(setup, "wiener")

    def reconstruct(self, obs: Observation, shape: tuple[int, ...]) -> Tensor:
        """The solution of the normal equations, [B, C, H, W]."""
        operator = obs.operator

        def normal(x: Tensor) -> Tensor:
            return operator.adjoint(operator(x)) + self.balance * _roughness(x)

        return conjugate_residual(normal, operator.adjoint(obs.y))


def _roughness(x: Tensor) -> Tensor:
    """L x = D^T D x, [B, C, H, W]."""
    total = torch.zeros_like(x)
    for dim in (-2, -1):
        slope = x.diff(dim=dim)
        edge = torch.zeros_like(x.narrow(dim, 0, 1))
        total = total - torch.cat([edge, slope, edge], dim).diff(dim=dim)
    return total
