"""`rbctrl show key=value ...`: the composed and resolved configuration."""

from __future__ import annotations

from rbctrl.commands.run import run_hydra


def run(args: list[str]) -> int:
    """Prints the configuration that these words compose; nothing is instantiated."""
    run_hydra(lambda cfg: None, "config", [*args, "--cfg", "job", "--resolve"])
    return 0
