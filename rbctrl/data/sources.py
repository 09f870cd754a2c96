"""Where images come from: bundled photographs, procedural images, memory; `rbctrl.data.folder` has files.

An item's name and content depend on that item alone: asking for more images changes no other item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from rbctrl.data.base import Data, Item, check_positive
from rbctrl.data.files import read_image, square
from rbctrl.data.leaves import DeadLeaves, make_textures, sample_palettes
from rbctrl.data.patches import SCENES, read_rgb
from rbctrl.data.photos import HELD_OUT, TRAINING, photo_path
from rbctrl.rng import ImageRNG

_LISTS = {"held_out": tuple(HELD_OUT), "training": tuple(TRAINING)}
_CROPS = {"astronaut": (0, 60, 400)}  # top, left, side: the face; all other photographs are cropped at the centre


class Memory(Data):
    """Items that exist already; for calls from Python.

    Raises:
        ValueError: there are no items, or two share a name and would share their noise.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        super().__init__()
        names = [item.name for item in items]
        _check_unique(names, "item")
        self._items = tuple(items)

    def items(self) -> Iterator[Item]:
        """The items, in the order given."""
        yield from self._items

    def __len__(self) -> int:
        return len(self._items)


class Photos(Data):
    """Photographs that come with scikit-image, scikit-learn and matplotlib.

    Cropped at the centre to a square and reduced to `size`. Of the astronaut the square of 400 pixels at top 0, left 60
    is taken (the face), as in all numbers reported here.

    Args:
        names: of the photographs; "held_out" (or None), "training", or a single name also do.
        size: side of the images.

    Raises:
        ValueError: a name is unknown or repeated, or `size` is not positive or larger than a photograph.
        FileNotFoundError: the package that carries a photograph is missing.
    """

    def __init__(self, names: str | Sequence[str] | None = None, size: int = 128) -> None:
        super().__init__()
        if names is None or isinstance(names, str):
            names = _LISTS.get(names or "held_out", (names,))  # type: ignore[assignment]
        _check_unique(names, "photograph")  # type: ignore[arg-type]
        check_positive("size", size)
        self.names, self.size = tuple(names), size  # type: ignore[arg-type]
        for name in self.names:
            self._check_size(name)

    def items(self) -> Iterator[Item]:
        """The photographs, in the order of the names."""
        for name in self.names:
            image = read_image(photo_path(name))
            top, left, side = _CROPS.get(name, (0, 0, 0))
            if side:
                image = image[:, top : top + side, left : left + side]
            yield Item(name, square(image, self.size))

    def __len__(self) -> int:
        return len(self.names)

    def _check_size(self, name: str) -> None:
        with Image.open(photo_path(name)) as photo:
            side = min(_CROPS.get(name, (0, 0, min(photo.size)))[2], *photo.size)
        if side < self.size:
            raise ValueError(f"the photograph {name!r} has {side} usable pixels, fewer than size={self.size}")


class Leaves(Data):
    """Procedural images, textured dead leaves: any number, nothing to download. Names are leaves/0000, leaves/0001, ...

    Args:
        n: number of images.
        size: side of the images.
        seed: of all images; each has a generator of its own, so image k is the same for every n.

    Raises:
        ValueError: n or size is not positive.
    """

    def __init__(self, n: int = 16, size: int = 64, seed: int = 0) -> None:
        super().__init__()
        check_positive("n", n)
        check_positive("size", size)
        self.n, self.size, self.seed = n, size, seed

    def items(self) -> Iterator[Item]:
        """The images, painted on demand."""
        for k in range(self.n):
            name = f"leaves/{k:04d}"
            painter = DeadLeaves(*self._materials, self._generator(name))
            largest = max(4.0, self.size / 2)
            yield Item(name, 2 * painter.paint(1, self.size, radii=(1.5, largest))[0] - 1)

    def __len__(self) -> int:
        return self.n

    @cached_property
    def _materials(self) -> tuple[Tensor, Tensor]:
        generator = self._generator("materials")
        textures = make_textures(generator)
        return textures, sample_palettes([read_rgb(name) for name in SCENES], generator)

    def _generator(self, name: str) -> torch.Generator:
        (source,) = ImageRNG(self.seed, ((name, 0),)).generators("leaves")
        return torch.Generator().manual_seed(int(source.integers(2**32)))  # torch uses the low 32 bits only


def _check_unique(names: Sequence[str], kind: str) -> None:
    if not names:
        raise ValueError(f"no {kind} is given: give at least one")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"two {kind}s are named {repeated[0]!r}: names tell the noise of one {kind} from another's")
