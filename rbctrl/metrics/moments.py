"""First and second moments of the samples of one image against those of p(x_0 | y), in closed form (`ExactPrior`).

With mean m*, variance v* and covariance C* of p(x_0 | y), and m, v, C of n samples:

    MeanError         rms over pixels of (m - m*) / sqrt(v*)        0 is right; exact samples give about 1 / sqrt(n)
    VarianceRatio     mean of v over mean of v*                     1 is right
    CovarianceError   |C - C*|_F / |C*|_F                           0 is right; exact samples of one Gaussian give about
                                                                    sqrt((1 + tr(C*)^2 / |C*|_F^2) / n)

Of a latent prior it is the latent that is compared, with "pixel" meaning one of its coordinates.

All are NaN for a prior that does not know its posterior, and second moments for fewer than two samples. A measurement
whose posterior such a prior does not know is refused before weights are loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rbctrl.codecs import Identity
from rbctrl.controllers.base import Setup
from rbctrl.metrics.base import Draws, SampleMetric, needs_posterior
from rbctrl.operators.base import LinearOperator
from rbctrl.priors.base import ExactPrior
from rbctrl.priors.mixture import GaussianMixture

Where = Literal["all", "observed", "unobserved"]


@dataclass(frozen=True)
class MeanError(SampleMetric):
    """Bias of the mean in posterior standard deviations, root mean square over the pixels of positive variance."""

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup)

    def __call__(self, draws: Draws) -> float:
        """About 1 / sqrt(n) for n exact samples."""
        if not isinstance(draws.prior, ExactPrior) or len(draws.samples) == 0:
            return math.nan
        mean, variance = _moments(draws)
        known = variance > 0
        return float(((draws.states.double().mean(0) - mean)[known].square() / variance[known]).mean().sqrt())


@dataclass(frozen=True)
class VarianceRatio(SampleMetric):
    """Mean variance of the samples over the mean exact variance, over all pixels or a part of them.

    Args:
        where: "all"; "observed", the pixels that A reads; "unobserved", those that it does not. NaN where there is no
            such pixel, and for parts under an operator that is not linear or of a latent prior.

    Raises:
        ValueError: an unknown part.
    """

    where: Where = "all"

    def __post_init__(self) -> None:
        if self.where not in get_args(Where):
            raise ValueError(f"VarianceRatio has no part {self.where!r}: use 'all', 'observed' or 'unobserved'")

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup)

    def __call__(self, draws: Draws) -> float:
        """1 for exact samples, with a standard error of sqrt(2 / (n k)) for k independent Gaussian pixels."""
        pixels = self._pixels(draws)
        if not isinstance(draws.prior, ExactPrior) or len(draws.samples) < 2 or pixels is None or not pixels.any():
            return math.nan
        _, variance = _moments(draws)
        return float(draws.states.double().var(0)[pixels].mean() / variance[pixels].mean())

    def _pixels(self, draws: Draws) -> Tensor | None:
        if self.where == "all":
            return torch.ones(draws.states.shape[1:], dtype=torch.bool, device=draws.samples.device)
        if not isinstance(draws.obs.operator, LinearOperator) or not isinstance(draws.prior.codec, Identity):
            return None
        everywhere = torch.ones(draws.samples.shape[1:], dtype=torch.bool, device=draws.samples.device)
        read = everywhere & read_pixels(draws)
        return read if self.where == "observed" else ~read


@dataclass(frozen=True)
class CovarianceError(SampleMetric):
    """Relative Frobenius error of the sample covariance; NaN unless the prior is a Gaussian mixture."""

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup)

    def __call__(self, draws: Draws) -> float:
        """About sqrt((1 + tr(C)^2 / |C|_F^2) / n) for n exact samples of one Gaussian of covariance C."""
        if not isinstance(draws.prior, GaussianMixture) or len(draws.samples) < 2:
            return math.nan
        weights, means, covariances = (part[0] for part in draws.prior.posterior(draws.obs))
        centred = means - weights @ means
        exact = torch.einsum("k,kde->de", weights, covariances) + (weights[:, None] * centred).T @ centred
        found = draws.samples.flatten(1).double().T.cov().view_as(exact)
        return float(((found - exact).square().sum() / exact.square().sum()).sqrt())


def read_pixels(draws: Draws) -> Tensor:
    """True where a linear operator reads the image, [*shape].

    A column of A that is not 0 is not orthogonal to a random y: unlike A^T 1, A^T y does not vanish where signs cancel.
    """
    seen = draws.obs.operator.adjoint(
        draws.rng.normal("metric/read_pixels", tuple(draws.obs.y.shape[1:])).to(draws.obs.y)
    )
    return seen[0].abs() > 1e-9 * seen.abs().max()


def _moments(draws: Draws) -> tuple[Tensor, Tensor]:
    mean, variance = draws.prior.moments_given(draws.obs)
    return mean[0].double(), variance[0].double()
