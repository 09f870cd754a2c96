"""Scenes to pixels, all at once: signed distances of the outlines, softly thresholded, filled with patterns.

Lengths are relative to the side of the image, [-1, 1] across, so that 32 px and 64 px show the same drawing. Pose,
size and the phase of patterns are random within a scene.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from rbctrl.shapes.world import FACTORS, HARMONICS, Scenes

Brush = Literal["clean", "strokes"]

_FAR = 9.0  # where an object is that is not there
_CENTERS = torch.tensor(  # by count
    [[[0, 0], [_FAR, _FAR], [_FAR, _FAR]], [[-0.33, 0], [0.33, 0], [_FAR, _FAR]], [[-0.3, 0.2], [0.3, 0.2], [0, -0.3]]]
)
_RADII = torch.tensor([0.44, 0.29, 0.25])  # by count
_OFFSETS = 0.3 * torch.tensor([[0.0, 0.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])  # by position


def render(scenes: Scenes, size: int, generator: torch.Generator, brush: Brush = "clean") -> Tensor:
    """Drawings [n, 3, size, size] in [-1, 1].

    Args:
        scenes: what to draw.
        size: side in pixels.
        generator: of pose, size and phases.
        brush: "strokes" draws wavering outlines and an uneven fill, as a hand would; no training sees it.

    Raises:
        ValueError: no such brush.
    """
    check_brush(brush)
    n = len(scenes)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(n, *shape, generator=generator) - 1

    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = x.expand(n, size, size), y.expand(n, size, size)
    radius = _RADII[scenes.count] * (1 + 0.07 * uniform())
    center = _CENTERS[scenes.count] + _OFFSETS[scenes.position][:, None] + 0.05 * uniform(1, 2)
    angle, phase = 0.15 * uniform(3), math.pi * uniform(1, 1)
    wave = _waves(x, y, generator) if brush == "strokes" else None
    dx, dy = (0.0, 0.0) if wave is None else (0.035 * wave[0], 0.035 * wave[1])
    distance, shade = _objects(scenes, x + dx, y + dy, center, radius, angle)
    return _paint(scenes, x, y, radius, distance, shade, phase, size, wave)


def check_brush(brush: str) -> None:
    """Raises ValueError unless there is such a brush."""
    if brush not in get_args(Brush):
        raise ValueError(f"brush is {' or '.join(map(repr, get_args(Brush)))}, got {brush!r}")


def _objects(
    scenes: Scenes, x: Tensor, y: Tensor, center: Tensor, radius: Tensor, angle: Tensor
) -> tuple[Tensor, Tensor]:
    """Signed distance to the nearest object in units of its radius, and a shading across it, [n, H, W] each."""
    scale, spread = radius[:, None, None, None], (slice(None), slice(None), None, None)
    px, py = ((axis[:, None] - center[..., k][spread]) / scale for k, axis in enumerate((x, y)))
    cos, sin = angle.cos()[spread], angle.sin()[spread]
    qx, qy = cos * px + sin * py, cos * py - sin * px
    distance = outline_distance(scenes.shape, scenes.outline, qx, qy)
    distance = torch.where(center[..., 0][spread] > _FAR / 2, _FAR, distance)
    nearest, which = distance.min(dim=1)
    return nearest, (0.5 * qx + 0.7 * qy).gather(1, which[:, None])[:, 0]


def outline_distance(shape: Tensor, outline: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Approximate signed distance to unit shapes, negative inside; x, y [n, k, H, W], shape [n], outline [n, 2 H]."""
    r = (x.square() + y.square() + 1e-9).sqrt()
    theta = torch.atan2(y, x)
    hx, hy = x / 0.88, -(y + 0.05) / 0.88
    cubic = hx.square() * hy.abs() ** 3 + 1e-9
    known = {
        "circle": r - 0.95,
        "square": torch.maximum(x.abs(), y.abs()) - 0.82,
        "triangle": torch.maximum(y - 0.55, 0.866 * x.abs() - 0.5 * y - 0.55),
        "plus": torch.minimum(
            torch.maximum(x.abs() - 0.33, y.abs() - 0.95), torch.maximum(x.abs() - 0.95, y.abs() - 0.33)
        ),
        "star": 0.6 * (r - (0.66 + 0.32 * torch.cos(5 * (theta + math.pi / 2)))),
        "ring": (r - 0.68).abs() - 0.26,
        "crescent": torch.maximum(r - 0.95, 0.78 - ((x - 0.45).square() + y.square() + 1e-9).sqrt()),
        "heart": 0.55 * (hx.square() + hy.square() - 0.75 - torch.sign(hy) * cubic ** (1 / 3)),
        "blob": r - _blob_radius(outline, theta),
    }
    result = torch.empty_like(r)
    for k, name in enumerate(FACTORS["shape"]):
        rows = shape == k
        if rows.any():
            result[rows] = known[name][rows]
    return result


