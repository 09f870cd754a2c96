"""The configuration groups and their options, read from the YAML files as text: fast, and nothing is imported."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from rbctrl.config import conf_dirs

PACKAGE = Path(__file__).parents[1]


def groups() -> dict[str, list[str]]:
    """Every group with the names of its options, both sorted; Hydra's own groups left out."""
    found: dict[str, list[str]] = {}
    for place in conf_dirs():
        for file in place.glob("*/**/*.yaml"):
            group = file.parent.relative_to(place)
            if group.parts[0] != "hydra":
                found.setdefault(group.as_posix(), []).append(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def summary(file: Path) -> str:
    """One line on what an option is: its leading comment, else the first docstring line of its `_target_`."""
    text = file.read_text(encoding="utf-8")
    comment = re.match(r"#\s*(?!@package)(.+)", text)
    if comment:
        return comment[1]
    target = re.search(r"^_target_:\s*(\S+)", text, re.MULTILINE)
    if target and target[1] == "???":
        return f"A class of your own: {file.parent.name}._target_=my_lab.module.Class"
    return docstring_line(target[1]) if target else ""


def docstring_line(target: str) -> str:
    """The first docstring line of a class or function of this package, found in the sources without an import.

    A name is searched below the deepest subpackage that its dotted path names: `rbctrl.costs.Cosine` is a public name
    of `rbctrl.costs` and may live in any file of it.
    """
    package, *inner, name = target.split(".")
    if package != PACKAGE.name:
        return ""
    place = PACKAGE.joinpath(*inner)
    files: Iterable[Path] = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for file in files:
        source = file.read_text(encoding="utf-8") if file.is_file() else ""
        if not re.search(rf"^(class|def) {name}\b", source, re.MULTILINE):
            continue
        for node in ast.parse(source).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
                return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean a or b?)`, or nothing if no known word is near."""
    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.55)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
