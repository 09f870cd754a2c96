"""What several operators share: copies with drawn tensors, boundary conditions, the damped inverse, straight-through.

An operator diagonalised as A A^T = U diag(lam) U^T has (A A^T + rho I)^-1 = U diag(1 / (lam + rho)) U^T. At rho = 0
that is the pseudo-inverse, which divides by nothing smaller than `CUTOFF` times the largest singular value: fp32
rounding is then amplified to 1e-3 at most, and fp32 and fp64 runs invert the same directions.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from rbctrl.data.files import Unreadable, decode
from rbctrl.operators.base import Operator

Boundary = Literal["reflect", "circular", "zero"]
CUTOFF = 1e-4  # on singular values, relative to the largest

AnyOperator = TypeVar("AnyOperator", bound=Operator)


def with_buffers(operator: AnyOperator, **buffers: Tensor) -> AnyOperator:
    """A copy of the operator that holds these tensors; the original and its other tensors stay as they are."""
    copied = copy.copy(operator)
    copied._buffers = dict(operator._buffers)
    for name, value in buffers.items():
        copied.register_buffer(name, value)
    return copied


def image_sides(shape: tuple[int, ...], owner: object) -> tuple[int, int]:
    """(height, width) of an image shape [C, H, W].

    Raises:
        ValueError: it is the shape of something else, such as a vector [D].
    """
    if len(shape) != 3:
        raise ValueError(
            f"{type(owner).__name__} measures images [C, H, W] and not states of shape {list(shape)}: "
            "use operator=matrix or identity"
        )
    return shape[1], shape[2]


def read_grey(path: str | Path, owner: str) -> np.ndarray:
    """An image file in levels from 0 to 255, [H, W].

    Raises:
        ValueError: it is no image, or is damaged.
    """
    try:
        return np.asarray(decode(Path(path)).convert("L"))
    except Unreadable as error:
        raise ValueError(f"{owner}: {str(path)!r} {error}") from error


def straight_through(value: Tensor, smooth: Tensor) -> Tensor:
    """`value` with the gradient of `smooth`: that of a step is 0 or infinite and of no use to a controller."""
    return smooth + (value - smooth).detach() if smooth.requires_grad else value


def check_boundary(boundary: str, owner: object) -> Boundary:
    """The boundary, if it is one.

    Raises:
        ValueError: it is none of "reflect", "circular" and "zero".
    """
    if boundary not in get_args(Boundary):
        raise ValueError(
            f"{type(owner).__name__} has no boundary {boundary!r}: use one of {', '.join(get_args(Boundary))}"
        )
    return boundary


def damped_inverse(eigenvalues: Tensor, rho: float | Tensor, largest: float | Tensor) -> Tensor:
    """1 / (eigenvalues + rho), and 0 where that sum is below CUTOFF^2 largest.

    Args:
        eigenvalues: of A A^T, broadcastable to what they divide.
        rho: a float or [B, 1, 1, 1].
        largest: of the eigenvalues of each image; a Python number or [B, 1, 1, 1].
    """
    damped = eigenvalues + rho
    return torch.where(damped > CUTOFF**2 * largest, damped.reciprocal(), 0.0)
