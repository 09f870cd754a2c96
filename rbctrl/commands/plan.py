"""`rbctrl plan [-m] key=value ... [--offline]`: what a run or sweep would compute, and what of it cannot work.

The words are those of the run. Every cell is composed and built, without its weights; the study tells what is there
already, and `rbctrl.estimate` what the rest costs. With --offline the files that the cells read are listed instead, and
whether they are here: for nodes without a network.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from rbctrl.commands import requests
from rbctrl.commands.errors import explain
from rbctrl.commands.latest import OUTPUTS
from rbctrl.commands.run import record_of, run_hydra
from rbctrl.commands.status import duration
from rbctrl.estimate import Cost, Estimator, check_items, missing_images
from rbctrl.experiment import Experiment
from rbctrl.reuse import build_experiment


@dataclass(frozen=True)
class Planned:
    """A cell that would run.

    Attributes:
        words: of the command line.
        images: samples that it is asked for.
        missing: those that are not there.
        cost: of one of them.
        why: why it cannot work; blank if it can.
    """

    words: tuple[str, ...]
    images: int = 0
    missing: int = 0
    cost: Cost = field(default_factory=Cost)
    why: str = ""


def run(args: list[str]) -> int:
    """Prints the plan.

    Returns:
        The exit status: 1 if a cell cannot work, or a file is missing.
    """
    offline, words = "--offline" in args, [word for word in args if word != "--offline"]
    cells: list[Planned] = []
    configs: list[DictConfig] = []
    estimators: dict[Path, Estimator] = {}

    def look(cfg: DictConfig) -> float:
        if offline:
            configs.append(cfg)
        else:
            cells.append(_planned(record_of(cfg), estimators))
        return 0.0

    requests.planning = True
    try:
        with tempfile.TemporaryDirectory() as scratch:  # what Hydra writes
            places = [f"hydra.sweep.dir={scratch}", f"hydra.run.dir={scratch}"]
            run_hydra(look, "config", [*words, *places, "hydra/launcher=basic"])
    finally:
        requests.planning = False
    return _print_files(configs) if offline else _print_cells(cells)


def _planned(record: dict, estimators: dict[Path, Estimator]) -> Planned:
    words = tuple(word for word in record["overrides"] if not word.startswith("hydra"))
    study = OUTPUTS / str(record["config"].get("study", "default"))
    try:
        experiment = build_experiment(record["config"])
        if not isinstance(experiment, Experiment):
            return Planned(words)
        check_items(experiment)
        folder = experiment.folder(study, record)
        missing = missing_images(experiment, folder)
        cost = estimators.setdefault(study, Estimator(study)).cost(experiment, record) if missing else Cost(0, 0, 0.0)
    except Exception as error:
        why = explain(error)
        if why is None:
            raise
        return Planned(words, why=why)
    return Planned(words, len(experiment.data) * experiment.n_samples, missing, cost)


def _print_cells(cells: list[Planned]) -> int:
    common = set.intersection(*(set(cell.words) for cell in cells)) if len(cells) > 1 else set()
    for cell in cells:
        name = " ".join(word for word in cell.words if word not in common) or "this run"
        print(f"{name}: {_text(cell)}")
    impossible = [cell for cell in cells if cell.why]
    missing = sum(cell.missing for cell in cells)
    todo = [(cell.missing, cell.cost) for cell in cells if cell.missing]
    costs = [(n * c.nfe, n * c.vjp, n * c.seconds, n * c.decoder_vjp, n * c.encoder_vjp) for n, c in todo]
    nfe, vjp, seconds, decoder, encoder = (sum(column) for column in zip([0] * 5, *costs))
    print(
        f"{len(cells)} cells, {len(impossible)} cannot work; {_images(missing)} to compute: "
        f"{_number(nfe)} evaluations, {_number(vjp)} pullbacks{_besides(decoder, encoder)}, "
        f"{duration(seconds)} in one process"
    )
    return int(bool(impossible))


def _text(cell: Planned) -> str:
    if cell.why:
        return f"cannot work: {cell.why.removeprefix('this combination cannot work: ')}"
    if not cell.missing:
        return f"{_images(cell.images)}, all there"
    cost = cell.cost
    there = f"{cell.missing} of {cell.images} images missing" if cell.missing < cell.images else _images(cell.images)
    each = f"{_number(cost.nfe)} evaluations and {_number(cost.vjp)} pullbacks each"
    each += _besides(cost.decoder_vjp, cost.encoder_vjp)
    return f"{there}, {each}, {duration(cell.missing * cost.seconds)} ({cost.source})"


def _besides(decoder: float, encoder: float) -> str:
    """Pullbacks through the codec of a latent prior, where there are any."""
    parts = {"decoder": decoder, "encoder": encoder}
    spoken = [f"{_number(count)} through the {part}" for part, count in parts.items() if count > 0]
    return f" besides {' and '.join(spoken)}" if spoken else ""


def _images(count: int) -> str:
    return f"{count} image{'s' * (count != 1)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "?"


def _print_files(configs: list[DictConfig]) -> int:
    from rbctrl.required import required_files

    found = {(r.node, r.place): r for cfg in configs for r in required_files(cfg)}
    for file in found.values():
        print(f"{'here' if file.present else 'MISSING':<8} {file.node:<10} {file.place}  {file.hint}".rstrip())
    missing = sum(not file.present for file in found.values())
    print(f"{len(found)} files beside those of the package, {missing} missing")
    return int(bool(missing))
