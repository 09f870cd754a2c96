"""The one loop: x_s = mean + std z, for every controller, operator and prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, State
from rbctrl.process import Step
from rbctrl.step_noise import StepNoise


@dataclass(frozen=True, eq=False)
class Result:
    """What a run leaves.

    Attributes:
        x0_hat: [B, ...] of the last estimate: the image, before `codec.render`. A row that is not alive has none: x.
        x: the final state. The first is that of `controller.start(run)`, which draws the same again.
        control_energy: [B], nats; inf or NaN where it is undefined.
        alive: [B]; False where the row became non-finite and stays at its last finite state.
        columns: [B] each, what the controller adds to the table of results.
        rows: [B], the row whose path each row ended as, where paths were resampled after the last step; None: its own.
    """

    x0_hat: Tensor
    x: Tensor
    control_energy: Tensor
    alive: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)
    rows: Tensor | None = None


OnStep = Callable[[int, Tensor, Step], None]


@torch.no_grad()
def sample(run: Run, controller: Controller, on_step: OnStep | None = None) -> Result:
    """Runs the controlled reverse process.

    A row that becomes non-finite is frozen at its last finite state and reported in `alive`; the others go on.

    Args:
        run: process, objective and noise of one batch.
        controller: the method.
        on_step: called with (i, x_t, step) after each step, x_t being where it began; for trajectories and scores.
    """
    with run.process.prior.scope():
        return _sample(run, controller, on_step)


def _sample(run: Run, controller: Controller, on_step: OnStep | None) -> Result:
    process, noise = run.process, StepNoise(run)
    x, state = controller.start(run)
    energy = x.new_zeros(len(x))
    alive = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for i in range(process.n_steps):
        step, new_state = controller(run, x, i, state)
        x_t, energy, alive = (_taken(v, step.rows) for v in (x, energy, alive))
        x_s = _moved(step, noise, i)
        alive = alive & x_s.flatten(1).sum(1).isfinite()  # a sum is finite only if all its terms are
        energy = energy + process.kl(step, i)
        if _all(alive):
            x, state = x_s, new_state
        else:
            x = _keep(alive, x_s, x_t)
            state = _keep_state(alive, new_state, {name: _taken(value, step.rows) for name, value in state.items()})
        if i == process.n_steps - 1:
            x0_hat = _keep(alive, step.est.x0_hat, x)
        if on_step is not None:
            on_step(i, x_t, step)
        del x_t, x_s, step, new_state  # the network runs next, and needs the room
    rows, columns = controller.finish(run, x, state)
    if rows is not None:
        x0_hat, x, energy, alive = (v[rows] for v in (x0_hat, x, energy, alive))
    return Result(x0_hat, x, energy.where(alive, torch.nan), alive, columns, rows)


def _taken(value: Tensor, rows: Tensor | None) -> Tensor:
    """What each row goes on with."""
    return value if rows is None else value.index_select(0, rows)


def _moved(step: Step, noise: StepNoise, i: int) -> Tensor:
    """x_s = mean + std z; the noise is ours, so a plain std needs no memory besides it."""
    if not isinstance(step.std, float | int):
        return step.mean + step.std * noise(i)
    if step.std == 0:
        return step.mean
    return noise(i).mul_(step.std).add_(step.mean)


def _all(alive: Tensor) -> bool:
    """Whether every row is known to be alive; on a GPU nobody asks, since the answer would stop its queue."""
    return alive.device.type == "cpu" and bool(alive.all())


def _keep(alive: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(alive.view(-1, *[1] * (new.ndim - 1)), new, old)


def _keep_state(alive: Tensor, new: State, old: State) -> State:
    return {name: _keep(alive, value, old.get(name, value)) for name, value in new.items()}
