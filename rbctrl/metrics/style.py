"""How much an image looks like its reference, as a descriptor sees it.

A method that descends the distance in some features is always good in these features, whatever its picture looks like:
score it by another descriptor, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rbctrl.checkpoints import RequiredFile
from rbctrl.descriptors import Descriptor
from rbctrl.metrics.base import Metric
from rbctrl.observation import Observation


class Similarity(Metric):
    """Cosine between the features of the image and those of its reference, in [-1, 1].

    Args:
        descriptor: of the features, and the reference is the truth, the item; NaN without one. None: the operator's own
            features and y, which the controller may have followed.
    """

    def __init__(self, descriptor: Descriptor | None = None) -> None:
        self.descriptor = descriptor

    def __call__(self, image: Tensor, truth: Tensor | None, obs: Observation) -> Tensor:
        """The cosine [B]; images are clamped to [-1, 1], as in the saved picture, for a descriptor of its own."""
        with torch.no_grad():
            if self.descriptor is None:
                return _cosine(obs.operator(image), obs.y)
            if truth is None:
                return image.new_full((len(image),), torch.nan)
            self.descriptor.load()
            self.descriptor.to(image.device)
            return _cosine(*(self.descriptor(x.clamp(-1, 1)) for x in (image, truth)))

    def files(self) -> tuple[RequiredFile, ...]:
        """The weights of the descriptor."""
        return () if self.descriptor is None else self.descriptor.files()


def _cosine(features: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(features.flatten(1), target.flatten(1), dim=1)
