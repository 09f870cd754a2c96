"""Procedural images: textured dead leaves (Lee, Mumford and Huang, IJCV 2001), painted with natural colours.

A canvas is covered, coarse to fine, by leaves with soft edges, shading and texture; sizes follow a power law, so edges
occur at all scales as in photographs. Colours come from palettes: pixels sampled together from crops of the training
photographs. At paint step k all B canvases receive one leaf in a window of the same size at different places, so a step
costs B windows, not B canvases, and runs unchanged on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TEXTURE_SIZE = 256


def colored_noise(exponent: Tensor, stretch: Tensor, angle: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Gaussian fields [T, size, size], amplitude |f|^-exponent, stretched along an angle; zero mean, unit variance."""
    f = torch.fft.fftfreq(size)
    fy, fx = torch.meshgrid(f, f, indexing="ij")
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    along, across = cos * fx + sin * fy, cos * fy - sin * fx
    radius = ((stretch.view(-1, 1, 1) * along).square() + across.square()).sqrt()
    radius[:, 0, 0] = 1.0
    white = torch.randn(len(exponent), size, size, generator=generator)
    field = torch.fft.ifft2(torch.fft.fft2(white) * radius.pow(-exponent.view(-1, 1, 1))).real
    field = field - field.mean((1, 2), keepdim=True)
    return field / field.square().mean((1, 2), keepdim=True).sqrt()


