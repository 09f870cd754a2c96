"""What a controlled run cost, and how far from the optimal control it was, in nats.

With h_t(x_t) = p(y | x_t), a control u of the reverse process is paid

    J(u) = control energy - log p(y | x_end),        x_end: the last state over alpha_end.

In the mean no control from x_T costs less than -log h_T(x_T), and Doob's h-transform costs just that (Fleming, 1977;
Dai Pra, 1991), so J(u) + log h_T(x_T) is the excess: the KL of the controlled paths from the optimal ones, at least 0
up to O(1 / n_steps) and the error of the mean. Five rules keep it meaningful: it is paired per row, so x_T may come
from anywhere; the likelihood is the observation's own, whatever cost the controller descends; the grid ends at
sigma > 0 (sampler/grid=log_snr), for the energy of a last step without noise is infinite; the grid is fine enough that
the excess of Doob's control itself is near 0; and what a method draws besides the step's noise makes its energy an
upper bound.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup
from rbctrl.metrics.base import PathMetric, needs_posterior
from rbctrl.observation import Evaluations
from rbctrl.priors.base import ExactPrior
from rbctrl.process import Step
from rbctrl.sampling import Result


def price(run: Run, result: Result) -> Tensor:
    """Control energy plus -log p(y | x_end), [B]: J without the running cost. NaN where either is undefined."""
    with torch.no_grad():
        end = run.process.prior.codec.decode(result.x / run.process.alpha[-1])
        return result.control_energy + run.obs.nll(end)


@dataclass(frozen=True)
class Price(PathMetric):
    """J(u) = control energy - log p(y | x_end), plus the running cost of the path where there is one, in nats.

    NaN without measurement noise, without a free step and for populations; inf where a controlled step has no noise.
    """

    def step(self, run: Run, i: int, x_t: Tensor, step: Step) -> Tensor | None:
        """The running cost of one step, [B]; what it asks of the prior is not charged to the method."""
        return None if run.objective.running is None else run.running_cost(i, x_t)

    def __call__(self, run: Run, controller: Controller, result: Result, total: Tensor | float) -> Tensor:
        """[B]."""
        if controller.population > 1:
            return torch.full_like(result.control_energy, torch.nan)  # the energy of survivors is no KL
        return price(run, result) + total


@dataclass(frozen=True)
class Excess(PathMetric):
    """J(u) + log h_T(x_T), in nats: the price beyond that of the optimal control from the same x_T.

    Its mean is at least 0 up to O(1 / n_steps); single rows may be below. NaN with a prior that does not know its
    posterior (`ExactPrior`), and with a running cost, under which Doob's control is not the optimal one.
    """

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup)

    def step(self, run: Run, i: int, x_t: Tensor, step: Step) -> Tensor | None:
        """log h_T(x_T), [B], of the first step."""
        if i > 0 or not _known(run):
            return None
        return run.process.prior.log_likelihood(x_t, run.process.times[0], run.obs).to(x_t)

    def __call__(self, run: Run, controller: Controller, result: Result, total: Tensor | float) -> Tensor:
        """[B]."""
        paid = price(run, result)
        if controller.population > 1 or not _known(run):
            return torch.full_like(paid, torch.nan)
        return paid + total


def _known(run: Run) -> bool:
    """Whether the price of the optimal control is known: Doob's is the optimal one only without a running cost."""
    return isinstance(run.process.prior, ExactPrior) and run.objective.running is None


@dataclass(frozen=True)
class Surprise(PathMetric):
    """-log p(y) in nats: what no control of the process can undercut if x_T has the law p_T. NaN if it is not known."""

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup)

    def __call__(self, run: Run, controller: Controller, result: Result, total: Tensor | float) -> Tensor:
        """[B]."""
        if not isinstance(run.process.prior, ExactPrior):
            return torch.full_like(result.control_energy, torch.nan)
        return -run.process.prior.log_evidence(run.obs).to(result.control_energy)


@dataclass(frozen=True)
class ControlError(PathMetric):
    """The KL between the controlled chain and Doob's, in nats: sum_i |mean_u - mean_u*|^2 / (2 c_z^2) at equal noise.

    Args:
        along: "own": on the controller's paths, the reverse KL from what it did to what is optimal; "posterior": on
            x_t = alpha_t x_0 + sigma_t z with x_0 ~ p(x_0 | y), the forward KL, which sees the modes that the
            controller never visits.

    NaN with a prior that does not know its posterior, for populations, whose paths are resampled, and, along the
    posterior, for controllers with a state, which cannot be asked about one step alone. inf where a step has no noise.
    """

    along: Literal["own", "posterior"] = "own"

    def __post_init__(self) -> None:
        if self.along not in ("own", "posterior"):
            raise ValueError(f"along is 'own' or 'posterior', got {self.along!r}")

    def check(self, setup: Setup) -> str | None:
        return needs_posterior(setup)

    def step(self, run: Run, i: int, x_t: Tensor, step: Step) -> Tensor | None:
        """The part of one step, [B]."""
        if self.along == "posterior" or not isinstance(run.process.prior, ExactPrior):
            return None
        return _gap(run, i, x_t, step)

    def __call__(self, run: Run, controller: Controller, result: Result, total: Tensor | float) -> Tensor:
        """[B]."""
        undefined = torch.full_like(result.control_energy, torch.nan)
        if not isinstance(run.process.prior, ExactPrior) or controller.population > 1:
            return undefined
        if self.along == "own":
            return undefined + total if isinstance(total, float) else total
        return _posterior_error(run, controller, undefined)


def _gap(run: Run, i: int, x_t: Tensor, step: Step) -> Tensor:
    process = run.process
    if step.free is None:
        return torch.full((len(x_t),), torch.nan, dtype=x_t.dtype, device=x_t.device)
    optimal = process.mean(process.prior.predict_given(x_t, process.times[i], run.obs), i)
    return process.kl(Step(step.est, step.mean, step.std, optimal), i)


@torch.no_grad()
def _posterior_error(run: Run, controller: Controller, undefined: Tensor) -> Tensor:
    process = copy(run.process)
    process.evaluations = Evaluations()  # what a score evaluates is not charged to the method
    run = Run(process, replace(run.objective, evaluations=process.evaluations), run.rng)
    _, state = controller.start(run)
    if state:
        return undefined
    x_0 = process.prior.sample_given(run.obs, run.rng, "score/x0")
    error = torch.zeros_like(undefined)
    for i in range(process.n_steps):
        x_t = process.alpha[i] * x_0 + process.sigma[i] * run.rng.normal(f"score/{i}", process.shape)
        step, _ = controller(run, x_t, i, state)
        error = error + _gap(run, i, x_t, step)
    return error
