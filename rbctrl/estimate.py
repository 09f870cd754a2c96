"""What a cell costs, before it runs: network evaluations, pullbacks and seconds of one image.

Where rows of the same settings are there, of any seed, theirs count. Otherwise the controller runs once, on the first
image, with a `Rehearsal` in place of the prior: this counts evaluations and pullbacks exactly, unless they depend on
what the network says (conjugate gradient with a tolerance), and times all that is not a network. The networks are then
read and timed on a few calls (`rbctrl.timing`),

    seconds = rest + sum over denoiser, decoder and encoder of  calls t_forward + pullbacks (t_both - t_forward)

per image, in batches as large as the run's; a network that the run would compile is timed without that. Embedding
prompts and reference images is not counted. Priors without weights run as they are. Weights beyond `LARGE` are read
onto a GPU only: plans are made on login nodes, too, where the time of a network would be another one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from rbctrl.cell import Cell
from rbctrl.data.base import Batch
from rbctrl.experiment import Experiment
from rbctrl.priors.base import Prior
from rbctrl.rehearsal import Rehearsal, can_rehearse
from rbctrl.results import ResultStore, read_rows
from rbctrl.solution import Solution
from rbctrl.solver import Solver
from rbctrl.timing import Timer

LARGE = 2**30  # bytes of weights


@dataclass(frozen=True)
class Cost:
    """Of one image.

    Attributes:
        nfe: network evaluations; NaN: not known.
        vjp: pullbacks through the network.
        seconds: in a batch of the run's size.
        source: "measured", "estimated" or "unknown".
        decoder_vjp: pullbacks through the decoder of a latent prior; NaN: not known.
        encoder_vjp: and through its encoder.
    """

    nfe: float = math.nan
    vjp: float = math.nan
    seconds: float = math.nan
    source: str = "unknown"
    decoder_vjp: float = math.nan
    encoder_vjp: float = math.nan


class Estimator:
    """Costs of cells; networks are timed once for each prior and image shape."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self._timers: MutableMapping[Prior, dict[object, Timer]] = WeakKeyDictionary()
        self._costs: dict[str, Cost] = {}

    def cost(self, experiment: Experiment, record: Mapping[str, object]) -> Cost:
        """Of one image of a cell."""
        key = experiment.key(record)
        if key not in self._costs:
            rows = (row for folder in self.study.glob(f"{key}-*") for row in read_rows(folder)[0])
            self._costs[key] = _measured(rows) or self._estimated(experiment)
        return self._costs[key]

    def _estimated(self, experiment: Experiment) -> Cost:
        cloud, solver = experiment.controller.population, experiment.solver
        batch = next(iter(experiment.data.batches(cloud, cloud)))
        if not experiment.weights:
            solver.load()
            return _cost(min((solver.solve(batch, experiment.seed) for _ in range(2)), key=lambda s: s.seconds))
        shape = _image_shape(solver, batch)
        if not can_rehearse(solver.prior, shape):
            return Cost()
        stub = Rehearsal(solver.prior, shape)
        rehearsing = replace(solver, prior=stub)
        rehearsing.load()
        first = rehearsing.solve(batch, experiment.seed)
        if not first.evaluations.nfe and not stub.calls:  # a classical method: nothing is read
            return _cost(first)
        if torch.device(solver.device).type == "cpu" and sum(file.size() for file in solver.prior.files()) > LARGE:
            return Cost()
        solver.load()
        timer = self._timer(experiment, batch, shape)
        stub.evaluations = timer.evaluations(solver)
        stub.calls.clear()
        second = rehearsing.solve(batch, experiment.seed)
        rest = min(first.seconds, second.seconds)
        return _cost(second, rest + timer.seconds(solver, second.evaluations, stub))

    def _timer(self, experiment: Experiment, batch: Batch, shape: tuple[int, ...]) -> Timer:
        known, key = self._timers.setdefault(experiment.solver.prior, {}), (shape, experiment.batch_size)
        return known.setdefault(key, Timer(batch, shape, experiment.batch_size))


def check_items(experiment: Experiment) -> None:
    """Refuses what the first image cannot pass; the weights are not read.

    Raises:
        ValueError: the reason of operator or prior.
    """
    batch = next(iter(experiment.data.batches(1, 1)))
    experiment.solver.check_item(batch.item(0), experiment.seed)


def missing_images(experiment: Experiment, folder: Path) -> int:
    """How many samples a run would compute."""
    if not (folder / "journal").is_dir():
        return len(experiment.data) * experiment.n_samples
    return Cell(experiment, ResultStore(folder), {}).missing()


def _image_shape(solver: Solver, batch: Batch) -> tuple[int, ...]:
    return tuple(
        solver.operator.image_shape(tuple(batch.y.shape[1:])) if batch.image is None else batch.image.shape[1:]
    )


def _cost(solution: Solution, seconds: float | None = None) -> Cost:
    e, seconds = solution.evaluations, solution.seconds if seconds is None else seconds
    return Cost(e.nfe, e.vjp, seconds, "estimated", e.decoder_vjp, e.encoder_vjp)


def _measured(rows: Iterable[Mapping[str, object]]) -> Cost | None:
    singles = [row for row in rows if row["sample"] != "mean" and row.get("alive") is not None]
    if not singles:
        return None
    nfe, vjp, seconds, decoder, encoder = (
        sum(math.nan if row.get(name) is None else float(row[name]) for row in singles) / len(singles)  # type: ignore[arg-type]
        for name in ("nfe", "vjp", "seconds_per_image", "decoder_vjp", "encoder_vjp")
    )
    return Cost(nfe, vjp, seconds, "measured", decoder, encoder)
