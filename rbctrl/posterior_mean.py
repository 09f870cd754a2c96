"""The samples of one image, gathered over batches and over runs: their mean and per-pixel standard deviation."""

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

_SPENT = ("nfe", "vjp", "decoder_vjp", "encoder_vjp", "seconds_per_image", "peak_memory")


@dataclass(eq=False)
class ItemSamples:
    """Gathers the samples of one item, in any order; those that diverged are left out of mean and standard deviation.

    Attributes:
        item: its name.
        cloud: how many samples in a row depend on each other (`Controller.population`); 1: none.
        truth: [*shape] or None.
        obs: their observation, one row; needed for everything but mean and standard deviation.
        reported: names of the columns that the controller itself adds.
    """

    item: str
    cloud: int = 1
    truth: Tensor | None = None
    obs: Observation | None = None
    reported: tuple[str, ...] = ()
    _rows: dict[int, Mapping[str, object]] = field(default_factory=dict)
    _images: dict[int, Tensor] = field(default_factory=dict)

    def __contains__(self, sample: int) -> bool:
        return sample in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def diverged(self) -> int:
        """How many samples became non-finite."""
        return len(self._rows) - len(self._images)

    def add(self, row: Mapping[str, object], image: Tensor) -> None:
        """One more sample: its row in the table of results, and its image [C, H, W]."""
        sample = int(row["sample"])  # type: ignore[call-overload]
        self._rows[sample] = row
        if row["alive"]:
            self._images[sample] = image

    @property
    def totals(self) -> dict[str, float]:
        """Evaluations and seconds of all samples together; peak memory is the largest."""
        spent = {name: [_defined(row.get(name)) for row in self._ordered()] for name in _SPENT}
        return {name: max(v) if name == "peak_memory" else sum(v) for name, v in spent.items()}

    def mean_sd(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [C, H, W] over the samples that stayed finite; NaN if none did, sd 0 of one."""
        if not self._images:
            empty = self.obs.y.new_full(self.obs.operator.image_shape(tuple(self.obs.y.shape[1:])), torch.nan)
            return empty, empty
        stack = self._stack()
        return stack.mean(0), stack.std(0, correction=1) if len(stack) > 1 else torch.zeros_like(stack[0])

    def averages(self, names: Sequence[str]) -> dict[str, float]:
        """Mean of these columns over the `n_alive` samples that did not diverge, NAME_se its standard error.

        The error is that over clouds, whose samples depend on each other, and NaN where there is only one; a single
        sample has none.
        """
        living = [row for row in self._ordered() if row["alive"]]
        clouds = [int(row["sample"]) // self.cloud for row in living]
        averages = {"n_alive": len(living)}
        for name in names:
            mean, error = clustered_mean([_defined(row.get(name)) for row in living], clouds)
            averages[name] = mean
            if len(self) > 1:
                averages[f"{name}_se"] = error
        return averages

    def draws(self, prior: Prior, seed: int) -> Draws:
        """The finite samples, for metrics that look at all of them."""
        samples = self._stack() if self._images else self.mean_sd()[0][None][:0]
        rng = ImageRNG(seed, ((self.item, 0),), samples.dtype, samples.device)
        return Draws(samples, self.truth, self.obs, prior, rng)

    def _ordered(self) -> list[Mapping[str, object]]:
        return [self._rows[sample] for sample in sorted(self._rows)]

    def _stack(self) -> Tensor:
        images = [self._images[sample] for sample in sorted(self._images)]
        return torch.stack(images if self.obs is None else [image.to(self.obs.y.device) for image in images])


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


def _defined(value: object) -> float:
    return math.nan if value is None else value  # type: ignore[return-value]
