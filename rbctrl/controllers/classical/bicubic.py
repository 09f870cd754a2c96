"""Bicubic interpolation of y to the size of the image, and TV denoising of the result.

Pixel k of y sits at f (k + 1/2) - 1/2, the centre of its block of f x f pixels. That is the geometry of block means
and of antialiased bicubic reduction; a downsampler that keeps every f-th pixel has its samples elsewhere, and its image
would come out shifted by (f - 1) / 2 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import interpolate

from rbctrl.controllers.base import Knob, Setup, needs_linear, needs_pixels
from rbctrl.controllers.classical.base import Classical, non_negative
from rbctrl.controllers.classical.denoise import denoise_tv
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator


@dataclass(frozen=True)
class Bicubic(Classical):
    """Bicubic enlargement of a downsampled image, then total-variation denoising.

    Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 29, 1981, with a = -0.75 as torch has
    it. The energy is undefined.

    Args:
        denoise: weight of total variation in the denoiser that follows; 0 is plain bicubic.
    """

    knob: ClassVar[Knob | None] = Knob("denoise", 0.005, 0.5, pulls="less")

    denoise: float = 0.04

    def __post_init__(self) -> None:
        non_negative("controller.denoise", self.denoise)

    def check(self, setup: Setup) -> str | None:
        """Needs pixels and a linear downsampler."""
        return needs_pixels(setup, "bicubic") or needs_linear(setup, "bicubic") or _needs_downsampler(setup.operator)

    def reconstruct(self, obs: Observation, shape: tuple[int, ...]) -> Tensor:
        """[B, C, h, w] to [B, C, H, W]."""
        large = interpolate(obs.y, size=tuple(shape[-2:]), mode="bicubic", align_corners=False)
        return denoise_tv(large, self.denoise)


def _needs_downsampler(operator: Operator) -> str | None:
    small, large = (operator.image_shape((3, n, n))[-1] for n in (8, 16))
    if small > 8 and large == 2 * small:
        return None
    return (
        f"bicubic enlarges y to the size of the image, and {type(operator).__name__} does not reduce the image by a "
        "factor; use controller=tv or controller=pinv"
    )
