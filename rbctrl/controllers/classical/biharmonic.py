"""Biharmonic inpainting, and TV denoising of the result.

In the holes the image solves laplacian(laplacian(x)) = 0 with the measured pixels as boundary values. These it keeps
with their noise, which is what the denoiser is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rbctrl.controllers.base import Knob, Setup, needs_pixels
from rbctrl.controllers.classical.base import Classical, non_negative
from rbctrl.controllers.classical.denoise import denoise_tv
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator
from rbctrl.operators.inpainting import Mask


@dataclass(frozen=True)
class Biharmonic(Classical):
    """Biharmonic inpainting of a mask, then total-variation denoising.

    Damelin and Hoang, On surface completion and image inpainting by biharmonic functions, IJMMS 2018, as solved by
    skimage.restoration.inpaint_biharmonic, which clips to the range of the measured pixels. The energy is undefined.

    Args:
        denoise: weight of total variation in the denoiser that follows; 0 is plain biharmonic inpainting.
    """

    knob: ClassVar[Knob | None] = Knob("denoise", 0.005, 0.5, pulls="less")

    denoise: float = 0.04

    def __post_init__(self) -> None:
        non_negative("controller.denoise", self.denoise)

    def check(self, setup: Setup) -> str | None:
        """Needs pixels and a mask."""
        return needs_pixels(setup, "biharmonic") or _needs_mask(setup.operator)

    def reconstruct(self, obs: Observation, shape: tuple[int, ...]) -> Tensor:
        """The measurement with its holes filled, [B, C, H, W]."""
        images = obs.y.detach().cpu().numpy()
        holes = (obs.operator.observed == 0).expand_as(obs.y)[:, 0].cpu().numpy()  # a mask is the same for all channels
        filled = np.stack([_fill(*row) for row in zip(images, holes, strict=True)])
        return denoise_tv(torch.from_numpy(filled).to(obs.y), self.denoise)


def _fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    from skimage.restoration import inpaint_biharmonic

    return inpaint_biharmonic(image, hole, channel_axis=0)


def _needs_mask(operator: Operator) -> str | None:
    if isinstance(operator, Mask):
        return None
    return (
        f"biharmonic fills the holes of a mask, and {type(operator).__name__} is none; use controller=tv or "
        "controller=wiener, which take any linear operator"
    )
