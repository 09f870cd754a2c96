"""Solves K x = b for a symmetric positive semi-definite K that can only be applied.

By conjugate residuals, which operators use: step k takes, of all x that k products with K can reach, the one of
smallest residual b - K x. With a preconditioner M^-1, which should be close to K^-1 and cheap, it is the smallest in
the norm r^T M^-1 r. Against conjugate gradients, which need one product per step, too:

    the residual falls at every step, so a solve that is cut short is as good as its residual says
    for a singular K and a b that is not in its range the limit is a least-squares solution

For K = A A^T without preconditioner z = A^T x are the iterates of LSQR: of all images that k steps can reach, z has the
smallest |b - A z|. Stopped early, that is a regularised pseudo-inverse (Fong and Saunders, CG versus MINRES: an
empirical comparison, SQU Journal for Science 17, 2012, compare what falls monotonically in either method).

In finite precision the residual that the recursion carries falls for ever, the true one to about eps |K||x|. So the
true one is measured every few steps, the best x is kept, and a row stops where the two part.

By conjugate gradients, where a product with K costs a network call: k steps are k products, and nothing is measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

CHECK_EVERY = 10  # steps; reading whether all rows are done makes the host wait for a GPU
USEFUL = 1e-3  # relative residual above which the caller is told

log = logging.getLogger(__name__)
Linear = Callable[[Tensor], Tensor]


def conjugate_residual(
    matvec: Linear,
    b: Tensor,
    precondition: Linear | None = None,
    tol: float | None = None,
    max_steps: int = 500,
    warn: Callable[[str], None] = log.warning,
) -> Tensor:
    """The x of smallest residual that was found, [B, ...]; each row as if it were alone.

    A row stops when its residual is below tol |b|, when rounding lets it fall no further, or after `max_steps`. Where
    that left a residual above `USEFUL` |b|, x is a regularised solution (or, if K is singular, a least-squares one) and
    `warn` gets one sentence about it.

    Args:
        matvec: K, [B, ...] to [B, ...]; symmetric and positive semi-definite.
        b: right-hand side [B, ...].
        precondition: M^-1, symmetric and positive definite.
        tol: relative residual; default 1e-6 in fp32 and 1e-12 in fp64. If twice it is above `USEFUL`, that is what
            `warn` goes by.
        max_steps: upper bound on the steps, at least 1; each is one product with K, and every tenth is two.
        warn: is told of rows that did not converge.
    """
    tol = _default_tol(b) if tol is None else tol
    rows, on_cpu = _Rows(matvec, b, precondition or _identity, tol), b.device.type == "cpu"
    for k in range(1, max_steps + 1):
        rows.step()
        done = k == max_steps or (on_cpu and not rows.active.any())
        if k % CHECK_EVERY == 0 or done:
            rows.measure()
            if done or not rows.active.any():
                break
    bad = rows.best_error > max(USEFUL, 2 * tol) ** 2 * rows.size
    if bad.any():
        warn(_complaint(rows, bad, k))
    return rows.best


def conjugate_gradient(matvec: Linear, b: Tensor, tol: float | None = None, max_steps: int = 200) -> Tensor:
    """The plain method, [B, ...]; each row as if it were alone, and no word about rows that did not converge.

    A row stops when its residual is below tol |b|. In exact arithmetic (x* - x)^T K (x* - x) falls at every step; the
    residual need not.

    Args:
        matvec: K, [B, ...] to [B, ...]; symmetric and positive semi-definite, with b in its range.
        b: right-hand side [B, ...].
        tol: relative residual; default 1e-6 in fp32 and 1e-12 in fp64.
        max_steps: upper bound on the steps; each is one product with K.
    """
    x, residual, direction = torch.zeros_like(b), b, b
    energy = _dot(b, b)
    stop = energy * (_default_tol(b) if tol is None else tol) ** 2
    for _ in range(max_steps):
        active = energy > stop
        if not active.any():
            break
        moved = matvec(direction)
        curvature = _dot(direction, moved)
        active = active & (curvature > 0)
        step = torch.where(active, energy / curvature.where(active, 1.0), 0.0)
        x, residual = x + step * direction, residual - step * moved
        new_energy = torch.where(active, _dot(residual, residual), energy.where(curvature > 0, 0.0))
        ratio = torch.where(active, new_energy / energy.where(active, 1.0), 0.0)
        direction = residual + ratio * direction
        energy = new_energy
    return x


class _Rows:
    """The state of the iteration; what is measured per row is [B, 1, ...]."""

    def __init__(self, matvec: Linear, b: Tensor, precondition: Linear, tol: float) -> None:
        self.matvec, self.b, self.precondition, self.tol = matvec, b, precondition, tol
        self.x = self.best = 0.0 * b  # NaN stays NaN
        self.size = self.best_error = _dot(b, b)
        self.active = self.size > 0
        self.residual, self.z = b, precondition(b)
        self.direction, self.moved = self.z, matvec(self.z)
        self.energy = _dot(self.z, self.moved)

    def step(self) -> None:
        """One step of the active rows; moved = K direction, z = M^-1 residual, energy = z^T K z."""
        turned = self.precondition(self.moved)
        curvature = _dot(self.moved, turned)
        self.active = self.active & (curvature > 0) & (self.energy > 0)
        step = self._ratio(self.energy, curvature)
        self.x = self.x + step * self.direction
        self.residual = self.residual - step * self.moved
        self.z = self.z - step * turned
        ahead = self.matvec(self.z)
        energy = _dot(self.z, ahead)
        ratio = self._ratio(energy, self.energy)
        self.direction, self.moved, self.energy = self.z + ratio * self.direction, ahead + ratio * self.moved, energy
        self.active = self.active & (_dot(self.residual, self.residual) > self.tol**2 * self.size)

    def measure(self) -> None:
        """Keeps x where its true residual is the smallest so far; stops a row whose recursion has left it."""
        rest = self.b - self.matvec(self.x)
        error = _dot(rest, rest)
        better = error < self.best_error
        self.best = torch.where(better, self.x, self.best)
        self.best_error = torch.where(better, error, self.best_error)
        self.active = self.active & (error < 4 * _dot(self.residual, self.residual))

    def _ratio(self, above: Tensor, below: Tensor) -> Tensor:
        return torch.where(self.active, above / below.where(self.active, 1.0), 0.0)


def _complaint(rows: _Rows, bad: Tensor, steps: int) -> str:
    worst = (rows.best_error[bad] / rows.size[bad]).max().sqrt().item()
    return (
        f"{int(bad.sum())} of {len(bad)} rows of a linear solve in {str(rows.b.dtype).removeprefix('torch.')} are not "
        f"solved: after {steps} steps the relative residual is {worst:.1e}, and the solution is a regularised or "
        "least-squares one"
    )


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).flatten(1).sum(1).view(-1, *[1] * (u.ndim - 1))


def _default_tol(b: Tensor) -> float:
    return 1e-12 if b.dtype == torch.float64 else 1e-6


def _identity(v: Tensor) -> Tensor:
    return v
