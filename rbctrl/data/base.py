"""Items, and how they become batches.

A row of a batch is (item, sample). Rows are item-major: all samples of the first item, then those of the second. Which
rows share a batch changes no result, since noise is a function of the row (`rbctrl.rng`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Item:
    """One image, or one measurement.

    Args:
        name: relative file name or another lasting name, never a position: masks and noise follow from it.
        image: the truth [C, H, W] in [-1, 1], fp32; None: unknown.
        y: a measurement that exists, usually [C, h, w]; None: `image` is measured.
        prompt: what the restored image shows, for priors that listen to a prompt of each item; None: there is none.
        references: pictures [3, H, W] in [-1, 1] by kind ("style", "content", and "style_2" of a second style), for
            attention=afa with style=item, or style=[item,item].

    Raises:
        ValueError: there is neither an image nor a y, or the image is not [C, H, W].
    """

    name: str
    image: Tensor | None
    y: Tensor | None = None
    prompt: str | None = None
    references: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image is None and self.y is None:
            raise ValueError(f"item {self.name!r} has neither an image nor a measurement y: give one of them")
        if self.image is not None and self.image.ndim not in (1, 3):
            shape = list(self.image.shape)
            raise ValueError(
                f"the image of item {self.name!r} has shape {shape}, expected [C, H, W], or [D] for a vector"
            )

    @property
    def shapes(self) -> tuple[object, ...]:
        """Shapes of image, y and references, and whether there is a prompt: items of one batch agree in all."""
        parts = tuple(None if part is None else part.shape for part in (self.image, self.y))
        return (*parts, self.prompt is None, tuple((kind, part.shape) for kind, part in self.references.items()))


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows that run together.

    Args:
        rows: (item, sample) of each row, item-major.
        image: [B, C, H, W] in [-1, 1]; None: unknown.
        y: [B, ...]; None: `image` is measured.
        prompts: of each row; None: there are none.
        references: pictures [B, 3, H, W] by kind.
    """

    rows: tuple[tuple[str, int], ...]
    image: Tensor | None
    y: Tensor | None
    prompts: tuple[str, ...] | None = None
    references: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, k: int) -> Item:
        """The item of row k."""
        image, y = (None if part is None else part[k] for part in (self.image, self.y))
        prompt = None if self.prompts is None else self.prompts[k]
        return Item(self.rows[k][0], image, y, prompt, {kind: part[k] for kind, part in self.references.items()})


class Data(ABC):
    """A sequence of items.

    Attributes:
        skipped: one sentence per item that could not be read in the latest pass; filled while iterating.
        unreadable: the names of these items and the reason of each.
    """

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self.unreadable: dict[str, str] = {}

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """The items, in an order that does not change from pass to pass."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of items, those included that will turn out unreadable."""

    def batches(self, batch_size: int, n_samples: int) -> Iterator[Batch]:
        """Batches of at most `batch_size` rows, `n_samples` rows per item; a change of shape starts a new batch.

        Raises:
            ValueError: batch_size or n_samples is below 1.
        """
        for name, value in {"batch_size": batch_size, "n_samples": n_samples}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, but has to be at least 1")
        return self._batches(batch_size, n_samples)

    def _batches(self, batch_size: int, n_samples: int) -> Iterator[Batch]:
        waiting: list[tuple[Item, int]] = []
        for item in self.items():
            if waiting and waiting[0][0].shapes != item.shapes:
                yield _stack(waiting)
                waiting = []
            for sample in range(n_samples):
                waiting.append((item, sample))
                if len(waiting) == batch_size:
                    yield _stack(waiting)
                    waiting = []
        if waiting:
            yield _stack(waiting)


def check_positive(name: str, value: int | None) -> None:
    """Raises ValueError unless the setting data.`name` is None or a whole number above 0."""
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ValueError(f"data.{name} is {value!r}, but has to be a positive whole number")


def _stack(waiting: list[tuple[Item, int]]) -> Batch:
    first = waiting[0][0]
    rows = tuple((item.name, sample) for item, sample in waiting)
    image = None if first.image is None else torch.stack([item.image for item, _ in waiting])  # type: ignore[misc]
    y = None if first.y is None else torch.stack([item.y for item, _ in waiting])  # type: ignore[misc]
    prompts = None if first.prompt is None else tuple(item.prompt for item, _ in waiting)
    kinds = first.references
    references = {kind: torch.stack([item.references[kind] for item, _ in waiting]) for kind in kinds}
    return Batch(rows, image, y, prompts, references)  # type: ignore[arg-type]
