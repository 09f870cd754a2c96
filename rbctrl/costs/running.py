"""Running costs: what a path costs on its way, f(x_t, x0_hat(x_t), t), besides the terminal cost of its end.

With one, the price of a control is J(u) = energy + terminal cost + sum_i f(x_{t_i}) |t_i - t_{i+1}|, time running over
[0, 1]. It enters J and the controllers that plan a path (`Shooting`); of the others a warning says that they ignore it.
With f the optimal control is no longer Doob's for the measurement alone, so that an excess over it has no meaning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from rbctrl.observation import Observation


class RunningCost(nn.Module, ABC):
    """How much a state costs per unit of time: differentiable, one number per path."""

    @abstractmethod
    def forward(self, x_t: Tensor, image: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """A state and what the prior makes of it to a cost per unit of time, [B]. Never mixes rows.

        Args:
            x_t: [B, ...].
            image: decode(x0_hat(x_t)), [B, C, H, W].
            t: in [0, 1], a scalar fp64 tensor on the host.
            obs: the measurement.
        """


class OutOfRange(RunningCost):
    """weight * mean over the pixels of (distance of x0_hat to [low, high])^2: keeps the denoised image in range.

    Args:
        low: darkest allowed value.
        high: brightest allowed value.
        weight: in nats per unit of time and of mean square.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, weight: float = 1.0) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"a range needs low < high, got low={low} and high={high}")
        if not weight > 0:
            raise ValueError(f"weight must be positive, got {weight}: leave the running cost out instead")
        self.low, self.high, self.weight = low, high, weight

    def forward(self, x_t: Tensor, image: Tensor, t: Tensor, obs: Observation) -> Tensor:
        beyond = image - image.clamp(self.low, self.high)
        return self.weight * beyond.square().flatten(1).mean(1)
