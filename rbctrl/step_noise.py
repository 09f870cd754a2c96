"""The noise of the steps of a run, drawn for a few steps at once.

Right after a call of the network torch's other threads still spin and the caches hold nothing that a draw needs: a draw
then takes longer than in a row of draws. Noise is a function of its name, so which numbers a step gets does not depend
on when they were drawn.
"""

from __future__ import annotations

import math

from torch import Tensor

from rbctrl.controllers.base import Run

AHEAD = 2**20  # bytes that are drawn at once


class StepNoise:
    """Standard normal numbers for each step.

    Args:
        run: whose steps they are.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.drawn: dict[int, Tensor] = {}

    def __call__(self, i: int) -> Tensor:
        """The noise of step i, [B, *shape]; given out once, so the caller may write over it."""
        if i not in self.drawn:
            for k in self._due(i):
                self.drawn[k] = self.run.rng.normal(f"step/{k}", self.run.process.shape)
        return self.drawn.pop(i)

    def _due(self, i: int) -> list[int]:
        """Step i and the noisy ones after it, as many as fit into `AHEAD`."""
        process = self.run.process
        count = AHEAD // (4 * len(self.run.rng) * math.prod(process.shape))
        later = [k for k in range(i + 1, process.n_steps) if process.noise(k) > 0]
        return [i, *later[: max(count - 1, 0)]]
