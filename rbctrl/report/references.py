"""The .bib of the methods in a table.

Entries come from `references.bib`. A controller without one, such as yours, is cited by the first line of its docstring
where that holds an address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rbctrl.commands.groups import PACKAGE, docstring_line
from rbctrl.report.runs import RunFolder

FILE = Path(__file__).with_name("references.bib")


def bibliography(runs: Sequence[RunFolder]) -> str:
    """The entries of all controllers of these runs, each once; "" if none has any."""
    written = entries()
    found: dict[str, None] = {}
    for run in runs:
        option = run.choices.get("controller", "")
        own = [text for options, text in written if option in options]
        found |= dict.fromkeys(own or _from_docstring(option, str(run.settings.get("controller._target_", ""))))
    return "\n\n".join(found) + ("\n" if found else "")


def entries() -> list[tuple[tuple[str, ...], str]]:
    """The entries of `references.bib` with the options they belong to."""
    blocks = re.findall(r"^@\w+\{.*?^\}", FILE.read_text(encoding="utf-8"), flags=re.S | re.M)
    options = [re.search(r"^\s*rbctrl\s*=\s*\{(.*?)\}", block, flags=re.M) for block in blocks]
    return [
        (tuple(name.strip() for name in match[1].split(",")) if match else (), block)
        for block, match in zip(blocks, options, strict=True)
    ]


def _from_docstring(option: str, target: str) -> list[str]:
    line = docstring_line(target) if target.startswith(f"{PACKAGE.name}.") else ""
    address = re.search(r"https?://\S+?(?=\.?(\s|$))", line)
    if address is None:
        return []
    sentence = line.replace(address[0], "").rstrip(". ")
    return [f"@misc{{{option},\n  note = {{{sentence}}},\n  url  = {{{address[0]}}},\n}}"]
