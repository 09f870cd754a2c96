"""One cell: data, measurement, controller, prior and metrics, from a config to rows and pictures.

The config is one constructor call; `Experiment.run` is the data flow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

from rbctrl.attention import Attention
from rbctrl.cell import Cell, Progress
from rbctrl.claims import claim
from rbctrl.controllers.base import Controller
from rbctrl.costs import Cost, RunningCost
from rbctrl.data.base import Data
from rbctrl.devices import pick_device, pick_dtype
from rbctrl.failures import reason
from rbctrl.keys import cell_key
from rbctrl.metrics import AnyMetric, SampleMetric, SetMetric, of_kind
from rbctrl.noise import Noise
from rbctrl.operators.base import Operator
from rbctrl.priors.base import Prior
from rbctrl.results import ResultStore, RowLogger, versions
from rbctrl.solver import Sampler, Solver
from rbctrl.spread import spread
from rbctrl.study_name import check_study
from rbctrl.work import Wanted

_WEIGHTS: MutableMapping[Prior, str] = WeakKeyDictionary()


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
        attention: what a text-to-image network attends to besides the text; beside the control, an axis of its own.
            It is the prior that takes it (`prior.attention`); the two have to agree.
        running_cost: what a path costs on its way, for controllers that plan it and for its price; None: nothing.
        logger: besides rows.csv.
        study: names the results.
        seed: of all noise, masks and kernels.
        n_samples: posterior samples per image.
        batch_size: rows at a time; changes no result.
        keep: "samples" writes a row and a picture of every sample; "means" only those of each image's mean, for
            thousands of samples.
        images: "png" saves 8-bit pictures; "exact" also every image as it was computed, a .npy beside its picture.
        strength: makes the controller pull so many times as hard as it is configured to
            (`Controller.with_strength`); None: as configured.
        devices: processes, one per device, that share the batches of the cell (`rbctrl.spread`).
        device: auto, cpu, cuda, cuda:1 ...
        dtype: of states, float32 or float64.
        tuned: where the settings come from (`rbctrl tune`); changes no result.

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
    attention: Attention | None = None
    running_cost: RunningCost | None = None
    logger: Sequence[RowLogger] | Mapping[str, RowLogger] = ()
    study: str = "default"
    seed: int = 0
    n_samples: int = 1
    batch_size: int = 8
    keep: Literal["samples", "means"] = "samples"
    images: Literal["png", "exact"] = "png"
    strength: float | None = None
    devices: int = 1
    device: str = "auto"
    dtype: str = "float32"
    tuned: Mapping[str, object] | None = None
    problems: list[str] = field(init=False, default_factory=list)
    solver: Solver = field(init=False)

    def __post_init__(self) -> None:
        check_study(str(self.study))
        if not self.metrics:
            raise ValueError("an experiment needs at least one metric: metrics=restoration")
        named = self.metrics if isinstance(self.metrics, Mapping) else {}  # `Solver.check` refuses anything else
        sets = [name for name, metric in named.items() if isinstance(metric, SetMetric)]
        if sets:
            names = ", ".join(sets)
            raise ValueError(f"{names} looks at all images of a finished cell: `rbctrl score study=NAME metrics=...`")
        for name, options in (("keep", ("samples", "means")), ("images", ("png", "exact"))):
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is {' or '.join(map(repr, options))}, got {getattr(self, name)!r}")
        for name in ("n_samples", "batch_size", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        self._check_attention()
        if self.strength is not None:
            object.__setattr__(self, "controller", self.controller.with_strength(self.strength))
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

    def _check_attention(self) -> None:
        wanted = self.attention
        if wanted is not None and wanted.active and getattr(self.prior, "attention", None) != wanted:
            raise ValueError(
                f"{type(wanted).__name__} has nothing to act on: {type(self.prior).__name__} attends to no "
                "images; use prior=cascade, sdxl, sd15 or shapes, or attention=none"
            )

    @property
    def wanted(self) -> Wanted:
        """The rows that a run wants of its cell."""
        means = self.n_samples > 1 or self.keep == "means" or bool(of_kind(self.metrics, SampleMetric))
        return Wanted(self.n_samples, self.seed, self.keep == "samples", means, self.images == "exact")

    @property
    def weights(self) -> str:
        """The hash of the weights of prior and operator; that of the prior is made once as long as it lives."""
        if self.prior not in _WEIGHTS:
            _WEIGHTS[self.prior] = self.prior.fingerprint()
        return "+".join(found for found in (_WEIGHTS[self.prior], self.operator.fingerprint()) if found)

    def key(self, record: Mapping[str, object]) -> str:
        """The key of the cell (`cell_key`); where the configuration is not known, a name that nothing else has."""
        return cell_key(record, self.weights) if record.get("config") else f"{time.time_ns():x}"

    def folder(self, study: Path, record: Mapping[str, object]) -> Path:
        """The folder of the cell in the folder of a study."""
        return Path(study) / f"{self.key(record)}-{self.seed}"

    def run(
        self,
        study: Path,
        record: Mapping[str, object],
        progress: Callable[[int], Progress] | None = None,
        *,
        wait: bool = True,
    ) -> float:
        """Computes the rows that are not there yet; returns the mean of the first metric over the images.

        Args:
            study: folder of the study; the cell has a folder of its own in it (`rbctrl.results`).
            record: {"choices", "overrides", "config"}: how this cell was composed. Without a config nobody can know
                what the rows were computed from: then the cell gets a new folder.
            progress: makes a bar of so many rows; None shows nothing.
            wait: for another process that computes this cell.

        Raises:
            rbctrl.claims.Claimed: another process computes this cell, and `wait` is False.
            OSError: the disk is full. What is finished is kept.
        """
        self.problems.clear()
        folder = self.folder(study, record)
        with claim(folder, wait):
            try:
                if self.devices > 1 and Cell(self, ResultStore(folder), record).missing():
                    spread(study, record, self.devices, self.solver.device)
                    ResultStore(folder).close()
                store = ResultStore(folder, self.logger)
                return Cell(self, store, record, progress).run()
            except Exception as error:
                with suppress(OSError):
                    ResultStore(folder).note(failed=reason(error))
                raise

    def run_share(self, study: Path, record: Mapping[str, object], share: tuple[int, int]) -> None:
        """Computes every n-th batch from the k-th, share = (k, n), for a run that holds the cell (`rbctrl.spread`)."""
        Cell(self, ResultStore(self.folder(study, record)), record, share=share).run()


def note_impossible(study: Path, record: Mapping[str, object], why: str) -> None:
    """Leaves a cell that cannot work in the folder of a study, with the reason."""
    config: Mapping = record["config"]  # type: ignore[assignment]
    key = cell_key(record, "")
    store = ResultStore(Path(study) / f"{key}-{config.get('seed', 0)}")
    store.save_config({**record, "cell": key, "weights": ""}, versions())
    store.note(failed=why)
