"""Blur of light, seen through the response curve of a camera: a nonlinear blur that needs no network.

    u = (x + 1) / 2,      y = 2 (K u^gamma)^(1 / gamma) - 1

Light adds up before the camera applies its curve, so bright points smear over dark ones. Data sets of real blur
average frames in the same way. With v_i = (K u^gamma)_i^(1 / gamma) the derivative k_ij (u_j / v_i)^(gamma - 1) is at
most k_ij^(1 / gamma) for a kernel without negative entries, so black pixels do no harm; below `_BLACK` it is 0.
"""

from __future__ import annotations

import copy

from torch import Tensor

from rbctrl.operators.base import LinearOperator, Operator
from rbctrl.operators.blur import Blur
from rbctrl.operators.separable import GaussianBlur
from rbctrl.rng import ImageRNG

_BLACK = 1e-4  # of u, on [0, 1]


class GammaBlur(Operator):
    """A linear blur of u^gamma. Measurements are in [-1, 1], like images.

    Args:
        blur: MotionBlur, KernelBlur or GaussianBlur.
        gamma: of the curve; 1 is the linear blur itself.

    Raises:
        ValueError: gamma < 1.
        TypeError: `blur` is no blur.

    Note:
        Ours. The benchmarks' nonlinear blur is a network (`NonlinearBlur`) whose weights are not part of this package.
    """

    def __init__(self, blur: LinearOperator, gamma: float = 2.2) -> None:
        super().__init__()
        if not isinstance(blur, Blur | GaussianBlur):
            raise TypeError(f"GammaBlur needs MotionBlur, KernelBlur or GaussianBlur, got {type(blur).__name__}")
        if not gamma >= 1:
            raise ValueError(f"GammaBlur needs gamma >= 1, got {gamma}")
        self.blur, self.gamma = blur, gamma
        self.drawn = f"blur.{blur.drawn}" if blur.drawn else None

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> GammaBlur:
        """The operator with the blur that was drawn."""
        return self._with(self.blur.draw(rng, shape))

    def take(self, rows: Tensor) -> GammaBlur:
        """The kernels of the given rows."""
        return self._with(self.blur.take(rows))

    def forward(self, image: Tensor) -> Tensor:
        """The blurred image [B, C, H, W]."""
        light = ((image + 1) / 2).clamp(min=_BLACK) ** self.gamma
        return 2 * self.blur(light).clamp(min=_BLACK**self.gamma) ** (1 / self.gamma) - 1

    def guess(self, y: Tensor) -> Tensor:
        """The measurement itself."""
        return y

    def _with(self, blur: Operator) -> GammaBlur:
        copied = copy.copy(self)
        copied._modules = {"blur": blur}
        return copied