def make_textures(generator: torch.Generator, count: int = 40, size: int = TEXTURE_SIZE) -> Tensor:
    """Periodic gray textures [3 count, size, size]: noise, warped stripes and blotches; zero mean, clipped to +-3."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    noise = colored_noise(uniform(0.3, 2.0), uniform(0.0, 2.3).exp(), uniform(0.0, math.pi), size, generator)
    warp = colored_noise(torch.full((count,), 1.8), torch.ones(count), torch.zeros(count), size, generator)
    grid = 2 * math.pi * torch.arange(size) / size
    waves = torch.randint(-40, 41, (2, count, 1, 1), generator=generator)
    phase = waves[0] * grid[:, None] + waves[1] * grid[None, :] + uniform(0.0, 6.0).view(-1, 1, 1) * warp
    stripes = phase.sin()
    stripes[::2] = (4 * stripes[::2]).tanh()
    stripes = stripes * (1 + 0.3 * noise.clamp(-2, 2))
    blotches = (3 * (noise + 0.5 * torch.randn(count, 1, 1, generator=generator))).tanh()
    return torch.cat([noise, stripes, blotches]).clamp(-3, 3)


def sample_palettes(photos: list[Tensor], generator: torch.Generator, count: int = 256, colors: int = 48) -> Tensor:
    """Colours [count, colors, 3] in [0, 1], each from one random square crop of a photograph [H, W, 3] uint8."""
    palettes = []
    for k in range(count):
        photo = photos[k % len(photos)]
        height, width = photo.shape[:2]
        side = int(torch.randint(60, min(height, width), (), generator=generator))
        top = int(torch.randint(height - side + 1, (), generator=generator))
        left = int(torch.randint(width - side + 1, (), generator=generator))
        pixels = photo[top : top + side, left : left + side].reshape(-1, 3)
        palettes.append(pixels[torch.randint(len(pixels), (colors,), generator=generator)])
    return torch.stack(palettes).float() / 255


@dataclass(eq=False)
class DeadLeaves:
    """Painter of procedural images.

    Args:
        textures: [T, 256, 256], periodic, of about unit variance.
        palettes: [K, colors, 3] in [0, 1].
        generator: the only source of randomness: same state, same images.
    """

    textures: Tensor
    palettes: Tensor
    generator: torch.Generator

    def paint(self, count: int, size: int, leaves: int = 350, radii: tuple[float, float] = (1.5, 140.0)) -> Tensor:
        """Images [count, 3, size, size] in [0, 1]."""
        border = int(2 * radii[1]) + 8
        palette = self._draw_palettes(count)
        width = size + 2 * border
        canvas = palette[:, 0].view(count, 1, 1, 3).expand(count, width, width, 3).contiguous()
        for _ in range(6):
            self._paint_leaf(canvas, palette, radii[1], border, background=True)
        for radius in self._draw_radii(leaves, radii):
            self._paint_leaf(canvas, palette, radius, border, background=False)
        image = canvas[:, border : border + size, border : border + size].permute(0, 3, 1, 2)
        return self._photograph(image).clamp(0, 1)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def _chance(self, probability: float, *shape: int) -> Tensor:
        return self._rand(*shape) < probability

    def _draw_palettes(self, count: int) -> Tensor:
        pick = torch.randint(len(self.palettes), (count,), generator=self.generator)
        palette = self.palettes[pick].clone()
        shuffled = palette[:, :, torch.randperm(3, generator=self.generator)]
        palette = torch.where(self._chance(0.12, count, 1, 1), shuffled, palette)
        palette = palette + 0.04 * torch.randn(palette.shape, generator=self.generator)
        contrast = 0.6 + 0.7 * self._rand(count, 1, 1)
        return (0.5 + (palette - 0.5) * contrast).clamp(0, 1)

    def _draw_radii(self, leaves: int, radii: tuple[float, float]) -> list[float]:
        """Many small, few large; painted large to small with jitter, so that small ones are seldom buried."""
        low, high = math.log(radii[0]), math.log(radii[1])
        log_radius = low + (high - low) * (1 - self._rand(leaves).pow(0.62))
        order = (-log_radius + 0.9 * torch.randn(leaves, generator=self.generator)).argsort()
        return log_radius[order].exp().tolist()

    def _paint_leaf(self, canvas: Tensor, palette: Tensor, radius: float, border: int, background: bool) -> None:
        """Blends one leaf into every canvas, in place."""
        count, width = canvas.shape[:2]
        half = math.ceil(1.25 * radius) + 3
        margin = half + 1 if background else border - int(0.8 * radius)
        center = torch.randint(margin, width - margin, (2, count, 1), generator=self.generator)
        offset = torch.arange(2 * half)
        rows, columns = (center - half + offset).clamp(0, width - 1)
        x, y = self._rotated_grid(count, half)
        shape, distance = self._silhouette(x, y, radius, background)
        softness = (3.2 * self._rand(count, 1, 1).pow(2.5) - 0.9).exp().clamp(max=max(0.5, radius / 2))
        coverage = (2.2 * distance / softness).sigmoid()
        if radius > 8 and not background:  # some leaves are rings
            hole = (2.2 * (distance - 1 - 0.4 * radius * self._rand(count, 1, 1)) / softness).sigmoid()
            coverage = torch.where(self._chance(0.07, count, 1, 1), coverage * (1 - hole), coverage)
        opacity = torch.where(self._chance(0.12, count, 1, 1), self._rand(count, 1, 1), torch.ones(()))
        where = (torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])
        below = canvas[where]
        color = self._color(below, palette, x, y, shape, radius, rows, columns)
        canvas[where] = torch.lerp(below, color, (coverage * opacity)[..., None])

    def _rotated_grid(self, count: int, half: int) -> tuple[Tensor, Tensor]:
        angle = 2 * math.pi * self._rand(count, 1, 1)
        upright = (angle / (math.pi / 2)).round() * (math.pi / 2)
        angle = torch.where(self._chance(0.2, count, 1, 1), upright, angle)
        g = torch.arange(2 * half) - half + 0.5
        return angle.cos() * g + angle.sin() * g[:, None], angle.cos() * g[:, None] - angle.sin() * g

    def _silhouette(self, x: Tensor, y: Tensor, radius: float, background: bool) -> tuple[Tensor, Tensor]:
        """A gauge (1 on the outline) and the signed distance to it in pixels, positive inside."""
        count = len(x)
        wobble = torch.where(self._chance(0.4, count, 1, 1), 0.35 * self._rand(count, 1, 1), torch.zeros(()))
        if background:  # a half-plane: horizons and walls
            wave = 10 * wobble * (y / (4 + 10 * self._rand(count, 1, 1))).sin()
            return x / radius, x + radius * (self._rand(count, 1, 1) - 0.5) + wave
        aspect = (-2.4 * self._rand(count, 1, 1).square()).exp()
        powers = torch.tensor([1.0, 2.0, 2.0, 2.0, 4.0, 12.0])
        power = powers[torch.randint(len(powers), (count, 1, 1), generator=self.generator)]
        gauge = ((x.abs() / radius + 1e-4).pow(power) + (y.abs() / (radius * aspect) + 1e-4).pow(power)).pow(1 / power)
        if radius > 3:  # stars and blobs
            lobes = torch.randint(2, 8, (count, 1, 1), generator=self.generator)
            angle = torch.atan2(y, x)
            gauge = gauge * (1 + wobble * (lobes * angle).sin() + wobble / 2 * ((2 * lobes + 1) * angle).sin())
        return gauge, (1 - gauge) * radius * aspect.sqrt()

    def _color(
        self,
        below: Tensor,
        palette: Tensor,
        x: Tensor,
        y: Tensor,
        gauge: Tensor,
        radius: float,
        rows: Tensor,
        columns: Tensor,
    ) -> Tensor:
        """Palette colour, mixed with what lies below it, shaded and textured: [B, n, n, 3]."""
        count, n = x.shape[:2]
        pick = torch.randint(palette.shape[1], (count,), generator=self.generator)
        base = palette[torch.arange(count), pick].view(count, 1, 1, 3)
        around = below[:, n // 2, n // 2].view(count, 1, 1, 3)
        faint = torch.where(self._chance(0.3, count, 1, 1, 1), 0.25, 1.0)  # natural images have many weak edges
        base = torch.lerp(around, base, faint)
        slope = (self._rand(count, 1, 1) - 0.5) * x + (self._rand(count, 1, 1) - 0.5) * y
        shading = 0.9 * slope / radius * self._rand(count, 1, 1).square()
        rim = torch.where(self._chance(0.3, count, 1, 1), gauge.clamp(0, 1.3).square(), torch.zeros(()))
        shading = shading - 0.6 * self._rand(count, 1, 1).pow(3) * rim
        return base * (1 + shading[..., None]) + self._texture(base, rows, columns)

    def _texture(self, base: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        count = len(base)
        pick = torch.randint(len(self.textures), (count, 1, 1), generator=self.generator)
        shift = torch.randint(TEXTURE_SIZE, (2, count, 1), generator=self.generator)
        zoom = torch.randint(1, 3, (), generator=self.generator)
        row, column = (rows * zoom + shift[0]) % TEXTURE_SIZE, (columns * zoom + shift[1]) % TEXTURE_SIZE
        pattern = self.textures[pick, row[:, :, None], column[:, None, :]]
        strength = torch.where(self._chance(0.3, count, 1, 1), torch.zeros(()), 0.3 * self._rand(count, 1, 1).square())
        tint = 1 + 0.35 * torch.randn(count, 1, 1, 3, generator=self.generator)
        return (pattern * strength)[..., None] * tint * (0.25 + 0.75 * base.mean(-1, keepdim=True))

    def _photograph(self, image: Tensor) -> Tensor:
        """Uneven illumination and the blur of a camera."""
        count, _, size, _ = image.shape
        ramp = torch.linspace(-1, 1, size)
        tilt = (self._rand(2, count, 1, 1, 1) - 0.5) * self._rand(2, count, 1, 1, 1).square()
        image = image * (1 + 0.7 * (tilt[0] * ramp[:, None] + tilt[1] * ramp))
        width = 0.3 + torch.where(self._chance(0.7, count), 0.9 * self._rand(count).square(), torch.zeros(()))
        taps = (-torch.arange(-3, 4).square() / (2 * width[:, None].square())).exp()
        taps = taps / taps.sum(1, keepdim=True)
        stacked = F.pad(image.transpose(0, 1), (3, 3, 3, 3), mode="reflect")  # [3, B, H, W]: one kernel per image
        stacked = F.conv2d(stacked, taps.view(count, 1, 1, 7), groups=count)
        return F.conv2d(stacked, taps.view(count, 1, 7, 1), groups=count).transpose(0, 1)
