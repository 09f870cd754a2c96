"""Block PCA: each f x f block of an image by K of its coordinates in an orthonormal basis. No weights, and affine.

With P [K, C f f], P P^T = I, the channel means mu and a scale s > 0 for each coordinate, every block b has

    encode    z = P (b - mu) / s          decode    b = mu + P^T (s z)

so encode(decode(z)) = z, decode(encode(x)) is the orthogonal projection of x onto the images of the codec, and both are
affine: where the latents are Gaussian and A is linear, everything stays Gaussian (`rbctrl.priors.affine`).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rbctrl.codecs.base import Codec


class BlockPCA(Codec):
    """Images [B, C, f h, f w] to latents [B, K, h, w] and back.

    Args:
        components: P, [K, C, f, f], with orthonormal rows.
        mean: mu, [C]; None is mid-grey, 0.
        scale: s, [K]; None is 1, and then decoding keeps lengths.

    Raises:
        ValueError: shapes that do not fit, rows that are not orthonormal, or a scale that is not positive.
    """

    affine: ClassVar[bool] = True

    def __init__(self, components: Tensor, mean: Tensor | None = None, scale: Tensor | None = None) -> None:
        super().__init__()
        if components.ndim != 4 or components.shape[2] != components.shape[3]:
            raise ValueError(f"components of a block codec are [K, C, f, f], got {tuple(components.shape)}")
        count, channels, self.block, _ = components.shape
        rows = components.flatten(1).double()
        gap = (rows @ rows.T - torch.eye(count, dtype=torch.float64, device=rows.device)).abs().max()
        if not gap < 1e-6:
            raise ValueError(f"the components of a block codec are orthonormal, and these are off by {gap:.3g}")
        mean = torch.zeros(channels) if mean is None else mean
        scale = torch.ones(count) if scale is None else scale
        if mean.shape != (channels,) or scale.shape != (count,) or not (scale > 0).all():
            raise ValueError(
                f"{count} components of {channels} channels need a mean [{channels}] and a scale [{count}] above 0, "
                f"got {tuple(mean.shape)} and {scale.tolist()}"
            )
        self.register_buffer("mean", mean.double())
        self.register_buffer("scale", scale.double())
        self.register_buffer("to_latent", components.double() / scale.double().view(-1, 1, 1, 1))
        self.register_buffer("to_image", components.double() * scale.double().view(-1, 1, 1, 1))

    def encode(self, image: Tensor) -> Tensor:
        centred = image - self.mean.to(image).view(-1, 1, 1)
        return F.conv2d(centred, self.to_latent.to(image), stride=self.block)

    def decode(self, x0: Tensor) -> Tensor:
        return F.conv_transpose2d(x0, self.to_image.to(x0), self.mean.to(x0), stride=self.block)

    def fingerprint(self) -> str:
        content = torch.cat([self.mean, self.scale, self.to_latent.flatten()])
        return hashlib.sha256(content.cpu().numpy().tobytes()).hexdigest()[:16]

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """[K, H / f, W / f].

        Raises:
            ValueError: another number of channels, or sides that are no multiples of the block.
        """
        count, channels = self.to_latent.shape[:2]
        if len(image_shape) != 3 or image_shape[0] != channels or any(side % self.block for side in image_shape[1:]):
            raise ValueError(
                f"this codec takes images of {channels} channels whose sides are multiples of {self.block} px, "
                f"got {tuple(image_shape)}"
            )
        return (count, *(side // self.block for side in image_shape[1:]))


def dct(block: int = 4, channels: int = 3, n_components: int = 12) -> BlockPCA:
    """The lowest frequencies of the orthonormal cosine basis (DCT-II, as in JPEG), channel by channel; no scale.

    Frequencies (u, v) come in the order of u^2 + v^2, each for all channels.

    Raises:
        ValueError: more components than a block has numbers, or none.
    """
    _check_count(n_components, block, channels)
    k, x = torch.arange(block, dtype=torch.float64)[:, None], torch.arange(block, dtype=torch.float64)
    wave = (math.pi * (x + 0.5) * k / block).cos() * (2 / block) ** 0.5
    wave[0] /= 2**0.5
    order = sorted(itertools.product(range(block), repeat=2), key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    pairs = [(uv, c) for uv in order for c in range(channels)][:n_components]
    components = torch.zeros(n_components, channels, block, block, dtype=torch.float64)
    for row, ((u, v), c) in enumerate(pairs):
        components[row, c] = wave[u][:, None] * wave[v]
    return BlockPCA(components)


def fitted(images: Sequence[Tensor], block: int = 4, n_components: int = 12) -> BlockPCA:
    """The principal components of the blocks of images [C, H, W]; latents have unit mean square on them.

    The sign of a component is such that its largest entry is positive.

    Raises:
        ValueError: no image, more components than a block has numbers, or than the images span.
    """
    if len(images) == 0:
        raise ValueError("a block codec is fitted to images, and there are none")
    channels = images[0].shape[0]
    _check_count(n_components, block, channels)
    blocks = torch.cat([F.unfold(image[None].double(), block, stride=block)[0].T for image in images])
    mean = blocks.view(-1, channels, block**2).mean((0, 2))
    centred = blocks - mean.repeat_interleave(block**2)
    energy, basis = torch.linalg.eigh(centred.T @ centred / len(centred))
    energy, basis = energy.flip(0)[:n_components], basis.flip(1).T[:n_components]
    if not energy[-1] > 1e-12 * energy[0]:
        raise ValueError(f"these images span fewer than {n_components} components: take fewer, or more images")
    largest = basis.gather(1, basis.abs().argmax(1, keepdim=True))
    components = (basis * largest.sign()).view(n_components, channels, block, block)
    return BlockPCA(components, mean, energy.sqrt())


def _check_count(n_components: int, block: int, channels: int) -> None:
    if not 1 <= n_components <= channels * block**2:
        raise ValueError(
            f"a block of {channels} x {block} x {block} numbers has 1 to {channels * block**2} components, "
            f"got n_components={n_components}"
        )
