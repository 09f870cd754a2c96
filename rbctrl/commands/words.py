"""Words of a sweep that only its cells can take.

    rbctrl -m attention=concat,afa attention.style=item

Before the cells Hydra composes what they share, here with attention=none, which has no style. It leaves out words that
sweep, so a word below a group that is swept is handed on as a sweep over one value, attention.style=choice(item): the
cells then have attention.style=item. Where presets are swept (experiment=..., or those of +sweep=...), any group may
change.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException


def left_to_cells(args: Sequence[str]) -> list[str]:
    """The arguments of a command line; of a sweep, with the words that only cells can take so marked."""
    if not {"-m", "--multirun"} & set(args):
        return list(args)
    overrides = {word: override for word in args if (override := parsed(word)) is not None}
    swept = [override for override in overrides.values() if override.is_sweep_override()]
    presets = {"sweep"} & {override.key_or_group for override in overrides.values()}
    presets |= {"experiment"} & {override.key_or_group for override in swept}
    below = tuple(f"{override.package or override.key_or_group.replace('/', '.')}." for override in swept)

    def handed_on(word: str) -> str:
        override = overrides.get(word)
        if override is None or not _sets_a_value(override):
            return word
        key = override.key_or_group
        return _of_one_value(word) if key.startswith(below) or (presets and "." in key) else word

    return [handed_on(word) for word in args]


def _sets_a_value(override: Override) -> bool:
    plain = not (override.is_add() or override.is_delete() or override.is_force_add())
    return plain and not override.is_sweep_override() and not override.is_hydra_override()


def _of_one_value(word: str) -> str:
    """As a sweep; a word that Hydra would not give back as it was, such as null, stays."""
    key, _, value = word.partition("=")
    marked, plain = parsed(f"{key}=choice({value})"), parsed(word)
    if marked is None or plain is None:
        return word
    (given_back,) = marked.sweep_string_iterator()
    again = parsed(f"{key}={given_back}")
    return word if again is None or again.value() != plain.value() else str(marked.input_line)


def parsed(word: str) -> Override | None:
    """A word of the command line; None for a flag, and for what Hydra cannot read."""
    if word.startswith("-"):
        return None
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:  # Hydra says so
        return None
    return override
