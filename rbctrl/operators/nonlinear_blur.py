"""Nonlinear blur: the network G of an encoded blur-kernel space, with one latent per image.

    y = clip(2 G((x + 1) / 2, scale n) - 1, -1, 1),      n ~ N(0, I) drawn per item.

The latent stays the same in y and in every step of a controller.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor

from rbctrl.operators.base import Operator
from rbctrl.operators.common import image_sides, with_buffers
from rbctrl.operators.kernel_wizard import STRIDE, read_wizard
from rbctrl.operators.stored import read_draws
from rbctrl.rng import ImageRNG


class NonlinearBlur(Operator):
    """Tran et al., CVPR 2021 (see `kernel_wizard`), as DPS's benchmark uses it. Measurements are in [-1, 1].

    Args:
        path: the published GOPRO_wVAE.pth, which has to be downloaded; loaded strictly and without pickles.
        scale: of the latent; 1.2 in DPS.
        file: latents that `rbctrl draw` wrote, by item; None: drawn.

    Raises:
        FileNotFoundError: there is no such checkpoint or file.
        ValueError: it is no such checkpoint, or scale is negative.

    Note:
        DPS's released code draws a new latent at every call, so that y and each step of the sampler see different
        operators; DAPS keeps one for all images. Here it is one per item, the same in y and in every step.
    """

    drawn: ClassVar[str] = "latent"
    latent: Tensor | None

    def __init__(self, path: str | Path, scale: float = 1.2, file: str | Path | None = None) -> None:
        super().__init__()
        if not scale >= 0:
            raise ValueError(f"NonlinearBlur needs scale >= 0, got {scale}")
        self.path, self.scale = str(path), scale
        self.network = read_wizard(path)
        self.stored = None if file is None else read_draws(file, self)
        self.register_buffer("latent", None)

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> NonlinearBlur:
        """The operator with one latent per row, [B, 8 width, H / 128, W / 128].

        Raises:
            ValueError: the images [C, H, W] are not RGB with sides of multiples of 128, or the file does not fit.
        """
        height, width = image_sides(shape, self)
        if shape[0] != 3 or height % STRIDE or width % STRIDE:
            raise ValueError(
                f"NonlinearBlur needs images [3, H, W] with sides that are multiples of {STRIDE}, got {list(shape)}"
            )
        grid = (8 * self.network.width, height // STRIDE, width // STRIDE)
        if self.stored is not None:
            return with_buffers(self, latent=self.stored.of(rng, grid))
        return with_buffers(self, latent=rng.of_items().normal("latent", grid))

    def take(self, rows: Tensor) -> NonlinearBlur:
        """The latents of the given rows."""
        return with_buffers(self, latent=self._latent()[rows])

    def forward(self, image: Tensor) -> Tensor:
        """The blurred image [B, 3, H, W]."""
        blurred = self.network((image + 1) / 2, self.scale * self._latent())
        return (2 * blurred - 1).clamp(-1, 1)

    def guess(self, y: Tensor) -> Tensor:
        """The measurement itself."""
        return y

    def _latent(self) -> Tensor:
        if self.latent is None:
            raise ValueError("NonlinearBlur has no latent yet: use what its draw(rng, image_shape) returns")
        return self.latent
