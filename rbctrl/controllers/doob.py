"""The optimal control, where it is known."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State
from rbctrl.priors.base import ExactPrior
from rbctrl.process import Step


@dataclass(frozen=True)
class Doob(Controller):
    """The exact h-transform: x0_hat becomes E[x_0 | x_t, y], i.e. u = gain (E[x_0 | x_t, y] - E[x_0 | x_t]).

    In continuous time it is the control that minimises E[energy + -log p(y | x_0)] (Fleming, 1977; Dai Pra, 1991),
    and it samples p(x_0 | y) if x_T has the right law. On a grid its excess cost is O(1 / n).

    Args:
        exact_variance: also take std^2 = c_z^2 + gain^2 Var[x_0 | x_t, y], the exact variance of x_s given x_t and y;
            for one Gaussian with diagonal Cov[x_0 | x_t, y] the chain is then exact at any number of steps, otherwise
            correlations are lost. It pays O(1 / n) more energy: energy is
            measured against the chain whose std is c_z.
    """

    exact_variance: bool = False

    def check(self, setup: Setup) -> str | None:
        if not isinstance(setup.prior, ExactPrior):
            return "doob needs a prior whose posterior is known in closed form: prior=gmm2d or prior=empirical"
        return setup.prior.check(setup.operator, setup.noise)

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        process, obs = run.process, run.obs
        given = process.prior.predict_given(x_t, process.times[i], obs)
        std: float | Tensor = process.noise(i)
        if self.exact_variance:
            variance = process.prior.variance_given(x_t, process.times[i], obs)
            std = (std**2 + process.gain(i) ** 2 * variance).sqrt()
        return Step(given, process.mean(given, i), std, process.mean(process.estimate(x_t, i), i)), state
