"""What a sweep asks for, written down before its first cell: `rbctrl status` knows the cells that nobody began."""

from __future__ import annotations

from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rbctrl.journal import Journal, read

FOLDER = "requests"
_written: list[Path] = []  # by this command
planning = False  # `rbctrl plan` composes a sweep and asks for nothing


class Requests(Callback):
    """Hydra's callback: the jobs of a sweep go to requests/ in the folder of the study."""

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Writes the words of each job, unless a sweep with the same jobs did."""
        if planning or not config.hydra.sweeper._target_.endswith(("BasicSweeper", "QuickSweeper")):
            return  # another sweeper decides as it goes
        jobs, folder = job_words(config), Path(config.hydra.sweep.dir) / FOLDER
        if jobs not in [record.get("jobs") for record in read(folder)[0]]:
            before = set(folder.glob("*"))
            Journal(folder).append({"jobs": jobs}, sync=False)
            _written.extend(set(folder.glob("*")) - before)


def job_words(config: DictConfig) -> list[list[str]]:
    """The words of each job of a sweep, as its record will have them."""
    params = config.hydra.sweeper.get("params") or {}
    words = [f"{name}={value}" for name, value in params.items()] + OmegaConf.to_container(config.hydra.overrides.task)
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)
    return [[word for word in job if not word.lstrip("+~").startswith(("hydra.", "hydra/"))] for job in jobs]


def requested(study: Path) -> list[list[str]]:
    """The jobs that sweeps asked of a study, each once."""
    jobs = [job for record in read(study / FOLDER)[0] for job in record.get("jobs", [])]  # type: ignore[attr-defined]
    return [list(job) for job in dict.fromkeys(map(tuple, jobs))]


def withdraw() -> None:
    """Takes back what this command wrote: its sweep cannot be composed."""
    while _written:
        _written.pop().unlink(missing_ok=True)
