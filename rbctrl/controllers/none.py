"""No control: samples of the prior."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rbctrl.controllers.base import Controller, Run, State
from rbctrl.process import Step


@dataclass(frozen=True)
class NoControl(Controller):
    """u = 0. Its energy is 0; the measurement is ignored."""

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        return run.push(run.process.estimate(x_t, i), i), state
