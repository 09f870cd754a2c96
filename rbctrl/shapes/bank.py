"""Training drawings, rendered once: groups in which a few styles meet a few contents.

Of the four styles of a group the second has other colours than the first and is else the same, the third another
texture and background; so there are pairs of one style, pairs of one content, and pairs that differ in one respect.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from rbctrl.shapes.render import render
from rbctrl.shapes.world import FACTORS, UNNAMED, Scenes, draw_colors, draw_scenes, held_out, join

log = logging.getLogger(__name__)

STYLES = CONTENTS = 4
GROUP = STYLES * CONTENTS  # rows of a group are style-major


@dataclass(frozen=True, eq=False)
class Bank:
    """Rendered scenes.

    Attributes:
        pixels: [n, 3, size, size], uint8.
        scenes: what they show.
    """

    pixels: Tensor
    scenes: Scenes

    def images(self, rows: Tensor) -> Tensor:
        """[k, 3, size, size] in [-1, 1]."""
        return self.pixels[rows].float() / 127.5 - 1


def make_bank(groups: int, size: int, seed: int, folder: Path) -> Bank:
    """Renders a bank, or reads the one that was rendered into `folder`."""
    file = folder / f"bank_{groups}x{GROUP}_{size}px_seed{seed}.pt"
    if not file.is_file():
        log.info("rendering %d drawings into %s", groups * GROUP, file)
        generator = torch.Generator().manual_seed(seed)
        parts, pixels = [], []
        for start in range(0, groups, 16):
            scenes = draw_groups(min(16, groups - start), generator)
            parts.append(scenes)
            pixels.append((127.5 * (render(scenes, size, generator) + 1)).round().byte())
        scenes = join(parts)
        state = {field.name: getattr(scenes, field.name) for field in fields(Scenes)} | {"pixels": torch.cat(pixels)}
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(file)
    state = torch.load(file, weights_only=True, mmap=True)
    return Bank(state.pop("pixels"), Scenes(**state))


def draw_groups(n: int, generator: torch.Generator) -> Scenes:
    """Scenes of n groups, [n GROUP]."""
    contents = draw_scenes(n * CONTENTS, generator)
    first, other = draw_scenes(n, generator), draw_scenes(n, generator)
    recolored = replace(first, palette=torch.full((n,), UNNAMED), colors=draw_colors(n, generator))
    styles = [first, recolored, _repainted(first, generator), other]
    rows = torch.arange(n).repeat_interleave(CONTENTS)
    by_style = [contents.with_style_of(style.take(rows)) for style in styles]
    order = torch.arange(STYLES * n * CONTENTS).view(STYLES, n, CONTENTS).transpose(0, 1).flatten()
    return join(by_style).take(order)


def _repainted(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """The same colours in another texture, on another background; never a held-out combination."""

    def other(name: str) -> Tensor:
        count, now = len(FACTORS[name]), getattr(scenes, name)
        return (now + torch.randint(1, count, now.shape, generator=generator)) % count

    texture, background = other("texture"), other("background")
    for _ in range(200):
        wrong = held_out(scenes.palette, texture, background)
        if not wrong.any():
            break
        texture, background = (
            torch.where(wrong, other(name), now) for name, now in (("texture", texture), ("background", background))
        )
    return replace(scenes, texture=texture, background=background)
