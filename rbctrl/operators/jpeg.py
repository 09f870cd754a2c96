"""JPEG: an image compressed and decoded again.

    RGB -> YCbCr (JFIF) -> chroma averaged over blocks -> 8 x 8 cosine transforms -> c <- q round(c / q)
        -> inverse transforms -> chroma enlarged -> RGB

with the tables q of the standard (annex K), scaled by the quality factor as libjpeg does. It is computed in real
numbers: codecs also round to 8 bits on the way and clip at the end, which is left out here, so that
A(A^+(A(x))) = A(x) holds.

With T the enlargement of the chroma, a y = A(x) has chroma T c. A^+ replaces it by blocks of the constant
c = T^+ (T c), whose average is c again, and keeps the luma.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rbctrl.operators.base import PseudoInvertible
from rbctrl.operators.common import image_sides, straight_through
from rbctrl.rng import ImageRNG

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
Upsampling = Literal["triangle", "replicate"]

_FACTORS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}  # of the chroma, rows and columns
_TIE = 1e-4  # in units of q: ties, which gray images have, go away from 0 whatever the last digit of c is
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]])
_LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
           18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_CHROMA = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
             99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""


class JPEG(PseudoInvertible):
    """The decoded image, before it is clipped and rounded to 8 bits.

    The derivative of a rounding is 0 or infinite; the gradient here is straight-through, that of the same codec without
    rounding: y = x, but for the averaged and enlarged chroma.

    Args:
        quality: 1 to 100.
        subsampling: of the chroma: "4:2:0" (half of the rows and columns, the usual), "4:2:2" (half of the columns) or
            "4:4:4" (none).
        upsampling: of the chroma when decoding: "triangle" (weights 3/4 and 1/4, what libjpeg and Pillow do) or
            "replicate" (blocks of a constant).

    Raises:
        ValueError: a quality out of range, or an unknown subsampling or upsampling.
    """

    def __init__(self, quality: int, subsampling: Subsampling = "4:2:0", upsampling: Upsampling = "triangle") -> None:
        super().__init__()
        if quality not in range(1, 101):
            raise ValueError(f"JPEG needs a whole quality from 1 to 100, got {quality}")
        for name, value, known in (
            ("subsampling", subsampling, get_args(Subsampling)),
            ("upsampling", upsampling, get_args(Upsampling)),
        ):
            if value not in known:
                raise ValueError(f"JPEG has no {name} {value!r}: use one of {', '.join(known)}")
        self.quality, self.subsampling, self.upsampling = int(quality), subsampling, upsampling
        self._kept: dict[tuple, Tensor] = {}

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> JPEG:
        """The operator itself; raises ValueError unless images are [3, H, W] with sides of whole blocks."""
        sides = image_sides(shape, self)
        if shape[0] != 3:
            raise ValueError(f"JPEG needs images of 3 channels, got {shape[0]}")
        for n, factor in zip(sides, self._factors, strict=True):
            if n % (8 * factor):
                raise ValueError(f"JPEG: an image side of {n} is no multiple of {8 * factor}, its block: crop it")
        return self

    def forward(self, image: Tensor) -> Tensor:
        """The decoded image [B, 3, H, W]."""
        luma, chroma = self._planes(image)
        small = self._reduce(chroma)
        tables = self._constant("tables", image)
        return self._image(_coded(luma, tables[:1]), self._enlarge(_coded(small, tables[1:])), image)

    def pinv(self, y: Tensor) -> Tensor:
        """The image whose chroma is constant on the blocks that are averaged."""
        luma, chroma = self._planes(y)
        rows, columns = (self._up(n // f, f, y) for n, f in zip(y.shape[-2:], self._factors, strict=True))
        small = torch.linalg.pinv(rows) @ chroma @ torch.linalg.pinv(columns).T
        for dim, factor in zip((-2, -1), self._factors, strict=True):
            small = small.repeat_interleave(factor, dim)
        return self._image(luma, small, y)

    @property
    def _factors(self) -> tuple[int, int]:
        return _FACTORS[self.subsampling]

    def _planes(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Luma [B, 1, H, W] and chroma [B, 2, H, W], on 0..255 and both around 0."""
        planes = torch.einsum("ij,bjhw->bihw", self._constant("to_ycc", image), 127.5 * (image + 1))
        return planes[:, :1] - 128, planes[:, 1:]

    def _image(self, luma: Tensor, chroma: Tensor, like: Tensor) -> Tensor:
        planes = torch.cat([luma + 128, chroma], 1)
        return torch.einsum("ij,bjhw->bihw", self._constant("to_rgb", like), planes) / 127.5 - 1

    def _reduce(self, chroma: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(chroma, self._factors)

    def _enlarge(self, small: Tensor) -> Tensor:
        rows, columns = (self._up(n, f, small) for n, f in zip(small.shape[-2:], self._factors, strict=True))
        return rows @ small @ columns.T

    def _up(self, n: int, factor: int, like: Tensor) -> Tensor:
        """T of an axis, [factor n, n]; kept."""
        key = ("up", n, factor, like.dtype, like.device)
        if key not in self._kept:
            self._kept[key] = torch.from_numpy(_enlargement(n, factor, self.upsampling)).to(like)
        return self._kept[key]

    def _constant(self, name: str, like: Tensor) -> Tensor:
        key = (name, like.dtype, like.device)
        if key not in self._kept:
            make = {
                "to_ycc": lambda: _TO_YCC,
                "to_rgb": lambda: np.linalg.inv(_TO_YCC),
                "tables": lambda: quantisation_tables(self.quality).astype(np.float64),
            }
            self._kept[key] = torch.from_numpy(make[name]()).to(like)
        return self._kept[key]


def quantisation_tables(quality: int) -> np.ndarray:
    """The steps q of luma and chroma, [2, 8, 8]: annex K of the standard, scaled as the Independent JPEG Group does."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.array([table.split() for table in (_LUMA, _CHROMA)], int).reshape(2, 8, 8)
    return ((base * scale + 50) // 100).clip(1, 255)


def _coded(planes: Tensor, table: Tensor) -> Tensor:
    """Planes [B, C, H, W] after quantisation of their 8 x 8 cosine transforms by one table [1, 8, 8]."""
    dct = _cosines().to(planes)
    height, width = planes.shape[-2:]
    blocks = planes.unflatten(-1, (width // 8, 8)).unflatten(-3, (height // 8, 8)).transpose(-3, -2)
    scaled = dct @ blocks @ dct.T / table
    whole = scaled.sign() * (scaled.abs() + 0.5 + _TIE).floor()
    blocks = dct.T @ (straight_through(whole, scaled) * table) @ dct
    return blocks.transpose(-3, -2).flatten(-4, -3).flatten(-2)


def _cosines() -> Tensor:
    """The orthonormal cosine transform of 8 numbers, [8, 8]."""
    k = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def _enlargement(n: int, factor: int, upsampling: str) -> np.ndarray:
    """The matrix [factor n, n] of a signal enlarged by 1 or 2; ends are repeated."""
    near = np.repeat(np.eye(n), factor, axis=0)
    if factor == 1 or upsampling == "replicate":
        return near
    before, after = np.eye(n)[np.arange(-1, n - 1).clip(0)], np.eye(n)[np.arange(1, n + 1).clip(max=n - 1)]
    neighbour = np.stack([before, after], 1).reshape(2 * n, n)
    return 0.75 * near + 0.25 * neighbour
