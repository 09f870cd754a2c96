"""The protocol of stylization: styles by subjects, from a list of prompts that is yours to fetch.

A line of the list is "{a, b, c, d} in <style>.": four subjects, and words for a style. RB-Modulation's list has 100 of
them and evaluates 300 prompts: presumably one subject of each style made the reference, and three are evaluated
[uncertain]. Each prompt is run with the words of the style and without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rbctrl.data.base import Data, Item, check_positive
from rbctrl.data.files import read_picture, square

PUBLISHED = (
    "the list is data/prompts.txt of https://github.com/google/RB-Modulation (Apache-2.0): fetch it, and say where it "
    "is with data.path=..."
)
_LINE = re.compile(r"\{(?P<subjects>[^{}]+)\}\s+(?P<style>\S.*?)\.?\s*")
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Style:
    """One line of the list.

    Attributes:
        number: of the line, from 1.
        subjects: "A cat", ...
        words: of the style, "in watercolor painting style".
    """

    number: int
    subjects: tuple[str, ...]
    words: str

    def prompt(self, subject: int, described: bool) -> str:
        """The subject of a number from 0, with the words of the style or without."""
        return f"{self.subjects[subject]} {self.words}" if described else self.subjects[subject]


def read_styles(path: str | Path) -> list[Style]:
    """The lines of a list; empty ones count as numbers but are no styles.

    Raises:
        FileNotFoundError: there is no such file; says where it is published.
        ValueError: a line has another form.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no prompts at {path}: {PUBLISHED}")
    styles = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"{path}, line {number} is {line.strip()[:60]!r}; a line is '{{a, b, c, d}} in <style>.'")
        subjects = tuple(subject.strip() for subject in found["subjects"].split(","))
        styles.append(Style(number, subjects, found["style"]))
    if not styles:
        raise ValueError(f"{path} holds no styles: {PUBLISHED}")
    return styles


class StylePrompts(Data):
    """Pairs of a style's reference picture and a prompt, named "001/0 A cat": line, subject and what it is.

    The reference is the item's image, so that operator=style measures it, and its picture of kind "style", for
    attention.style=item. Without `references` items are grey, with the prompts that references are made from.

    Args:
        path: of the list.
        references: folder of one picture per style, 001.png or "001_....png" by the number of the line; None: they are
            to be made: run that with controller=none attention=none.
        described: prompts have the words of the style.
        subjects: numbers of the subjects to take, from 0.
        n_styles: the first so many; None: all.
        size: side of the images.

    Raises:
        FileNotFoundError: there is no such list or folder.
        ValueError: a line of another form, or with fewer subjects.
    """

    def __init__(
        self,
        path: str | Path,
        references: str | Path | None = None,
        described: bool = True,
        subjects: Sequence[int] = (1, 2, 3),
        n_styles: int | None = None,
        size: int = 1024,
    ) -> None:
        super().__init__()
        check_positive("size", size)
        check_positive("n_styles", n_styles)
        self.path, self.described, self.size = Path(path).expanduser(), described, size
        self.subjects, self.styles = tuple(subjects), read_styles(path)[:n_styles]
        short = [style for style in self.styles if not all(0 <= k < len(style.subjects) for k in self.subjects)]
        if short:
            raise ValueError(
                f"{path}, line {short[0].number} has {len(short[0].subjects)} subjects, and data.subjects are "
                f"{list(self.subjects)}, from 0"
            )
        self.references = None if references is None else _pictures(Path(references).expanduser(), self.styles)

    def items(self) -> Iterator[Item]:
        """Style by style, so that a batch reads few references."""
        for style in self.styles:
            image = self._image(style)
            for k in self.subjects:
                name = f"{style.number:03d}/{k} {_slug(style.subjects[k])}"
                given = {} if self.references is None else {"style": image}
                yield Item(name, image, prompt=style.prompt(k, self.described), references=given)

    def __len__(self) -> int:
        return len(self.styles) * len(self.subjects)

    def _image(self, style: Style) -> torch.Tensor:
        if self.references is None:
            return torch.zeros(3, self.size, self.size)
        return square(read_picture(self.references[style.number], "data.references"), self.size)


def _pictures(folder: Path, styles: Sequence[Style]) -> dict[int, Path]:
    """The reference of each style, by the number that its name, or that of its folder, begins with."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of references at {folder}: data.references=null makes them")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    found: dict[int, Path] = {}
    for path in files:
        number = re.match(r"\d+", path.relative_to(folder).parts[0])
        if number:
            found.setdefault(int(number[0]), path)
    missing = [style for style in styles if style.number not in found]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no reference of {len(missing)} styles, the first is {missing[0].number:03d} "
            f"({missing[0].words}): name it {missing[0].number:03d}.png"
        )
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^\w -]", "", text)[:40].strip() or "-"
