"""What an operator A in y = A(x) + noise has to offer.

A linear operator needs `forward` and its exact transpose `adjoint`. Everything else follows from one solve in the
space of the measurement, `gram_solve(v, rho)` = (A A^T + rho I)^-1 v, by conjugate gradient unless a closed form is
written:

    pinv(y)           = A^T (A A^T)^-1 y                                     the shortest image with A x nearest to y
    prox(x, y, rho)   = x + A^T (A A^T + rho I)^-1 (y - A x)                 argmin_z |A z - y|^2 + rho |z - x|^2

Images are [B, C, H, W] in [-1, 1]; rho is a float or a tensor [B, 1, ...].
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rbctrl.rng import ImageRNG


class Operator(nn.Module, ABC):
    """A measurement, differentiable where a gradient exists. Drawn masks and kernels are buffers."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Images [B, C, H, W] to measurements [B, ...]."""

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Operator:
        """The operator of one batch: what is random or depends on the image shape [C, H, W] is fixed, row by row."""
        return self

    def take(self, rows: Tensor) -> Operator:
        """The operator of the given rows; what was drawn per image is indexed."""
        return self

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The image shape [C, H, W] that gives measurements of shape `y_shape` (no batch)."""
        return y_shape

    @property
    def observed(self) -> Tensor | None:
        """1 where an entry of y is measured, 0 where it is not, broadcastable to y; None: everywhere."""
        return None


class LinearOperator(Operator):
    """A linear operator with its exact transpose."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """(A A^T + rho I)^-1 v; for rho = 0 a least-squares solution. Here: conjugate gradient, each row on its own."""
        return conjugate_gradient(lambda w: self(self.adjoint(w)) + rho * w, v)

    def pinv(self, y: Tensor) -> Tensor:
        """A^+ y, the pseudo-inverse."""
        return self.adjoint(self.gram_solve(y))

    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """argmin_z |A z - y|^2 + rho |z - image|^2; rho = 0 is the limit, the nearest image with A z = y."""
        return image + self.adjoint(self.gram_solve(y - self(image), rho))


def conjugate_gradient(matvec, b: Tensor, tol: float | None = None, max_steps: int = 200) -> Tensor:  # noqa: ANN001
    """Solves matvec(x) = b for a symmetric positive semi-definite matvec, row by row of the batch.

    A row stops when its residual norm is below tol * |b|, so the result does not depend on the other rows.

    Args:
        matvec: [B, ...] to [B, ...].
        b: right-hand side [B, ...].
        tol: relative residual; default 1e-6 in fp32 and 1e-12 in fp64.
        max_steps: upper bound on the iterations.
    """
    if tol is None:
        tol = 1e-12 if b.dtype == torch.float64 else 1e-6

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1).view(-1, *[1] * (u.ndim - 1))

    x, residual, direction = torch.zeros_like(b), b, b
    energy = dot(b, b)
    stop = energy * tol**2
    for _ in range(max_steps):
        active = energy > stop
        if not active.any():
            break
        moved = matvec(direction)
        curvature = dot(direction, moved)
        active = active & (curvature > 0)
        step = torch.where(active, energy / curvature.where(active, 1.0), 0.0)
        x, residual = x + step * direction, residual - step * moved
        new_energy = torch.where(active, dot(residual, residual), energy.where(curvature > 0, 0.0))
        ratio = torch.where(active, new_energy / energy.where(active, 1.0), 0.0)
        direction = residual + ratio * direction
        energy = new_energy
    return x
