"""What a metric has to offer: one number per image, never one per batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rbctrl.observation import Observation


class Metric(ABC):
    """(image, truth, observation) to [B]; NaN where it is undefined."""

    @abstractmethod
    def __call__(self, image: Tensor, truth: Tensor | None, obs: Observation) -> Tensor:
        """Scores images [B, C, H, W] in [-1, 1] against a truth of the same shape or None, [B]."""


class FullReference(Metric):
    """A metric that compares with the truth: NaN without one, and where image or truth is not finite.

    Values beyond [-1, 1] are clamped first, as they are in the saved picture. Computed in fp64, image by image, so that
    a score does not depend on the batch.
    """

    def __call__(self, image: Tensor, truth: Tensor | None, obs: Observation) -> Tensor:
        """Scores row by row; raises ValueError if the shapes of image and truth differ."""
        if truth is None:
            return image.new_full((len(image),), math.nan)
        if image.shape != truth.shape:
            raise ValueError(f"the image has shape {list(image.shape)} and the truth {list(truth.shape)}: one is wrong")
        scores = [self._score(a, b) for a, b in zip(image.detach(), truth.detach(), strict=True)]
        return torch.tensor(scores, dtype=image.dtype, device=image.device)

    @abstractmethod
    def compare(self, image: Tensor, truth: Tensor) -> Tensor:
        """The score of one finite, clamped image against one truth, both [1, C, H, W], fp64; a scalar."""

    def _score(self, image: Tensor, truth: Tensor) -> float:
        if not (image.isfinite().all() and truth.isfinite().all()):
            return math.nan
        return float(self.compare(image[None].double().clamp(-1, 1), truth[None].double().clamp(-1, 1)))
