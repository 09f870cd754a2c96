"""GML-DPS: latent DPS with a pull towards latents that decoding and encoding leaves as they are.

u = -J^T grad [omega cost(D(z0), y) + gamma |E(D(z0)) - z0|] at z0_hat,     J = d z0_hat / d z_t
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, State, gradient, linearize
from rbctrl.process import Step


@dataclass(frozen=True)
class GMLDPS(Controller):
    """Goodness modified latent DPS: Rout et al., PSLD, NeurIPS 2023. https://arxiv.org/abs/2307.00619.

    The fixed point does not look at y: that is what PSLD adds. Where the codec is the identity this is DPS, and latent
    DPS at gamma = 0. The energy is exact where every step has noise.

    Args:
        omega: of the measurement.
        gamma: of the fixed point.
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("omega", 0.01, 10.0)

    omega: float = 1.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not self.omega > 0 or self.gamma < 0:
            raise ValueError(f"gml_dps needs omega > 0 and gamma >= 0, got omega={self.omega} and gamma={self.gamma}")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        est, pull = linearize(run.process, x_t, i)
        return run.push(est, i, -self.omega * pull(gradient(partial(self._value, run), est.x0_hat))), state

    def _value(self, run: Run, z0: Tensor) -> Tensor:
        image = run.objective.decode(z0)
        value = run.objective.cost(image, run.obs)
        if self.gamma == 0:
            return value
        gap = (run.objective.encode(image) - z0).flatten(1)
        return value + self.gamma / self.omega * torch.linalg.vector_norm(gap, dim=1)
