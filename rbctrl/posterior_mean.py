"""The samples of one image, gathered over batches: their mean and per-pixel standard deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rbctrl.metrics.base import Draws
from rbctrl.observation import Observation
from rbctrl.priors.base import Prior
from rbctrl.rng import ImageRNG
from rbctrl.solver import Solution


@dataclass(eq=False)
class ItemSamples:
    """Gathers the samples of one item; rows that diverged are left out of mean and standard deviation.

    Attributes:
        item: its name.
        cloud: how many samples in a row depend on each other (`Controller.population`); 1: none.
        count: samples seen, diverged ones included.
        reported: names of the columns that the controller itself adds.
        totals: evaluations and seconds of all samples together; peak memory is the largest.
    """

    item: str
    cloud: int = 1
    count: int = 0
    truth: Tensor | None = None
    obs: Observation | None = None
    reported: tuple[str, ...] = ()
    totals: dict[str, float] = field(default_factory=dict)
    _rows: list[Mapping[str, object]] = field(default_factory=list)
    _images: list[Tensor] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether no sample diverged."""
        return len(self._images) == self.count

    def add(self, row: Mapping[str, object], solution: Solution, k: int, truth: Tensor | None) -> None:
        """Row k of a batch, `row` in the table of results, is one more sample of this item."""
        self._rows.append(row)
        self.reported = solution.reported
        if self.obs is None:
            self.obs, self.truth = solution.obs.take(torch.tensor([k])), truth
        self.count += 1
        if solution.result.alive[k]:
            self._images.append(solution.image[k])
        peak = max(self.totals.get("peak_memory", solution.peak_memory), solution.peak_memory)
        self.totals = {name: self.totals.get(name, 0) + spent for name, spent in solution.spent().items()}
        self.totals["peak_memory"] = peak

    def mean_sd(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [C, H, W] over the samples that stayed finite; NaN if none did, sd 0 of one."""
        if not self._images:
            empty = self.obs.y.new_full(self.obs.operator.image_shape(tuple(self.obs.y.shape[1:])), torch.nan)
            return empty, empty
        stack = torch.stack(self._images)
        return stack.mean(0), stack.std(0, correction=1) if len(stack) > 1 else torch.zeros_like(stack[0])

    def averages(self, names: Sequence[str]) -> dict[str, float]:
        """Mean of these columns over the `n_alive` samples that did not diverge, NAME_se its standard error.

        The error is that over clouds, whose samples depend on each other, and NaN where there is only one; a single
        sample has none.
        """
        living = [row for row in self._rows if row["alive"]]
        clouds = [row["sample"] // self.cloud for row in living]
        averages = {"n_alive": len(living)}
        for name in names:
            mean, error = clustered_mean([row[name] for row in living], clouds)
            averages[name] = mean
            if self.count > 1:
                averages[f"{name}_se"] = error
        return averages

    def draws(self, prior: Prior, seed: int) -> Draws:
        """The finite samples, for metrics that look at all of them."""
        samples = torch.stack(self._images) if self._images else self.mean_sd()[0][None][:0]
        rng = ImageRNG(seed, ((self.item, 0),), samples.dtype, samples.device)
        return Draws(samples, self.truth, self.obs, prior, rng)


def clustered_mean(values: Sequence[float], clusters: Sequence[int]) -> tuple[float, float]:
    """Mean of values, and its standard error where those of one cluster depend on each other.

    With the sums r_c of value - mean over the n values of m clusters, se^2 = m / (m - 1) sum_c r_c^2 / n^2: that of
    independent values if each is a cluster of its own. NaN for fewer than two clusters.
    """
    numbers = torch.tensor(values, dtype=torch.float64)
    _, cluster = torch.tensor(clusters, dtype=torch.long).unique(return_inverse=True)
    mean, m = numbers.mean(), len(set(clusters))
    if m < 2:
        return float(mean), math.nan
    sums = numbers.new_zeros(m).index_add(0, cluster, numbers - mean)
    return float(mean), float((m / (m - 1) * sums.square().sum()).sqrt() / len(numbers))
