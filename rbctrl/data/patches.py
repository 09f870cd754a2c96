"""Training patches: procedural canvases and photographs, cropped, turned and recoloured.

Batch k is a function of (seed, k) alone, so an interrupted training continues with the batches it would have seen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from rbctrl.data.leaves import DeadLeaves, make_textures, sample_palettes
from rbctrl.data.photos import GRAY, photo_path

log = logging.getLogger(__name__)

# How often a photograph is drawn: everyday colour scenes first, instruments and flat textures seldom.
WEIGHTS = {
    "china": 6.0,
    "grace_hopper": 4.0,
    "rocket": 4.0,
    "motorcycle_left": 4.0,
    "motorcycle_right": 4.0,
    "hubble": 0.7,
    "retina": 0.5,
    "ihc": 0.8,
    "camera": 3.0,
    "brick": 0.7,
    "grass": 1.2,
    "gravel": 1.2,
    "coins": 1.0,
    "moon": 0.4,
    "clock_motion": 0.6,
    "text": 0.4,
    "page": 0.3,
}
SCENES = ("china", "grace_hopper", "rocket", "motorcycle_left", "motorcycle_right")  # palettes come from these
SCALES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3)


def read_rgb(name: str) -> Tensor:
    """A bundled photograph as [H, W, 3] uint8."""
    with Image.open(photo_path(name)) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))


def make_canvases(count: int, size: int, seed: int, folder: Path) -> Tensor:
    """Procedural canvases [count, size, size, 3] uint8, painted once and kept in `folder`."""
    file = folder / f"leaves_{count}x{size}_seed{seed}.npy"
    if not file.is_file():
        generator = torch.Generator().manual_seed(seed)
        palettes = sample_palettes([read_rgb(name) for name in SCENES], generator)
        painter = DeadLeaves(make_textures(generator), palettes, generator)
        batches = []
        for k in range(0, count, 16):
            leaves = (150, 350, 350, 700)[k // 16 % 4]
            image = painter.paint(min(16, count - k), size, leaves)
            batches.append((255 * image).round().byte().permute(0, 2, 3, 1))
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npy")
        np.save(partial, torch.cat(batches).numpy())
        partial.replace(file)
    return torch.from_numpy(np.load(file))


def photo_pyramid(name: str, smallest: int = 80) -> list[Tensor]:
    """A photograph at several scales, each [H, W, 3] uint8; scaling down also removes JPEG artefacts."""
    photo = read_rgb(name).permute(2, 0, 1)[None].float()
    levels = []
    for scale in SCALES:
        size = [int(scale * side) for side in photo.shape[2:]]
        if min(size) >= smallest:
            level = F.interpolate(photo, size, mode="bicubic", antialias=True, align_corners=False)
            levels.append(level[0].clamp(0, 255).round().byte().permute(1, 2, 0).contiguous())
    return levels


@dataclass(eq=False)
class Patches:
    """Random patches of canvases and photographs.

    Args:
        canvases: [K, S, S, 3] uint8.
        photo_share: fraction of patches cut from photographs.
        seed: of all batches.
    """

    canvases: Tensor
    photo_share: float = 0.5
    seed: int = 0
    names: tuple[str, ...] = tuple(WEIGHTS)
    pyramids: dict[str, list[Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.pyramids = {name: photo_pyramid(name) for name in self.names}
        weights = np.array([WEIGHTS[name] for name in self.names])
        self._probability = weights / weights.sum()

    def batch(self, step: int, count: int, size: int) -> Tensor:
        """Batch number `step`: [count, 3, size, size] in [-1, 1]."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        patches = torch.empty(count, size, size, 3, dtype=torch.uint8)
        gray = torch.zeros(count, dtype=torch.bool)
        for k in range(count):
            source, gray[k] = self._source(rng, size)
            patches[k] = _turned(_crop(source, size, rng), rng)
        return _recolour(patches.permute(0, 3, 1, 2).float() / 127.5 - 1, gray, rng)

    def _source(self, rng: np.random.Generator, size: int) -> tuple[Tensor, bool]:
        if rng.random() >= self.photo_share:
            return self.canvases[rng.integers(len(self.canvases))], False
        name = self.names[rng.choice(len(self.names), p=self._probability)]
        levels = [level for level in self.pyramids[name] if min(level.shape[:2]) >= size]
        return levels[rng.integers(len(levels))], name in GRAY


@dataclass(frozen=True)
class BatchShape:
    """Patches of `size` px, `count` at a time."""

    size: int
    count: int


@dataclass(eq=False)
class PatchSource:
    """Patches of procedural canvases and bundled photographs, a `Source` of trainings.

    Args:
        batches: shapes of the batches, taken in turn.
        photo_share: fraction of patches that come from photographs.
        canvases: how many are painted, once.
        canvas_size: their side in pixels.
    """

    batches: list[BatchShape]
    photo_share: float = 0.5
    canvases: int = 400
    canvas_size: int = 288
    _patches: Patches | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if not 0 <= self.photo_share <= 1:
            raise ValueError(f"source.photo_share lies in [0, 1], got {self.photo_share}")

    def prepare(self, folder: Path, seed: int) -> None:
        log.info("painting %d canvases (or reading them from %s)", self.canvases, folder)
        canvases = make_canvases(self.canvases, self.canvas_size, seed, folder)
        self._patches = Patches(canvases, self.photo_share, seed)

    def batch(self, step: int) -> Tensor:
        shape = self.batches[step % len(self.batches)]
        return self.images(step, shape.count, shape.size)

    def images(self, number: int, count: int, size: int) -> Tensor:
        return self._patches.batch(number, count, size)


def _crop(source: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    top, left = (int(rng.integers(side - size + 1)) for side in source.shape[:2])
    return source[top : top + size, left : left + size]


def _turned(patch: Tensor, rng: np.random.Generator) -> Tensor:
    if rng.random() < 0.5:
        patch = patch.flip(1)
    turns = int(rng.integers(8))  # mostly upright: light comes from above
    return patch.rot90(turns, (0, 1)) if turns < 4 else patch


def _recolour(x: Tensor, gray: Tensor, rng: np.random.Generator) -> Tensor:
    """Random contrast, colour mixing and brightness for six patches in ten; a random tint for every gray one."""

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    count = len(x)
    mixing = torch.eye(3) * (0.15 * normal(count, 1, 1)).exp() + 0.06 * normal(count, 3, 3)
    tint = (1 + 0.25 * normal(count, 3, 1)).expand(-1, -1, 3) / 3
    mixing = torch.where(gray.view(-1, 1, 1), tint, mixing)
    mean = x.mean((2, 3), keepdim=True)
    brightness = 0.12 * normal(count, 3, 1, 1) * torch.from_numpy(rng.random((count, 1, 1, 1), dtype=np.float32))
    changed = torch.einsum("bij,bjhw->bihw", mixing, x - mean) + mean + brightness
    chosen = torch.from_numpy(rng.random(count) < 0.6) | gray
    return torch.where(chosen.view(-1, 1, 1, 1), changed, x).clamp(-1, 1)
