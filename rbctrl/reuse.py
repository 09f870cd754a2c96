"""An experiment from its configuration; what takes long to make is made once per process.

A process that runs several cells (a sweep in one process, a worker of joblib or Ray, a Slurm job of several cells)
keeps the prior and the data of its latest cell: the next one with the same settings finds its weights loaded and its
images read. One prior is kept, not several, since a GPU may hold no two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import instantiate

from rbctrl.data.remembered import Remembered
from rbctrl.literal import to_instantiate

_KEPT: dict[str, tuple[str, object]] = {}


class Impossible(ValueError):
    """Every part of an experiment is fine, and together they cannot work."""


def build_experiment(config: Mapping[str, object]) -> Any:  # noqa: ANN401
    """The object that a resolved configuration describes, with the prior and data of the latest one where they agree.

    Raises:
        Impossible: the parts cannot work together.
        hydra.errors.InstantiationException: a part cannot be made.
    """
    if not {"data", "prior"} <= set(config):
        return instantiate(to_instantiate(config), _convert_="all")
    rest = {name: node for name, node in config.items() if name not in ("data", "prior")}
    make = instantiate(to_instantiate({**rest, "_convert_": "all", "_partial_": True}))  # as keywords they cost a merge
    data = reused("data", config["data"], lambda data: Remembered(data))
    prior = reused("prior", config["prior"])
    try:
        return make(data=data, prior=prior)
    except ValueError as error:
        raise Impossible(str(error)) from error


def reused(group: str, node: object, finish: Callable[[Any], object] = lambda part: part) -> object:
    """The part that a node of the configuration describes: the latest of this process, if it is of the same node."""
    key = json.dumps(node, sort_keys=True, default=str)
    if _KEPT.get(group, ("", None))[0] != key:
        _KEPT.pop(group, None)  # its memory is free before the next one is made
        _KEPT[group] = key, finish(instantiate(to_instantiate({group: node}), _convert_="all")[group])
    return _KEPT[group][1]
