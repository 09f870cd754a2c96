"""One problem of the benchmark, and what all rows of the table share on it.

The noise of a step is a function of its name, so every method on one problem sees the same: it is drawn once and kept.
So are the measurement, the exact draws and their projections. What a row scores is what `rbctrl` scores in its cell.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rows import Task
from torch import Tensor

from rbctrl.commands.run import compose
from rbctrl.controllers.base import Run
from rbctrl.metrics import Draws
from rbctrl.observation import Objective
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.solver import Solver


@dataclass(frozen=True)
class SharedNoise(ImageRNG):
    """The streams of all rows of a batch, which keep the noise of starts and steps: whoever asks gets a copy."""

    kept: dict[tuple[object, ...], Tensor] = field(default_factory=dict, compare=False)

    def normal(self, key: str, shape: tuple[int, ...]) -> Tensor:
        if not key.startswith(("init", "step/")):
            return super().normal(key, shape)
        name = (key, shape, self.rows)
        if name not in self.kept:
            self.kept[name] = super().normal(key, shape)
        return self.kept[name].clone()


@cache
def _composed(words: tuple[str, ...]) -> DictConfig:
    return compose(list(words))


class World:
    """A problem, with everything that is no method.

    Args:
        task: which.
        n_slices: directions of the distance.
    """

    def __init__(self, task: Task, n_slices: int) -> None:
        self.task = task
        config = self._config(task.words("none", ""))
        config.n_samples = config.batch_size = task.samples
        self.experiment = instantiate(config, _convert_="all")
        self.solver: Solver = self.experiment.solver
        self.solver.load()
        (batch,) = self.experiment.data.batches(task.samples, task.samples)
        self.rng = SharedNoise(self.experiment.seed, batch.rows, self.solver.dtype)
        self.obs = self.solver.observe(batch, self.experiment.seed)
        for i in range(task.n_times - 1):
            self.rng.normal(f"step/{i}", tuple(batch.image.shape[1:]))
        one = ImageRNG(self.experiment.seed, batch.rows[:1], self.solver.dtype)
        first = self.obs.take(torch.tensor([0]))
        self.draws = Draws(batch.image[:0], batch.image[0], first, self.experiment.prior, one)
        self.distance = replace(self.experiment.metrics["sliced_wasserstein"], n_slices=n_slices)
        self.slices = list(replace(self.distance, n_reference=task.samples).slices(self.draws))

    def floor(self) -> dict[str, object]:
        """What exact draws score."""
        nothing = {"alive": 1.0, "nfe": 0, "vjp": 0, "seconds": 0.0}
        return self._compare(self.draws.posterior(self.task.samples, "floor")) | nothing

    def scores(self, words: tuple[str, ...]) -> dict[str, object]:
        """Of the method that the words describe; its seconds are those of the loop, the noise left out."""
        solver = self._solver(words)
        process = solver.sampler(solver.prior, shape=self.draws.truth.shape)
        run = Run(process, Objective(solver.cost, self.obs, evaluations=process.evaluations), self.rng)
        begin = time.process_time()
        result = sample(run, solver.controller)
        seconds = time.process_time() - begin
        samples = solver.controller.render(run, result.x0_hat)[result.alive]
        spent = {"nfe": process.evaluations.nfe, "vjp": process.evaluations.vjp, "seconds": round(seconds, 3)}
        return self._compare(samples) | {"alive": float(result.alive.double().mean())} | spent

    def _compare(self, samples: Tensor) -> dict[str, object]:
        draws = replace(self.draws, samples=samples)
        whole = len(samples) == self.task.samples
        distance = self.distance.distance(samples, self.slices) if whole else self.distance(draws)
        weights = self.experiment.metrics["mode_weight_tv"](draws)
        return {"sliced_wasserstein": distance, "mode_weight_tv": weights}

    def _solver(self, words: tuple[str, ...]) -> Solver:
        """That of the problem, with the method in it."""
        config = self._config(words)
        method = {name: instantiate(config[name], _convert_="all") for name in ("cost", "sampler", "controller")}
        solver = replace(self.solver, **method)
        solver.check(self.task.samples, self.task.samples)
        solver.cost.to(solver.dtype)
        return solver

    def _config(self, words: tuple[str, ...]) -> DictConfig:
        config = _composed(words)
        config.data.d, config.data.d_y, config.data.index = self.task.d, self.task.d_y, self.task.problem
        return config
