"""`rbctrl check operator=my_lab.fog.Fog ...`: the shared test suites of rbctrl.testing on parts of your own.

Checked are the groups named on the command line. A value with a dot is the dotted path of a class; its arguments
follow as `operator.size=64`. `--shape=3,64,64` sets the shape of the test images. A prior denoises photographs of this
package, or the images that it says it knows, or the first images of `data=folder data.path=...`; one that listens to
prompts is told those of the data.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import islice

from omegaconf import DictConfig, OmegaConf

from rbctrl.commands.errors import report_error
from rbctrl.commands.run import compose
from rbctrl.data.base import Item
from rbctrl.literal import build
from rbctrl.testing.report import as_text

N_IMAGES = 4
CHECKED = ("operator", "cost", "controller", "prior")


def run(args: list[str]) -> int:
    """Checks each named node and goes on after a failure.

    Returns:
        The exit status: 1 if a check failed.

    Raises:
        ValueError: no word names a group that can be checked, or the shape cannot be read.
    """
    words, settings = _settings(args)
    named = [group for group in CHECKED if any(re.match(rf"\+*{group}[.=@]", word) for word in words)]
    if not named:
        raise ValueError(f"nothing to check: name at least one of {', '.join(f'{group}=...' for group in CHECKED)}")
    cfg = compose(expand(words))
    if any(re.match(r"\+*data[.=@]", word) for word in words):
        settings["images"] = _images(cfg)
    return 0 if all([_passes(group, cfg, _of(group, settings)) for group in named]) else 1


def _of(group: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that the suite of a group takes: images are for priors, which take their shape from them."""
    left_out = ("shape",) if group == "prior" and "images" in settings else () if group == "prior" else ("images",)
    return {name: value for name, value in settings.items() if name not in left_out}


def _images(cfg: DictConfig) -> list[Item]:
    """The first items of the data, as many as agree with the first in their shapes."""
    items = list(islice((item for item in build(cfg, "data").items()), N_IMAGES))
    items = [item for item in items if item.image is not None]
    if not items:
        raise ValueError("this data has no true images to denoise: use data=folder data.path=...")
    return [item for item in items if item.shapes == items[0].shapes]


def _settings(args: Sequence[str]) -> tuple[list[str], dict[str, object]]:
    words = [word for word in args if not word.startswith("-")]
    settings: dict[str, object] = {}
    for flag in args:
        if re.fullmatch(r"--shape=[1-9]\d*(,[1-9]\d*)*", flag):
            settings["shape"] = tuple(map(int, flag.partition("=")[2].split(",")))
        elif flag.startswith("-"):
            raise ValueError(f"rbctrl check takes --shape=C,H,W and key=value, got {flag!r}")
    return words, settings


def expand(words: Sequence[str]) -> list[str]:
    """Writes group=dotted.path, and the arguments behind it, as overrides that Hydra understands."""
    classes = dict(match.groups() for word in words if (match := re.fullmatch(r"(\w+)=(\w+(?:\.\w+)+)", word)))
    classes = {group: path for group, path in classes.items() if group in CHECKED}
    expanded = []
    for word in words:
        key = word.partition("=")[0]
        if key in classes:
            expanded += [f"~{key}", f"+{key}._target_={classes[key]}"]
        elif key.partition(".")[0] in classes:
            expanded.append(f"++{word}")
        else:
            expanded.append(word)
    return expanded


def _passes(group: str, cfg: DictConfig, settings: Mapping[str, object]) -> bool:
    target = None if OmegaConf.is_missing(cfg[group], "_target_") else cfg[group].get("_target_")
    where = f"{group} {target}: " if target else ""
    try:
        part = build(cfg, group)
    except Exception as error:
        report_error(error, where)
        return False
    try:
        measured = _suite(group)(part, **settings)
    except AssertionError as failure:
        if measured := getattr(failure, "report", None):
            print(as_text(measured))
        print(f"rbctrl: {where}FAILED: {failure}", file=sys.stderr)
        return False
    except Exception as error:
        report_error(error, where if settings else where[:-2] + " (--shape=C,H,W resizes the test images): ")
        return False
    print(f"{where}passed")
    print(as_text(measured or []))
    return True


def _suite(group: str) -> Callable[..., Sequence[tuple[str, float]] | None]:
    suite = getattr(import_module("rbctrl.testing"), f"check_{group}", None)
    if suite is None:
        raise ValueError(f"rbctrl.testing has no check_{group} in this version")
    return suite
