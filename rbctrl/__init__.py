"""rbctrl: inverse problems as optimal control of one reverse diffusion process.

    y = rbctrl.load("me.png")
    result = rbctrl.restore(y, operator=rbctrl.operators.BoxMask(size=64), n_samples=4)

Submodules and names are imported when they are first used, so that `rbctrl --help` stays fast.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rbctrl.api import Restored, load, restore
    from rbctrl.cli import load_experiment
    from rbctrl.observation import observe
    from rbctrl.report.runs import load_rows as load_study

_HOMES = {
    "Restored": "rbctrl.api",
    "load": "rbctrl.api",
    "load_experiment": "rbctrl.cli",
    "load_study": "rbctrl.report.runs:load_rows",
    "observe": "rbctrl.observation",
    "restore": "rbctrl.api",
}
_SUBMODULES = ("controllers", "costs", "data", "metrics", "operators", "priors", "testing")

__all__ = ["Restored", "load", "load_experiment", "load_study", "observe", "restore"]

try:
    __version__ = version("rbctrl")
except PackageNotFoundError:  # a bare checkout
    __version__ = "0+unknown"


def __getattr__(name: str) -> object:
    if name in _HOMES:
        module, _, attribute = _HOMES[name].partition(":")
        return getattr(import_module(module), attribute or name)
    if name in _SUBMODULES:
        return import_module(f"rbctrl.{name}")
    raise AttributeError(f"module 'rbctrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_SUBMODULES])
