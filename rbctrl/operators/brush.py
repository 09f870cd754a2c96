"""Random brush strokes that cover a given share of an image.

A stroke is a walk of round-ended segments that turn a little at each joint. Strokes are added until the drawn number
of pixels is covered; a segment that would cover more than the upper bound is taken back and the brush becomes finer,
down to single pixels, so the share always lies in the range.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw

WIDTH = (0.03, 0.08)  # of a brush, as a share of the shorter side
LENGTH = (0.05, 0.2)  # of a segment, likewise
TURN = 0.6  # standard deviation of the angle at a joint, radians
SEGMENTS = 8  # of one stroke
FINER = 0.7  # how much a brush shrinks when a segment covers too much


def brush_strokes(generator: np.random.Generator, height: int, width: int, coverage: tuple[float, ...]) -> np.ndarray:
    """True where a brush went, [H, W].

    Args:
        generator: of this image.
        height: in pixels.
        width: in pixels.
        coverage: (low, high) share of covered pixels.

    Raises:
        ValueError: no whole number of pixels lies in the range.
    """
    low, high = math.ceil(coverage[0] * height * width), math.floor(coverage[1] * height * width)
    if low > high:
        raise ValueError(f"FreeformMask: no number of pixels of {height} x {width} is a share in {coverage}: widen it")
    target, scale = int(generator.integers(low, high + 1)), float(min(height, width))
    covered, count = Image.new("1", (width, height)), 0
    while count < target:
        for segment in _stroke(generator, height, width, scale):
            painted = ImageChops.logical_or(covered, segment)
            new_count = int(np.asarray(painted).sum())
            if new_count > high:
                scale *= FINER
                break
            covered, count = painted, new_count
            if count >= target:
                break
    return np.array(covered)


def _stroke(generator: np.random.Generator, height: int, width: int, scale: float) -> list[Image.Image]:
    """The segments of one stroke, each on its own canvas."""
    x, y = generator.uniform(0, width), generator.uniform(0, height)
    angle, brush = generator.uniform(0, 2 * math.pi), scale * generator.uniform(*WIDTH)
    segments = []
    for _ in range(SEGMENTS):
        angle += TURN * generator.standard_normal()
        length = scale * generator.uniform(*LENGTH)
        end = x + length * math.cos(angle), y + length * math.sin(angle)
        segments.append(_segment((width, height), (x, y), end, brush))
        x, y = end
    return segments


def _segment(size: tuple[int, int], start: tuple[float, float], end: tuple[float, float], brush: float) -> Image.Image:
    canvas = Image.new("1", size)
    draw = ImageDraw.Draw(canvas)
    if brush < 1:  # PIL's thinnest line still has one pixel per column: the finest brush is a dot
        draw.point([math.floor(start[0]), math.floor(start[1])], fill=1)
        return canvas
    draw.line([start, end], fill=1, width=round(brush))
    for x, y in (start, end):
        draw.ellipse([x - brush / 2, y - brush / 2, x + brush / 2, y + brush / 2], fill=1)
    return canvas
