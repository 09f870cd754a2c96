"""Populations of controlled paths: weights that undo what is wrong with a control, and resampling by them.

A path moved by its controller, x_s = mean + std z, has the Girsanov weight P_free(x_s) / P_u(x_s) against the free
chain. Times psi_s(x_s) / psi_t(x_t), for any positive psi that ends in the likelihood p(y | x_0), the weighted paths
target the exact posterior of the discrete chain, whatever the control. What psi is on the way decides how evenly the
weights spread: 1 leaves all to the end; h_t(x_t) = p(y | x_t), with the optimal control, makes them equal. Between the
two, a controller that is the gradient of a Gaussian belief about y leaves log psi in its state (`LOG_PSI`), and this is
twisted diffusion sampling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State
from rbctrl.controllers.resampling import LOG_PSI, check_clouds, effective_number, resample
from rbctrl.controllers.window import Window
from rbctrl.priors.base import Estimate
from rbctrl.process import Rotated, Step


@dataclass(frozen=True)
class Particles(Controller):
    """Any controller made exact by the weights of its own paths.

    With a guidance that leaves log psi this is TDS (Wu, Trippe, Naesseth, Blei and Cunningham, Practical and
    asymptotically exact conditional sampling in diffusion models, NeurIPS 2023, Algorithm 1,
    https://arxiv.org/abs/2306.17775): as `particles` grows the samples approach the posterior. With any other
    controller the weights are Girsanov's alone, and all is decided by one resampling at the end.

    Samples k P to (k + 1) P - 1 of one image are one cloud; its rows are equally weighted, and not independent of each
    other. A row's energy is that of the path that survived, not a KL. Columns: `ess`, the smallest effective number of
    paths that the cloud had before a resampling, the one after the last step included (near P there, whatever happened
    before, where psi is the likelihood by then); 0 if no path had any weight; and `resampled`, how often the cloud was
    resampled before the last step.

    A step without noise (the last one of a grid that ends on the image) is left uncontrolled: a control there has no
    density against the free step.

    Args:
        controller: the proposal.
        particles: P.
        threshold: a cloud is resampled where its effective number falls below this share of P; 1 is at every step, 0
            only at the end.
    """

    controller: Controller
    particles: int = 16
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.particles < 2:
            raise ValueError(f"a cloud has at least 2 particles, got particles={self.particles}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is a share of the particles, in [0, 1], got {self.threshold}")
        if self.controller.population > 1:
            raise ValueError("particles of a population are not defined: wrap a controller whose paths are independent")

    @property
    def uses_cost(self) -> bool:  # type: ignore[override]
        return self.controller.uses_cost

    @property
    def uses_running_cost(self) -> bool:  # type: ignore[override]
        return self.controller.uses_running_cost

    @property
    def population(self) -> int:
        return self.particles

    def with_strength(self, strength: float) -> Controller:
        return replace(self, controller=self.controller.with_strength(strength))

    def check(self, setup: Setup) -> str | None:
        if not any(c_z > 0 for _, _, c_z in setup.process.coefficients):
            return "particles need a step with noise, or no two paths differ: set sampler.eta above 0"
        if setup.noise.sigma_y == 0:
            return "particles weigh paths by p(y | x), a point mass without measurement noise: use noise=gaussian"
        inner = self.controller
        while isinstance(inner, Window):
            inner = inner.controller
        if type(inner).start is not Controller.start:
            name = type(inner).__name__
            return f"particles weigh steps and not starts, and {name} has a start of its own: use dps, guidance, ..."
        return self.controller.check(setup)

    def start(self, run: Run) -> tuple[Tensor, State]:
        check_clouds(run, self.particles)
        x_t, state = self.controller.start(run)
        zero = x_t.new_zeros(len(x_t), dtype=torch.float64)
        own = {"weight": zero, "psi": zero, "resampled": zero, "i": zero, "ess": zero + self.particles}
        own |= {"mean": x_t, "free": x_t, "std": _per_row(1.0, x_t)}
        return x_t, _inside(state) | own

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        step, inner = self.controller(run, x_t, i, _outside(state))
        _check_proposal(step, run.process.noise(i))
        if run.process.noise(i) == 0:
            step = Step(Estimate(step.free / run.process.alpha[i + 1], step.est.eps_hat), step.free, 0.0, step.free)
        psi = inner[LOG_PSI].double() if LOG_PSI in inner else torch.zeros_like(state["psi"])
        weight = state["weight"] + psi - state["psi"]
        if i > 0:
            weight = weight + _log_ratio(run, x_t, i - 1, state)
        weight = torch.where(state["i"] == i, weight, -torch.inf)  # a row that died stopped counting
        number = effective_number(weight, self.particles)
        low = (number > 0) & (number < self.threshold * self.particles)
        low = low & (run.process.noise(i) > 0)  # copies would stay copies
        low = low & (LOG_PSI in inner)  # without a psi the weights on the way know nothing of y
        rows = resample(run, weight, self.particles, f"particles/{i}", low)
        step = step.take(rows)
        if step.rows is not None:
            inner = {name: value[rows] for name, value in inner.items()}
        return step, _inside(inner) | {
            "weight": torch.where(low, 0.0, weight),
            "psi": psi[rows],
            "i": torch.full_like(weight, i + 1),
            "ess": torch.where(low, number.minimum(state["ess"]), state["ess"])[rows],
            "resampled": state["resampled"][rows] + low,
            "mean": step.mean,
            "free": step.free,
            "std": _per_row(step.std, x_t),
        }

    def finish(self, run: Run, x: Tensor, state: State) -> tuple[Tensor | None, dict[str, Tensor]]:
        process = run.process
        likelihood = -run.obs.nll(process.prior.codec.decode(x / process.alpha[-1])).double()
        weight = state["weight"] + likelihood - state["psi"] + _log_ratio(run, x, process.n_steps - 1, state)
        weight = torch.where(state["i"] == process.n_steps, weight, -torch.inf)
        rows = resample(run, weight, self.particles, "particles/end")
        ess = effective_number(weight, self.particles).minimum(state["ess"][rows])
        return rows, {"ess": ess, "resampled": state["resampled"][rows]}


def _check_proposal(step: Step, c_z: float) -> None:
    """Refuses a step that has no density against the free step, whose noise is c_z.

    Raises:
        ValueError: it has no free step, drops the noise, or draws it in other coordinates.
    """
    if step.free is None:
        raise ValueError("particles need a controller that steps from a free step: its weights are against that")
    if isinstance(step.std, Rotated):
        raise ValueError("particles need a controller whose noise is per pixel: ddrm and ddnm_plus draw it elsewhere")
    if not isinstance(step.std, Tensor) and step.std == 0 and c_z > 0:
        raise ValueError("particles need a controller that keeps the noise of the step: its weights divide by it")


def _per_row(std: float | Tensor, x: Tensor) -> Tensor:
    """A tensor as it is; a number as [B, 1, ...]."""
    return std.expand_as(x) if isinstance(std, Tensor) else x.new_full((len(x), *[1] * (x.ndim - 1)), std)


def _log_ratio(run: Run, x: Tensor, i: int, state: State) -> Tensor:
    """log P_free(x) - log P_u(x) of the move that ended in x after step i, [B]; 0 where it had no noise."""
    c_z = run.process.noise(i)
    if c_z == 0:
        return torch.zeros_like(state["weight"])
    z, free_z = (x - state["mean"]).div_(state["std"]), (x - state["free"]).div_(c_z)
    moved = (z - free_z).mul_(z.add_(free_z)).flatten(1).sum(1, dtype=torch.float64)  # z^2 - free_z^2
    widened = (state["std"].double() / c_z).log().flatten(1).mean(1) * x[0].numel()
    return moved / 2 + widened


def _inside(state: State) -> State:
    return {f"controller/{name}": value for name, value in state.items()}


def _outside(state: State) -> State:
    prefix = "controller/"
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
