"""What a network is shown of an image: resized, cropped and standardised, all of it differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Crop = Literal["center", "none"]


class Preprocess(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to (x01 - mean) / std of the given size, x01 in [0, 1] up to overshoot.

    The resize is bicubic, and antialiased where it reduces: torchvision's on tensors, Pillow's up to its rounding to 8
    bits. Nothing is clamped, so that gradients do not vanish.

    Args:
        size: side of what the network sees; None: the image's own, not cropped.
        crop: "center" resizes the short side and cuts the middle square, as CLIP does; "none" resizes both sides, so
            that nothing is lost of images that are not square.
        mean: of each channel, on [0, 1].
        std: of each channel, on [0, 1].

    Raises:
        ValueError: no such crop, or a size below 1.
    """

    def __init__(
        self,
        size: int | None = None,
        crop: Crop = "center",
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        if crop not in get_args(Crop):
            raise ValueError(f"crop is 'center' or 'none', got {crop!r}")
        if size is not None and size < 1:
            raise ValueError(f"a descriptor sees images of a size of at least 1 pixel, got {size}")
        self.size, self.crop = size, crop
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        x = (image + 1) / 2
        if self.size is not None:
            x = resize_and_crop(x, self.size) if self.crop == "center" else resize(x, (self.size, self.size))
        return (x - self.mean) / self.std


def resize(x: Tensor, sides: tuple[int, int]) -> Tensor:
    """Bicubic, antialiased where it reduces; the very tensor if it has these sides."""
    if tuple(x.shape[2:]) == sides:
        return x
    return F.interpolate(x, sides, mode="bicubic", antialias=True, align_corners=False)


def resize_and_crop(x: Tensor, size: int) -> Tensor:
    """The short side to `size`, the long one in proportion, rounded down; then the middle square."""
    short = min(x.shape[2:])
    x = resize(x, tuple(side * size // short for side in x.shape[2:]))
    top, left = (round((side - size) / 2) for side in x.shape[2:])
    return x[:, :, top : top + size, left : left + size]
