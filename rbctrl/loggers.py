"""Where rows go besides rows.csv."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from rbctrl.literal import literal


class RowLogger(ABC):
    """Receives every row of a run."""

    def start(self, folder: Path, config: Mapping) -> None:
        """Called once, with the folder of the run and its config, before any row."""
        return None

    @abstractmethod
    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Receives the rows of a batch as they were given to the store."""

    def close(self) -> None:
        """Called once, after the last row."""
        return None


class WandB(RowLogger):
    """Rows to Weights & Biases: one run per cell, one step per row; undefined and infinite values are left out.

    A cell that is run again in the same group continues its run there.

    Args:
        project: name of the project there.
        mode: "offline" writes to the folder of the cell, for a later `wandb sync`.
        name: of the run; None: the operator and the controller of the cell.
        group: of runs that belong together, in `conf/logger/wandb.yaml` the study; None: no group.

    Raises:
        ValueError: the mode is unknown.
        ImportError: the package wandb is not installed.
    """

    def __init__(
        self,
        project: str,
        mode: Literal["online", "offline"] = "online",
        name: str | None = None,
        group: str | None = None,
    ) -> None:
        if mode not in ("online", "offline"):
            raise ValueError(f"logger.wandb.mode={mode!r} is unknown: use online or offline")
        if find_spec("wandb") is None:
            raise ImportError('logger=wandb needs wandb: run `pip install "rbctrl[wandb]"`, or use logger=csv')
        self.project, self.mode, self.name, self.group = project, mode, name, group
        self._run = None

    def start(self, folder: Path, config: Mapping) -> None:
        """Starts the W&B run, with the config."""
        import wandb

        identity = _identity(self.group, config)
        self._run = wandb.init(
            project=self.project,
            mode=self.mode,
            name=self.name or _cell_name(config),
            group=self.group,
            dir=str(folder),
            config=dict(config),
            id=identity,
            resume=None if identity is None or self.mode == "offline" else "allow",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Logs each row as a step.

        Raises:
            RuntimeError: `start` was not called.
        """
        if self._run is None:
            raise RuntimeError("the W&B run is not started: call ResultStore.save_config before write")
        for row in rows:
            values = {name: plain(value) for name, value in row.items()}
            self._run.log({name: value for name, value in values.items() if _can_be_logged(value)})

    def close(self) -> None:
        """Finishes the W&B run."""
        if self._run is not None:
            self._run.finish()
            self._run = None


class TensorBoard(RowLogger):
    """Rows to TensorBoard, by Lightning's logger, in the folder `tensorboard` of the cell: one step per row.

    `tensorboard --logdir outputs/STUDY` shows the cells of a study beside each other. Undefined and infinite values are
    left out, and so is text but for the config.

    Raises:
        ImportError: the package tensorboard is not installed.
    """

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise ImportError(
                'logger=tensorboard needs tensorboard: run `pip install "rbctrl[tensorboard]"`, or use logger=csv'
            )
        self._logger = None
        self._step = 0

    def start(self, folder: Path, config: Mapping) -> None:
        """Opens the event file and writes the config as text."""
        from lightning.fabric.loggers import TensorBoardLogger
        from omegaconf import OmegaConf

        self._logger, self._step = TensorBoardLogger(folder, name="tensorboard", version=""), 0
        text = OmegaConf.to_yaml(OmegaConf.create(literal(config)))
        self._logger.experiment.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Logs the numbers of each row as a step.

        Raises:
            RuntimeError: `start` was not called.
        """
        if self._logger is None:
            raise RuntimeError("the event file is not open: call ResultStore.save_config before write")
        for row in rows:
            values = {name: plain(value) for name, value in row.items() if name not in ("sample", "seed")}
            numbers = {name: float(v) for name, v in values.items() if isinstance(v, int | float) and _can_be_logged(v)}
            self._logger.log_metrics(numbers, self._step)
            self._step += 1

    def close(self) -> None:
        """Brings the event file to the disk."""
        if self._logger is not None:
            self._logger.finalize("success")
            self._logger = None


def _cell_name(config: Mapping) -> str | None:
    choices = config.get("choices") or {}
    return " ".join(str(choices[group]) for group in ("operator", "controller") if choices.get(group)) or None


def _identity(group: str | None, config: Mapping) -> str | None:
    """The same for the same cell in the same group; None where the cell is not known."""
    if not config.get("cell"):
        return None
    name = repr((group, config["cell"], (config.get("config") or {}).get("seed")))
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def plain(value: object) -> object:
    """A scalar of torch or numpy as a Python number; anything else as it is."""
    return value.item() if isinstance(value, Tensor | np.generic) else value


def _can_be_logged(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
