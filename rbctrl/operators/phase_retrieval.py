"""Phase retrieval: y = |F pad(u)|, the modulus of the Fourier transform of the image in a margin of zeros.

F is the centred, orthonormal 2-D transform of the padded image, with int(oversample n / 8) zeros on each side of n
pixels: at oversample = 2 the grid is 1.5 times as long, 2.25 times as many numbers as pixels. The sign, shifts
and the 180-degree rotation of an image in its margin are measured alike, and each colour channel on its own. Where the
image is, and that it is brighter than its margin, is all that breaks the tie; so restarts differ, and the one of the
least residual is the one to report (`metrics=best_of`).

Papers of this name solve two problems: the margin is black where u is the image on [0, 1], and mid-grey where it is the
image on [-1, 1].
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from rbctrl.operators.base import Operator
from rbctrl.operators.common import image_sides
from rbctrl.rng import ImageRNG

_AXES = (-2, -1)


class PhaseRetrieval(Operator):
    """The modulus of an oversampled Fourier transform. Noise is added to the modulus, in units of u.

    Not invertible: `guess` is the inverse transform with every phase 0, cut to the image.

    Args:
        oversample: 2 in the benchmarks; int(oversample n / 8) zeros on each side of n pixels.
        value_range: of u: "unit" is [0, 1] (DAPS), "signed" is [-1, 1] (DPS's released code).

    Raises:
        ValueError: oversample is negative, or an unknown range.
    """

    y_is: ClassVar[str] = "moduli of Fourier coefficients"

    def __init__(self, oversample: float = 2.0, value_range: Literal["unit", "signed"] = "unit") -> None:
        super().__init__()
        if not oversample >= 0:
            raise ValueError(f"PhaseRetrieval needs oversample >= 0, got {oversample}")
        if value_range not in ("unit", "signed"):
            raise ValueError(f"PhaseRetrieval has no value_range {value_range!r}: use 'unit' or 'signed'")
        self.oversample, self.value_range = oversample, value_range

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> PhaseRetrieval:
        """The operator itself; raises ValueError unless images are [C, H, W]."""
        image_sides(shape, self)
        return self

    def forward(self, image: Tensor) -> Tensor:
        """The modulus [B, C, H + 2 p, W + 2 p'], lowest frequency in the middle."""
        return torch.fft.fftshift(torch.fft.fft2(self.embed(image), norm="ortho"), _AXES).abs()

    def embed(self, image: Tensor) -> Tensor:
        """u in its margin of zeros, [B, C, H + 2 p, W + 2 p']."""
        u = (image + 1) / 2 if self.value_range == "unit" else image
        top, left = (self._margin(n) for n in image.shape[-2:])
        return pad(u, (left, left, top, top))

    def extract(self, padded: Tensor) -> Tensor:
        """The image [B, C, H, W] whose u is the inside of a padded one."""
        height, width = (self._side(n) for n in padded.shape[-2:])
        top, left = self._margin(height), self._margin(width)
        u = padded[..., top : top + height, left : left + width]
        return 2 * u - 1 if self.value_range == "unit" else u

    def modulus(self, y: Tensor) -> Tensor:
        """y without what noise brought below 0, lowest frequency first, as `torch.fft` has it."""
        return torch.fft.ifftshift(y.clamp(min=0), _AXES)

    def guess(self, y: Tensor) -> Tensor:
        """The inverse transform of y as if it were real and positive, cut to the image and moved to its middle."""
        u = torch.fft.fftshift(torch.fft.ifft2(self.modulus(y), norm="ortho").real, _AXES)
        return self.extract(u).clamp(-1, 1)

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """[C, H, W]; raises ValueError if no image gives such a grid."""
        return (*y_shape[:-2], *(self._side(n) for n in y_shape[-2:]))

    def _margin(self, n: int) -> int:
        return int(self.oversample / 8 * n)

    def _side(self, padded: int) -> int:
        """The n with n + 2 margin(n) = padded."""
        for n in range(padded, 0, -1):
            length = n + 2 * self._margin(n)
            if length == padded:
                return n
            if length < padded:
                break
        raise ValueError(
            f"PhaseRetrieval: no image side gives a grid of {padded} at oversample={self.oversample}: "
            "name the oversample that y was made with"
        )
