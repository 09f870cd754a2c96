"""`rbctrl list [group]`: what can be written behind `group=`."""

from __future__ import annotations

from rbctrl.commands.groups import groups, nearest, summary
from rbctrl.config import option_file


def run(args: list[str]) -> int:
    """Prints all groups, or the options of the named groups with one line on each.

    Raises:
        ValueError: a name is no group.
    """
    known = groups()
    for group in args:
        if group not in known:
            raise ValueError(f"{group!r} is no group{nearest(group, known)}; the groups are {', '.join(known)}")
    if not args:
        print("\n".join(f"{group:<12} {', '.join(names)}" for group, names in known.items()))
    for group in args:
        print("\n".join(_line(group, name) for name in known[group]))
    return 0


def _line(group: str, option: str) -> str:
    return f"{group}={option:<22} {summary(option_file(group, option))}".rstrip()
