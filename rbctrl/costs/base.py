"""What a terminal cost has to offer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from rbctrl.observation import Observation


class Cost(nn.Module, ABC):
    """How badly an image fits: differentiable, one number per image."""

    @abstractmethod
    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] and their observation to costs [B]. Never mixes rows."""
