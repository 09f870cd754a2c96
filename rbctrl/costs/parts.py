"""One cost for each part of an operator of several, weighed against each other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rbctrl.costs.base import Cost
from rbctrl.noise import Noise
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator
from rbctrl.operators.parallel import Parallel


class Parts(Cost):
    """sum_k weight_k cost_k(A_k(x), y_k) over the parts of a `Parallel` operator.

    A part of weight 0 is not evaluated: the cost is that of the other parts alone, to the last bit. A negative weight
    leads away from a part: from the content of the reference of style, say, where it leaks into the image.

    Args:
        terms: a cost of each part, by its name.
        weights: numbers by the same names; a part without one has weight 1.

    Raises:
        ValueError: a weight of a part that has no cost, or none that is not 0.
    """

    def __init__(self, terms: Mapping[str, Cost], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        weights = dict(weights or {})
        unknown = sorted(set(weights) - set(terms))
        self.weights = {name: float(weights.get(name, 1.0)) for name in terms}
        if unknown or not any(self.weights.values()):
            raise ValueError(
                f"cost=parts has costs of {sorted(terms)} and weights {weights}: name parts alike, one not of weight 0"
            )
        self.terms = nn.ModuleDict(terms)

    def check(self, operator: Operator, noise: Noise) -> str | None:
        if not isinstance(operator, Parallel):
            return f"cost=parts needs operator=parallel, and {type(operator).__name__} has no parts"
        if sorted(operator.parts) != sorted(self.terms):
            return f"the operator has the parts {sorted(operator.parts)} and the cost terms for {sorted(self.terms)}"
        for name, term in self.terms.items():
            if (reason := term.check(operator.parts[name], noise)) is not None:
                return f"in cost.terms.{name}, {reason}"
        return None

    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        if (reason := self.check(obs.operator, obs.noise)) is not None:
            raise ValueError(reason)
        operator: Parallel = obs.operator  # type: ignore[assignment]
        weights = {name: weight for name, weight in self.weights.items() if weight}
        targets = operator.targets(obs.y)
        values = operator.values(image, weights)
        return torch.stack(
            [
                weight * self.terms[name](image, Observation(targets[name], _Known(values[name]), obs.noise))
                for name, weight in weights.items()
            ]
        ).sum(0)


class _Known(Operator):
    """A part whose value at the image is known, so that a cost does not compute it again."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, image: Tensor) -> Tensor:
        return self.value
