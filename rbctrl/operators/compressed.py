"""Compressed sensing: some coordinates of the image in an orthonormal basis, y = m (T x) with T T^T = I.

A measurement has the shape of the image, 0 where m = 0, and everything is a mask in the coordinates T x:

    A^T = A^+ = T^T m,      prox(x, y, rho) = x + T^T m (y - T x) / (1 + rho),      V = T^T,  s = m.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from rbctrl.operators.base import LinearOperator
from rbctrl.operators.common import damped_inverse, image_sides, with_buffers
from rbctrl.operators.stored import read_draws
from rbctrl.operators.svd import SVD
from rbctrl.rng import ImageRNG


class MaskedTransform(LinearOperator):
    """A basis, and a mask of its coordinates that `draw` makes, [B or 1, 1, H, W]; a subclass provides both."""

    y_is: ClassVar[str] = "coefficients of either sign"
    mask: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", None)

    @abstractmethod
    def transform(self, image: Tensor) -> Tensor:
        """T x."""

    @abstractmethod
    def inverse(self, coefficients: Tensor) -> Tensor:
        """T^T c."""

    def take(self, rows: Tensor) -> MaskedTransform:
        """The masks of the given rows."""
        return self if len(self.observed) == 1 else with_buffers(self, mask=self.observed[rows])

    @property
    def observed(self) -> Tensor:
        """[B or 1, 1, H, W]; raises ValueError if no mask was drawn yet."""
        if self.mask is None:
            raise ValueError(f"{type(self).__name__} has no mask yet: use what its draw(rng, image_shape) returns")
        return self.mask

    def forward(self, image: Tensor) -> Tensor:
        """The coordinates that are measured, m (T x)."""
        return self.observed * self.transform(image)

    def adjoint(self, y: Tensor) -> Tensor:
        """T^T m y."""
        return self.inverse(self.observed * y)

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Closed form: v / (m + rho), and 0 where that divides by 0."""
        return v * damped_inverse(self.observed, rho, 1.0)

    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """In closed form, see above."""
        return image + self.adjoint(y - self.transform(image)) / (1 + rho)

    def svd(self, like: Tensor) -> SVD:
        """V = T^T, s = m."""
        seen = self.observed.to(like)
        return SVD(seen, self.transform, self.inverse, lambda y: torch.where(seen > 0, y, 0.0))


