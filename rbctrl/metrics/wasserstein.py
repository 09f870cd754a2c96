"""How far the samples of one image are from p(x_0 | y), by exact draws of it (`ExactPrior`).

    SlicedWasserstein   W_p(samples . theta, draws . theta), the p-th root of its mean p-th power over unit directions
                        theta; W_p of numbers is the L_p distance of their quantile functions
    ModeWeightTV        sum_k |w_k - w_k'| / 2, w_k the share of the samples whose nearest mean is m_k

Neither is 0 for exact samples, since both sides are finite: `Floor` gives what exact samples score. All are NaN for a
prior that does not know its posterior, and where no sample is finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rbctrl.controllers.base import Setup
from rbctrl.metrics.base import Draws, SampleMetric, needs_posterior
from rbctrl.priors.base import ExactPrior

CHUNK = 100  # directions at a time


@dataclass(frozen=True, eq=False)
class Slices:
    """A few directions, and exact draws along them.

    Attributes:
        theta: unit vectors [S, D].
        exact: [S, n], each row sorted.
    """

    theta: Tensor
    exact: np.ndarray


@dataclass(frozen=True)
class SlicedWasserstein(SampleMetric):
    """Bonneel et al., Sliced and Radon Wasserstein barycenters, JMIV 2015, https://hal.science/hal-00881872.

    Computed in fp64. With order = 1 and as many exact draws as samples it is what the MCGDiff benchmark reports.

    Args:
        n_slices: directions, uniform on the sphere; the same for all controllers.
        order: p >= 1.
        n_reference: exact draws; None: as many as there are samples.

    Raises:
        ValueError: a number below 1.
    """

    n_slices: int = 1000
    order: float = 1.0
    n_reference: int | None = None

    def __post_init__(self) -> None:
        _at_least_1(self, "n_slices", "order", "n_reference")

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup)

    def __call__(self, draws: Draws) -> float:
        """In units of the state."""
        if not isinstance(draws.prior, ExactPrior) or len(draws.samples) == 0:
            return math.nan
        return self.distance(draws.samples, self.slices(draws))

    def slices(self, draws: Draws) -> Iterator[Slices]:
        """The directions and the exact draws along them: the same for all methods that leave as many samples."""
        n = len(draws.samples) if self.n_reference is None else self.n_reference
        exact = draws.posterior(n).flatten(1).double().cpu()
        for first in range(0, self.n_slices, CHUNK):
            theta = _directions(draws, first, min(CHUNK, self.n_slices - first), exact.shape[1])
            yield Slices(theta, np.sort((theta @ exact.T).numpy(), axis=1))

    def distance(self, samples: Tensor, slices: Iterable[Slices]) -> float:
        """Of samples [n, *shape]."""
        samples = samples.flatten(1).double().cpu()
        powers = [_distance(np.sort((s.theta @ samples.T).numpy(), axis=1), s.exact, self.order) for s in slices]
        return float(np.concatenate(powers).mean() ** (1 / self.order))


@dataclass(frozen=True)
class ModeWeightTV(SampleMetric):
    """Total variation between the mode weights of samples and of exact draws, in [0, 1]; modes are `prior.means`.

    NaN for a prior without means.

    Args:
        n_reference: exact draws; None: as many as there are samples.

    Raises:
        ValueError: n_reference is below 1.
    """

    n_reference: int | None = None

    def __post_init__(self) -> None:
        _at_least_1(self, "n_reference")

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup)

    def __call__(self, draws: Draws) -> float:
        """0 if every mode has its weight."""
        means = getattr(draws.prior, "means", None)
        if means is None or not isinstance(draws.prior, ExactPrior) or len(draws.samples) == 0:
            return math.nan
        exact = draws.posterior(len(draws.samples) if self.n_reference is None else self.n_reference)
        found, right = (_shares(x.flatten(1).double(), means.double()) for x in (draws.samples, exact))
        return float((found - right).abs().sum() / 2)


@dataclass(frozen=True)
class Floor(SampleMetric):
    """What a metric gives for as many exact draws as there are samples: nobody scores better in the mean.

    Args:
        metric: any metric of samples.
    """

    metric: SampleMetric

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup) or self.metric.check(setup)

    def __call__(self, draws: Draws) -> float:
        """The metric of other exact draws than those it compares with."""
        if not isinstance(draws.prior, ExactPrior) or len(draws.samples) == 0:
            return math.nan
        return self.metric(replace(draws, samples=draws.posterior(len(draws.samples), "floor")))


def quantile_distance(a: Tensor, b: Tensor, order: float = 1.0) -> np.ndarray:
    """W_p(a_k, b_k)^p of rows of numbers a [S, n] and b [S, m], fp64 on the host; [S]."""
    return _distance(np.sort(a.numpy(), axis=1), np.sort(b.numpy(), axis=1), order)


def _distance(a: np.ndarray, b: np.ndarray, order: float) -> np.ndarray:
    """The same of rows that are sorted."""
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return (np.abs(a - b) ** order).mean(1)
    steps = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)  # where a quantile function jumps, times n m
    middle = (steps[:-1] + steps[1:]) / 2
    gaps = np.abs(a[:, (middle // m).astype(int)] - b[:, (middle // n).astype(int)]) ** order
    return gaps @ (np.diff(steps) / (n * m))


def _at_least_1(metric: SampleMetric, *names: str) -> None:
    for name in names:
        value = getattr(metric, name)
        if value is not None and value < 1:
            raise ValueError(f"{type(metric).__name__} needs {name} of at least 1, got {value}")


def _directions(draws: Draws, first: int, count: int, dim: int) -> Tensor:
    """Unit vectors, [count, dim]."""
    normal = draws.rng.normal(f"metric/slices/{first}", (count, dim))[0].double().cpu()
    return normal / normal.square().sum(1, keepdim=True).sqrt()


def _shares(x: Tensor, means: Tensor) -> Tensor:
    """The share of the states x [n, D] nearest to each mean [K, D], [K]."""
    nearest = (x @ means.T - means.square().sum(1) / 2).argmax(1)
    return torch.bincount(nearest, minlength=len(means)).double() / len(x)
