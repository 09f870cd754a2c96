"""What a cell costs, before it runs: network evaluations, pullbacks and seconds of one image.

Where rows of the same settings are there, of any seed, theirs count. Otherwise the controller runs once, on the first
image, with an exact denoiser of white noise in place of the network: this counts evaluations and pullbacks exactly,
unless they depend on what the network says (conjugate gradient with a tolerance), and times all that is not the
network. The network is timed on a few calls,

    seconds = rest + nfe t_forward + vjp (t_forward_and_backward - t_forward)

per image, in batches as large as the run's; a network that the run would compile is timed without that. Priors without
weights run as they are. The cost of a decoder is not known beforehand: for latent priors there is no estimate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from rbctrl.cell import Cell
from rbctrl.codecs import Identity
from rbctrl.data.base import Batch
from rbctrl.experiment import Experiment
from rbctrl.priors.base import Prior
from rbctrl.priors.compiled import uncompiled
from rbctrl.priors.network import NetworkPrior
from rbctrl.results import ResultStore, read_rows
from rbctrl.schedules import VE
from rbctrl.testing.worlds import UnitGaussian


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
        self._timed: MutableMapping[Prior, dict[tuple[tuple[int, ...], int], tuple[float, float]]] = WeakKeyDictionary()
        self._costs: dict[str, Cost] = {}

    def cost(self, experiment: Experiment, record: Mapping[str, object]) -> Cost:
        """Of one image of a cell."""
        key = experiment.key(record)
        if key not in self._costs:
            rows = (row for folder in self.study.glob(f"{key}-*") for row in read_rows(folder)[0])
            self._costs[key] = _measured(rows) or self._estimated(experiment)
        return self._costs[key]

    def _estimated(self, experiment: Experiment) -> Cost:
        solver, cloud = experiment.solver, experiment.controller.population
        batch = next(iter(experiment.data.batches(cloud, cloud)))
        prior, stub = solver.prior, solver.prior
        if experiment.weights:
            if not isinstance(prior, NetworkPrior) or not isinstance(prior.codec, Identity):
                return Cost()
            stub = white(prior)
        solver = replace(solver, prior=stub)
        solver.load()
        solution = min((solver.solve(batch, experiment.seed) for _ in range(2)), key=lambda s: s.seconds)
        e, seconds = solution.evaluations, solution.seconds
        if stub is not prior:
            forward, both = self._time(experiment, batch)
            seconds += e.nfe * forward + e.vjp * max(both - forward, 0.0)
        return Cost(e.nfe, e.vjp, seconds, "estimated", e.decoder_vjp, e.encoder_vjp)

    def _time(self, experiment: Experiment, batch: Batch) -> tuple[float, float]:
        """Seconds of an evaluation, and of one with its pullback, per image."""
        solver, size = experiment.solver, experiment.batch_size
        shape = solver.prior.state_shape(
            tuple(
                solver.operator.image_shape(tuple(batch.y.shape[1:])) if batch.image is None else batch.image.shape[1:]
            )
        )
        key, timed = (tuple(shape), size), self._timed.setdefault(solver.prior, {})
        if key not in timed:
            solver.load()
            x = torch.linspace(-1, 1, math.prod(shape), device=solver.device, dtype=solver.dtype)
            x = x.view(1, *shape).repeat(size, *[1] * len(shape))
            with uncompiled(solver.prior):
                timed[key] = tuple(_fastest(solver.prior, x, g) / size for g in (False, True))  # type: ignore[assignment]
        return timed[key]


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


def white(prior: Prior) -> NetworkPrior:
    """The exact denoiser of N(0, I) on the schedule of another prior."""
    return NetworkPrior(
        UnitGaussian(),
        parameterization="x0",
        time_input="sigma",
        network_schedule=VE(),
        value_range=(-1.0, 1.0),
        schedule=prior.schedule,
    )


def _measured(rows: Iterable[Mapping[str, object]]) -> Cost | None:
    singles = [row for row in rows if row["sample"] != "mean" and row.get("alive") is not None]
    if not singles:
        return None
    nfe, vjp, seconds, decoder, encoder = (
        sum(math.nan if row.get(name) is None else float(row[name]) for row in singles) / len(singles)  # type: ignore[arg-type]
        for name in ("nfe", "vjp", "seconds_per_image", "decoder_vjp", "encoder_vjp")
    )
    return Cost(nfe, vjp, seconds, "measured", decoder, encoder)


def _fastest(prior: Prior, x: torch.Tensor, backward: bool) -> float:
    return min(_seconds(prior, x, backward) for _ in range(3))


def _seconds(prior: Prior, x: torch.Tensor, backward: bool) -> float:
    t = torch.tensor(0.5, dtype=torch.float64)
    begin = time.perf_counter()
    with torch.set_grad_enabled(backward):
        x = x.clone().requires_grad_(backward)
        x0_hat = prior.predict(x, t).x0_hat
        if backward:
            torch.autograd.grad(x0_hat.sum(), x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - begin
