"""outputs/latest: the newest run or sweep, as a link, or as a text file where the file system has no links."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

OUTPUTS = Path("outputs")
NAME = "latest"


def point_to(folder: Path, outputs: Path = OUTPUTS) -> None:
    """Makes outputs/latest name a folder below outputs; one elsewhere is not pointed to.

    The pointer is made under a name of its own and then moved into place, so that of two runs that start at once the
    last one wins, and nobody finds half a pointer. A real folder of that name is left alone.
    """
    folder, outputs = folder.resolve(), outputs.resolve()
    pointer = outputs / NAME
    if outputs not in folder.parents or (pointer.is_dir() and not pointer.is_symlink()):
        return
    target = str(folder.relative_to(outputs))
    try:
        _replace(pointer, lambda place: place.symlink_to(target, target_is_directory=True))
    except (OSError, NotImplementedError):
        _replace(pointer, lambda place: place.write_text(target + "\n", encoding="utf-8"))


def follow(path: Path) -> Path:
    """The folder that a pointer made of text names; any other path is returned as it is."""
    if path.name != NAME or not path.is_file():
        return path
    return path.parent / path.read_text(encoding="utf-8").strip()


def folder_of(word: str) -> Path:
    """The folder that a word of the command line means: DIR, study=NAME, or outputs/latest.

    Raises:
        FileNotFoundError: it does not exist.
    """
    folder = OUTPUTS / word.removeprefix("study=") if word.startswith("study=") else follow(Path(word))
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")
    return folder


def _replace(pointer: Path, make: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=pointer.parent) as scratch:
        place = Path(scratch) / NAME
        make(place)
        os.replace(place, pointer)
