"""Where `conf/` lies, and single options of it without Hydra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGED = Path(__file__).parent / "conf"
CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "conf"


def options(group: str) -> list[str]:
    """The names of the options of a group, sorted."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def build(group: str, option: str, overrides: Sequence[str] = ()) -> Any:  # noqa: ANN401
    """The object that `group=option` and further Hydra overrides build.

    Raises:
        ValueError: the group has no such option.
    """
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    if option not in options(group):
        raise ValueError(f"{group}={option} does not exist; there are {', '.join(options(group))}")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(overrides=[f"+{group}={option}", *overrides])
    return instantiate(config[group], _convert_="all")


def default_option(group: str) -> str:
    """The option that `conf/config.yaml` takes for a group."""
    from omegaconf import OmegaConf

    for entry in OmegaConf.load(CONF_DIR / "config.yaml").defaults:
        if not isinstance(entry, str) and group in entry:
            return entry[group]
    raise ValueError(f"conf/config.yaml has no default for the group {group}")
