"""The one loop: x_s = mean + std z, for every controller, operator and prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, State
from rbctrl.process import Step


@dataclass(frozen=True, eq=False)
class Result:
    """What a run leaves.

    Attributes:
        x0_hat: [B, ...] of the last estimate: the image, before `codec.render`.
        x: the final state.
        x_start: the first state.
        control_energy: [B], nats; inf or NaN where it is undefined.
        alive: [B]; False where the row became non-finite and stays at its last finite state.
    """

    x0_hat: Tensor
    x: Tensor
    x_start: Tensor
    control_energy: Tensor
    alive: Tensor


@torch.no_grad()
def sample(run: Run, controller: Controller, on_step: Callable[[int, Step], None] | None = None) -> Result:
    """Runs the controlled reverse process.

    A row that becomes non-finite is frozen at its last finite state and reported in `alive`; the others go on.

    Args:
        run: process, objective and noise of one batch.
        controller: the method.
        on_step: called with (i, step) after each step; for trajectories and progress bars.
    """
    process = run.process
    x, state = controller.start(run)
    x_start, x0_hat = x, torch.full_like(x, math.nan)
    energy = x.new_zeros(len(x))
    alive = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for i in range(process.n_steps):
        step, new_state = controller(run, x, i, state)
        x_s = step.mean
        if isinstance(step.std, Tensor) or step.std > 0:
            x_s = x_s + step.std * run.rng.normal(f"step/{i}", process.shape)
        alive = alive & x_s.flatten(1).sum(1).isfinite()  # a sum is finite only if all its terms are
        x, x0_hat = _keep(alive, x_s, x), _keep(alive, step.est.x0_hat, x0_hat)
        energy = energy + process.kl(step, i)
        state = _keep_state(alive, new_state, state)
        if on_step is not None:
            on_step(i, step)
    return Result(x0_hat, x, x_start, energy.where(alive, torch.nan), alive)


def _keep(alive: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(alive.view(-1, *[1] * (new.ndim - 1)), new, old)


def _keep_state(alive: Tensor, new: State, old: State) -> State:
    return {name: _keep(alive, value, old.get(name, value)) for name, value in new.items()}
