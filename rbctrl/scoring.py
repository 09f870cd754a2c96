"""Metrics of finished cells, from their pictures: nothing is sampled again.

What is scored is the exact image where the cell saved one (`images: exact`), else its 8-bit PNG: clamped to [-1, 1] and
rounded to steps of 1/127.5. The journal says which it was. Truth, operator and measurement are made again from the
settings and the seed of the cell, bit for bit.

Scores of images become columns of their rows, where a row has no value yet: what was computed while sampling, from the
exact image, stays. Scores of sets become notes of the cell, with the number of images.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from rbctrl.claims import claim
from rbctrl.data.base import Batch
from rbctrl.experiment import Experiment
from rbctrl.metrics import AnyMetric, Metric, SetMetric, of_kind
from rbctrl.pictures import image_path, load_exact, load_picture
from rbctrl.results import ResultStore
from rbctrl.reuse import build_experiment
from rbctrl.work import content_of

log = logging.getLogger(__name__)

PNG, EXACT = "8-bit PNG", "exact"


@dataclass(eq=False)
class Scored:
    """What `score_cell` did.

    Attributes:
        rows: number of rows that were scored.
        left_out: number of rows that diverged, failed, or have no picture or no item any more, by reason.
        sets: scores of sets, by (metric, "single" or "mean").
        filled: metrics that were added to some row.
        source: what was scored, "8-bit PNG", "exact" or both.
    """

    rows: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    sets: dict[tuple[str, str], float] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    source: str = ""


def check_metrics(metrics: Mapping[str, AnyMetric]) -> None:
    """Refuses what needs more than pictures.

    Raises:
        ValueError: there is no metric, or one looks at the path or at all samples before they are rounded.
    """
    wrong = [name for name, metric in metrics.items() if not isinstance(metric, (Metric, SetMetric))]
    if wrong or not metrics:
        raise ValueError(
            f"{', '.join(wrong) or 'no metric'} cannot be scored from pictures: metrics of images and of sets can, "
            "those of paths and of all samples are computed while sampling (rbctrl ... metrics=...)"
        )


@torch.no_grad()
def score_cell(folder: Path, metrics: Mapping[str, AnyMetric], batch_size: int = 8, replace: bool = False) -> Scored:
    """Adds metrics to the rows of one cell.

    Args:
        folder: of the cell.
        metrics: of images (`Metric`) and of sets (`SetMetric`), by name.
        batch_size: images at a time.
        replace: values that rows have already, too.

    Raises:
        ValueError: the folder was written by a version without a journal.
        rbctrl.claims.Claimed: another process computes this cell.
    """
    if not (folder / "journal").is_dir():
        raise ValueError(f"{folder} has no journal, it is of an older version: run its command again, then score it")
    check_metrics(metrics)
    with claim(folder, wait=False):
        store = ResultStore(folder)
        cell = _Cell(store, _experiment(folder, store))
        done, new = Scored(), []
        for row, image, truth, obs in cell.images(batch_size, done):
            asked = {n: m for n, m in of_kind(metrics, Metric).items() if replace or row.get(n) is None}
            done.filled.update(asked)
            new.append(row | {name: float(metric(image, truth, obs)[0]) for name, metric in asked.items()})
        done.rows = len(new)
        if of_kind(metrics, Metric):
            store.write(new)
        for name, metric in of_kind(metrics, SetMetric).items():
            cell.score_set(name, metric, new, batch_size, done)
        store.note(scored=sorted(name for name in of_kind(metrics, Metric) if name in done.filled), source=done.source)
        store.close()
    return done


def _experiment(folder: Path, store: ResultStore) -> Experiment:
    """The experiment of a cell on all items that it has rows of; its own metrics and loggers are not made."""
    record = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=True)
    config = record["config"] | {"metrics": {"psnr": {"_target_": "rbctrl.metrics.PSNR"}}, "logger": {}}  # type: ignore
    items = len({row["item"] for row in store.rows})
    if isinstance(config["data"].get("n"), int):  # the last command may have asked for fewer than earlier ones
        config["data"] = config["data"] | {"n": max(items, config["data"]["n"])}
    experiment = build_experiment(config)
    experiment.operator.load()
    experiment.operator.to(experiment.solver.device, experiment.solver.dtype)
    return experiment


@dataclass(eq=False)
class _Cell:
    store: ResultStore
    experiment: Experiment

    def images(self, batch_size: int, done: Scored) -> Iterator[tuple[dict, Tensor, Tensor | None, object]]:
        """(row, image, truth, observation), one row each; what cannot be scored is counted in `done`."""
        rows: dict[str, list[dict]] = {}
        for row in self.store.rows:
            rows.setdefault(str(row["item"]), []).append(row)
        solver, seed = self.experiment.solver, self.experiment.seed
        for batch in self.experiment.data.batches(batch_size, 1):
            wanted = [k for k, (item, _) in enumerate(batch.rows) if item in rows]
            obs = solver.observe(batch, seed) if wanted else None
            for k in wanted:
                for row in rows.pop(batch.rows[k][0]):
                    image = self._image(row, batch, k, done)
                    if image is not None:
                        truth = None if batch.image is None else batch.image[k : k + 1].to(solver.device, solver.dtype)
                        one = obs.take(torch.tensor([k], device=solver.device))  # type: ignore[union-attr]
                        yield row, image[None].to(solver.device, solver.dtype), truth, one
        _count(done, "whose item the data no longer has", sum(map(len, rows.values())))

    def score_set(self, name: str, metric: SetMetric, rows: Sequence[dict], batch_size: int, done: Scored) -> None:
        """Scores the single samples and the means of the cell, each as a set, and notes the score with its n."""
        for kind in ("single", "mean"):
            own = [row for row in rows if (row["sample"] == "mean") == (kind == "mean")]
            if not own:
                continue
            names = {str(row["item"]) for row in own}
            references = metric.references or self.experiment.data
            given = (
                (item.name, item.image)
                for item in references.items()
                if item.image is not None and (metric.references is not None or item.name in names)
            )
            truths = [image for _, image in given]
            images = (self._read(row)[0] for row in own)
            value = metric(_batches(images, batch_size), _batches(iter(truths), batch_size))
            done.sets[name, kind] = value
            number = None if math.isnan(value) else value
            note = {"metric": name, "sample": kind, "value": number, "n": len(own), "references": len(truths)}
            self.store.note(score_of_set=note | {"source": done.source})

    def _image(self, row: Mapping[str, object], batch: Batch, k: int, done: Scored) -> Tensor | None:
        if row.get("alive") is not True:
            return _count(done, "that diverged or failed")
        if row.get("content") not in (None, "", content_of(batch, k)):
            return _count(done, "whose item has another content now")
        try:
            image, source = self._read(row)
        except OSError:
            return _count(done, "without a picture")
        done.source = " and ".join(sorted({*filter(None, done.source.split(" and ")), source}))
        return image

    def _read(self, row: Mapping[str, object]) -> tuple[Tensor, str]:
        picture = image_path(self.store.folder, str(row["item"]), row["sample"], "image")  # type: ignore[arg-type]
        exact = picture.with_suffix(".npy")
        return (load_exact(exact), EXACT) if exact.is_file() else (load_picture(picture), PNG)


def _count(done: Scored, reason: str, n: int = 1) -> None:
    if n:
        done.left_out[reason] = done.left_out.get(reason, 0) + n


def _batches(images: Iterator[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Stacks of at most `batch_size` images of one shape."""
    waiting: list[Tensor] = []
    for image in images:
        if waiting and (waiting[0].shape != image.shape or len(waiting) == batch_size):
            yield torch.stack(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield torch.stack(waiting)
