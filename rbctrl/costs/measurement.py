"""Costs of the residual y - A(x)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rbctrl.costs.base import Cost
from rbctrl.noise import IMAGE, Noise, PoissonNoise
from rbctrl.observation import Observation
from rbctrl.operators.base import LinearOperator, Operator


class ResidualNorm(Cost):
    """|y - A(x)|, the Euclidean norm per image and not squared: DPS's cost as released.

    The gradient is a unit vector pulled back through A, whatever the size of the residual.

    Args:
        space: what the norm is taken of: y - A x itself ("measurement"), or A^+ or A^T of it ("pinv", "adjoint"; for
            linear operators). FlowDPS as released takes A^+ for super-resolution and A^T for deblurring.
    """

    def __init__(self, space: Literal["measurement", "pinv", "adjoint"] = "measurement") -> None:
        super().__init__()
        if space not in ("measurement", "pinv", "adjoint"):
            raise ValueError(f"space is 'measurement', 'pinv' or 'adjoint', got {space!r}")
        self.space = space

    def check(self, operator: Operator, noise: Noise) -> str | None:
        if self.space == "measurement" or isinstance(operator, LinearOperator):
            return None
        return (
            f"cost.space={self.space} needs a linear operator, and {type(operator).__name__} is not one: "
            "use cost.space=measurement"
        )

    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        residual = obs.residual(image)
        if self.space != "measurement":
            residual = obs.operator.pinv(residual) if self.space == "pinv" else obs.operator.adjoint(residual)
        return torch.linalg.vector_norm(residual.flatten(1), dim=1)


class GaussianNLL(Cost):
    """|y - A(x)|^2 / (2 sigma_y^2), the Gaussian -log likelihood up to its constant, in nats.

    Args:
        sigma_y: standard deviation on [-1, 1]; None takes the observation's.
    """

    def __init__(self, sigma_y: float | None = None) -> None:
        super().__init__()
        if sigma_y is not None and not sigma_y > 0:
            raise ValueError(f"cost=gaussian_nll needs sigma_y > 0, got {sigma_y}")
        self.sigma_y = sigma_y

    def check(self, operator: Operator, noise: Noise) -> str | None:
        if self.sigma_y is None and noise.sigma_y == 0:
            return "cost=gaussian_nll divides by sigma_y, which is 0 here: set cost.sigma_y or add noise"
        return None

    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        if (reason := self.check(obs.operator, obs.noise)) is not None:
            raise ValueError(reason)
        sigma_y = obs.sigma_y if self.sigma_y is None else self.sigma_y
        return (obs.residual(image) / sigma_y).square().flatten(1).sum(1) / 2


class PoissonNLL(Cost):
    """|y - A(x)|^2 weighted by the expected variance of each count: Gaussian approximation of Poisson noise, in nats.

    Var[y] = 4 u / peak with u = (y + 1) / 2 in [0, 1] (Chung et al., DPS, ICLR 2023, section 3.2, on intensities).
    The official code's weight, mean(1 / |y|) on [-1, 1], is singular at mid-grey and is not reproduced.

    Args:
        peak: mean count of a white pixel; None takes the observation's Poisson noise.
        floor: smallest count that a weight assumes.
    """

    def __init__(self, peak: float | None = None, floor: float = 1.0) -> None:
        super().__init__()
        self.peak, self.floor = peak, floor

    def check(self, operator: Operator, noise: Noise) -> str | None:
        if self.peak is None and not isinstance(noise, PoissonNoise):
            return "cost=poisson_nll needs cost.peak, or noise=poisson to take it from"
        if operator.y_is != IMAGE:
            name = type(operator).__name__
            return f"cost=poisson_nll weighs counts, and y of {name} is {operator.y_is}, no image: use gaussian_nll"
        return None

    def forward(self, image: Tensor, obs: Observation) -> Tensor:
        if (reason := self.check(obs.operator, obs.noise)) is not None:
            raise ValueError(reason)
        peak = obs.noise.peak if self.peak is None else self.peak
        counts = (peak * (obs.y + 1) / 2).clamp(min=self.floor)
        residual = peak / 2 * obs.residual(image)  # in counts
        return (residual.square() / (2 * counts)).flatten(1).sum(1)
