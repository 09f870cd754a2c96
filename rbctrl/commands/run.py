"""Runs of Hydra: one cell, or a sweep whose failing cells do not stop the others."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from rbctrl.claims import Claimed
from rbctrl.commands.errors import sentence
from rbctrl.commands.groups import nearest
from rbctrl.commands.latest import point_to
from rbctrl.commands.report import summarize
from rbctrl.commands.requests import withdraw
from rbctrl.commands.words import left_to_cells, parsed
from rbctrl.config import CONF_DIR
from rbctrl.experiment import Experiment, note_impossible
from rbctrl.memory import keep_freed_memory
from rbctrl.reuse import Impossible, build_experiment
from rbctrl.study_name import check_study

FLAGS = (
    "--help --hydra-help --version --cfg --resolve --package --run --multirun --shell-completion --config-path "
    "--config-name --config-dir --experimental-rerun --info -h -c -p -r -m -sc -cp -cn -cd -i"
).split()

_failures: list[str] | None = None  # of this command; None in a process that a launcher started
_claimed: set[int] = set()  # numbers of the cells that other processes were computing
WAIT_FOR = "RBCTRL_WAIT_FOR"  # these numbers, in the environment of the cells of a second pass, which waits for them


@dataclass(frozen=True)
class Outcome:
    """What a cell of a launcher's process reports to the process that sets the exit status.

    Attributes:
        value: the mean of the cell's first metric.
        problems: one sentence each, with the name of the cell.
        claimed: number of the cell, if somebody else was computing it.
    """

    value: float
    problems: tuple[str, ...] = ()
    claimed: int | None = None


class Stopped(KeyboardInterrupt):
    """A signal asked this process to leave."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def run(args: list[str]) -> int:
    """Runs one cell or a sweep, or whatever else Hydra's flags ask for.

    Cells that another process is computing are left to it, so the same command can run on many machines; in the end
    this one waits for them.

    Returns:
        The exit status: 1 if a cell failed, an input was skipped or a row diverged.
    """
    global _failures
    _failures = []
    try:
        with _leaving():
            run_hydra(run_cell, "config", args)
            if _claimed:
                numbers = ",".join(map(str, sorted(_claimed)))
                run_hydra(run_cell, "config", [*args, f"+hydra.job.env_set.{WAIT_FOR}='{numbers}'"])
        return 1 if _failures else 0
    except HydraException:
        withdraw()
        raise
    finally:
        _failures = None
        _claimed.clear()


def run_cell(cfg: DictConfig) -> float | Outcome:
    """One cell: what a sweeper sees of it is the mean of its first metric, NaN if it failed.

    In a process of a launcher our own sweeper (`hydra/sweeper=quick`) gets an `Outcome`, for `take_in`. Any other gets
    the exception of a cell that failed; of rows that diverged it does not hear.
    """
    keep_freed_memory()  # here, since a launcher may have started this process
    job = HydraConfig.get().job
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    awaited = os.environ.get(WAIT_FOR)
    if awaited is not None and str(job.num) not in awaited.split(","):
        return float("nan")
    name = f"cell {job.num} ({job.override_dirname}): " if sweep else ""
    reports = _failures is None and HydraConfig.get().sweeper._target_.endswith("QuickSweeper")
    try:
        value, problems, folder = _compute(cfg, sweep, wait=not sweep or awaited is not None)
    except Claimed as claimed:
        print(f"{name}{claimed}", flush=True)
        outcome = Outcome(float("nan"), claimed=job.num)
    except Exception as error:
        if _failures is None and not reports:
            raise
        outcome = Outcome(float("nan"), (name + sentence(error),))
    else:
        outcome = Outcome(value, tuple(name + problem for problem in problems))
        if sweep:
            print(f"{name}{value:.4g}  {folder}", flush=True)
        elif (folder / "journal").is_dir():  # an experiment of one's own may write something else
            summarize([folder])
    if reports:
        return outcome
    take_in([outcome])
    return outcome.value


def take_in(values: Iterable[object]) -> None:
    """Says what went wrong in cells and lets it decide the exit status; values that are no `Outcome` are left alone."""
    for outcome in (value for value in values if isinstance(value, Outcome)):
        if outcome.claimed is not None:
            _claimed.add(outcome.claimed)
        for problem in outcome.problems:
            print(f"rbctrl: {problem}", file=sys.stderr)
            if _failures is not None:
                _failures.append(problem)


def _compute(cfg: DictConfig, sweep: bool, wait: bool) -> tuple[float, list[str], Path]:
    study = Path(HydraConfig.get().runtime.output_dir)
    record = record_of(cfg)
    try:
        experiment = build_experiment(record["config"])
    except Impossible as error:
        if sweep:
            note_impossible(study, record, str(error))
        raise
    folder = experiment.folder(study, record) if isinstance(experiment, Experiment) else study
    point_to(study if sweep else folder)
    value = experiment.run(study, record, progress=_bar, wait=wait)
    return float(value), list(experiment.problems), folder


def record_of(cfg: DictConfig) -> dict:
    """How a cell was composed: the choices of groups, the words of the command line, the resolved configuration."""
    hydra_cfg = HydraConfig.get()
    choices = {str(k): v for k, v in hydra_cfg.runtime.choices.items() if v is not None}
    return {
        "choices": {k: choices[k] for k in sorted(choices) if not k.startswith("hydra/")},
        "overrides": OmegaConf.to_container(hydra_cfg.overrides.task),  # as typed: ${...} of a word is not resolved
        "config": OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True),
    }


@contextmanager
def _leaving() -> Iterator[None]:
    """SIGTERM and SIGUSR1, which clusters send before they kill, end the command; finished batches are on the disk."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {number: signal.signal(number, _leave) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: object) -> None:
    raise Stopped(number)


def _bar(total: int) -> tqdm:
    return tqdm(total=total, unit="image", leave=False, disable=None)  # None: on a terminal only


def run_hydra(task: Callable[[DictConfig], object], config_name: str, args: Sequence[str]) -> None:
    """Hands the words of the command line to `hydra.main`, and lets its exceptions through.

    Raises:
        ValueError: an unknown flag.
    """
    for word in args:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag not in FLAGS:
            raise ValueError(f"there is no flag {flag!r}{nearest(flag, FLAGS)}; rbctrl --help shows what there is")
    _check_study(args)
    app = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(task)
    with _command_line(left_to_cells(args)):
        app()


def _check_study(args: Sequence[str]) -> None:
    """Refuses a wrong name before Hydra makes its folder; one that is swept, or of a preset, when its cell is made."""
    words = [override for word in args if (override := parsed(word)) is not None and override.key_or_group == "study"]
    for override in words:
        if not override.is_sweep_override() and not override.is_delete():
            value = override.value()
            check_study(value if value is None else str(value))


def compose(overrides: Sequence[str], config_name: str = "config") -> DictConfig:
    """The composed configuration, without Hydra's own node, for use outside a run."""
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3"):
        return hydra_compose(config_name, list(overrides))


@contextmanager
def _command_line(args: Sequence[str]) -> Iterator[None]:
    """`hydra.main` reads sys.argv, and exits with its own message unless HYDRA_FULL_ERROR is set."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["rbctrl", *args]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
