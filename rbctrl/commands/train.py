"""`rbctrl train key=value ...`: conf/train.yaml, instantiated and run."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from hydra.utils import instantiate

from rbctrl.commands.run import compose
from rbctrl.config import CONF_DIR


def run(args: list[str]) -> int:
    """Trains a prior and prints the path of its weights; `--help` prints what can be overridden."""
    if "--help" in args or "-h" in args:
        print((CONF_DIR / "train.yaml").read_text(encoding="utf-8"))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    training = instantiate(compose(args, "train"), _convert_="all")
    weights: Path = training.run(command=shlex.join(["rbctrl", "train", *args]))
    print(weights)
    return 0
