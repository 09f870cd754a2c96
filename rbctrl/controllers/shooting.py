"""Shooting: control of the whole remaining trajectory, planned again at every step.

A plan v_i, ..., v_{i+K-1} shifts the noise of the next K steps, u_k = c_z v_k. Without fresh noise it leads to

    x_{k+1} = mean(estimate(x_k)) + c_z v_k,      k = i, ..., i + K - 1,

and it descends, by Adam through the network,

    cost(decode(x0_hat at the end of the plan)) + sum_k f(x_k) dt + weight sum_k |v_k|^2 / 2.

The first control is applied, noise is drawn, and the rest of the plan starts the next one (receding horizon). If the
plan reaches the last step, its end is x_n / alpha_n; before that, it is x0_hat there. |v_k|^2 / 2 is the control energy
of the step in nats, so with cost=gaussian_nll, weight = 1 and the full horizon the plan minimises J itself, with the
noise to come set to its mean. For one Gaussian prior and a linear operator that is the optimal control of the chain:
certainty equivalence (Simon, Econometrica 24, 1956; Theil, Econometrica 25, 1957). For other priors it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, Setup, State, adam
from rbctrl.process import Step


@dataclass(frozen=True)
class Shooting(Controller):
    """Single shooting with a receding horizon; ours. Known as open-loop feedback control, or model predictive control.

    It steers through the noise alone: without noise (eta = 0) there is nothing to steer, and where a step has none its
    control is 0. The energy is therefore finite on every grid, and exact.

    Step i plans k = min(K, n - i) steps ahead. It costs 1 + inner_steps k evaluations of the network and inner_steps k
    VJPs, or k - 1 in place of k if the plan reaches the last step; the graph of one plan is in memory at once. On
    images take a short horizon.

    Args:
        horizon: K, at least 1; None plans to the last step.
        inner_steps: Adam steps on the plan per denoising step, at least 1.
        lr: Adam's learning rate, in standard deviations of the step's noise.
        weight: of the plan's energy against the cost; 1 is the exchange rate of J, if the cost is in nats.
    """

    uses_cost: ClassVar[bool] = True
    uses_running_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("weight", 0.01, 100.0, pulls="less")

    horizon: int | None = None
    inner_steps: int = 10
    lr: float = 0.1
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.horizon is not None and self.horizon < 1:
            raise ValueError(f"horizon is at least 1, or None for all remaining steps; got {self.horizon}")
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps is at least 1, got {self.inner_steps}: controller=none has no control")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}: controller=none has no control")
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")

    def check(self, setup: Setup) -> str | None:
        if any(c_z > 0 for _, _, c_z in setup.process.coefficients):
            return None
        return "shooting steers through the noise of the steps, and this sampler has none: set sampler.eta=1"

    def start(self, run: Run) -> tuple[Tensor, State]:
        x, _ = super().start(run)
        n_steps = run.process.n_steps
        length = n_steps if self.horizon is None else min(self.horizon, n_steps)
        return x, {"plan": x.new_zeros(len(x), length, *x.shape[1:])}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, plan = run.process, state["plan"]
        steps = min(plan.shape[1], process.n_steps - i)
        est = process.estimate(x_t, i)
        free = process.mean(est, i)

        def value(v: Tensor) -> Tensor:
            return _price(run, free, i, v) + self.weight * v.square().flatten(1).sum(1) / 2

        v = adam(value, plan[:, :steps], self.inner_steps, self.lr)
        rest = torch.zeros_like(plan)
        rest[:, : steps - 1] = v[:, 1:]
        return run.push(est, i, process.noise(i) * v[:, 0]), {"plan": rest}


def _price(run: Run, free: Tensor, i: int, v: Tensor) -> Tensor:
    """Terminal and running cost of a plan v [B, k, ...] from the free mean of step i, [B]; that of x_t is no choice."""
    process, stop = run.process, i + v.shape[1]
    x, running = free + process.noise(i) * v[:, 0], 0.0
    for j in range(i + 1, stop):
        est = process.estimate(x, j)
        running = running + run.running_cost(j, x, est)
        x = process.mean(est, j) + process.noise(j) * v[:, j - i]
    end = x / process.alpha[stop] if stop == process.n_steps else process.estimate(x, stop).x0_hat
    return run.objective(end) + running
