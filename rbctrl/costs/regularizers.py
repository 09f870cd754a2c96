"""Costs that look at the image alone."""

from __future__ import annotations

from torch import Tensor

from rbctrl.costs.base import Cost
from rbctrl.observation import Observation


class TotalVariation(Cost):
    """Mean absolute difference of vertical neighbours plus that of horizontal ones.

    (The anisotropic form of Rudin, Osher and Fatemi, Physica D 60, 1992.)
    """

    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        dy, dx = image.diff(dim=-2), image.diff(dim=-1)
        return dy.abs().flatten(1).mean(1) + dx.abs().flatten(1).mean(1)
