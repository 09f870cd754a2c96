"""Where options lie, and single options of it without Hydra.

The options of rbctrl are in `conf/`. An installed package adds a folder of its own by an entry point; Hydra finds it by
`hydra_plugins.rbctrl_options`:

    [project.entry-points."rbctrl.conf"]     # in its pyproject.toml
    mycosts = "mycosts.conf"                 # the folder conf of the package mycosts
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PACKAGED = Path(__file__).parent / "conf"
CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "conf"
ENTRY_POINTS = "rbctrl.conf"


@cache
def conf_dirs() -> tuple[Path, ...]:
    """`conf/`, and the folders of installed packages in the order of their entry points' names.

    Raises:
        ValueError: there is no such folder, or one of its options has the name of another one.
    """
    found = [CONF_DIR]
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        folder = _folder(entry)
        for file in sorted(folder.rglob("*.yaml")):
            other = next((place for place in found if (place / file.relative_to(folder)).exists()), None)
            if other is not None:
                raise ValueError(
                    f"{file} has the name of an option in {other}: give it another one, or uninstall {entry.name}"
                )
        found.append(folder)
    return tuple(found)


def options(group: str) -> list[str]:
    """The names of the options of a group, sorted."""
    return sorted(path.stem for place in conf_dirs() for path in (place / group).glob("*.yaml"))


def option_file(group: str, option: str) -> Path:
    """The file of an option.

    Raises:
        ValueError: the group has no such option.
    """
    for place in conf_dirs():
        if (file := place / group / f"{option}.yaml").is_file():
            return file
    raise ValueError(f"{group}={option} does not exist; there are {', '.join(options(group))}")


def build(group: str, option: str, overrides: Sequence[str] = ()) -> Any:  # noqa: ANN401
    """The object that `group=option` and further Hydra overrides build.

    Raises:
        ValueError: the group has no such option, or a value is of another kind than its argument.
    """
    from hydra import compose, initialize_config_dir

    from rbctrl import literal

    option_file(group, option)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(overrides=[f"+{group}={option}", *overrides])
    return literal.build(config, group)


def default_option(group: str) -> str:
    """The option that `conf/config.yaml` takes for a group."""
    from omegaconf import OmegaConf

    for entry in OmegaConf.load(CONF_DIR / "config.yaml").defaults:
        if not isinstance(entry, str) and group in entry:
            return entry[group]
    raise ValueError(f"conf/config.yaml has no default for the group {group}")


def _folder(entry: EntryPoint) -> Path:
    """Of an entry point, "package.folder"; the package is not imported."""
    package, *inner = entry.value.split(".")
    spec = find_spec(package)
    folders = [Path(place).joinpath(*inner) for place in (spec and spec.submodule_search_locations) or ()]
    for folder in folders:
        if inner and folder.is_dir():
            return folder
    raise ValueError(
        f"the entry point {entry.name} = {entry.value!r} of {ENTRY_POINTS} names no folder of options of an installed "
        "package: mend it, or uninstall that package"
    )
