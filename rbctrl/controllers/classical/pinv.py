"""The pseudo-inverse: A^+ y, the shortest image that fits y best.

A mask gives y with its holes at 0 (mid-grey), a downsampler the smallest image with these means, a blur its noise
amplified by every frequency it nearly removed.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rbctrl.controllers.base import Setup, needs_pinv, needs_pixels
from rbctrl.controllers.classical.base import Classical
from rbctrl.observation import Observation


@dataclass(frozen=True)
class Pinv(Classical):
    """The pseudo-inverse image A^+ y of any operator that has one, linear or not: what every method has to beat.

    No parameters. The energy is undefined.
    """

    def check(self, setup: Setup) -> str | None:
        """Needs pixels and an operator with a pseudo-inverse."""
        return needs_pixels(setup, "the pseudo-inverse") or needs_pinv(setup, "the pseudo-inverse")

    def reconstruct(self, obs: Observation, shape: tuple[int, ...]) -> Tensor:
        """A^+ y."""
        return obs.operator.pinv(obs.y)