def _blob_radius(outline: Tensor, theta: Tensor) -> Tensor:
    total = torch.ones_like(theta)
    for k in range(HARMONICS):
        cos, sin = (outline[:, 2 * k + j].view(-1, 1, 1, 1) for j in (0, 1))
        total = total + cos * torch.cos((k + 2) * theta) + sin * torch.sin((k + 2) * theta)
    return 0.8 * total


def _paint(
    scenes: Scenes,
    x: Tensor,
    y: Tensor,
    radius: Tensor,
    distance: Tensor,
    shade: Tensor,
    phase: Tensor,
    size: int,
    wave: Tensor | None,
) -> Tensor:
    radius = radius[:, None, None]
    texture, background = (part[:, None, None] for part in (scenes.texture, scenes.background))
    paper, second, ink, accent = (scenes.colors[:, k, :, None, None] for k in range(4))

    def edge(d: Tensor) -> Tensor:
        return torch.sigmoid(-0.9 * size * radius * d)

    image = torch.lerp(paper, second, _choose(background, "background", _grounds(x, y, phase))[:, None])
    fill = torch.lerp(ink, accent, _choose(texture, "texture", _fills(x, y, phase, shade))[:, None])
    if wave is not None:
        fill = fill * (1 + 0.18 * wave[2][:, None])
    line = 0.048 / radius
    inside = torch.where(
        texture == FACTORS["texture"].index("outline"), edge((distance + line).abs() - line), edge(distance)
    )
    halo = 0.75 * torch.exp(-7 * radius * distance.clamp(min=0))
    glow = torch.where(texture == FACTORS["texture"].index("glow"), halo, 0.0)
    image = torch.lerp(torch.lerp(image, accent, glow[:, None]), fill, inside[:, None])
    return image.clamp(0, 1) * 2 - 1


def _grounds(x: Tensor, y: Tensor, phase: Tensor) -> dict[str, Tensor]:
    """Share of the second background colour."""
    return {
        "gradient": (y + 1) / 2,
        "stripes": torch.sigmoid(6 * torch.sin(4 * math.pi * y + phase)),
        "checker": torch.sigmoid(8 * torch.sin(4 * math.pi * x) * torch.sin(4 * math.pi * y)),
        "speckle": torch.sigmoid(10 * (torch.cos(5 * math.pi * x) * torch.cos(5 * math.pi * y) - 0.55)),
    }


def _fills(x: Tensor, y: Tensor, phase: Tensor, shade: Tensor) -> dict[str, Tensor]:
    """Share of the accent within an object."""
    return {
        "hatch": torch.sigmoid(6 * torch.sin(7.1 * math.pi * (x + y) + phase)),
        "dots": torch.sigmoid(8 * (torch.cos(8 * math.pi * x) * torch.cos(8 * math.pi * y) - 0.1)),
        "shaded": torch.sigmoid(3 * shade),
    }


def _choose(index: Tensor, factor: str, patterns: dict[str, Tensor]) -> Tensor:
    """The pattern of each row; 0 where it has none."""
    result = torch.zeros_like(next(iter(patterns.values())))
    for k, name in enumerate(FACTORS[factor]):
        if name in patterns:
            result = torch.where(index == k, patterns[name], result)
    return result


def _waves(x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Three smooth random fields, about standard normal, [3, n, H, W]."""
    shape = (3, len(x), 6, 1, 1)
    fx, fy, start = (torch.rand(shape, generator=generator) for _ in range(3))
    angle = 2 * math.pi * ((4 * fx - 2) * x[:, None] + (4 * fy - 2) * y[:, None] + start)
    return angle.sin().sum(2) / math.sqrt(3)
