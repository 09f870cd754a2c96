"""What is in a drawing, and random ones.

    content   shape (9, one of them the blob, whose outline has no words), count (1 to 3), position (5)
    style     palette (8 that have a name, else one at random), texture (6), background (5)

One in five (palette, texture, background) triples of named palettes is held out of all training.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

FACTORS: dict[str, tuple[str, ...]] = {
    "count": ("one", "two", "three"),
    "shape": ("circle", "square", "triangle", "plus", "star", "ring", "crescent", "heart", "blob"),
    "position": ("center", "topleft", "topright", "bottomleft", "bottomright"),
    "palette": ("ocean", "sunset", "forest", "neon", "mono", "pastel", "gold", "candy"),
    "texture": ("flat", "outline", "hatch", "dots", "glow", "shaded"),
    "background": ("plain", "gradient", "stripes", "checker", "speckle"),
}
CONTENT, STYLE = ("count", "shape", "position"), ("palette", "texture", "background")
BLOB = FACTORS["shape"].index("blob")
UNNAMED = -1  # palette of colours without a name
HARMONICS = 4  # of a blob's outline: the 2nd to the 5th, a cosine and a sine each

Split = Literal["seen", "held_out"]

# hue, saturation, value of background, second background colour, foreground, accent
_NAMED = {
    "ocean": ((0.58, 0.85, 0.35), (0.53, 0.7, 0.55), (0.13, 0.25, 1.0), (0.48, 0.8, 0.9)),
    "sunset": ((0.97, 0.6, 0.45), (0.06, 0.75, 0.85), (0.14, 0.7, 1.0), (0.83, 0.6, 0.4)),
    "forest": ((0.36, 0.6, 0.25), (0.28, 0.6, 0.42), (0.10, 0.7, 0.75), (0.18, 0.7, 0.95)),
    "neon": ((0.75, 0.9, 0.12), (0.78, 0.9, 0.28), (0.35, 1.0, 1.0), (0.88, 1.0, 1.0)),
    "mono": ((0.0, 0.0, 0.95), (0.0, 0.0, 0.78), (0.0, 0.0, 0.08), (0.0, 0.0, 0.45)),
    "pastel": ((0.55, 0.18, 1.0), (0.60, 0.25, 0.92), (0.95, 0.38, 0.95), (0.30, 0.35, 0.85)),
    "gold": ((0.62, 0.5, 0.12), (0.07, 0.6, 0.22), (0.12, 0.85, 0.95), (0.10, 0.9, 0.6)),
    "candy": ((0.93, 0.25, 1.0), (0.90, 0.40, 0.95), (0.52, 0.8, 0.8), (0.0, 0.8, 0.9)),
}
NAMED_COLORS = torch.tensor([[colorsys.hsv_to_rgb(*color) for color in _NAMED[name]] for name in FACTORS["palette"]])


@dataclass(frozen=True, eq=False)
class Scenes:
    """n drawings, before their pose and brush are drawn.

    Attributes:
        count, shape, position, texture, background: [n], indices into `FACTORS`.
        palette: [n], index or `UNNAMED`.
        colors: [n, 4, 3], RGB in [0, 1] of background, second background colour, foreground, accent.
        outline: [n, 2 HARMONICS], of the blob; it is there, too, where the shape is another.
    """

    count: Tensor
    shape: Tensor
    position: Tensor
    palette: Tensor
    texture: Tensor
    background: Tensor
    colors: Tensor
    outline: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def take(self, rows: Tensor) -> Scenes:
        """The given ones."""
        return Scenes(*(getattr(self, field.name)[rows] for field in fields(self)))

    def with_style_of(self, other: Scenes) -> Scenes:
        """The content of these in the style of others, as many."""
        return Scenes(
            self.count, self.shape, self.position, other.palette, other.texture, other.background, other.colors,
            self.outline,
        )  # fmt: skip


def join(parts: list[Scenes]) -> Scenes:
    """Several after one another."""
    return Scenes(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Scenes)))


def held_out(palette: Tensor, texture: Tensor, background: Tensor) -> Tensor:
    """Whether a named combination is one that no training sees, bool like the indices."""
    return (palette >= 0) & ((palette * 7 + texture * 11 + background * 13) % 5 == 2)


def draw_scenes(n: int, generator: torch.Generator, named: float = 0.5, split: Split = "seen") -> Scenes:
    """Random drawings.

    Args:
        n: how many.
        generator: of them.
        named: share of palettes that have a name.
        split: "seen" never holds a held-out combination, "held_out" nothing else among the named.
    """

    def index(name: str) -> Tensor:
        return torch.randint(len(FACTORS[name]), (n,), generator=generator)

    drawn = {name: index(name) for name in FACTORS}
    for _ in range(200):
        wrong = held_out(*(drawn[name] for name in STYLE)) != (split == "held_out")
        if not wrong.any():
            break
        for name in STYLE:
            drawn[name] = torch.where(wrong, index(name), drawn[name])
    unnamed = torch.rand(n, generator=generator) >= named
    colors = torch.where(unnamed[:, None, None], draw_colors(n, generator), NAMED_COLORS[drawn["palette"]])
    palette = torch.where(unnamed, UNNAMED, drawn.pop("palette"))
    size = 0.16 / torch.arange(2, 2 + HARMONICS).sqrt().repeat_interleave(2)
    outline = (size * torch.randn(n, 2 * HARMONICS, generator=generator)).clamp(-0.2, 0.2)
    return Scenes(**drawn, palette=palette, colors=colors, outline=outline)


def draw_colors(n: int, generator: torch.Generator) -> Tensor:
    """Palettes without a name, [n, 4, 3]: a dark or a light background, a foreground of the opposite lightness."""
    r = torch.rand(n, 11, generator=generator)
    dark = r[:, 0] < 0.5

    def pick(low: float, high: float, light_low: float, light_high: float, k: int) -> Tensor:
        """Uniform in one range on dark backgrounds, in another on light ones."""
        return torch.where(dark, low + (high - low) * r[:, k], light_low + (light_high - light_low) * r[:, k])

    hue, saturation, value = r[:, 1], pick(0.4, 1.0, 0.05, 0.4, 6), pick(0.12, 0.4, 0.82, 1.0, 4)
    second = (value + torch.where(dark, 0.2, -0.2)).clamp(0, 1)
    return torch.stack(
        [
            _rgb(hue, saturation, value),
            _rgb(hue + 0.12 * (r[:, 9] - 0.5), saturation, second),
            _rgb(hue + 0.25 + 0.5 * r[:, 2], 0.4 + 0.6 * r[:, 7], pick(0.8, 1.0, 0.1, 0.5, 5)),
            _rgb(hue + r[:, 3], 0.6 + 0.4 * r[:, 10], pick(0.45, 0.85, 0.35, 0.75, 8)),
        ],
        dim=1,
    )


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """[n] each, hue modulo 1, to [n, 3]."""
    k = (torch.tensor([5.0, 3.0, 1.0]) + 6 * (hue[:, None] % 1)) % 6
    chroma = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * chroma)
