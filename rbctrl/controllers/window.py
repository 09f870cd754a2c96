"""Control during a part of the steps only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State
from rbctrl.controllers.none import NoControl
from rbctrl.process import Step


@dataclass(frozen=True)
class Window(Controller):
    """`controller` on the steps i with begin <= i / n_steps < end, no control outside.

    Args:
        controller: the method inside the window.
        begin: share of the steps after which control sets in.
        end: share of the steps after which it ends.
    """

    controller: Controller
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(f"a window needs 0 <= begin < end <= 1, got {self.begin} and {self.end}")
        if self.controller.population > 1:
            raise ValueError("a window of a population is not defined: put the window inside, particles of a window")

    @property
    def uses_cost(self) -> bool:  # type: ignore[override]
        return self.controller.uses_cost

    @property
    def uses_running_cost(self) -> bool:  # type: ignore[override]
        return self.controller.uses_running_cost

    def with_strength(self, strength: float) -> Controller:
        return replace(self, controller=self.controller.with_strength(strength))

    def check(self, setup: Setup) -> str | None:
        return self.controller.check(setup)

    def start(self, run: Run) -> tuple[Tensor, State]:
        return self.controller.start(run)

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        inside = self.begin <= i / run.process.n_steps < self.end
        return (self.controller if inside else NoControl())(run, x_t, i, state)

    def finish(self, run: Run, x: Tensor, state: State) -> tuple[Tensor | None, dict[str, Tensor]]:
        return self.controller.finish(run, x, state)

    def render(self, run: Run, x0_hat: Tensor) -> Tensor:
        return self.controller.render(run, x0_hat)
