"""What `rbctrl train` minimises, each as a pure function of the network, the batch and the number of the step.

`Denoising` is the EDM objective (Karras et al., NeurIPS 2022, section 5), on images or on the latents of a codec:

    E[ lambda(sigma) |D(x_0 + sigma eps; sigma) - x_0|^2 ],  lambda = (sigma^2 + s_d^2) / (sigma s_d)^2

`Reconstruction` trains a `ConvAutoencoder`: E[ |D(E(x) + noise) - x|^2 + penalty |E(x)|^2 ]; the noise makes the
decoder smooth on the scale of a denoiser's errors, the penalty keeps the encoder from outgrowing it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rbctrl.autoencoder import BLOCK, ConvAutoencoder
from rbctrl.networks import SIGMA_DATA
from rbctrl.shipped import load_shipped

STATISTICS = (10_000_000, 256, 64)  # number, count and size of the batch that principal components are taken from


class Source(Protocol):
    """What a training learns from."""

    def prepare(self, folder: Path, seed: int) -> None:
        """Before anything else; what takes long is kept in `folder`."""

    def batch(self, step: int) -> Any:
        """The batch of a step, a function of the seed and the step alone: images, or what the objective takes."""

    def images(self, number: int, count: int, size: int) -> Tensor:
        """Batch `number` of images alone, [count, C, size, size] in [-1, 1], for statistics."""


class TrainingObjective(Protocol):
    """What a training minimises."""

    def prepare(self, network: nn.Module, source: Source) -> None:
        """Before the first step, and before a checkpoint is read: where the network starts."""

    def loss(self, forward: Callable, batch: Any, step: int, seed: int) -> Tensor:
        """Of a batch of the source, a scalar; `forward` is that of the network, perhaps compiled."""

    def finish(self, network: nn.Module, source: Source) -> None:
        """After the last step, on the averaged weights."""


@dataclass(eq=False)
class Denoising:
    """The EDM objective.

    Args:
        codec: weights of a `ConvAutoencoder`, to train on its latents; None trains on images.
    """

    codec: str | None = None
    _codec: nn.Module | None = field(init=False, default=None)

    def prepare(self, network: nn.Module, source: Source) -> None:
        if self.codec is not None:
            self._codec = load_shipped(Path(self.codec), ConvAutoencoder).eval().requires_grad_(False)
            self._codec.to(memory_format=torch.channels_last)

    def loss(self, forward: Callable, image: Tensor, step: int, seed: int) -> Tensor:
        x_0 = image if self._codec is None else self._codec.encode(image)
        sigma = draw_sigma(len(x_0), step, seed).to(x_0)
        s = sigma.view(-1, 1, 1, 1)
        denoised = forward(x_0 + s * draw_noise(x_0, step, seed), sigma)
        weight = (s.square() + SIGMA_DATA**2) / (s * SIGMA_DATA).square()
        return (weight * (denoised - x_0).square()).mean()

    def finish(self, network: nn.Module, source: Source) -> None:
        pass


@dataclass(eq=False)
class Reconstruction:
    """Mean square error of a `ConvAutoencoder` under noise.

    Args:
        noise: standard deviation added to latents whose own starts at 0.5.
        penalty: of the latents' mean square.
    """

    noise: float = 0.03
    penalty: float = 1e-4
    _channels: int = field(init=False, default=0)

    def prepare(self, network: ConvAutoencoder, source: Source) -> None:
        self._channels = network.config["latent_channels"]
        network.start_at_principal_components(source.images(*STATISTICS))

    def loss(self, forward: Callable, image: Tensor, step: int, seed: int) -> Tensor:
        n, _, h, w = image.shape
        like = image.new_empty(n, self._channels, h // BLOCK, w // BLOCK)
        z, decoded = forward(image, self.noise * draw_noise(like, step, seed))
        return (decoded - image).square().mean() + self.penalty * z.square().mean()

    def finish(self, network: ConvAutoencoder, source: Source) -> None:
        network.standardize(source.images(*STATISTICS))


def draw_sigma(count: int, step: int, seed: int) -> Tensor:
    """Noise levels [count]: four in five log-normal around the levels that restoration needs, the rest log-uniform."""
    rng = np.random.Generator(np.random.Philox(key=[seed + 1, step]))
    typical = np.exp(-1.1 + 1.3 * rng.standard_normal(count))
    anywhere = np.exp(rng.uniform(math.log(0.005), math.log(80.0), count))
    sigma = np.where(rng.random(count) < 0.8, typical, anywhere).clip(0.003, 100.0)
    return torch.from_numpy(sigma.astype(np.float32))


def draw_noise(like: Tensor, step: int, seed: int) -> Tensor:
    """Standard normal, like `like`; a function of seed and step."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**32)
    return torch.randn(like.shape, generator=generator).to(like)