class Hadamard(MaskedTransform):
    """Random coefficients of the Walsh-Hadamard transform, other ones for each item.

    Args:
        ratio: of measured coefficients, in (0, 1); exactly round(ratio H W) per channel, the same for all channels.
        signs: "random" flips the sign of pixels first, by one pattern for all images, so that no coefficient is worth
            more than another; "none" measures the image itself, as DDRM does.
        file: masks that `rbctrl draw` wrote, by item; None: drawn.

    Raises:
        ValueError: ratio is not in (0, 1), or signs are unknown.
        FileNotFoundError: there is no such file.
    """

    drawn: ClassVar[str] = "mask"

    def __init__(
        self, ratio: float, signs: Literal["random", "none"] = "random", file: str | Path | None = None
    ) -> None:
        super().__init__()
        if not 0 < ratio < 1:
            raise ValueError(f"Hadamard needs a ratio of measured coefficients in (0, 1), got {ratio}")
        if signs not in ("random", "none"):
            raise ValueError(f"Hadamard has no signs {signs!r}: use 'random' or 'none'")
        self.ratio, self.signs = ratio, signs
        self.stored = None if file is None else read_draws(file, self)
        self._kept: dict[tuple, Tensor] = {}

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Hadamard:
        """The operator with one mask per row, [B, 1, H, W].

        Raises:
            ValueError: a side of the image shape [C, H, W] is no power of 2, or the file does not fit.
        """
        for n in image_sides(shape, self):
            if n & (n - 1):
                raise ValueError(f"Hadamard: an image side of {n} is no power of 2: crop or resize the images")
        if self.stored is not None:
            return with_buffers(self, mask=self.stored.of(rng, (1, *shape[-2:])))
        masks = [self._mask(generator, shape[-2:]) for generator in rng.of_items().generators("mask")]
        return with_buffers(self, mask=torch.from_numpy(np.stack(masks)[:, None]).to(rng.device, rng.dtype))

    def transform(self, image: Tensor) -> Tensor:
        """Rows and columns by Hadamard matrices, which is the transform of the image read row by row."""
        rows, columns = (self._matrix(n, image) for n in image.shape[-2:])
        return rows @ (self._pattern(image) * image) @ columns

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The same matrices, then the signs."""
        rows, columns = (self._matrix(n, coefficients) for n in coefficients.shape[-2:])
        return self._pattern(coefficients) * (rows @ coefficients @ columns)

    def _mask(self, generator: np.random.Generator, sides: tuple[int, ...]) -> np.ndarray:
        count = sides[0] * sides[1]
        mask = np.zeros(count, bool)
        mask[generator.permutation(count)[: round(self.ratio * count)]] = True
        return mask.reshape(sides)

    def _matrix(self, n: int, like: Tensor) -> Tensor:
        """The symmetric orthonormal Hadamard matrix [n, n]; kept."""
        key = (n, like.dtype, like.device)
        if key not in self._kept:
            matrix = torch.ones(1, 1, dtype=torch.float64)
            while len(matrix) < n:
                matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), matrix)
            self._kept[key] = (matrix / n**0.5).to(like)
        return self._kept[key]

    def _pattern(self, like: Tensor) -> Tensor:
        """The signs of the pixels [H, W]; kept."""
        key = (tuple(like.shape[-2:]), like.dtype, like.device)
        if key not in self._kept:
            flips = ImageRNG(0, (("Hadamard", 0),), torch.float64).uniform("signs", key[0])[0] < 0.5
            self._kept[key] = (1 - 2 * flips.double() if self.signs == "random" else torch.ones(key[0])).to(like)
        return self._kept[key]


class BlockSensing(MaskedTransform):
    """A random orthonormal matrix [m, size^2] on each block of size x size pixels, the same for all blocks and images.

    Args:
        ratio: m / size^2, in (0, 1).
        size: side of a block in pixels.
        seed: of the matrix, which belongs to the device and not to the run.

    Raises:
        ValueError: ratio is not in (0, 1), or size is below 2.
    """

    def __init__(self, ratio: float, size: int = 16, seed: int = 0) -> None:
        super().__init__()
        if not 0 < ratio < 1 or size < 2:
            raise ValueError(f"BlockSensing needs a ratio in (0, 1) and a size of at least 2, got {ratio} and {size}")
        self.ratio, self.size = ratio, size
        white = ImageRNG(seed, (("BlockSensing", 0),), torch.float64).normal("matrix", (size**2, size**2))[0]
        self.register_buffer("basis", torch.linalg.qr(white.T)[0].T.contiguous())

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> BlockSensing:
        """The operator for images [C, H, W]; nothing of it is random.

        Raises:
            ValueError: a side is no multiple of the block.
        """
        for n in image_sides(shape, self):
            if n % self.size:
                raise ValueError(f"BlockSensing: an image side of {n} is no multiple of the block {self.size}: crop it")
        block = torch.arange(self.size**2) < round(self.ratio * self.size**2)
        tiles = [n // self.size for n in shape[-2:]]
        mask = block.view(self.size, self.size).repeat(*tiles)[None, None]
        return with_buffers(self, mask=mask.to(rng.device, rng.dtype))

    def transform(self, image: Tensor) -> Tensor:
        """Each block times the matrix."""
        return self._blockwise(self.basis.to(image), image)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Each block times its transpose."""
        return self._blockwise(self.basis.to(coefficients).T, coefficients)

    def _blockwise(self, matrix: Tensor, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tiles = x.view(batch, channels, height // self.size, self.size, width // self.size, self.size)
        vectors = tiles.transpose(3, 4).flatten(4)  # [B, C, rows, columns, size^2]
        tiles = (vectors @ matrix.T).unflatten(4, (self.size, self.size)).transpose(3, 4)
        return tiles.reshape(batch, channels, height, width)
