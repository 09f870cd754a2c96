"""Runs of Hydra: one cell, or a sweep whose failing cells do not stop the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from rbctrl.commands.errors import report_error
from rbctrl.commands.groups import nearest
from rbctrl.commands.latest import point_to
from rbctrl.commands.report import summarize
from rbctrl.config import CONF_DIR
from rbctrl.memory import keep_freed_memory

FLAGS = (
    "--help --hydra-help --version --cfg --resolve --package --run --multirun --shell-completion --config-path "
    "--config-name --config-dir --experimental-rerun --info -h -c -p -r -m -sc -cp -cn -cd -i"
).split()

_failures: list[str] | None = None  # of this command; None in a process that a launcher started


def run(args: list[str]) -> int:
    """Runs one cell or a sweep, or whatever else Hydra's flags ask for.

    Returns:
        The exit status: 1 if a cell failed, an input was skipped or a row diverged.
    """
    global _failures
    _failures = []
    try:
        run_hydra(run_cell, "config", args)
        return 1 if _failures else 0
    finally:
        _failures = None


def run_cell(cfg: DictConfig) -> float:
    """One cell: what a sweeper sees of it is the mean of its first metric, NaN if it failed."""
    keep_freed_memory()  # here, since a launcher may have started this process
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    name = f"cell {HydraConfig.get().job.num} ({HydraConfig.get().job.override_dirname}): " if sweep else ""
    try:
        value, problems = _compute(cfg)
    except Exception as error:
        if _failures is None:  # only the exception finds its way back to the process that sets the exit status
            raise
        _failures.append(report_error(error, name))
        return float("nan")
    for problem in problems:
        print(f"rbctrl: {name}{problem}", file=sys.stderr)
    if _failures is not None:
        _failures.extend(problems)
    out_dir = Path(HydraConfig.get().runtime.output_dir)
    if sweep:
        print(f"{name}{value:.4g}  {out_dir}", flush=True)
    elif (out_dir / "rows.csv").is_file():  # an experiment of one's own may write something else
        summarize([out_dir])
    return value


def _compute(cfg: DictConfig) -> tuple[float, list[str]]:
    hydra_cfg = HydraConfig.get()
    choices = {str(k): v for k, v in hydra_cfg.runtime.choices.items() if v is not None}
    record = {
        "choices": {k: choices[k] for k in sorted(choices) if not k.startswith("hydra/")},
        "overrides": list(hydra_cfg.overrides.task),
        "config": OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True),
    }
    experiment = instantiate(cfg, _convert_="all")
    sweep = hydra_cfg.mode == RunMode.MULTIRUN
    point_to(Path(hydra_cfg.runtime.cwd, hydra_cfg.sweep.dir if sweep else hydra_cfg.runtime.output_dir))
    value = experiment.run(Path(hydra_cfg.runtime.output_dir), record, progress=_bar)
    return float(value), list(experiment.problems)


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
    app = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(task)
    with _command_line(args):
        app()


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
