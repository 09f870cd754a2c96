"""ConvAutoencoder: the small convolution-only autoencoder behind the shipped `photo_latent` prior.

Both directions are a linear map of 4x4 blocks plus a convolutional correction of it,

    z = P x + e(x),      x = L z + d(z),      L z + d(z + noise) trained towards x.

P and L start as the whitened principal components of training blocks and e, d start as 0: training begins at the best
linear code, whose latents have one variance. Latents are standardised per channel to a standard deviation of 0.5, that
of images, so that the denoiser of the pixel prior serves them unchanged. No statistic crosses pixels or images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rbctrl.networks import SIGMA_DATA, PixelRMSNorm

BLOCK = 4  # pixels per side of one latent


class PlainBlock(nn.Module):
    """Two 3x3 convolutions; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = PixelRMSNorm(channels), PixelRMSNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class ConvAutoencoder(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to latents [B, latent_channels, H / 4, W / 4] and back.

    Args:
        latent_channels: of one latent.
        channels: width at half and at a quarter of the resolution.
        blocks: residual blocks per width and direction.
        image_channels: of the image.
    """

    def __init__(
        self, latent_channels: int = 8, channels: Sequence[int] = (48, 96), blocks: int = 3, image_channels: int = 3
    ) -> None:
        super().__init__()
        fine, coarse = channels
        self.config = {
            "latent_channels": latent_channels,
            "channels": (fine, coarse),
            "blocks": blocks,
            "image_channels": image_channels,
        }

        def level(width: int) -> nn.Sequential:
            return nn.Sequential(*(PlainBlock(width) for _ in range(blocks)))

        self.project = nn.Conv2d(image_channels, latent_channels, BLOCK, stride=BLOCK, bias=False)
        self.lift = nn.ConvTranspose2d(latent_channels, image_channels, BLOCK, stride=BLOCK, bias=False)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * image_channels, fine, 3, padding=1),
            level(fine),
            nn.Conv2d(fine, coarse, 2, stride=2),
            level(coarse),
            PixelRMSNorm(coarse),
            nn.SiLU(),
            nn.Conv2d(coarse, latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, coarse, 3, padding=1),
            level(coarse),
            nn.ConvTranspose2d(coarse, fine, 2, stride=2),
            level(fine),
            PixelRMSNorm(fine),
            nn.SiLU(),
            nn.Conv2d(fine, 4 * image_channels, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("mean", torch.zeros(latent_channels, 1, 1))
        self.register_buffer("scale", torch.ones(latent_channels, 1, 1))
        for head in (self.encoder[-1], self.decoder[-2]):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def encode(self, image: Tensor) -> Tensor:
        """Latents [B, latent_channels, H / 4, W / 4]; deterministic. H and W are multiples of 4."""
        return (self.project(image) + self.encoder(image) - self.mean) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Images [B, C, 4 h, 4 w] of latents [B, latent_channels, h, w]; not clamped."""
        z = z / self.scale + self.mean
        return self.lift(z) + self.decoder(z)

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The latents z, and the image decoded from z + noise."""
        z = self.encode(image)
        return z, self.decode(z + noise)

    @torch.no_grad()
    def start_at_principal_components(self, images: Tensor) -> None:
        """Sets P and L to the whitened principal components of the blocks of images [N, C, H, W]."""
        blocks = F.unfold(images.double(), BLOCK, stride=BLOCK).transpose(1, 2).flatten(0, 1)  # [M, C 4 4]
        second = blocks.T @ blocks / len(blocks)
        values, vectors = torch.linalg.eigh(second)
        count = self.config["latent_channels"]
        deviation, basis = values.flip(0)[:count].sqrt(), vectors.flip(1)[:, :count].T  # [k], [k, C 4 4]
        shape = self.project.weight.shape
        self.project.weight.copy_((SIGMA_DATA * basis / deviation[:, None]).reshape(shape))
        self.lift.weight.copy_((basis * deviation[:, None] / SIGMA_DATA).reshape(shape))

    @torch.no_grad()
    def standardize(self, images: Tensor) -> None:
        """Sets mean and scale so that each channel of the latents of images has mean 0 and deviation 0.5."""
        z = self.encode(images) / self.scale + self.mean
        z = z.transpose(0, 1).flatten(1)
        self.mean.copy_(z.mean(1).view(-1, 1, 1))
        self.scale.copy_((SIGMA_DATA / z.std(1)).view(-1, 1, 1))
