"""From a batch of images or measurements to restored images: the part the command line and `restore` share."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup
from rbctrl.costs import Cost, RunningCost
from rbctrl.data.base import Batch, Item
from rbctrl.devices import full_fp32
from rbctrl.metrics.base import AnyMetric, PathMetric, PathScores, check_metrics
from rbctrl.noise import Noise
from rbctrl.observation import Objective, Observation, given, observe
from rbctrl.offload import place
from rbctrl.operators.base import LinearOperator, Operator
from rbctrl.priors.base import Prior
from rbctrl.process import ReverseProcess
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.solution import Solution

log = logging.getLogger(__name__)

Sampler = Callable[..., ReverseProcess]  # (prior, shape=...) -> process: a partial of rbctrl.process.ddim and its like


@dataclass(frozen=True, eq=False)
class Solver:
    """A prior, a measurement model and a controller, ready to restore."""

    prior: Prior
    operator: Operator
    noise: Noise
    cost: Cost
    sampler: Sampler
    controller: Controller
    device: torch.device
    dtype: torch.dtype
    running_cost: RunningCost | None = None

    def check(self, n_samples: int = 1, batch_size: int = 1, metrics: Mapping[str, AnyMetric] | None = None) -> None:
        """Refuses what cannot work, before weights are loaded.

        Raises:
            TypeError: a metric that is none.
            ValueError: the reason of the noise, of the controller, of the cost it descends or of a metric, a sampler
                that cannot run (eta, grid, start), or numbers that would tear a cloud of the controller's paths apart.
        """
        cloud = self.controller.population
        for name, number in (("n_samples", n_samples), ("batch_size", batch_size)):
            if number % cloud:
                raise ValueError(
                    f"this controller's paths live in clouds of {cloud} samples of one image: "
                    f"{name}={number} is no multiple of {cloud}"
                )
        process = self.sampler(self.prior, shape=(1,))
        setup = Setup(process, self.operator, self.noise, self.cost)
        reason = self.noise.check(self.operator) or self.controller.check(setup)
        if reason is None and self.controller.uses_cost:
            reason = self.cost.check(self.operator, self.noise)
        if reason is not None:
            raise ValueError(f"this combination cannot work: {reason}")
        check_metrics(metrics or {}, setup)
        if (doubt := self.operator.doubt(self.noise)) is not None:
            log.warning(doubt)
        if self.running_cost is not None and not self.controller.uses_running_cost:
            log.warning(
                "%s ignores the running cost, which here only enters the price of metrics=control: "
                "controller=shooting plans with it",
                type(self.controller).__name__,
            )

    def check_item(self, item: Item, seed: int) -> None:
        """Refuses images that the operator or the prior cannot take, by one of them, before weights are loaded.

        Raises:
            ValueError: the reason of one of the two.
        """
        self._check_words(item.prompt, item.references)
        y, image = item.y, item.image
        shape = tuple(image.shape) if y is None else tuple(self.operator.image_shape(tuple(y.shape)))
        self.operator.draw(ImageRNG(seed, ((item.name, 0),), self.dtype), shape)
        self.prior.state_shape(shape)
        decoded = tuple(self.prior.codec.decoded_shape(shape))
        linear = any(isinstance(part, LinearOperator) for part in self.operator.modules())
        if decoded != shape and self.controller.uses_cost and linear:
            raise ValueError(
                f"costs of this prior see previews {list(decoded)} of images {list(shape)}, which "
                f"{type(self.operator).__name__} does not measure alike: take an operator of any size, such as a "
                "descriptor of style, or controller=none"
            )

    def load(self) -> None:
        """Reads the weights, those of the prior last, and moves everything to the device."""
        self.operator.load()
        self.prior.load()
        self.prior.requires_grad_(False)
        others = [part for part in (self.operator, self.cost, self.running_cost) if part is not None]
        for part in others:
            part.to(self.dtype)
        place(self.prior, others, self.device)

    def solve(self, batch: Batch, seed: int, scores: Mapping[str, PathMetric] | None = None) -> Solution:
        """Restores one batch. The result of a row depends on its (item, sample) and the seed, not on the batch.

        `scores` of the controlled path run inside the loop, so `seconds` holds their time too.
        """
        with full_fp32(self.device):
            return self._solve(batch, seed, scores or {})

    def observe(self, batch: Batch, seed: int) -> Observation:
        """The measurement that `solve` restores the batch from."""
        with full_fp32(self.device), torch.no_grad():
            return self._observe(batch, ImageRNG(seed, batch.rows, self.dtype, self.device))[0]

    @torch.no_grad()
    def final_cost(self, image: Tensor, obs: Observation) -> Tensor:
        """The cost at images [B, C, H, W], [B]; NaN where it is undefined and the controller does not descend it."""
        if self.cost.check(obs.operator, obs.noise) is not None:
            return image.new_full((len(image),), math.nan)
        return self.cost(image, obs)

    def _solve(self, batch: Batch, seed: int, scores: Mapping[str, PathMetric]) -> Solution:
        rng = ImageRNG(seed, batch.rows, self.dtype, self.device)
        obs, image_shape = self._observe(batch, rng)
        self._check_words(obs.prompts, obs.references)
        prior = self.prior if obs.prompts is None else self.prior.bind(obs.prompts, obs.references)
        process = self.sampler(prior, shape=prior.state_shape(image_shape))
        objective = Objective(self.cost, obs, prior.codec, process.evaluations, self.running_cost)
        self._reset_peak()
        begin = self._now()
        run, watch = Run(process, objective, rng), PathScores(scores)
        result = sample(run, self.controller, watch.hook(run))
        with torch.no_grad():
            image = self.controller.render(run, result.x0_hat)
        seconds = (self._now() - begin) / len(batch.rows)
        final_cost = self.final_cost(image, obs)
        paths = watch.finish(run, self.controller, result)
        return Solution(image, obs, result, paths, final_cost, process.evaluations, seconds, self._peak_memory())

    def _check_words(self, prompt: object, references: Collection[str]) -> None:
        if (reason := self.prior.check_item(prompt is not None, references)) is not None:
            raise ValueError(reason)

    def _observe(self, batch: Batch, rng: ImageRNG) -> tuple[Observation, tuple[int, ...]]:
        obs, shape = self._measured(batch, rng)
        references = {kind: pictures.to(self.device, self.dtype) for kind, pictures in batch.references.items()}
        return replace(obs, prompts=batch.prompts, references=references), shape

    def _measured(self, batch: Batch, rng: ImageRNG) -> tuple[Observation, tuple[int, ...]]:
        if batch.y is not None:
            shape = tuple(self.operator.image_shape(tuple(batch.y.shape[1:])))
            operator = self.operator.draw(rng, shape)
            return given(operator, self.noise, batch.y.to(self.device, self.dtype)), shape
        image = batch.image.to(self.device, self.dtype)
        operator = self.operator.draw(rng, tuple(image.shape[1:]))
        return observe(operator, self.noise, self.prior.codec.measured(image), rng), tuple(image.shape[1:])

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _peak_memory(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        try:
            import resource
        except ImportError:  # Windows keeps no such record
            return math.nan
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
