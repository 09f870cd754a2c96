"""A Gaussian random field: smooth grey images whose posterior is known in closed form.

    x_0 ~ N(mean, C),    C_ij = sd^2 (exp(-|p_i - p_j|^2 / (2 length_scale^2)) + jitter 1_ij),

where p_i is the place of pixel i. A missing pixel is partly known from its neighbours, and how well is what a posterior
sampler has to get right. The jitter is white noise that keeps C positive definite.
"""

from __future__ import annotations

import torch

from rbctrl.priors.mixture import GaussianMixture
from rbctrl.schedules import NoiseSchedule


def gaussian_field(
    schedule: NoiseSchedule,
    size: int = 8,
    length_scale: float = 1.5,
    sd: float = 0.4,
    mean: float = 0.0,
    jitter: float = 1e-3,
) -> GaussianMixture:
    """The field as a mixture of one component over [1, size, size]; an `ExactPrior`.

    Args:
        schedule: of the process.
        size: of the square image in pixels; the covariance has size^4 numbers, and each step solves with it.
        length_scale: of the squared-exponential covariance, in pixels.
        sd: of each pixel, without the jitter.
        mean: of each pixel.
        jitter: variance of white noise, in units of sd^2.

    Raises:
        ValueError: a number out of range, or a covariance that is not positive definite to rounding.
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"a field needs a size of at least 1 pixel, got {size!r}")
    if not (length_scale > 0 and sd > 0 and jitter >= 0):
        raise ValueError(
            "a field needs length_scale > 0, sd > 0 and jitter >= 0, got "
            f"length_scale={length_scale}, sd={sd} and jitter={jitter}"
        )
    axis = torch.arange(size, dtype=torch.float64)
    places = torch.cartesian_prod(axis, axis).view(-1, 2)
    squares = (places[:, None] - places[None]).square().sum(2)
    covariance = sd**2 * ((-squares / (2 * length_scale**2)).exp() + jitter * torch.eye(size**2, dtype=torch.float64))
    if torch.linalg.cholesky_ex(covariance).info:
        raise ValueError(
            f"the covariance of this field is singular to rounding with jitter={jitter}: raise jitter, 1e-3 say"
        )
    means = torch.full((1, size**2), mean, dtype=torch.float64)
    return GaussianMixture(schedule, [1.0], means, covariance[None], (1, size, size))
