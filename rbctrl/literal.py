"""Text that is meant as it is, whatever Hydra and OmegaConf would read in it: prompts and paths of any characters.

OmegaConf takes "${" in a string for the beginning of an interpolation, and Hydra's grammar takes commas, quotes and
brackets for its own. A resolved configuration has no interpolations left, only text that may look like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rbctrl.kinds import check_kinds


def literal(node: Any) -> Any:  # noqa: ANN401
    """A node of a resolved configuration such that OmegaConf, once it resolves it, gives the node back."""
    if isinstance(node, str):
        return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + r"\${", node)
    if isinstance(node, Mapping):
        return {name: literal(part) for name, part in node.items()}
    return [literal(part) for part in node] if isinstance(node, list | tuple) else node


def to_instantiate(node: Mapping[str, object]) -> DictConfig:
    """A resolved configuration for Hydra's `instantiate`, which resolves twice: each constructor gets its text.

    Raises:
        ValueError: a value is of another kind than its argument (`rbctrl.kinds`).
    """
    check_kinds(node)
    return OmegaConf.create(literal(literal(node)))


def build(cfg: DictConfig, group: str) -> Any:  # noqa: ANN401
    """The part that a group of a composed configuration describes.

    Raises:
        ValueError: a value is of another kind than its argument.
        omegaconf.errors.OmegaConfBaseException: a value is missing, or an interpolation leads nowhere.
        hydra.errors.InstantiationException: the part cannot be made.
    """
    from hydra.utils import instantiate

    node = OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=True)
    return instantiate(to_instantiate({group: node}), _convert_="all")[group]


def quoted(text: str) -> str:
    """Text as the value of a word of Hydra's command line, key=value: nothing in it is grammar or interpolation.

    Raises:
        ValueError: it is "???", which is how a configuration says that a value is missing, however it is quoted.
    """
    if text == "???":
        raise ValueError("the text '???' alone stands for a missing value in a configuration: write it another way")
    text = re.sub(r"(\\*)'", lambda match: 2 * match[1] + r"\'", literal(text))
    return "'" + re.sub(r"\\+$", lambda match: 2 * match[0], text) + "'"
