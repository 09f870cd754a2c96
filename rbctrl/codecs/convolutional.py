"""The codec of a `ConvAutoencoder`: deterministic latents of 4x4 blocks, standard deviation 0.5 per channel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rbctrl.autoencoder import BLOCK, ConvAutoencoder
from rbctrl.codecs.base import Codec
from rbctrl.shipped import digest, load_shipped


class ConvCodec(Codec):
    """RGB images [B, 3, H, W] in [-1, 1], sides multiples of 4, to latents [B, latent_channels, H / 4, W / 4].

    Args:
        weights: safetensors of `rbctrl train codec`.
        latent_channels: of its latents; a file of another number is refused when it is read.
    """

    def __init__(self, weights: str | Path, latent_channels: int = 8) -> None:
        super().__init__()
        self.weights, self.latent_channels = Path(weights), latent_channels
        self.network: ConvAutoencoder | None = None

    def load(self) -> None:
        if self.network is not None:
            return
        network = load_shipped(self.weights, ConvAutoencoder)
        found = network.config["latent_channels"]
        if found != self.latent_channels:
            raise ValueError(f"{self.weights} has latents of {found} channels: say codec.latent_channels={found}")
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def fingerprint(self) -> str:
        return digest(self.weights)

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(image_shape) != 3 or image_shape[0] != 3:
            raise ValueError(f"this codec is one of RGB images, [3, H, W], got {tuple(image_shape)}: convert them")
        height, width = image_shape[1:]
        if height % BLOCK or width % BLOCK:
            raise ValueError(
                f"this codec runs at multiples of {BLOCK} px, got {height}x{width}: "
                "crop to such a number (data.size=..., or load(path, size=...))"
            )
        return (self.latent_channels, height // BLOCK, width // BLOCK)

    def encode(self, image: Tensor) -> Tensor:
        return self._run(image, ConvAutoencoder.encode)

    def decode(self, x0: Tensor) -> Tensor:
        return self._run(x0, ConvAutoencoder.decode)

    def _run(self, x: Tensor, direction: Callable[[ConvAutoencoder, Tensor], Tensor]) -> Tensor:
        if self.network is None:
            raise RuntimeError("the weights are not there yet: call load() before the first use of the codec")
        weights = next(self.network.parameters())
        out = direction(self.network, x.to(weights.dtype).contiguous(memory_format=torch.channels_last))
        return out.to(x.dtype).contiguous()
