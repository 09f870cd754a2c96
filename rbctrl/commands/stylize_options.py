"""The options of `rbctrl stylize`, read and checked as far as they say it themselves."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rbctrl.commands.report import Parser
from rbctrl.config import options


def parse(args: list[str], doc: str = "") -> argparse.Namespace:
    """What the options say. Settings that stand behind the files of --style, or behind its weights, are settings.

    Args:
        args: the words of the command.
        doc: what --help shows, with examples after "Examples:".

    Raises:
        ValueError: an unknown option, one without its value, or weights that are not of the styles.
    """
    given = _parser(doc).parse_intermixed_args(args)
    given.style = [_apart(word, given.words) if k else word for group in given.style for k, word in enumerate(group)]
    given.style = [word for word in given.style if word is not None]
    weights = [_apart(word, given.words) for word in given.style_weights or []]
    given.style_weights = _shares([word for word in weights if word is not None], given.style)
    return given


def _apart(word: str, settings: list[str]) -> str | None:
    """A word of a list; None if it is a setting, key=value and no file, which goes to these."""
    if "=" not in word or Path(word).is_file():
        return word
    settings.append(word)
    return None


def _shares(words: Sequence[str], styles: Sequence[str]) -> list[float] | None:
    """The part of each style, summing to 1; None: nothing was said."""
    if not words:
        return None
    try:
        weights = [float(word) for word in words]
    except ValueError:
        weights = []
    if len(weights) != len(styles) or not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
        raise ValueError(
            f"--style-weights are one number for each of the {len(styles)} pictures of --style, not negative and not "
            f"all 0, got {' '.join(words)}"
        )
    return [weight / sum(weights) for weight in weights]


def _parser(doc: str) -> Parser:
    text, _, epilog = doc.partition("Examples:\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="rbctrl stylize", description=text, epilog=f"examples:\n{epilog}", formatter_class=raw)
    add = parser.add_argument
    add(
        "words",
        nargs="*",
        metavar="key=value",
        help="settings of the run: prior, attention, controller, experiment ...",
    )
    many: dict[str, Any] = {"nargs": "+", "metavar": ("FILE", "FILE")}
    add("--style", required=True, action="append", **many, help="the picture whose style is followed; or several")
    add("--style-weights", nargs="+", metavar="W", help="of several styles, relative; the default is their middle")
    add("--prompt", required=True, metavar="TEXT", help="what the image shows; --prompt=TEXT if it begins with a dash")
    add("--content", metavar="FILE", help="a picture whose content is followed as well")
    add("--mask", metavar="FILE", help="white where the subject of --content is; what is black does not count")
    add("--negative-prompt", metavar="TEXT", help="what guidance leads away from")
    add("--descriptor", metavar="NAME", help=f"of the style: {', '.join(options('operator/descriptor'))}")
    add("--size", type=int, metavar="PX", help="side of the image, a square; pictures are cropped to their middle")
    add("-m", "--multirun", action="store_true", help="a sweep, key=a,b")
    return parser
