"""Does the truth look like one more sample? Asked of anything that claims to sample; no exact posterior is needed.

If x_0 ~ p(x_0), y ~ p(y | x_0), and x_1, ..., x_n are drawn from p(x_0 | y), then x_0 and the x_k are exchangeable
given y. So for any number f(x, y) the bin of f(x_0) among the sorted f(x_k), a place in it drawn at random,

    u = (#{f(x_k) < f(x_0)} + U (1 + #{f(x_k) = f(x_0)})) / (n + 1),      U uniform in [0, 1],

is uniform in [0, 1] over truths, exactly, for any n and also for posteriors with atoms (a finite set of images). Both
metrics are this u: `Coverage` says how often it lies in the middle, `RankStatistic` what it is, and `calibration_test`
whether the u of many images are uniform.

Two things have to be right for it to mean anything. The truths are drawn from the prior that the sampler uses: the
photographs shown to a network's prior are not. And f must look at y as well: draws from the prior, blind to y, have the
right coverage and uniform ranks for every f(x) (Modrak et al., Simulation-based calibration checking for Bayesian
computation: the choice of test quantities shapes sensitivity, https://arxiv.org/abs/2211.02383). f = |y - A x| tells
them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rbctrl.metrics.base import Draws, SampleMetric
from rbctrl.rng import ImageRNG

Of = Literal["pixels", "projections"]
Summary = Literal["projection", "residual"]


@dataclass(frozen=True)
class Coverage(SampleMetric):
    """Share of the truth's coordinates inside the central credible interval of the samples; `level` is right.

    The interval of n samples is drawn between their order statistics such that exact samples cover `level` exactly, and
    never reaches beyond them: for n below 2 / (1 - level) - 1 (19 at 0.9) it is [min, max], which covers
    (n - 1) / (n + 1). A point estimate covers nothing, 0: one sample, or equal ones that are not the truth; so does a
    sampler whose samples of an image all diverged. Coordinates of one image depend on each other, so the standard error
    is that over images. It does not see whether y was looked at: draws from the prior cover `level`, too.

    Args:
        level: of the interval, in (0, 1).
        of: "pixels", the coordinates, what a map of pixel-wise intervals promises; "projections", products with fixed
            random unit vectors, the same for all images and controllers: they see what no pixel shows alone,
            correlations and modes that lie oblique to the axes. As an average over directions it can hide that some are
            too wide and others too narrow, less so at a level of 0.5 than at 0.9.
        n_projections: how many.
        atol: samples nearer to the truth than this, in units of the image, count as equal to it: rounding.

    Raises:
        ValueError: a number out of range or an unknown choice.
    """

    level: float = 0.9
    of: Of = "pixels"
    n_projections: int = 64
    atol: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"the level of a credible interval is in (0, 1), got {self.level}")
        if self.of not in get_args(Of):
            raise ValueError(f"Coverage of {self.of!r} is not known: use 'pixels' or 'projections'")
        if self.n_projections < 1:
            raise ValueError(f"Coverage needs n_projections of at least 1, got {self.n_projections}")
        _check_atol(self.atol)

    def __call__(self, draws: Draws) -> float:
        """In [0, 1]; NaN without a truth."""
        if draws.truth is None:
            return math.nan
        n = len(draws.samples)
        if n == 0:
            return 0.0
        truth, samples = self._coordinates(draws.truth[None])[0], self._coordinates(draws.samples)
        less, equal = _place(truth, samples, self.atol)
        begin, width = less / (n + 1), (1 + equal) / (n + 1)  # u is uniform in [begin, begin + width]
        tail = max((1 - self.level) / 2, 1 / (n + 1))
        inside = (begin + width).clamp(max=1 - tail) - begin.clamp(min=tail)
        return float((inside.clamp(min=0) / width).mean())

    def _coordinates(self, x: Tensor) -> Tensor:
        """[n, *shape] to [n, S] in fp64."""
        flat = x.flatten(1).double().cpu()
        return flat if self.of == "pixels" else flat @ directions(self.n_projections, flat.shape[1]).T


@dataclass(frozen=True)
class RankStatistic(SampleMetric):
    """u of one image, in [0, 1]: uniform over images for exact samples; to be pooled by `calibration_test`.

    Talts, Betancourt, Simpson, Vehtari and Gelman, Validating Bayesian inference algorithms with simulation-based
    calibration, 2018, Algorithm 1, https://arxiv.org/abs/1804.06788. There u is the integer rank; the place in its bin
    makes it continuous. Too narrow samples pile u up at both ends, too wide ones in the middle, biased ones at one end.
    One sample claims all of the mass, so its u is 0 or 1. Samples are taken to be independent: those of one cloud of
    particles are not, and spread u towards the ends.

    Args:
        of: the number f: "projection", the product with one fixed random unit vector; "residual", |y - A x|, which for
            Gaussian noise orders samples as p(y | x) does, and sees a sampler that ignores y or fits its noise.
        atol: values nearer than this, in units of the image, count as equal: rounding.

    Raises:
        ValueError: an unknown choice or a negative atol.
    """

    of: Summary = "projection"
    atol: float = 1e-6

    def __post_init__(self) -> None:
        if self.of not in get_args(Summary):
            raise ValueError(f"RankStatistic of {self.of!r} is not known: use 'projection' or 'residual'")
        _check_atol(self.atol)

    def __call__(self, draws: Draws) -> float:
        """In [0, 1]; NaN without a truth, and where no sample is finite."""
        n = len(draws.samples)
        if draws.truth is None or n == 0:
            return math.nan
        truth, samples = self._summary(draws, draws.truth[None].to(draws.samples)), self._summary(draws, draws.samples)
        less, equal = (float(count) for count in _place(truth[0], samples, self.atol))
        place = float(draws.rng.uniform(f"metric/rank/{self.of}")[0])
        return less + place * equal if n == 1 else (less + place * (1 + equal)) / (n + 1)

    def _summary(self, draws: Draws, x: Tensor) -> Tensor:
        """[n, *shape] to [n] in fp64."""
        if self.of == "residual":
            rows = torch.zeros(len(x), dtype=torch.long)
            return draws.obs.take(rows).residual(x).flatten(1).double().square().sum(1).sqrt().cpu()
        flat = x.flatten(1).double().cpu()
        return flat @ directions(1, flat.shape[1])[0]


@dataclass(frozen=True)
class CalibrationTest:
    """Whether ranks are uniform: a small p rejects the sampler, a large one is no proof of it.

    Attributes:
        n: ranks that were tested.
        lost: ranks that were NaN.
        chi2_p: p-value of the chi-square test of their histogram.
        distance: the largest gap between their distribution function and the uniform one, in [0, 1].
        distance_p: its p-value (Kolmogorov).
    """

    n: int
    lost: int
    chi2_p: float
    distance: float
    distance_p: float


def calibration_test(ranks: Sequence[float] | np.ndarray | Tensor, bins: int = 20) -> CalibrationTest:
    """Tests the ranks of many images, one `RankStatistic` each.

    The images are taken to be independent draws. One truth measured several times is one draw, not several.

    Args:
        ranks: [N], in [0, 1] or NaN; on the host.
        bins: of the histogram.

    Raises:
        ValueError: a rank is outside of [0, 1], or there are fewer than 5 for each bin.
    """
    from scipy.stats import chisquare, kstest

    given = np.asarray(ranks, dtype=float).ravel()
    found = given[~np.isnan(given)]
    if ((found < 0) | (found > 1)).any():
        raise ValueError(f"ranks lie in [0, 1], got {found.min():g} to {found.max():g}")
    if len(found) < 5 * bins or bins < 2:
        raise ValueError(f"{len(found)} ranks in {bins} bins: the test needs 2 bins or more and 5 ranks for each")
    histogram, _ = np.histogram(found, bins, (0.0, 1.0))
    distance = kstest(found, "uniform")
    return CalibrationTest(
        n=len(found),
        lost=len(given) - len(found),
        chi2_p=float(chisquare(histogram).pvalue),
        distance=float(distance.statistic),
        distance_p=float(distance.pvalue),
    )


def directions(count: int, dim: int) -> Tensor:
    """Fixed unit vectors [count, dim], uniform on the sphere, in fp64."""
    normal = ImageRNG(0, (("calibration", 0),), torch.float64).normal(f"directions/{dim}", (count, dim))[0]
    return normal / normal.square().sum(1, keepdim=True).sqrt()


def _place(truth: Tensor, samples: Tensor, atol: float) -> tuple[Tensor, Tensor]:
    """How many samples [n, ...] lie below the truth [...], and how many equal it."""
    equal = (samples - truth).abs() <= atol
    return ((samples < truth) & ~equal).double().sum(0), equal.double().sum(0)


def _check_atol(atol: float) -> None:
    if atol < 0:
        raise ValueError(f"atol must not be negative, got {atol}")
