"""The operator's own first image: A^+ y where there is one, the measurement itself for a blur (`Operator.guess`).

What a method that starts from it has to improve on, for operators that have no pseudo-inverse.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rbctrl.controllers.base import Setup, needs_pixels
from rbctrl.controllers.classical.base import Classical
from rbctrl.observation import Observation


@dataclass(frozen=True)
class Guess(Classical):
    """The image that `red_diff` starts from, for any operator. No parameters. The energy is undefined."""

    def check(self, setup: Setup) -> str | None:
        """Needs pixels."""
        return needs_pixels(setup, "guess")

    def reconstruct(self, obs: Observation, shape: tuple[int, ...]) -> Tensor:
        """`Operator.guess`."""
        return obs.operator.guess(obs.y)
