"""Colourisation: y = sum_c w_c x_c, one grey channel of three.

A A^T = |w|^2 I, so A^+ y = w y / |w|^2; V rotates the three channels of a pixel, its first column is w / |w|.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rbctrl.operators.base import LinearOperator
from rbctrl.operators.common import image_sides
from rbctrl.operators.svd import SVD
from rbctrl.rng import ImageRNG

WEIGHTS = {"mean": (1 / 3, 1 / 3, 1 / 3), "luma": (0.299, 0.587, 0.114)}


class Grayscale(LinearOperator):
    """A weighted mean of the colour channels.

    Args:
        weights: "mean" (DDRM, DDNM) or "luma" (0.299, 0.587, 0.114, as in JPEG).

    Raises:
        ValueError: unknown weights.
    """

    def __init__(self, weights: Literal["mean", "luma"] = "mean") -> None:
        super().__init__()
        if weights not in WEIGHTS:
            raise ValueError(f"Grayscale has no weights {weights!r}: use 'mean' or 'luma'")
        self.register_buffer("weights", torch.tensor(WEIGHTS[weights], dtype=torch.float64).view(3, 1, 1))

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Grayscale:
        """The operator itself; raises ValueError unless images are [3, H, W]."""
        image_sides(shape, self)
        if shape[0] != 3:
            raise ValueError(f"Grayscale needs images of 3 channels, got {shape[0]}")
        return self

    def forward(self, image: Tensor) -> Tensor:
        """The grey image [B, 1, H, W]."""
        return (self.weights.to(image) * image).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        """Each channel its share, w_c y."""
        return self.weights.to(y) * y

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Closed form: v / (|w|^2 + rho)."""
        return v / (self.weights.to(v).square().sum() + rho)

    def svd(self, like: Tensor) -> SVD:
        """V rotates the channels, s = (|w|, 0, 0)."""
        weights = self.weights.to(torch.float64).flatten()
        length = weights.square().sum().sqrt()
        basis = torch.linalg.qr(torch.stack([weights, *torch.eye(3, dtype=torch.float64)[:2].to(weights)], 1))[0]
        rotation = (basis * torch.sign(basis[:, 0] @ weights)).to(like)
        s = (length * torch.eye(3, dtype=torch.float64)[0].to(weights)).view(3, 1, 1).to(like)

        def turn(matrix: Tensor, x: Tensor) -> Tensor:
            return torch.einsum("ij,bjhw->bihw", matrix, x)

        return SVD(
            s,
            lambda x: turn(rotation.T, x),
            lambda c: turn(rotation, c),
            lambda y: torch.cat([y, torch.zeros_like(y).repeat(1, 2, 1, 1)], 1),
        )

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """[3, H, W]."""
        return (3, *y_shape[-2:])
