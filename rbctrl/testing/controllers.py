"""The suite of controllers."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from rbctrl.codecs.block_pca import dct
from rbctrl.controllers.base import Controller, Run, State
from rbctrl.operators.inpainting import HalfMask
from rbctrl.operators.matrix import Matrix
from rbctrl.priors.mixture import GaussianMixture
from rbctrl.process import Step
from rbctrl.sampling import Result, sample
from rbctrl.schedules import VP
from rbctrl.testing.report import CheckError, Report, relative_error, require
from rbctrl.testing.worlds import unit_run


def check_controller(controller: Controller, shape: tuple[int, ...] = (3, 8, 8), run: Run | None = None) -> Report:
    """Checks a controller against the contract of `rbctrl.controllers.base`.

    A frozen dataclass; finite; rows at once, one by one and reversed are equal; a row that diverges changes no other
    (where rows depend on each other: cloud by cloud); no autograd graph leaves a step; the same run twice is the same.

    Args:
        controller: the method with its settings.
        shape: of one image, [C, H, W].
        run: what to run it on; None is inpainting of half an image under a standard normal prior of its pixels and,
            after that, of its latents under a block codec, as far as the controller accepts them. If it refuses both,
            it is a Gaussian mixture in the plane.

    Returns:
        (check, largest relative error) of each check; those in the latent world say so.

    Raises:
        CheckError: the first check that fails.
    """
    if not dataclasses.is_dataclass(controller) or not controller.__dataclass_params__.frozen:
        raise CheckError(
            f"{type(controller).__name__} is no frozen dataclass: settings are fields, what changes is State"
        )
    report: Report = []
    for name, world in ({"": run} if run else _worlds(controller, shape)).items():
        report += [(name + check, value) for check, value in _check_on(world, controller)]
    return report


def _check_on(run: Run, controller: Controller) -> Report:
    report: Report = []
    steps: list[Step] = []
    whole = sample(run, controller, on_step=lambda i, x_t, step: steps.append(step))
    require(report, "finite", float((~whole.alive).sum()), 0, "{} of the rows became non-finite")
    if any(t.requires_grad for s in steps for t in (s.mean, s.est.x0_hat, s.est.eps_hat)):
        raise CheckError(
            "a step carries an autograd graph: open enable_grad in the narrowest block and detach what leaves"
        )
    require(report, "again", _gap(sample(run, controller), whole), 0, "the same run later differs by {}")
    clouds = torch.arange(len(whole.x)).view(-1, controller.population)  # of one row, unless rows depend on each other
    for rows in [*clouds, clouds.flip(0).flatten()]:
        gap = _gap(sample(run.take(rows), controller), _take(whole, rows))
        require(report, "rows", gap, 1e-8, f"rows {rows.tolist()} alone differ from the batch by {{}}: reduce per row")
    sick = sample(run, _OneDies(controller))
    others = clouds[1:].flatten()
    gap = _gap(_take(sick, others), _take(whole, others))
    require(report, "divergence", gap, 1e-8, "when row 0 diverges, the others change by {}")
    return report


@dataclasses.dataclass(frozen=True)
class _OneDies(Controller):
    """Row 0 becomes non-finite at step 1."""

    inner: Controller

    def start(self, run: Run) -> tuple[Tensor, State]:
        return self.inner.start(run)

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        step, state = self.inner(run, x_t, i, state)
        if i == 1:
            mean = step.mean.clone()
            mean[0] = torch.nan
            step = Step(step.est, mean, step.std, step.free, step.rows)
        return step, state

    @property
    def population(self) -> int:
        return self.inner.population

    def finish(self, run: Run, x: Tensor, state: State) -> tuple[Tensor | None, dict[str, Tensor]]:
        return self.inner.finish(run, x, state)


def _worlds(controller: Controller, shape: tuple[int, ...]) -> dict[str, Run]:
    """The worlds that the controller accepts, by the names of its checks there; with noise in the steps, if it can."""
    codecs = {"": None}
    if len(shape) == 3 and shape[1] % 2 == shape[2] % 2 == 0:
        codecs["latent: "] = dct(block=2, channels=shape[0], n_components=2 * shape[0])
    for eta in (1.0, 0.0):
        worlds = {
            name: unit_run(HalfMask(), shape, cloud=controller.population, codec=codec, eta=eta)
            for name, codec in codecs.items()
        }
        reasons = {name: controller.check(run.setup) for name, run in worlds.items()}
        if accepted := {name: run for name, run in worlds.items() if reasons[name] is None}:
            return accepted
    plane = unit_run(Matrix([[1.0, 0.0]]), (2,), cloud=controller.population)
    mixture = GaussianMixture(VP(), [0.6, 0.4], [[1.0, 0.0], [-1.0, 0.5]], [[[0.3, 0.1], [0.1, 0.2]]] * 2)
    plane.process.prior = mixture
    if controller.check(plane.setup) is not None:
        raise CheckError(
            f"the controller refuses the worlds of this check ({reasons['']}): pass check_controller a run"
        )
    return {"": plane}


def _take(result: Result, rows: Tensor) -> Result:
    columns = {name: column[rows] for name, column in result.columns.items()}
    return Result(
        result.x0_hat[rows],
        result.x[rows],
        result.control_energy[rows],
        result.alive[rows],
        columns,
    )


def _gap(a: Result, b: Result) -> float:
    return max(relative_error(a.x, b.x), relative_error(a.x0_hat, b.x0_hat))
