"""Exact posterior samples as a row of every table: what all samplers are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State
from rbctrl.priors.base import Estimate, ExactPrior
from rbctrl.process import Step


@dataclass(frozen=True)
class ExactPosterior(Controller):
    """x_0 ~ p(x_0 | y), drawn once and kept: no process, no network, no error but that of finitely many samples.

    In a table it is the floor. Its energy is undefined (NaN), since there is no free step.
    """

    def check(self, setup: Setup) -> str | None:
        if isinstance(setup.prior, ExactPrior):
            return setup.prior.check(setup.operator, setup.noise)
        return "exact_posterior needs a prior whose posterior is known in closed form: prior=gmm2d or prior=empirical"

    def start(self, run: Run) -> tuple[Tensor, State]:
        x_0 = run.process.prior.sample_given(run.obs, run.rng, "exact")
        return x_0, {"x_0": x_0}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        x_0 = state["x_0"]
        return Step(Estimate(x_0, torch.zeros_like(x_0)), run.process.alpha[i + 1] * x_0, 0.0, None), state
