"""A linear Gaussian measurement in the singular basis of its operator, and in that basis a few products.

With A A^T = U diag(s^2) U^T the rows b_i of U^T A are orthogonal, |b_i| = s_i, and the entries of z = U^T y are
independent given x_0: z_i = b_i x_0 + sigma_y n_i. No matrix larger than A is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.observation import Observation
from rbctrl.priors.base import needs_linear_gaussian


@dataclass(frozen=True, eq=False)
class Measured:
    """y in the singular basis of A, z = U^T y; "(B,)" is there only if every row has an operator of its own."""

    rows: Tensor  # b_i, [(B,) m, D]
    directions: Tensor  # the basis of the means, then the b_i, [(B,) p + m, D]
    energy: Tensor  # s_i^2, [1 or B, m]
    z: Tensor  # [B, m]
    means: Tensor  # b_i m_k, [(B,) K, m]
    noise: float  # sigma_y^2
    constant: Tensor  # [B], takes unmeasured entries out of the density


def measure(obs: Observation, basis: Tensor, means: Tensor) -> Measured:
    """What a mixture of means [K, D], with an orthonormal basis [p, D] of their span, has to know of an observation.

    Raises:
        ValueError: the noise is not Gaussian or the operator is not linear.
    """
    reason = needs_linear_gaussian(obs.operator, obs.noise)
    if reason is not None:
        raise ValueError(reason)
    matrix, y = _matrix(obs), obs.y.flatten(1).double()
    energy, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    rows, z = vectors.mT @ matrix, (y[:, None] @ vectors)[:, 0]
    unmeasured = y.shape[1] - obs.n_measured.double()  # 0 in y and in A: they are no evidence
    constant = unmeasured * math.log(obs.sigma_y * math.sqrt(2 * math.pi))
    directions = torch.cat([basis.expand(len(rows), -1, -1), rows], dim=1)
    if len(rows) == 1:
        rows, directions = rows[0], directions[0]
    return Measured(rows, directions, energy.clamp(min=0), z, means @ rows.mT, obs.sigma_y**2, constant)


def project(x: Tensor, directions: Tensor) -> Tensor:
    """Products of x [B, D] with directions [n, D] or [B, n, D]: [B, n]."""
    return x @ directions.T if directions.ndim == 2 else (directions @ x[..., None])[..., 0]


def affine(x: Tensor, keep: float, coefficients: Tensor, directions: Tensor) -> Tensor:
    """keep x + coefficients @ directions, in one pass."""
    if directions.ndim == 2:
        return torch.addmm(x, coefficients, directions, beta=keep)
    return torch.baddbmm(x[:, None], coefficients[:, None], directions, beta=keep)[:, 0]


def _matrix(obs: Observation) -> Tensor:
    """A, [B, m, D] in fp64, or [1, m, D] where all rows share it: the adjoint of the m unit measurements."""
    m = obs.y[0].numel()
    unit = torch.eye(m, dtype=obs.y.dtype, device=obs.y.device).view(m, *obs.y.shape[1:])
    if obs.operator.take(torch.zeros(1, dtype=torch.long)) is obs.operator:
        return obs.operator.adjoint(unit).flatten(1).double()[None]
    rows = [obs.operator.take(torch.full((m,), k)).adjoint(unit).flatten(1) for k in range(len(obs.y))]
    return torch.stack(rows).double()
