"""Blur by an arbitrary kernel: y[i] = sum_j k[j] x[i + j], correlation as convolution layers do it (no flip).

On a torus of N pixels the Fourier transform of y is conj(K) X, of A^T y it is K Y. The boundaries differ in the torus:

    circular: N = H, and (A A^T + rho I)^-1 divides by |K|^2 + rho
    zero:     x is followed by at least one kernel radius of zeros
    reflect:  x is first extended by its mirror image, A = crop C P; so A^T = P^T C^T crop^T, P^T folds the margins back

For zero and reflect no closed inverse exists; the conjugate residuals of the base class solve, preconditioned on the
torus of the image by |K|^2 + sqrt(rho (rho + max |K|^2)). With rho alone in place of the root that would be worse than
nothing at small rho, as A A^T differs from |K|^2 near the border. At rho = 0 nothing is preconditioned, so that the
limit is the pseudo-inverse for an A of any rank. The singular values of motion blur reach 1e-5 of the largest and
less: `pinv`, and `prox` where rho is well below 1e-4, are regularised there (see `base`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rbctrl.operators.base import LinearOperator
from rbctrl.operators.common import Boundary, check_boundary, damped_inverse, image_sides, read_grey, with_buffers
from rbctrl.operators.motion import motion_kernel
from rbctrl.operators.stored import read_draws
from rbctrl.operators.torus import fold, multiply, on_torus, smooth
from rbctrl.rng import ImageRNG

SMALLEST_SHIFT = 1e-3  # of the preconditioner, relative to max |K|^2; ours: below it nothing was gained


class Blur(LinearOperator):
    """A kernel per image or one for all, [B or 1, 1, h, w] with odd sides; a subclass provides it."""

    kernel: Tensor | None
    way_out = f"boundary=circular (closed form), {LinearOperator.way_out}"

    def __init__(self, boundary: Boundary, kernel: Tensor | None = None) -> None:
        super().__init__()
        self.boundary = check_boundary(boundary, self)
        self.register_buffer("kernel", kernel)
        self._kept: dict[tuple, Tensor] = {}

    def forward(self, image: Tensor) -> Tensor:
        """Correlation with the kernel, of the size of the image."""
        height, width = image.shape[-2:]
        top, left = self._margins(height, width)
        if self.boundary != "reflect":
            return self._filter(image, conjugate=True)[..., :height, :width]
        extended = pad(image, (left, left, top, top), mode="reflect")
        return self._filter(extended, conjugate=True)[..., top : top + height, left : left + width]

    def adjoint(self, y: Tensor) -> Tensor:
        """Correlation with the flipped kernel, margins folded back."""
        height, width = y.shape[-2:]
        top, left = self._margins(height, width)
        if self.boundary != "reflect":
            return self._filter(y, conjugate=False)[..., :height, :width]
        spread = self._filter(pad(y, (left, left, top, top)), conjugate=False)
        spread = spread[..., : height + 2 * top, : width + 2 * left]
        return fold(fold(spread, left).mT, top).mT

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Division by |K|^2 + rho on the torus; preconditioned conjugate residuals for the other boundaries."""
        if self.boundary != "circular":
            return super().gram_solve(v, rho)
        gram = self._gram(tuple(v.shape[-2:]), v)
        return multiply(v, damped_inverse(gram, rho, gram.amax((-2, -1), keepdim=True)))

    def preconditioner(self, v: Tensor, rho: float | Tensor) -> Callable[[Tensor], Tensor] | None:
        """Division by |K|^2 + sqrt(rho (rho + max |K|^2)) on the torus of v; none for rho = 0."""
        if not isinstance(rho, Tensor) and rho == 0:
            return None
        rho = torch.as_tensor(rho, dtype=v.dtype, device=v.device)
        gram = self._gram(tuple(v.shape[-2:]), v)
        largest = gram.amax((-2, -1), keepdim=True)
        shift = torch.maximum((rho * (rho + largest)).sqrt(), SMALLEST_SHIFT * largest)
        inverse = torch.where(rho > 0, (gram + shift).reciprocal(), 1.0)
        return lambda r: multiply(r, inverse)

    def take(self, rows: Tensor) -> Blur:
        """The kernels of the given rows."""
        return self if len(self._kernel()) == 1 else self._with_kernel(self._kernel()[rows])

    def _with_kernel(self, kernel: Tensor) -> Blur:
        copied = with_buffers(self, kernel=kernel)
        copied._kept = {}
        return copied

    def _kernel(self) -> Tensor:
        if self.kernel is None:
            raise ValueError(f"{type(self).__name__} has no kernel yet: use what its draw(rng, image_shape) returns")
        return self.kernel

    def _margins(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = self._kernel().shape[-2:]
        check_margins(self.boundary, (rows, columns), (height, width), self)
        return rows // 2, columns // 2

    def _filter(self, image: Tensor, conjugate: bool) -> Tensor:
        """Product with K or its conjugate on a torus that holds the image; a larger one is cut by the caller."""
        radii = [n // 2 for n in self._kernel().shape[-2:]]
        sides = image.shape[-2:]
        if self.boundary == "zero":
            sides = [n + radius for n, radius in zip(sides, radii, strict=True)]
        size = tuple(sides) if self.boundary == "circular" else tuple(smooth(n) for n in sides)
        transfer = self._transfer(size, image)
        spectrum = torch.fft.rfft2(image, s=size) * (transfer.conj() if conjugate else transfer)
        return torch.fft.irfft2(spectrum, s=size)

    def _transfer(self, size: tuple[int, ...], like: Tensor) -> Tensor:
        """K on a torus of this size, [B or 1, 1, N, M / 2 + 1]; kept."""
        key = ("transfer", size, like.dtype, like.device)
        if key not in self._kept:
            self._kept[key] = torch.fft.rfft2(on_torus(self._kernel().to(like), size))
        return self._kept[key]

    def _gram(self, size: tuple[int, ...], like: Tensor) -> Tensor:
        """|K|^2, the eigenvalues of A A^T; kept."""
        key = ("gram", size, like.dtype, like.device)
        if key not in self._kept:
            self._kept[key] = self._transfer(size, like).abs().square()
        return self._kept[key]


class MotionBlur(Blur):
    """A camera-shake kernel per item, drawn as in DPS's benchmark (see `motion`).

    Args:
        size: side of the kernel, odd.
        intensity: 0 for straight lines to 1 for knots.
        boundary: "reflect" (mirrored, edge not repeated), "circular" or "zero".
        file: kernels that `rbctrl draw` wrote, by item; None: drawn.

    Raises:
        ValueError: size is even or below 3, intensity is not in [0, 1], or the boundary is unknown.
        FileNotFoundError: there is no such file.
    """

    drawn: ClassVar[str] = "kernel"

    def __init__(
        self, size: int, intensity: float, boundary: Boundary = "reflect", file: str | Path | None = None
    ) -> None:
        super().__init__(boundary)
        if size < 3 or size % 2 == 0 or not 0 <= intensity <= 1:
            raise ValueError(f"MotionBlur needs an odd size >= 3 and intensity in [0, 1], got {size} and {intensity}")
        self.size, self.intensity = size, intensity
        self.stored = None if file is None else read_draws(file, self)

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Blur:
        """The operator with one kernel per row.

        Raises:
            ValueError: the image shape [C, H, W] is too small for the mirror image that the kernel needs.
        """
        check_margins(self.boundary, (self.size, self.size), image_sides(shape, self), self)
        if self.stored is not None:
            return self._with_kernel(self.stored.of(rng, (1, self.size, self.size)))
        kernels = [motion_kernel(g, self.size, self.intensity) for g in rng.of_items().generators("kernel")]
        return self._with_kernel(torch.from_numpy(np.stack(kernels)[:, None]).to(rng.device, rng.dtype))


class KernelBlur(Blur):
    """The user's own kernel, for every image.

    Args:
        path: a .npy or image file (read as grey), or the kernel itself [h, w], with odd sides.
        boundary: "reflect" (mirrored, edge not repeated), "circular" or "zero".
        scale: "unit_sum" divides the kernel by its sum, which keeps the brightness; "as_is" leaves it alone
            (of an image file: grey values in [0, 1]).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a finite matrix with odd sides, a sum <= 0 with "unit_sum", or an unknown scale or boundary.
    """

    def __init__(
        self,
        path: str | Path | np.ndarray | Tensor,
        boundary: Boundary = "reflect",
        scale: Literal["unit_sum", "as_is"] = "unit_sum",
    ) -> None:
        if scale not in ("unit_sum", "as_is"):
            raise ValueError(f"KernelBlur has no scale {scale!r}: use 'unit_sum' or 'as_is'")
        kernel = _check_kernel(_read_kernel(path) if isinstance(path, str | Path) else np.asarray(path, np.float64))
        if scale == "unit_sum":
            if kernel.sum() <= 0:
                raise ValueError(f"KernelBlur: the kernel sums to {kernel.sum():.4g}, not above 0: use scale='as_is'")
            kernel = kernel / kernel.sum()
        super().__init__(boundary, torch.from_numpy(kernel)[None, None])

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Blur:
        """The operator on the device of `rng`.

        Raises:
            ValueError: the image shape [C, H, W] is too small for the mirror image that the kernel needs.
        """
        check_margins(self.boundary, self._kernel().shape[-2:], image_sides(shape, self), self)
        return self._with_kernel(self._kernel().to(rng.device, rng.dtype))


def check_margins(boundary: Boundary, kernel: tuple[int, ...], image: tuple[int, ...], owner: object) -> None:
    """Refuses an image (height, width) that is too small to be mirrored by half of a kernel (height, width).

    Raises:
        ValueError: it is.
    """
    if boundary == "reflect" and any(k // 2 >= n for k, n in zip(kernel, image, strict=True)):
        raise ValueError(
            f"{type(owner).__name__}: a kernel of {kernel[0]} x {kernel[1]} needs a mirrored margin of "
            f"{kernel[0] // 2} x {kernel[1] // 2}, which an image of {image[0]} x {image[1]} cannot give: "
            "take a smaller kernel or boundary=circular or zero"
        )


def _read_kernel(path: str | Path) -> np.ndarray:
    if not Path(path).is_file():
        raise FileNotFoundError(f"KernelBlur: there is no file {str(path)!r}")
    if Path(path).suffix == ".npy":
        try:
            kernel = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"KernelBlur: {str(path)!r} is no array of numbers ({error})") from error
        if kernel.dtype.kind not in "fiub":
            raise ValueError(f"KernelBlur: {str(path)!r} holds {kernel.dtype}, and a kernel is of real numbers")
        return kernel.astype(np.float64)
    return read_grey(path, "KernelBlur").astype(np.float64) / 255


def _check_kernel(kernel: np.ndarray) -> np.ndarray:
    if kernel.ndim != 2 or any(n % 2 == 0 for n in kernel.shape):
        raise ValueError(
            f"KernelBlur needs a matrix with odd sides, got shape {kernel.shape}: pad it with a line of zeros"
        )
    if not np.isfinite(kernel).all():
        raise ValueError("KernelBlur: the kernel has entries that are not finite")
    return kernel
