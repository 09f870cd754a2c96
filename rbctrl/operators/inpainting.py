"""Inpainting: y = m x with m = 1 where a pixel is observed and 0 where it is missing, the same for all channels.

A = A^T = A^+ = diag(m), and prox moves the observed pixels alone, by (y - x) / (1 + rho). Masks are drawn per item, so
all posterior samples of one image share theirs; a `file` of `rbctrl draw` gives them in place of the seed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rbctrl.operators.base import LinearOperator
from rbctrl.operators.brush import brush_strokes
from rbctrl.operators.common import damped_inverse, image_sides, with_buffers
from rbctrl.operators.stored import read_draws
from rbctrl.operators.svd import SVD, diagonal
from rbctrl.rng import ImageRNG

Side = Literal["left", "right", "top", "bottom"]


class Mask(LinearOperator):
    """A mask per image; a subclass says which pixels are missing.

    Args:
        file: masks that `rbctrl draw` wrote, by item; None: those of the subclass.
    """

    drawn: ClassVar[str] = "mask"
    mask: Tensor | None

    def __init__(self, file: str | Path | None = None) -> None:
        super().__init__()
        self.register_buffer("mask", None)
        self.stored = None if file is None else read_draws(file, self)

    @abstractmethod
    def missing(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """True where a pixel of one image is missing, [H, W]."""

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Mask:
        """The operator with one mask per row, [B, 1, H, W].

        Raises:
            ValueError: the mask does not fit the image shape [C, H, W].
        """
        sides = image_sides(shape, self)
        if self.stored is not None:
            return with_buffers(self, mask=self.stored.of(rng, (1, *sides)))
        missing = [self.missing(generator, *sides) for generator in rng.of_items().generators("mask")]
        observed = torch.from_numpy(~np.stack(missing)[:, None])
        return with_buffers(self, mask=observed.to(rng.device, rng.dtype))

    def take(self, rows: Tensor) -> Mask:
        """The masks of the given rows."""
        return with_buffers(self, mask=self.observed[rows])

    @property
    def observed(self) -> Tensor:
        """[B, 1, H, W].

        Raises:
            ValueError: no mask was drawn yet.
        """
        if self.mask is None:
            raise ValueError(f"{type(self).__name__} has no mask yet: use what its draw(rng, image_shape) returns")
        return self.mask

    def forward(self, image: Tensor) -> Tensor:
        """The image where it is observed, m x [B, C, H, W]."""
        return self.observed * image

    def adjoint(self, y: Tensor) -> Tensor:
        """The same mask, m y."""
        return self.observed * y

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Closed form: v / (m + rho), and 0 where that divides by 0."""
        return v * damped_inverse(self.observed, rho, 1.0)

    def pinv(self, y: Tensor) -> Tensor:
        """The same mask, m y."""
        return self.observed * y

    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """Closed form: x + m (y - x) / (1 + rho)."""
        return image + self.observed * (y - image) / (1 + rho)

    def svd(self, like: Tensor) -> SVD:
        """V = I, s = m."""
        return diagonal(self.observed.to(like))


class BoxMask(Mask):
    """A square hole.

    Args:
        size: its side in pixels.
        placement: "random" (per item, uniform) or "centre".
        margin: pixels left observed around a random hole.
        file: as in `Mask`.

    Raises:
        ValueError: size < 1, margin < 0 or an unknown placement.

    Note:
        DPS draws the corner with an exclusive upper bound, so that its hole never touches the lower or right margin
        (corners 16..111 of 256 for a hole of 128); here both ends are possible (16..112).
    """

    def __init__(
        self,
        size: int,
        placement: Literal["random", "centre"] = "random",
        margin: int = 0,
        file: str | Path | None = None,
    ) -> None:
        super().__init__(file)
        if placement not in ("random", "centre"):
            raise ValueError(f"BoxMask has no placement {placement!r}: use 'random' or 'centre'")
        if size < 1 or margin < 0:
            raise ValueError(f"BoxMask needs size >= 1 and margin >= 0, got size={size} and margin={margin}")
        self.size, self.placement, self.margin = size, placement, margin

    def missing(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """The square, if it fits."""
        margin = self.margin if self.placement == "random" else 0
        if self.size + 2 * margin > min(height, width):
            raise ValueError(
                f"BoxMask: a hole of {self.size} with margin {margin} does not fit an image of {height} x {width}"
            )
        top, left = ((side - self.size) // 2 for side in (height, width))
        if self.placement == "random":
            top, left = (int(generator.integers(margin, n - self.size - margin + 1)) for n in (height, width))
        missing = np.zeros((height, width), bool)
        missing[top : top + self.size, left : left + self.size] = True
        return missing


class RandomMask(Mask):
    """Single pixels are missing, exactly int(fraction H W) of them.

    Args:
        fraction: of missing pixels, in (0, 1).
        file: as in `Mask`.

    Raises:
        ValueError: fraction is not in (0, 1).
    """

    def __init__(self, fraction: float, file: str | Path | None = None) -> None:
        super().__init__(file)
        if not 0 < fraction < 1:
            raise ValueError(f"RandomMask needs a fraction of missing pixels in (0, 1), got {fraction}")
        self.fraction = fraction

    def missing(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """The first pixels of a random order."""
        missing = np.zeros(height * width, bool)
        missing[generator.permutation(height * width)[: int(self.fraction * height * width)]] = True
        return missing.reshape(height, width)


class FreeformMask(Mask):
    """Brush strokes are missing.

    Args:
        coverage: (low, high); the fraction of missing pixels of each item is drawn uniformly between them.
        file: as in `Mask`.

    Raises:
        ValueError: not 0 <= low < high < 1.
    """

    def __init__(self, coverage: Sequence[float], file: str | Path | None = None) -> None:
        super().__init__(file)
        if len(coverage) != 2 or not 0 <= coverage[0] < coverage[1] < 1:
            raise ValueError(f"FreeformMask needs coverage (low, high) with 0 <= low < high < 1, got {coverage}")
        self.coverage = tuple(coverage)

    def missing(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """Where the brush went."""
        return brush_strokes(generator, height, width, self.coverage)


class HalfMask(Mask):
    """Half of the image is missing; of an odd side the smaller half.

    Args:
        side: the missing one.

    Raises:
        ValueError: an unknown side.
    """

    def __init__(self, side: Side = "right") -> None:
        super().__init__()
        if side not in get_args(Side):
            raise ValueError(f"HalfMask has no side {side!r}: use one of {', '.join(get_args(Side))}")
        self.side = side

    def missing(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """The half."""
        missing = np.zeros((height, width), bool)
        half = {
            "left": np.s_[:, : width // 2],
            "right": np.s_[:, width - width // 2 :],
            "top": np.s_[: height // 2],
            "bottom": np.s_[height - height // 2 :],
        }
        missing[half[self.side]] = True
        return missing
