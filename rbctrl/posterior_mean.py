"""The samples of one image, gathered over batches: their mean and per-pixel standard deviation."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rbctrl.observation import Observation
from rbctrl.solver import Solution


@dataclass(eq=False)
class ItemSamples:
    """Gathers the samples of one item; rows that diverged are left out of mean and standard deviation.

    Attributes:
        item: its name.
        count: samples seen, diverged ones included.
        totals: evaluations and seconds of all samples together; peak memory is the largest.
    """

    item: str
    count: int = 0
    truth: Tensor | None = None
    obs: Observation | None = None
    totals: dict[str, float] = field(default_factory=dict)
    _images: list[Tensor] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether no sample diverged."""
        return len(self._images) == self.count

    def add(self, sample: int, solution: Solution, k: int, truth: Tensor | None) -> None:
        """Row k of a batch is one more sample of this item."""
        if self.obs is None:
            self.obs, self.truth = solution.obs.take(torch.tensor([k])), truth
        self.count += 1
        if solution.result.alive[k]:
            self._images.append(solution.image[k])
        peak = max(self.totals.get("peak_memory", 0.0), solution.peak_memory)
        self.totals = {name: self.totals.get(name, 0) + spent for name, spent in solution.spent().items()}
        self.totals["peak_memory"] = peak

    def mean_sd(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [C, H, W] over the samples that stayed finite; NaN if none did, sd 0 of one."""
        if not self._images:
            empty = self.obs.y.new_full(self.obs.operator.image_shape(tuple(self.obs.y.shape[1:])), torch.nan)
            return empty, empty
        stack = torch.stack(self._images)
        return stack.mean(0), stack.std(0, correction=1) if len(stack) > 1 else torch.zeros_like(stack[0])
