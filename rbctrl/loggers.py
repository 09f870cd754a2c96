"""Where rows go besides rows.csv."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor


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
    """Rows to Weights & Biases, one step per row; undefined and infinite values are left out.

    Args:
        project: name of the project there.
        mode: "offline" writes to the folder of the run, for a later `wandb sync`.
        name: of the run; None: W&B invents one.
        group: of runs that belong together; None: no group.

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

        self._run = wandb.init(
            project=self.project,
            mode=self.mode,
            name=self.name,
            group=self.group,
            dir=str(folder),
            config=dict(config),
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


def plain(value: object) -> object:
    """A scalar of torch or numpy as a Python number; anything else as it is."""
    return value.item() if isinstance(value, Tensor | np.generic) else value


def _can_be_logged(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
