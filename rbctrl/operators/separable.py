"""Operators that act on rows and columns alike: A x = L x R^T per channel.

With the singular value decompositions L = U_L S_L V_L^T and R = U_R S_R V_R^T, made once per image shape in fp64,

    (A A^T + rho I)^-1 v = U_L [(U_L^T v U_R) / (s_L^2 s_R^2^T + rho)] U_R^T        and        A^T U_L = V_L S_L,

so a solve is four small matrix products. Directions with lam + rho below 1e-8 of the largest lam = (s_L s_R)^2 are
dropped (`common.CUTOFF` squared): at rho = 0 this is the pseudo-inverse.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rbctrl.operators.base import LinearOperator
from rbctrl.operators.common import CUTOFF, Boundary, check_boundary, damped_inverse, image_sides
from rbctrl.operators.filters import bicubic_taps, filter_matrix, gaussian_taps
from rbctrl.operators.svd import SVD, decompose, separable
from rbctrl.rng import ImageRNG


class _Axis(NamedTuple):
    matrix: Tensor  # [m, n]
    basis: Tensor  # U, [m, m]
    back: Tensor  # matrix^T U = V S, [n, m]
    eigenvalues: Tensor  # S^2, [m]


class _Factors(NamedTuple):
    rows: Tensor  # L, [h, H]
    columns: Tensor  # R, [w, W]
    rows_basis: Tensor
    columns_basis: Tensor
    rows_back: Tensor
    columns_back: Tensor
    eigenvalues: Tensor  # of A A^T, [h, w]
    largest: float


class Separable(LinearOperator):
    """A 1-D matrix per axis; a subclass gives it for an axis of any length.

    Matrices are kept per image shape, dtype and device, so nothing is built or copied twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple, _Factors] = {}
        self._kept_svd: dict[tuple, tuple[Tensor, ...]] = {}

    @abstractmethod
    def matrix(self, n: int) -> np.ndarray:
        """The fp64 matrix [m, n] of an axis of n pixels."""

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Separable:
        """The operator itself, once its matrices for the image shape [C, H, W] are built.

        Raises:
            ValueError: it does not act on this shape.
        """
        image_sides(shape, self)
        self._factors(shape, rng.dtype, torch.device(rng.device))
        return self

    def forward(self, image: Tensor) -> Tensor:
        """L x R^T."""
        factors = self._factors(image.shape, image.dtype, image.device)
        return factors.rows @ (image @ factors.columns.T)

    def adjoint(self, y: Tensor) -> Tensor:
        """L^T y R."""
        factors = self._factors_of(y)
        return factors.rows.T @ y @ factors.columns

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """In closed form, see above."""
        factors = self._factors_of(v)
        return factors.rows_basis @ _damped(factors, v, rho) @ factors.columns_basis.T

    def pinv(self, y: Tensor) -> Tensor:
        """In closed form, with the cut-off above."""
        return self._damped_adjoint(y, 0.0)

    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """In closed form, see above."""
        return image + self._damped_adjoint(y - self(image), rho)

    def svd(self, like: Tensor) -> SVD:
        """V = V_L x V_R and s = s_L s_R^T, made once like the other factors; 0 where `pinv` cuts off."""
        key = (*like.shape[-2:], like.dtype, like.device)
        if key not in self._kept_svd:
            axes = {n: decompose(torch.from_numpy(self.matrix(n)), 0.0) for n in set(like.shape[-2:])}
            (u_l, s_l, v_l), (u_r, s_r, v_r) = (axes[n] for n in like.shape[-2:])
            s = torch.outer(s_l, s_r)
            s = torch.where(s > CUTOFF * s.max(), s, 0.0)
            self._kept_svd[key] = tuple(part.to(like) for part in (u_l, u_r, s, v_l, v_r))
        return separable(*self._kept_svd[key])

    def _damped_adjoint(self, v: Tensor, rho: float | Tensor) -> Tensor:
        """A^T (A A^T + rho I)^-1 v without leaving the basis in between."""
        factors = self._factors_of(v)
        return factors.rows_back @ _damped(factors, v, rho) @ factors.columns_back.T

    def _factors_of(self, y: Tensor) -> _Factors:
        return self._factors(self.image_shape(tuple(y.shape[1:])), y.dtype, y.device)

    def _factors(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> _Factors:
        key = (*shape[-2:], dtype, device)
        factors = self._kept.get(key)
        if factors is None:
            axes = {n: _decompose(self.matrix(n)) for n in set(shape[-2:])}
            factors = self._kept[key] = _combine(axes[shape[-2]], axes[shape[-1]], dtype, device)
        return factors


class Downsample(Separable):
    """Mean of blocks of factor x factor pixels: "SR average pooling" of DDRM and DDNM.

    Args:
        factor: at least 2.

    Raises:
        ValueError: factor < 2.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = _check_factor(factor, self)

    def matrix(self, n: int) -> np.ndarray:
        """A row per block; raises ValueError if n is no multiple of the factor."""
        return filter_matrix(np.full(self.factor, 1 / self.factor), n, "zero", 0, _stride(n, self.factor, self))

    def forward(self, image: Tensor) -> Tensor:
        """The means, [B, C, h, w]."""
        self._factors(image.shape, image.dtype, image.device)  # says so if the sides are no multiples of the factor
        return F.avg_pool2d(image, self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        """Each entry on its block, over factor^2."""
        return self.pinv(y / self.factor**2)

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """A A^T = I / factor^2."""
        return v / (1 / self.factor**2 + rho)

    def pinv(self, y: Tensor) -> Tensor:
        """Each entry on its block."""
        return F.interpolate(y, scale_factor=float(self.factor), mode="nearest")

    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """Each block is shifted, all of its pixels by the same number."""
        return image + self.pinv((y - self(image)) / (1 + self.factor**2 * rho))

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """[C, factor h, factor w]."""
        return _enlarged(y_shape, self.factor)


class DownsampleBicubic(Separable):
    """Antialiased bicubic downsampling, the "SR" of DPS, DAPS and PSLD (and DDRM's sr_bicubic).

    A sample at factor i + (factor - 1) / 2 weighs the 4 factor nearest pixels by the cubic kernel with a = -1/2,
    stretched by the factor and normalised; beyond the border the image is mirrored with its edge repeated.

    Args:
        factor: at least 2.

    Raises:
        ValueError: factor < 2.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = _check_factor(factor, self)

    def matrix(self, n: int) -> np.ndarray:
        """A row per sample; raises ValueError if n is no multiple of the factor."""
        taps = bicubic_taps(self.factor)
        first = (self.factor - len(taps)) // 2
        return filter_matrix(taps, n, "symmetric", first, _stride(n, self.factor, self))

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """[C, factor h, factor w]."""
        return _enlarged(y_shape, self.factor)


class GaussianBlur(Separable):
    """Convolution with a sampled and normalised Gaussian.

    The benchmarks' 61 x 61 kernel of sigma 3 is a filtered delta, cut at 4 sigma: 25 x 25 of its entries are not zero.

    Args:
        sigma: standard deviation in pixels.
        boundary: "reflect" (mirrored, edge not repeated; as often as the kernel needs), "circular" or "zero".
        truncate: radius of the kernel in units of sigma.

    Raises:
        ValueError: sigma or truncate is not positive, or the boundary is unknown.
    """

    def __init__(self, sigma: float, boundary: Boundary = "reflect", truncate: float = 4.0) -> None:
        super().__init__()
        if not (sigma > 0 and truncate > 0):
            raise ValueError(
                f"GaussianBlur needs sigma > 0 and truncate > 0, got sigma={sigma} and truncate={truncate}"
            )
        self.sigma, self.boundary, self.truncate = sigma, check_boundary(boundary, self), truncate

    def matrix(self, n: int) -> np.ndarray:
        """A row per pixel."""
        taps = gaussian_taps(self.sigma, self.truncate)
        return filter_matrix(taps, n, self.boundary, -(len(taps) // 2))


def _decompose(matrix: np.ndarray) -> _Axis:
    tensor = torch.from_numpy(matrix)
    basis, values, _ = torch.linalg.svd(tensor)
    eigenvalues = tensor.new_zeros(len(tensor))
    eigenvalues[: len(values)] = values.square()
    return _Axis(tensor, basis, tensor.T @ basis, eigenvalues)


def _combine(rows: _Axis, columns: _Axis, dtype: torch.dtype, device: torch.device) -> _Factors:
    eigenvalues = torch.outer(rows.eigenvalues, columns.eigenvalues)
    parts = rows.matrix, columns.matrix, rows.basis, columns.basis, rows.back, columns.back, eigenvalues
    return _Factors(*(part.to(device, dtype) for part in parts), largest=eigenvalues.max().item())


def _damped(factors: _Factors, v: Tensor, rho: float | Tensor) -> Tensor:
    inverse = damped_inverse(factors.eigenvalues, rho, factors.largest)
    return inverse * (factors.rows_basis.T @ v @ factors.columns_basis)


def _check_factor(factor: int, owner: object) -> int:
    if factor != int(factor) or factor < 2:
        raise ValueError(f"{type(owner).__name__} needs an integer factor of at least 2, got {factor}")
    return int(factor)


def _stride(n: int, factor: int, owner: object) -> int:
    if n % factor:
        raise ValueError(f"{type(owner).__name__}: an image side of {n} is no multiple of the factor {factor}: crop it")
    return factor


def _enlarged(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    if len(shape) != 3:
        raise ValueError(f"a measurement of reduced images is [C, h, w], and this one is {list(shape)}")
    return (*shape[:-2], factor * shape[-2], factor * shape[-1])
