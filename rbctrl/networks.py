"""ConvUNet: the small convolution-only denoiser behind the shipped `photo` prior.

D(x; sigma) estimates x_0 from x = x_0 + sigma eps, preconditioned as in EDM (Karras et al., NeurIPS 2022, Table 1):

    D(x; sigma) = c_skip x + c_out F(c_in x; log(sigma) / 4),   sigma_data = 0.5 for images in [-1, 1].

F works on 2x2 pixel-unshuffled images, has no attention and normalises each pixel over its channels only. Nothing in it
depends on the size of the image, so what is trained on 64 px patches runs at any multiple of `ConvUNet.stride`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIGMA_DATA = 0.5


class PixelRMSNorm(nn.Module):
    """Divides each pixel by the root mean square of its channels: no statistic crosses pixels or images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6) * self.scale.view(1, -1, 1, 1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, modulated by the noise level between them."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = PixelRMSNorm(channels), PixelRMSNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels)
        for layer in (self.conv2, self.film):  # starts as the identity
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))


class ConvUNet(nn.Module):
    """Denoiser D(x; sigma) of images in [-1, 1].

    Args:
        channels: width of each resolution level, finest first.
        blocks: residual blocks per level and direction.
        patch: side of the pixel-unshuffle of the stem.
        embedding: width of the noise-level embedding.
        image_channels: channels of the image.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        patch: int = 2,
        embedding: int = 128,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        channels = tuple(channels)
        self.config = {
            "channels": channels,
            "blocks": blocks,
            "patch": patch,
            "embedding": embedding,
            "image_channels": image_channels,
        }
        self.patch, self.stride = patch, patch * 2 ** (len(channels) - 1)

        def level(width: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualBlock(width, embedding) for _ in range(blocks))

        frequencies = torch.exp(torch.linspace(math.log(0.5), math.log(64.0), embedding // 4))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(2 * len(frequencies), embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        pairs = list(zip(channels, channels[1:]))
        self.stem = nn.Conv2d(image_channels * patch**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(level(width) for width in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(level(fine) for fine, _ in pairs)
        self.norm = PixelRMSNorm(channels[0])
        self.head = nn.Conv2d(channels[0], image_channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x [B, C, H, W] = x_0 + sigma eps and sigma [B] to the estimate of x_0 [B, C, H, W].

        H and W are multiples of `stride`.
        """
        s = sigma.view(-1, 1, 1, 1)
        total = (s.square() + SIGMA_DATA**2).rsqrt()
        residual = self._residual(total * x, sigma.log() / 4)
        return (SIGMA_DATA * total).square() * x + s * SIGMA_DATA * total * residual

    def _residual(self, x: Tensor, c_noise: Tensor) -> Tensor:
        angles = c_noise[:, None] * self.frequencies
        embedding = self.embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        h = self.stem(F.pixel_unshuffle(x, self.patch))
        skips = []
        for depth, level in enumerate(self.down):
            for block in level:
                h = block(h, embedding)
            if depth < len(self.shrink):
                skips.append(h)
                h = self.shrink[depth](h)
        for depth in reversed(range(len(self.grow))):
            h = self.grow[depth](h) + skips[depth]
            for block in self.up[depth]:
                h = block(h, embedding)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
