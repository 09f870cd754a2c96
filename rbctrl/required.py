"""Which files a configuration needs, and whether they are here: asked of its parts before anything is read.

A part that reads files offers `files() -> tuple[RequiredFile, ...]`, as priors and codecs do. One that already misses a
file when it is built has its say, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rbctrl.checkpoints import RequiredFile
from rbctrl.literal import to_instantiate

PARTS = ("data", "operator", "cost", "running_cost", "controller", "metrics", "prior")


@dataclass(frozen=True)
class Requirement:
    """A file of a configuration.

    Attributes:
        node: the part that reads it, such as "prior".
        place: a path, or a repository of the hub.
        present: whether it is here.
        hint: where it is published, and which setting says where it is; the sentence of the error where a part could
            not be built without it.
    """

    node: str
    place: str
    present: bool
    hint: str


def required_files(cfg: DictConfig) -> list[Requirement]:
    """Every file that the parts of a composed configuration read and that does not come with the package.

    Nothing is loaded or downloaded.

    Args:
        cfg: of one cell, as `rbctrl.commands.run.compose` gives it.

    Raises:
        hydra.errors.InstantiationException: a part cannot be built for another reason than a missing file.
    """
    return [found for node in PARTS for found in _of_node(cfg, node)]


def _of_node(cfg: DictConfig, node: str) -> Iterator[Requirement]:
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if OmegaConf.select(cfg, node) is None:
        return
    try:
        resolved: Any = OmegaConf.to_container(cfg, resolve=True)
        built = instantiate(to_instantiate({node: resolved[node]}), _convert_="all")[node]
    except InstantiationException as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        missing = error.__cause__
        yield Requirement(node, str(missing.filename or _configured(cfg[node])), False, _sentence(missing))
        return
    parts = built.values() if isinstance(built, Mapping) else built if isinstance(built, list) else [built]
    for part in parts:
        files = getattr(part, "files", None)
        for file in files() if callable(files) else ():
            yield Requirement(node, file.place, file.present(), _hint(file))
    path = _configured(cfg[node])
    if node != "prior" and path:
        yield Requirement(node, path, True, f"{node}.path")


def _configured(node: DictConfig) -> str:
    """The path that a part is given."""
    return str(OmegaConf.select(node, "path", default=""))


def _hint(file: RequiredFile) -> str:
    return f"{file.published} ({file.setting}=...)"


def _sentence(error: FileNotFoundError) -> str:
    return f"{error.strerror}: {error.filename}" if error.filename else str(error)
