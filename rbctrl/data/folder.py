"""Files of a folder as items: images that are the truth, or measurements.

Names are relative file names, so adding a file changes no other item.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from rbctrl.data.base import Data, Item, check_positive
from rbctrl.data.files import ARRAY_SUFFIXES, Unreadable, center_crop, read_image, read_measurement, square

_MULTIPLE = 8  # sides of uncropped images: what a network with three halvings takes


class _Files(Data):
    """The files below a path, in the order of their names; those that cannot be used are named in `skipped`."""

    def __init__(self, path: str | Path, pattern: str, n: int | None, suffixes: frozenset[str]) -> None:
        super().__init__()
        check_positive("n", n)
        self.path = Path(path).expanduser()
        self.files, self._ignored = _find(self.path, pattern, suffixes)
        self.files = self.files[:n]

    def items(self) -> Iterator[Item]:
        """Every file that can be used; raises ValueError if none can."""
        self.skipped[:] = self._ignored
        self.unreadable.clear()
        usable = 0
        for name, file in self.files:
            try:
                item = self._item(name, file)
            except Unreadable as error:
                self.skipped.append(f"{name} {error}")
                self.unreadable[name] = str(error)
                continue
            usable += 1
            yield item
        if not usable:
            raise ValueError(f"none of the {len(self)} files in {self.path} can be used: {self.skipped[-1]}")

    def __len__(self) -> int:
        return len(self.files)

    @abstractmethod
    def _item(self, name: str, file: Path) -> Item: ...


class Folder(_Files):
    """Images of any size and mode in a folder and the folders below it, or one image file.

    With `size`, images are cropped at the centre to a square and reduced; smaller ones are skipped unless `enlarge`
    says that pixels may be made up, as for a reference of style. Without it they are cropped at the centre to sides
    that are multiples of 8. Hidden files, and files that are no images by their ending, are left out.

    Args:
        path: of the folder or the file.
        size: side of the images; None: keep theirs.
        n: use the first n files only; None: all.
        pattern: glob on file names.
        enlarge: smaller images to `size`.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no file matches, or size or n is not positive. While iterating: not one file can be used.
    """

    def __init__(
        self,
        path: str | Path,
        size: int | None = None,
        n: int | None = None,
        pattern: str = "*",
        enlarge: bool = False,
    ) -> None:
        check_positive("size", size)
        super().__init__(path, pattern, n, _image_suffixes())
        self.size, self.enlarge = size, enlarge

    def _item(self, name: str, file: Path) -> Item:
        image = read_image(file)
        width, height = image.shape[2], image.shape[1]
        smallest = _MULTIPLE if self.size is None or self.enlarge else self.size
        if min(width, height) < smallest:
            raise Unreadable(f"has {width} x {height} pixels, fewer than {smallest} on a side")
        if self.size is not None:
            return Item(name, square(image, self.size))
        return Item(name, center_crop(image, *(side - side % _MULTIPLE for side in (height, width))).contiguous())


class Measurements(_Files):
    """Measurements without a truth: image files, and floating-point tensors in .npy or .pt, taken as they are.

    Args:
        path: of a folder or one file.
        n: use the first n files only; None: all.
        pattern: glob on file names.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no file matches, or n is not positive. While iterating: not one file can be used.
    """

    def __init__(self, path: str | Path, n: int | None = None, pattern: str = "*") -> None:
        super().__init__(path, pattern, n, _image_suffixes() | set(ARRAY_SUFFIXES))

    def _item(self, name: str, file: Path) -> Item:
        return Item(name, None, read_measurement(file))


def _find(path: Path, pattern: str, suffixes: frozenset[str]) -> tuple[list[tuple[str, Path]], list[str]]:
    """(name, file) in the order of the names, and a sentence on the files left out because of their ending."""
    if path.is_file():
        return [(path.name, path)], []
    if not path.is_dir():
        raise FileNotFoundError(f"data.path={path} is neither a folder nor a file: give the path of an existing one")
    files = [file for file in path.rglob(pattern) if file.is_file()]
    named = sorted((file.relative_to(path).as_posix(), file) for file in files)
    shown = [(name, file) for name, file in named if not any(part.startswith(".") for part in name.split("/"))]
    usable = [(name, file) for name, file in shown if file.suffix.lower() in suffixes]
    if not usable:
        raise ValueError(f"data.path={path} holds no image that matches {pattern!r}: check the path and the pattern")
    others = sorted({file.suffix.lower() or "none" for _, file in shown} - suffixes)
    count = len(shown) - len(usable)
    return usable, [f"{count} files are no images by their ending ({', '.join(others)})"] if count else []


def _image_suffixes() -> frozenset[str]:
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)
