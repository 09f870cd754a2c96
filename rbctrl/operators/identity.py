"""Denoising: A = I."""

from __future__ import annotations

import torch
from torch import Tensor

from rbctrl.operators.base import LinearOperator
from rbctrl.operators.svd import SVD, diagonal


class Identity(LinearOperator):
    """y = x + noise."""

    def forward(self, image: Tensor) -> Tensor:
        """The image itself."""
        return image

    def adjoint(self, y: Tensor) -> Tensor:
        """The measurement itself."""
        return y

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Closed form: v / (1 + rho)."""
        return v / (1 + rho)

    def svd(self, like: Tensor) -> SVD:
        """V = I, s = 1."""
        return diagonal(torch.ones((), dtype=like.dtype, device=like.device))
