"""Sums of costs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rbctrl.costs.base import Cost
from rbctrl.noise import Noise
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator


class WeightedSum(Cost):
    """sum_k weight_k cost_k.

    Args:
        terms: costs by name.
        weights: numbers by the same names; a term without one has weight 1.
    """

    def __init__(self, terms: Mapping[str, Cost], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        weights = dict(weights or {})
        unknown = sorted(set(weights) - set(terms))
        if unknown or not terms:
            raise ValueError(f"cost=sum has terms {sorted(terms)} but weights for {unknown}: name the terms alike")
        self.terms = nn.ModuleDict(terms)
        self.weights = {name: float(weights.get(name, 1.0)) for name in terms}

    def check(self, operator: Operator, noise: Noise) -> str | None:
        for name, term in self.terms.items():
            if (reason := term.check(operator, noise)) is not None:
                return f"in cost.terms.{name}, {reason}"
        return None

    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        return torch.stack([w * self.terms[name](image, obs) for name, w in self.weights.items()]).sum(0)
