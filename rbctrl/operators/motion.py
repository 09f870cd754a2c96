"""Motion-blur kernels: the trace of a shaking camera.

A path of many short steps, whose direction wanders with a drawn persistence, is rotated, centred on its mean and drawn
as a thin line on a canvas of twice the size, which is blurred a little, reduced and normalised to sum 1. The
distributions are those of github.com/LeviBorodenko/motionblur, which the DPS benchmarks use; intensity 0 gives straight
lines, 1 knots.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def motion_kernel(generator: np.random.Generator, size: int, intensity: float) -> np.ndarray:
    """A kernel [size, size], non-negative with sum 1.

    Args:
        generator: of this image.
        size: side in pixels.
        intensity: in [0, 1].
    """
    side = 2 * size
    diagonal = math.hypot(side, side)
    path = _path(generator, diagonal, intensity)
    path = (path - path.mean()) * np.exp(1j * generator.uniform(0, math.pi)) + (1 + 1j) * side / 2
    canvas = Image.new("L", (side, side))
    points = list(zip(path.real.tolist(), path.imag.tolist(), strict=True))
    ImageDraw.Draw(canvas).line(points, fill=255, width=max(1, int(diagonal / 150)))
    canvas = canvas.filter(ImageFilter.GaussianBlur(int(0.01 * diagonal))).resize(
        (size, size), Image.Resampling.LANCZOS
    )
    kernel = np.asarray(canvas, np.float64)
    return kernel / kernel.sum()


def _path(generator: np.random.Generator, diagonal: float, intensity: float) -> np.ndarray:
    """The points of the path from the origin on, complex."""
    longest = 0.75 * diagonal * (generator.uniform(0, 1) + generator.uniform(0, intensity**2))
    steps: list[float] = []
    while sum(steps) < longest:
        step = generator.beta(1, 30) * (1.1 - intensity) * diagonal
        if step < longest:
            steps.append(step)
    angles = _angles(generator, len(steps), intensity)
    return np.concatenate([[0], np.cumsum(np.array(steps) * np.exp(1j * angles))])


def _angles(generator: np.random.Generator, count: int, intensity: float) -> np.ndarray:
    """Directions of the steps: sizes are drawn afresh, the sign persists but for rare flips."""
    largest = generator.uniform(0, intensity * math.pi)
    flip = generator.beta(2, 20)
    angle = generator.uniform(-largest, largest)
    angles = [angle]
    for _ in range(count - 1):
        sign = math.copysign(1.0, angle) * (-1 if generator.uniform() < flip else 1)
        angle = sign * generator.triangular(0, intensity * largest, largest + 0.1)
        angles.append(angle)
    return np.array(angles)
