"""A dense matrix as an operator, for states that are vectors: the small worlds of truth tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from rbctrl.operators.base import LinearOperator
from rbctrl.operators.svd import SVD, decompose_rows, dense
from rbctrl.rng import ImageRNG


class Matrix(LinearOperator):
    """y = M x for states [B, D].

    Args:
        matrix: [m, D].
    """

    y_is: ClassVar[str] = "products with vectors"

    def __init__(self, matrix: Tensor | Sequence[Sequence[float]]) -> None:
        super().__init__()
        matrix = torch.as_tensor(matrix, dtype=torch.float64)
        if matrix.ndim != 2:
            raise ValueError(f"a matrix operator needs a matrix [m, D], got shape {tuple(matrix.shape)}")
        self.register_buffer("matrix", matrix)
        values, vectors = torch.linalg.eigh(matrix @ matrix.T)
        self.register_buffer("values", values.clamp(min=0))
        self.register_buffer("vectors", vectors)
        for name, factor in zip(("u", "s", "left", "right"), decompose_rows(matrix, 1e-6)):
            self.register_buffer(name, factor)

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Matrix:
        """Itself.

        Raises:
            ValueError: states are no vectors [D].
        """
        if tuple(shape) != (self.matrix.shape[1],):
            raise ValueError(
                f"operator=matrix measures vectors [{self.matrix.shape[1]}] and not states of shape {list(shape)}: "
                "take data=gmm, a matrix of other width, or another operator"
            )
        return self

    def forward(self, image: Tensor) -> Tensor:
        return image @ self.matrix.T.to(image)

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.matrix.to(y)

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """(M M^T + rho I)^-1 v by eigen-decomposition; for rho = 0 null directions (1e-12 of the largest) are cut."""
        values, vectors = self.values.to(v), self.vectors.to(v)
        damped = values + rho
        inverse = torch.where(damped > 1e-12 * values.max(), 1 / damped, 0.0)
        return (v @ vectors * inverse) @ vectors.T

    def svd(self, like: Tensor) -> SVD:
        """With the cut of `gram_solve`."""
        return dense(*(factor.to(like) for factor in (self.u, self.s, self.left, self.right)))

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.matrix.shape[1],)
