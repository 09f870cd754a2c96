"""The measured pixels put back into the finished image: an explicit choice, and a column of the table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State
from rbctrl.operators.inpainting import Mask
from rbctrl.process import Step


@dataclass(frozen=True)
class Composite(Controller):
    """Any controller for inpainting, with y in the place of the observed pixels of its image.

    From the measurement, noise and all, never from the truth; `decode` of a latent blurs what was observed, and this
    hides it. The table says so: column `composited` is the share of pixels that were put back. The process, its energy
    and the latent are those of the controller inside.

    Args:
        controller: the method.
    """

    controller: Controller

    def __post_init__(self) -> None:
        if self.controller.population > 1:
            raise ValueError("compositing a population is not defined: put it inside, particles of a composite")

    @property
    def uses_cost(self) -> bool:  # type: ignore[override]
        return self.controller.uses_cost

    @property
    def uses_running_cost(self) -> bool:  # type: ignore[override]
        return self.controller.uses_running_cost

    def with_strength(self, strength: float) -> Controller:
        return replace(self, controller=self.controller.with_strength(strength))

    def check(self, setup: Setup) -> str | None:
        if not isinstance(setup.operator, Mask):
            return (
                f"composite puts back pixels that were observed, and {type(setup.operator).__name__} observes none: "
                "use it for inpainting"
            )
        return self.controller.check(setup)

    def start(self, run: Run) -> tuple[Tensor, State]:
        return self.controller.start(run)

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        return self.controller(run, x_t, i, state)

    def finish(self, run: Run, x: Tensor, state: State) -> tuple[Tensor | None, dict[str, Tensor]]:
        rows, columns = self.controller.finish(run, x, state)
        return rows, columns | {"composited": run.obs.n_measured / run.obs.y[0].numel()}

    def render(self, run: Run, x0_hat: Tensor) -> Tensor:
        image = self.controller.render(run, x0_hat)
        return torch.where(run.obs.operator.observed > 0, run.obs.y, image)
