"""Drawings with prompts: what is asked of the `shapes` prior, each item a function of its number and the seed.

References      a drawing in a style that has no words, beside a prompt that contradicts all of its content
Compositions    the same, beside a second drawing whose subject, a blob, has no words either
Descriptions    a full description in words, and the drawing it describes
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rbctrl.data.base import Data, Item, check_positive
from rbctrl.shapes.render import Brush, check_brush, render
from rbctrl.shapes.words import describe
from rbctrl.shapes.world import BLOB, CONTENT, FACTORS, Scenes, Split, draw_scenes


class _Numbered(Data):
    """Items 0 to n - 1."""

    def __init__(self, n: int, size: int, seed: int) -> None:
        super().__init__()
        check_positive("n", n)
        check_positive("size", size)
        self.n, self.size, self.seed = n, size, seed

    def items(self) -> Iterator[Item]:
        """The items, by number."""
        for k in range(self.n):
            yield self.item(k, self.generator(k))

    def generator(self, k: int) -> torch.Generator:
        """The random numbers of item k."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + k)

    @abstractmethod
    def item(self, k: int, generator: torch.Generator) -> Item:
        """Item k."""

    def __len__(self) -> int:
        return self.n


class References(_Numbered):
    """Pairs of a reference drawing, whose palette has no name, and a prompt whose every content factor differs.

    The reference is the item's image, so that operator=style measures it, and its reference of kind "style".

    Args:
        n: how many.
        size: side in pixels; the prior is best at 64.
        seed: of all items.
        described: whether the prompt names the texture and the background of the reference, too.
        brush: "strokes" draws references as a hand would, which no training has seen.

    Raises:
        ValueError: no such brush, or n or size is not positive.
    """

    def __init__(
        self, n: int = 16, size: int = 64, seed: int = 0, described: bool = False, brush: Brush = "clean"
    ) -> None:
        super().__init__(n, size, seed)
        check_brush(brush)
        self.described, self.brush = described, brush

    def item(self, k: int, generator: torch.Generator) -> Item:
        reference, wanted = self._scenes(generator)
        picture = render(reference, self.size, generator, brush=self.brush)[0]
        style = ("texture", "background") if self.described else ()
        prompt = describe(wanted, (*CONTENT, *style))
        return Item(f"pair-{k:04d}", picture, prompt=prompt, references={"style": picture})

    def drawn(self, k: int) -> Tensor:
        """What item k asks for, [3, size, size], drawn by the renderer: as good as a method can be."""
        generator = self.generator(k)
        _, wanted = self._scenes(generator)
        return render(wanted, self.size, generator)[0]

    def _scenes(self, generator: torch.Generator) -> tuple[Scenes, Scenes]:
        """The reference, and the prompt's content in its style."""
        reference, asked = draw_scenes(1, generator, named=0.0), {}
        for name in CONTENT:
            words = len(FACTORS[name]) - (name == "shape")  # never a blob: its outline has no words
            now = getattr(reference, name)
            move = torch.randint(1, words, (1,), generator=generator)
            asked[name] = torch.where(now < words, (now + move) % words, move)
        return reference, replace(reference, **asked)


class Compositions(_Numbered):
    """References of a style, each beside one of a content: a blob in other colours; the prompt says where it goes.

    Args:
        n: how many.
        size: side in pixels.
        seed: of all items.
    """

    def __init__(self, n: int = 16, size: int = 64, seed: int = 0) -> None:
        super().__init__(n, size, seed)

    def item(self, k: int, generator: torch.Generator) -> Item:
        style, subject = draw_scenes(1, generator, named=0.0), draw_scenes(1, generator, named=0.0)
        subject = replace(subject, shape=torch.tensor([BLOB]), count=torch.tensor([0]))
        pictures = {
            kind: render(scene, self.size, generator)[0] for kind, scene in (("content", subject), ("style", style))
        }
        move = torch.randint(1, len(FACTORS["position"]), (1,), generator=generator)
        asked = replace(subject, position=(subject.position + move) % len(FACTORS["position"]))
        prompt = describe(asked, CONTENT)
        return Item(f"composition-{k:04d}", pictures["style"], prompt=prompt, references=pictures)


class Descriptions(_Numbered):
    """Full descriptions in words; the image is a drawing of them.

    Args:
        n: how many.
        size: side in pixels.
        seed: of all items.
        split: "held_out" are (palette, texture, background) triples that no training has seen, "seen" the others.
    """

    def __init__(self, n: int = 16, size: int = 64, seed: int = 0, split: Split = "held_out") -> None:
        super().__init__(n, size, seed)
        if split not in ("seen", "held_out"):
            raise ValueError(f"data.split is 'seen' or 'held_out', got {split!r}")
        self.split = split

    def item(self, k: int, generator: torch.Generator) -> Item:
        scene: Scenes = draw_scenes(1, generator, named=1.0, split=self.split)
        return Item(f"{self.split}-{k:04d}", render(scene, self.size, generator)[0], prompt=describe(scene))
