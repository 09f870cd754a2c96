"""The singular value decomposition A = U S V^T of an operator, for methods that work on one direction at a time.

In the coordinates xbar = V^T x of images and ubar = U^T y of measurements A is a product with s, entry by entry:

    U^T A x = s xbar,      A^+ y = V ybar,  ybar = S^+ U^T y,      |x| = |xbar|.

V is square and orthonormal, the null space included, and xbar has the shape of the image; U^T y is placed at the same
coordinates, 0 where s = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, eq=False)
class SVD:
    """A = U S V^T for the images of one batch.

    Attributes:
        s: singular values, broadcastable to [B, *shape]; 0 where A does not see the coordinate, which includes what its
            `pinv` cuts off. They may differ between the rows of a batch.
        to_v: x to V^T x, [B, *shape] to [B, *shape]; V is the same for all rows.
        from_v: c to V c, the inverse of `to_v`.
        to_u: y [B, ...] to U^T y at the coordinates of V, [B, *shape]; 0 where s = 0.
        few: the same on the coordinates that A sees alone, [B, k] and V with k columns, where these are few; None: they
            are not.
    """

    s: Tensor
    to_v: Map
    from_v: Map
    to_u: Map
    few: SVD | None = None

    @property
    def seen(self) -> SVD:
        """On coordinates among which are all that A sees; what is 0 at the others has no need of them."""
        return self if self.few is None else self.few

    @property
    def is_diagonal(self) -> bool:
        """Whether V = I: the coordinates are the pixels."""
        return self.from_v is _same

    def solve(self, y: Tensor) -> Tensor:
        """ybar = S^+ U^T y = V^T A^+ y, [B, *shape]; 0 where s = 0."""
        return self.to_u(y) / torch.where(self.s > 0, self.s, 1.0)


def diagonal(s: Tensor) -> SVD:
    """A = diag(s) with s >= 0, broadcastable to [B, *shape]: measurements have the shape of images."""
    return SVD(s, _same, _same, lambda y: torch.where(s > 0, y, 0.0))


def dense(u: Tensor, s: Tensor, left: Tensor, right: Tensor) -> SVD:
    """Of states [B, D]: y [B, m], u [m, D] with columns that do not count where s = 0, s [D] with its zeros at the end.

    V = I + left @ right with left [D, r] and right [r, D]: the lower r, the cheaper.
    """
    k, u = len(u), torch.where(s > 0, u, 0.0)

    def to_v(x: Tensor) -> Tensor:
        return torch.addmm(x, x @ left, right)

    def from_v(c: Tensor) -> Tensor:
        return torch.addmm(c, c @ right.T, left.T)

    few = None
    if k < len(s):
        v = from_v(torch.eye(k, len(s)).to(s)).T
        few = SVD(s[:k], lambda x: x @ v, lambda c: c @ v.T, lambda y: y @ u[:, :k])
    return SVD(s, to_v, from_v, lambda y: y @ u, few)


def separable(u_rows: Tensor, u_columns: Tensor, s: Tensor, v_rows: Tensor, v_columns: Tensor) -> SVD:
    """Of images, rows and columns apart: y [B, C, h, w]; u_rows [h, H], v_rows [H, H], likewise columns; s [H, W]."""
    return SVD(
        s,
        lambda x: v_rows.T @ x @ v_columns,
        lambda c: v_rows @ c @ v_columns.T,
        lambda y: torch.where(s > 0, u_rows.T @ y @ u_columns, 0.0),
    )


def decompose(matrix: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """(u [m, D], s [D], v [D, D]) of a matrix [m, D], padded with zeros; s up to cutoff max(s) becomes 0."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=True)
    rank, dim = len(values), matrix.shape[1]
    u, s = matrix.new_zeros(len(matrix), dim), matrix.new_zeros(dim)
    u[:, :rank], s[:rank] = left[:, :rank], values
    return u, torch.where(s > cutoff * s.max(), s, 0.0), right.T


def decompose_rows(matrix: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(u [m, D], s [D], left [D, r], right [r, D]) of a matrix [m, D] for `dense`; s as in `decompose`.

    Few rows, 4 m < D, have r = 2 m: with matrix^T = Q R the columns of V beyond the singular vectors are those of
    Q = I + G W^T, a product of m Householder reflections, and no matrix of D x D numbers is made.
    """
    m, dim = matrix.shape
    if 4 * m >= dim:
        u, s, v = decompose(matrix, cutoff)
        unit = torch.eye(dim, dtype=matrix.dtype, device=matrix.device)
        return u, s, v - unit, unit
    packed, tau = torch.geqrf(matrix.T)
    thin, unit = torch.linalg.householder_product(packed, tau), torch.eye(dim, m).to(matrix)
    w = packed.tril(-1) + unit
    g = torch.linalg.solve_triangular(w[:m].T, thin - unit, upper=True, left=False, unitriangular=True)
    u, s, v = decompose(matrix @ thin, cutoff)
    beyond = torch.cat([torch.zeros_like(w[:m]), w[m:]])
    left, right = torch.cat([thin @ v - unit, g], 1), torch.cat([unit, beyond], 1).T
    return *(torch.nn.functional.pad(part, (0, dim - m)) for part in (u, s)), left, right
