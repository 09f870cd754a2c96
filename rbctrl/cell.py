"""The data flow of one cell: the missing rows are computed, scored and written; what fails is a row with its reason."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from rbctrl.data.base import Batch
from rbctrl.failures import Failures
from rbctrl.halving import solve_halving
from rbctrl.journal import Record
from rbctrl.mean_row import DIVERGED, mean_row, save_inputs
from rbctrl.metrics import Metric, PathMetric, of_kind
from rbctrl.results import ResultStore
from rbctrl.solution import Solution
from rbctrl.versions import versions
from rbctrl.work import Work, has_picture, rows_of

if TYPE_CHECKING:
    from rbctrl.experiment import Experiment

log = logging.getLogger("rbctrl.experiment")


class Progress(Protocol):
    """What a progress bar has to offer (tqdm does)."""

    def update(self, n: int) -> object: ...

    def close(self) -> object: ...


@dataclass(eq=False)
class Cell:
    """One run of a cell.

    Args:
        experiment: what is computed.
        store: where it goes.
        record: how the cell was composed, for config.yaml.
        progress: makes a bar of so many rows; None shows nothing.
        share: (k, n) computes every n-th batch from the k-th: the part of one of n processes. Means that need the
            samples of several processes are left to a run of all, (0, 1), that follows.
    """

    experiment: Experiment
    store: ResultStore
    record: Mapping[str, object]
    progress: Callable[[int], Progress] | None = None
    share: tuple[int, int] = (0, 1)
    _work: Work = field(init=False)
    _items: dict[str, None] = field(init=False, default_factory=dict)
    _pictured: set[str] = field(init=False, default_factory=set)
    _begun: bool = field(init=False, default=False)
    _failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        self._work = Work(self.store, self.experiment.wanted, self.experiment.controller.population)
        self._failures = Failures(self.experiment, self.store)

    def missing(self) -> int:
        """How many samples would be computed."""
        e = self.experiment
        return sum(len(self._work.missing(batch)) for batch in e.data.batches(e.batch_size, e.n_samples))

    def run(self) -> float:
        """Computes what is missing; returns the mean of the first metric over the images.

        Raises:
            Exception: of the first batch that failed, if no row could be computed.
        """
        e, bar, skipped = self.experiment, None, 0
        try:
            for number, batch in enumerate(e.data.batches(e.batch_size, e.n_samples)):
                self._items.update(dict.fromkeys(item for item, _ in batch.rows))
                if number % self.share[1] != self.share[0]:
                    continue
                worked = self._batch(batch)
                if worked and bar is None and self.progress is not None:
                    bar = self.progress(len(e.data) * e.n_samples - skipped)
                skipped += len(batch.rows) * (not worked)
                if bar is not None:
                    bar.update(len(batch.rows))
        finally:
            if bar is not None:
                bar.close()
            if self.share[0] == 0:
                self._failures.of_reading()
            if self._begun:
                self.store.close()
        if self.share != (0, 1):
            return math.nan
        if not self._begun and not self._is_noted():
            self._note()
        return self._end()

    def _batch(self, batch: Batch) -> bool:
        """Computes the missing rows of a batch; False if there were none."""
        missing = self._work.missing(batch)
        ready = any(self._work.complete(item) for item, _ in batch.rows)
        if not missing and not ready:
            return False
        self._begin(batch)
        try:
            e = self.experiment
            paths, cloud = of_kind(e.metrics, PathMetric), e.controller.population
            for part, solution in solve_halving(e.solver, rows_of(batch, missing), e.seed, paths, cloud):
                self._take(part, solution)
            self._finish_restored(batch)
        except OSError:  # the disk: nothing more can be written
            raise
        except Exception as error:
            if type(error).__module__.startswith("submitit"):  # its way to end a job
                raise
            self._failures.of_batch(rows_of(batch, self._work.missing(batch)), error, self._work.content)
        return True

    def _begin(self, batch: Batch) -> None:
        if self._begun:
            return
        self.experiment.solver.check_item(batch.item(0), self.experiment.seed)
        self.experiment.solver.load()
        described = {
            "cell": self.store.folder.name.rpartition("-")[0],
            "weights": self.experiment.weights,
            "noise": self.experiment.noise.describe(),
        }
        self.store.save_config({**self.record, **described}, versions())
        self._note()
        self._begun = True

    def _note(self) -> None:
        e = self.experiment
        wanted = {"rows": e.wanted.rows(len(e.data)), "items": len(e.data), "n_samples": e.n_samples}
        process = {"host": socket.gethostname(), "pid": os.getpid(), "versions": versions()}
        self.store.note(begin={"overrides": self._words, **wanted, **process})

    @property
    def _words(self) -> list[str]:
        return [str(word) for word in self.record.get("overrides") or ()]  # type: ignore[attr-defined]

    def _is_noted(self) -> bool:
        rows = self.experiment.wanted.rows(len(self.experiment.data))
        begins = [record["begin"] for record in self.store.records if "begin" in record]
        return any(begin["overrides"] == self._words and begin["rows"] == rows for begin in begins)  # type: ignore[index]

    def _take(self, batch: Batch, solution: Solution) -> None:
        """Scores what was computed and writes it: pictures, then all rows at once."""
        rows = solution.rows(batch.rows, self.experiment.seed, self._scores(solution.image, batch.image, solution))
        rows = [row if row["alive"] else row | {"error": DIVERGED} for row in rows]
        self._save_pictures(batch, solution, rows)
        self._work.take(rows, solution, batch.image)
        self._write(self._work.new_rows(rows), dict.fromkeys(item for item, _ in batch.rows))

    def _write(self, rows: Sequence[Mapping[str, object]], items: Iterable[str]) -> None:
        complete = [item for item in items if self._work.complete(item)]
        self.store.write([*rows, *map(self._mean_row, complete)])
        self._work.forget(complete)

    def _mean_row(self, item: str) -> dict[str, object]:
        return mean_row(self.experiment, self.store, self._work.samples(item), self._work.content(item))

    def _finish_restored(self, batch: Batch) -> None:
        """Means of images whose samples are all at hand, from earlier runs or other processes."""
        for k, (item, _) in enumerate(batch.rows):
            if self._work.complete(item):
                samples, row = self._work.samples(item), rows_of(batch, [k])
                samples.obs = self.experiment.solver.observe(row, self.experiment.seed)
                samples.truth = None if row.image is None else row.image[0]
                save_inputs(self.store, item, samples.truth, samples.obs)
                self._write([], [item])

    def _scores(self, image: Tensor, truth: Tensor | None, solution: Solution) -> dict[str, Tensor]:
        if truth is not None:
            truth = truth.to(image)
        metrics = of_kind(self.experiment.metrics, Metric).items()
        return {name: metric(image, truth, solution.obs) for name, metric in metrics}

    def _save_pictures(self, batch: Batch, solution: Solution, rows: Sequence[Mapping[str, object]]) -> None:
        for k, (item, sample) in enumerate(batch.rows):
            if item not in self._pictured:
                truth = None if batch.image is None else batch.image[k]
                save_inputs(self.store, item, truth, solution.obs.take(torch.tensor([k])))
                self._pictured.add(item)
            if self.experiment.keep == "samples" and rows[k]["alive"] and has_picture(solution.image[k]):
                self.store.save_image(item, sample, "image", solution.image[k])
        self._work.save_exact(rows, solution.image)

    def _end(self) -> float:
        """The mean of the first metric over the items where it is finite."""
        e, metric = self.experiment, next(iter(self.experiment.metrics))
        self._failures.tell(row for item in self._items for row in self._rows_of(item))
        rows = [self.store.row(item, "mean" if e.wanted.means else 0, e.seed) or {} for item in self._items]
        scores = [math.nan if row.get(metric) is None else float(row[metric]) for row in rows]  # type: ignore[arg-type]
        finite = [score for score in scores if math.isfinite(score)]
        if len(finite) < len(scores):
            left_out = len(scores) - len(finite)
            log.warning("%s is not finite for %d of %d items: its mean leaves them out", metric, left_out, len(scores))
        return sum(finite) / len(finite) if finite else math.nan

    def _rows_of(self, item: str) -> list[Record]:
        e = self.experiment
        samples = range(e.n_samples) if e.wanted.singles else ["mean"]
        rows = (self.store.row(item, sample, e.seed) for sample in samples)  # type: ignore[arg-type]
        return [row for row in rows if row is not None]
