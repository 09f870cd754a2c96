"""The command `rbctrl`.

    rbctrl key=value ...        one cell           (rbctrl.commands.run, by Hydra)
    rbctrl -m key=a,b ...       a sweep
    rbctrl VERB ...             a first word without `=` and without a leading -, + or ~

Neither torch nor Hydra is imported before it is needed: `rbctrl --help` answers at once. Every error that a user can
cause ends in one sentence on stderr and exit status 1; RBCTRL_TRACEBACK=1 adds the traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from rbctrl.commands.groups import nearest
from rbctrl.commands.help import VERBS, help_text
from rbctrl.config import CONF_DIR

if TYPE_CHECKING:
    from rbctrl.experiment import Experiment

__all__ = ["CONF_DIR", "load_experiment", "main"]

_MODULES = {"list": "listing"}  # verbs whose module has another name


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a console script does not; last, so that no file of yours hides a library
    try:
        return _dispatch(args)
    except KeyboardInterrupt as interrupt:
        print(f"rbctrl: {str(interrupt) or 'interrupted'}; what is finished is kept", file=sys.stderr)
        return getattr(interrupt, "status", 130)
    except BrokenPipeError:  # `rbctrl list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from rbctrl.commands.errors import report_error

        report_error(error)
        return 1


def load_experiment(*overrides: str) -> Experiment:
    """The experiment that `rbctrl OVERRIDES` would run, for notebooks.

    Args:
        overrides: words of the command line, such as "controller=dps".

    Raises:
        hydra.errors.HydraException: a group, option, key or argument that does not exist.
        ValueError: a value is of another kind than its argument.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from rbctrl.commands.run import compose
    from rbctrl.literal import to_instantiate

    cfg = OmegaConf.to_container(compose(overrides), resolve=True)
    return instantiate(to_instantiate(cfg), _convert_="all")


def _dispatch(args: list[str]) -> int:
    first = args[0] if args else ""
    if first and first[0] not in "-+~" and "=" not in first:
        return _verb(first, args[1:])
    if "--version" in args:
        print(f"rbctrl {version('rbctrl')}")
        return 0
    if "--help" in args or "-h" in args:
        print(help_text())
        return 0
    from rbctrl.commands.run import run

    return run(args)


def _verb(verb: str, args: list[str]) -> int:
    if verb not in VERBS:
        known = ", ".join(VERBS)
        print(
            f"rbctrl: {verb!r} is no verb{nearest(verb, VERBS)}; the verbs are {known}; a setting is key=value",
            file=sys.stderr,
        )
        return 1
    return import_module(f"rbctrl.commands.{_MODULES.get(verb, verb)}").run(args)
