"""One-dimensional filters, and a filter with its boundary as a matrix."""

from __future__ import annotations

from typing import Literal

import numpy as np


def gaussian_taps(sigma: float, truncate: float) -> np.ndarray:
    """A sampled Gaussian of radius round(truncate sigma), sum 1."""
    radius = int(truncate * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def bicubic_taps(factor: int) -> np.ndarray:
    """The 4 factor weights of antialiased bicubic downsampling, cubic kernel with a = -1/2, sum 1."""
    distance = np.abs((np.arange(4 * factor) - (4 * factor - 1) / 2) / factor)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return weights / weights.sum()


def filter_matrix(
    taps: np.ndarray, n: int, boundary: Literal["reflect", "symmetric", "circular", "zero"], first: int, stride: int = 1
) -> np.ndarray:
    """The matrix [n / stride, n] of out[i] = sum_k taps[k] in[stride i + first + k].

    Args:
        taps: [K].
        n: length of the signal.
        boundary: what lies outside: the signal mirrored without ("reflect") or with ("symmetric") its edge repeated,
            continued ("circular") or 0; a mirrored or continued signal goes on for ever.
        first: offset of the first tap.
        stride: between outputs.
    """
    out = np.arange(n // stride)
    source = stride * out[:, None] + first + np.arange(len(taps))
    weights = np.broadcast_to(taps, source.shape)
    if boundary == "zero":
        weights, source = np.where((source >= 0) & (source < n), weights, 0.0), source.clip(0, n - 1)
    else:
        period = {"reflect": max(2 * n - 2, 1), "symmetric": 2 * n, "circular": n}[boundary]
        mirrored = 2 * n - 2 if boundary == "reflect" else 2 * n - 1
        source = source % period
        source = np.where(source < n, source, mirrored - source)
    matrix = np.zeros((len(out), n))
    np.add.at(matrix, (np.broadcast_to(out[:, None], source.shape), source), weights)
    return matrix
