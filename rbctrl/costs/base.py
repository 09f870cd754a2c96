"""What a terminal cost has to offer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from rbctrl.noise import Noise
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator


class Cost(nn.Module, ABC):
    """How badly an image fits: differentiable, one number per image."""

    @abstractmethod
    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] and their observation to costs [B]. Never mixes rows."""

    def check(self, operator: Operator, noise: Noise) -> str | None:
        """Why the cost is undefined for such a measurement, in one sentence; None if it is defined.

        Asked before weights are loaded if the controller descends the cost; `operator` is not drawn yet.
        """
        return None
