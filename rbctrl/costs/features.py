"""Costs in a feature space: the operator is a descriptor and y its value on a reference."""

from __future__ import annotations

import torch
from torch import Tensor

from rbctrl.costs.base import Cost
from rbctrl.observation import Observation


class Cosine(Cost):
    """1 - cos(y, A(x)): RB-Modulation's cost as released, for unit vectors half of the paper's |y - A(x)|^2.

    (Rout et al., RB-Modulation, ICLR 2025, Algorithm 2.)
    """

    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        features, target = obs.operator(image).flatten(1), obs.y.flatten(1)
        return 1 - torch.nn.functional.cosine_similarity(features, target, dim=1)


class SquaredDistance(Cost):
    """|y - A(x)|^2: RB-Modulation's cost in the paper, and Gatys' style loss on `VGGGram`."""

    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        return obs.residual(image).flatten(1).square().sum(1)
