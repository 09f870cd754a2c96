"""Undersampled Fourier measurements of real images, as in magnetic resonance imaging of one coil.

    y = m (Re F x, Im F x),      F the centred, orthonormal 2-D Fourier transform, m a mask of whole lines of k-space.

A real image has (F x)(-k) = conj (F x)(k), so a line and its mirror say the same. In the Hartley coordinates
V^T x = Re F x - Im F x, an orthonormal basis that is its own inverse,

    A^T A = V diag(s^2) V^T,      s(k)^2 = (m(k) + m(-k)) / 2:

1 where both are measured, 1/2 where one is, 0 where the image is not seen. Everything follows in closed form:

    pinv(y) = V s^-2 V^T A^T y,      prox(x, y, rho) = x + V (s^2 + rho)^-1 V^T A^T (y - A x).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rbctrl.operators.base import LinearOperator
from rbctrl.operators.common import image_sides, with_buffers
from rbctrl.operators.stored import read_draws
from rbctrl.operators.svd import SVD
from rbctrl.rng import ImageRNG

_AXES = (-2, -1)


class UndersampledFourier(LinearOperator):
    """Random columns of k-space and all of its centre, other ones for each item, the same for all channels.

    A measurement is [B, 2 C, H, W]: real and imaginary part of each channel, 0 where nothing was measured. Noise is
    added to both parts, in units of the image, as F is orthonormal.

    Args:
        acceleration: W over the number of measured columns, which is round(W / acceleration).
        centre_fraction: of the columns, measured around the lowest frequency; round(centre_fraction W) of them.
        file: masks that `rbctrl draw` wrote, by item; None: drawn.

    Raises:
        ValueError: acceleration < 1 or centre_fraction is not in [0, 1 / acceleration].
        FileNotFoundError: there is no such file.

    Note:
        fastMRI's random masks have this share of columns on average; here every mask has exactly this many.
    """

    drawn: ClassVar[str] = "mask"
    y_is: ClassVar[str] = "complex Fourier coefficients"
    mask: Tensor | None

    def __init__(self, acceleration: float, centre_fraction: float, file: str | Path | None = None) -> None:
        super().__init__()
        if not acceleration >= 1 or not 0 <= centre_fraction <= 1 / acceleration:
            raise ValueError(
                "UndersampledFourier needs acceleration >= 1 and centre_fraction in [0, 1 / acceleration], "
                f"got {acceleration} and {centre_fraction}"
            )
        self.acceleration, self.centre_fraction = acceleration, centre_fraction
        self.stored = None if file is None else read_draws(file, self)
        self.register_buffer("mask", None)

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> UndersampledFourier:
        """The operator with one mask per row, [B, 1, 1, W].

        Raises:
            ValueError: the file does not fit the image shape [C, H, W].
        """
        _, width = image_sides(shape, self)
        if self.stored is not None:
            return with_buffers(self, mask=self.stored.of(rng, (1, 1, width)))
        masks = [self._columns(generator, width) for generator in rng.of_items().generators("mask")]
        return with_buffers(self, mask=torch.from_numpy(np.stack(masks)[:, None, None]).to(rng.device, rng.dtype))

    def take(self, rows: Tensor) -> UndersampledFourier:
        """The masks of the given rows."""
        return with_buffers(self, mask=self.observed[rows])

    @property
    def observed(self) -> Tensor:
        """[B, 1, 1, W]; raises ValueError if no mask was drawn yet."""
        if self.mask is None:
            raise ValueError("UndersampledFourier has no mask yet: use what its draw(rng, image_shape) returns")
        return self.mask

    def forward(self, image: Tensor) -> Tensor:
        """Real and imaginary parts, [B, 2 C, H, W]."""
        parts = torch.view_as_real(_fourier(image))
        return self.observed * parts.movedim(-1, 2).flatten(1, 2)

    def adjoint(self, y: Tensor) -> Tensor:
        """The real part of F^H (m y)."""
        parts = (self.observed * y).unflatten(1, (-1, 2)).movedim(2, -1).contiguous()
        shifted = torch.fft.ifftshift(torch.view_as_complex(parts), _AXES)
        return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho").real, _AXES)

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """U (s^2 + rho)^-1 U^T v and, for rho > 0, what no image is measured as, over rho."""
        rho = torch.as_tensor(rho, dtype=v.dtype, device=v.device)
        squares = self._squares()
        back = _hartley(self.adjoint(v))
        inside = self(_hartley(back * _inverse(squares * (squares + rho))))
        outside = v - self(_hartley(back * _inverse(squares)))
        return inside + torch.where(rho > 0, outside / torch.where(rho > 0, rho, 1.0), 0.0)

    def pinv(self, y: Tensor) -> Tensor:
        """In closed form, see above."""
        return _hartley(_hartley(self.adjoint(y)) * _inverse(self._squares()))

    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """In closed form, see above."""
        return image + _hartley(_hartley(self.adjoint(y - self(image))) * _inverse(self._squares() + rho))

    def svd(self, like: Tensor) -> SVD:
        """V is the Hartley transform."""
        s = self._squares().to(like).sqrt()
        return SVD(s, _hartley, _hartley, lambda y: _hartley(self.adjoint(y)) * _inverse(s))

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """[C, H, W] of [2 C, H, W]."""
        return (y_shape[0] // 2, *y_shape[1:])

    def _squares(self) -> Tensor:
        """s^2 on the columns, [B, 1, 1, W]."""
        mask = torch.fft.ifftshift(self.observed, -1)
        return torch.fft.fftshift((mask + mask.flip(-1).roll(1, -1)) / 2, -1)

    def _columns(self, generator: np.random.Generator, width: int) -> np.ndarray:
        """Which columns are measured, [W]."""
        total, centre = round(width / self.acceleration), round(self.centre_fraction * width)
        first = (width - centre + 1) // 2
        columns = np.zeros(width, bool)
        columns[first : first + centre] = True
        others = generator.permutation(np.flatnonzero(~columns))
        columns[others[: max(total - centre, 0)]] = True
        return columns


def _fourier(image: Tensor) -> Tensor:
    """F x, complex, lowest frequency in the middle."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, _AXES), norm="ortho"), _AXES)


def _hartley(x: Tensor) -> Tensor:
    """V^T x = V x."""
    spectrum = _fourier(x)
    return spectrum.real - spectrum.imag


def _inverse(x: Tensor) -> Tensor:
    """1 / x, and 0 where x = 0."""
    return torch.where(x > 0, 1 / torch.where(x > 0, x, 1.0), 0.0)
