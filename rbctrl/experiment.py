"""One cell: data, measurement, controller, prior and metrics, from a config to rows and pictures.

The config is one constructor call; `Experiment.run` is the data flow.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller
from rbctrl.costs import Cost, RunningCost
from rbctrl.data.base import Batch, Data
from rbctrl.metrics import AnyMetric, Metric, PathMetric, SampleMetric, of_kind
from rbctrl.noise import Noise
from rbctrl.operators.base import Operator
from rbctrl.posterior_mean import ItemSamples
from rbctrl.priors.base import Prior
from rbctrl.results import ResultStore, RowLogger, versions
from rbctrl.solver import Sampler, Solution, Solver, pick_device, pick_dtype

log = logging.getLogger(__name__)

DETERMINING = ("prior", "operator", "noise", "cost", "running_cost", "sampler", "controller", "dtype")
WHICH_IMAGES = ("n", "names", "pattern")


class Progress(Protocol):
    """What a progress bar has to offer (tqdm does)."""

    def update(self, n: int) -> object:
        """n more done."""

    def close(self) -> object:
        """No more to come."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """Everything one cell needs. Fields are the groups of `conf/`.

    Args:
        data: images, or measurements without truth.
        operator: A.
        noise: added to A(x), on [-1, 1].
        cost: what controllers descend.
        sampler: (prior, shape=...) to the reverse process.
        controller: the method.
        metrics: by name, of images, of paths or of all samples of an image; a run returns the mean of the first.
        prior: the diffusion prior.
        running_cost: what a path costs on its way, for controllers that plan it and for its price; None: nothing.
        logger: besides rows.csv.
        study: names the results.
        seed: of all noise, masks and kernels.
        n_samples: posterior samples per image.
        batch_size: rows at a time; changes no result.
        keep: "samples" writes a row and a picture of every sample; "means" only those of each image's mean, for
            thousands of samples.
        device: auto, cpu, cuda, cuda:1 ...
        dtype: of states, float32 or float64.

    Raises:
        TypeError: a metric that is none.
        ValueError: a number out of range, or a combination that cannot work, before weights are loaded.
    """

    data: Data
    operator: Operator
    noise: Noise
    cost: Cost
    sampler: Sampler
    controller: Controller
    metrics: Mapping[str, AnyMetric]
    prior: Prior
    running_cost: RunningCost | None = None
    logger: Sequence[RowLogger] | Mapping[str, RowLogger] = ()
    study: str = "default"
    seed: int = 0
    n_samples: int = 1
    batch_size: int = 8
    keep: Literal["samples", "means"] = "samples"
    device: str = "auto"
    dtype: str = "float32"
    problems: list[str] = field(init=False, default_factory=list)
    solver: Solver = field(init=False)

    def __post_init__(self) -> None:
        if self.study == "latest":
            raise ValueError("study=latest is where outputs/latest points to the newest run: take another name")
        if not self.metrics:
            raise ValueError("an experiment needs at least one metric: metrics=restoration")
        if self.keep not in ("samples", "means"):
            raise ValueError(f"keep is 'samples' or 'means', got {self.keep!r}")
        for name in ("n_samples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        solver = Solver(
            self.prior,
            self.operator,
            self.noise,
            self.cost,
            self.sampler,
            self.controller,
            pick_device(self.device),
            pick_dtype(self.dtype),
            self.running_cost,
        )
        solver.check(self.n_samples, self.batch_size, self.metrics)
        object.__setattr__(self, "solver", solver)

    def run(
        self, out_dir: Path, record: Mapping[str, object], progress: Callable[[int], Progress] | None = None
    ) -> float:
        """Computes all rows; returns the mean of the first metric over the images.

        Args:
            out_dir: rows.csv, images, config.yaml and versions.json go here.
            record: {"choices", "overrides", "config"}: how this cell was composed.
            progress: makes a bar of so many rows; None shows nothing.
        """
        self.problems.clear()
        for item in islice(self.data.items(), 1):
            self.solver.check_item(item, self.seed)
        self.solver.load()
        store = ResultStore(out_dir, self.logger)
        weights = self.prior.fingerprint()
        store.save_config(
            {**record, "cell": cell_key(record, weights), "weights": weights, "noise": self.noise.describe()},
            versions(),
        )
        bar, scores, samples = None, [], None
        batches = self.data.batches(self.batch_size, self.n_samples)
        for batch, solution in (solved for whole in batches for solved in self._solve(whole)):
            if bar is None and progress is not None:
                bar = progress(len(self.data) * self.n_samples)
            rows = solution.rows(batch.rows, self.seed, self._scores(solution.image, batch.image, solution))
            if self.keep == "samples":
                store.write([row | self._blanks(solution) for row in rows])
            for k, (item, sample) in enumerate(batch.rows):
                if samples is None or samples.item != item:
                    samples = ItemSamples(item, self.controller.population)
                    self._save_inputs(store, item, batch, solution, k)
                samples.add(rows[k], solution, k, None if batch.image is None else batch.image[k])
                if self.keep == "samples" and is_picture(solution.image[k]) and solution.result.alive[k]:
                    store.save_image(item, sample, "image", solution.image[k])
                if samples.count == self.n_samples:
                    scores.append(self._finish(store, samples))
            if bar is not None:
                bar.update(len(batch.rows))
        if bar is not None:
            bar.close()
        store.close()
        self.problems.extend(self.data.skipped)
        return self._mean(scores)

    def _mean(self, scores: Sequence[float]) -> float:
        """The mean over the items whose score is finite; NaN if none is."""
        finite = [score for score in scores if math.isfinite(score)]
        if len(finite) < len(scores):
            left_out, name = len(scores) - len(finite), next(iter(self.metrics))
            log.warning("%s is not finite for %d of %d items: its mean leaves them out", name, left_out, len(scores))
        return sum(finite) / len(finite) if finite else math.nan

    def _solve(self, batch: Batch) -> Iterator[tuple[Batch, Solution]]:
        """Solves a batch; where the GPU's memory does not hold it, its halves."""
        solution = self._try(batch)
        if solution is None:  # outside of the handler, whose traceback keeps the failed tensors alive
            torch.cuda.empty_cache()
            log.warning("batch_size=%d does not fit into the GPU's memory: halving it", len(batch.rows))
            cloud = self.controller.population
            middle = max(len(batch.rows) // cloud // 2, 1) * cloud
            for part in (slice(0, middle), slice(middle, None)):
                yield from self._solve(_part(batch, part))
            return
        for (item, sample), alive in zip(batch.rows, solution.result.alive.tolist()):
            if not alive:
                self.problems.append(
                    f"{item} (sample {sample}) became non-finite and is reported with alive = False: "
                    "lower the controller's step size or take more steps"
                )
        yield batch, solution

    def _try(self, batch: Batch) -> Solution | None:
        try:
            return self.solver.solve(batch, self.seed, of_kind(self.metrics, PathMetric))
        except torch.cuda.OutOfMemoryError as error:
            if len(batch.rows) == 1:
                raise ValueError("a single image does not fit into the GPU's memory: use smaller images") from error
            if len(batch.rows) <= self.controller.population:
                raise ValueError("one cloud of paths does not fit into the GPU's memory: take fewer") from error
            return None

    def _scores(self, image: Tensor, truth: Tensor | None, solution: Solution) -> dict[str, Tensor]:
        if truth is not None:
            truth = truth.to(image)
        return {name: metric(image, truth, solution.obs) for name, metric in of_kind(self.metrics, Metric).items()}

    def _save_inputs(self, store: ResultStore, item: str, batch: Batch, solution: Solution, k: int) -> None:
        if batch.image is not None and is_picture(batch.image[k]):
            store.save_image(item, 0, "truth", batch.image[k])
        y = solution.obs.y[k]
        if is_picture(y):
            observed = solution.obs.operator.take(torch.tensor([k])).observed
            store.save_image(item, 0, "measurement", y if observed is None else y * observed[0])

    @property
    def _has_mean_rows(self) -> bool:
        return self.n_samples > 1 or self.keep == "means" or bool(of_kind(self.metrics, SampleMetric))

    def _blanks(self, solution: Solution) -> dict[str, None]:
        """The columns that only rows of a mean fill."""
        if not self._has_mean_rows:
            return {}
        errors = [f"{name}_se" for name in self._averaged(solution.reported)] if self.n_samples > 1 else []
        return dict.fromkeys([*of_kind(self.metrics, SampleMetric), *errors, "n_alive"])

    def _averaged(self, reported: Sequence[str]) -> tuple[str, ...]:
        return (*of_kind(self.metrics, PathMetric), *reported, "control_energy")

    def _finish(self, store: ResultStore, samples: ItemSamples) -> float:
        """Scores an item whose samples are complete; writes the row of their mean where there are several."""
        mean, sd = samples.mean_sd()
        truth = None if samples.truth is None else samples.truth[None].to(mean)
        images = of_kind(self.metrics, Metric).items()
        scores = {name: float(metric(mean[None], truth, samples.obs)[0]) for name, metric in images}
        scores |= samples.averages(self._averaged(samples.reported))
        draws = samples.draws(self.prior, self.seed)
        scores |= {name: metric(draws) for name, metric in of_kind(self.metrics, SampleMetric).items()}
        if self._has_mean_rows:
            if is_picture(mean):
                store.save_image(samples.item, "mean", "mean", mean)
                store.save_image(samples.item, "mean", "sd", 4 * sd.mean(0, keepdim=True) - 1)  # white: sd 0.5
            scores["final_cost"] = float(self.solver.final_cost(mean[None], samples.obs)[0])
            row = {"item": samples.item, "sample": "mean", "seed": self.seed, "alive": samples.alive}
            store.write([row | scores | samples.totals])
        return scores[next(iter(self.metrics))]


def _part(batch: Batch, part: slice) -> Batch:
    image, y = (None if v is None else v[part] for v in (batch.image, batch.y))
    return Batch(batch.rows[part], image, y)


def is_picture(x: Tensor) -> bool:
    """Whether a state, measurement or image [C, H, W] can be saved as a picture: gray or RGB."""
    return x.ndim == 3 and x.shape[0] in (1, 3)


def cell_key(record: Mapping[str, object], weights: str) -> str:
    """Identifies what determines a row besides its item, sample and seed: config of these groups, and the weights.

    Metrics, device, batch size and which or how many images run are not in it; how an image is read (size, path) is.
    """
    config = record.get("config") or {}
    determining = {name: config.get(name) for name in DETERMINING}
    data = config.get("data") or {}
    determining["data"] = {name: value for name, value in data.items() if name not in WHICH_IMAGES}
    text = json.dumps([determining, weights], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
