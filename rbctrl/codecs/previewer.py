"""Stable Cascade's previewer: latents [B, 16, h, w] to images of 8 h x 8 w px, in the published layout.

    blocks.0         1 x 1, 16 to 4 c
    blocks.3, 6      3 x 3, 4 c        transposed 2 x 2, 4 c to 2 c
    blocks.9, 12     3 x 3, 2 c        transposed 2 x 2, 2 c to c
    blocks.15, 18    3 x 3, c          transposed 2 x 2, c to c
    blocks.21        3 x 3, c
    blocks.24        1 x 1, c to RGB in [0, 1]

After each layer but the last come GELU and batch normalisation, whose numbers are 2 higher than the layer's.
c is 128 in the published file; a file of the same layers in another width is a distilled substitute.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, fill, read_tensors
from rbctrl.codecs.base import Codec
from rbctrl.offload import SAMPLING, Part

SCALE = 8  # pixels of a preview per latent pixel and side


class PreviewerNetwork(nn.Module):
    """The layers.

    Args:
        channels: of a latent.
        width: c, of the last layers.
    """

    def __init__(self, channels: int = 16, width: int = 128) -> None:
        super().__init__()
        wide, middle = 4 * width, 2 * width
        layers = [
            nn.Conv2d(channels, wide, 1),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.ConvTranspose2d(wide, middle, 2, 2),
            nn.Conv2d(middle, middle, 3, padding=1),
            nn.ConvTranspose2d(middle, width, 2, 2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ConvTranspose2d(width, width, 2, 2),
            nn.Conv2d(width, width, 3, padding=1),
        ]
        blocks = [part for layer in layers for part in (layer, nn.GELU(), nn.BatchNorm2d(layer.out_channels))]
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(width, 3, 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.blocks(z)


class Previewer(Codec):
    """Decodes a small, blurry and differentiable image: what costs see of a latent of Stable Cascade. It cannot encode.

    Args:
        file: safetensors in the published layout, of any width.
        channels: of a latent.
    """

    def __init__(self, file: RequiredFile, channels: int = 16) -> None:
        super().__init__()
        self.file, self.channels = file, channels
        self.network: PreviewerNetwork | None = None

    def load(self) -> None:
        if self.network is not None:
            return
        state = read_tensors(self.file)
        last = state.get("blocks.24.weight")
        with torch.device("meta"):
            network = PreviewerNetwork(self.channels, 128 if last is None else last.shape[1])
        self.network = fill(network, state, self.file.place).eval().requires_grad_(False)

    def fingerprint(self) -> str:
        return self.file.fingerprint()

    def files(self) -> tuple[RequiredFile, ...]:
        return (self.file,)

    def parts(self) -> tuple[Part, ...]:
        return (Part("previewer", SAMPLING, self.network),)

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.channels, *(side // SCALE for side in image_shape[1:]))

    def encode(self, image: Tensor) -> Tensor:
        raise ValueError("a previewer only decodes: take a method that needs no encoder (rb_modulation, dps)")

    def decode(self, x0: Tensor) -> Tensor:
        if self.network is None:
            raise RuntimeError("the weights are not there yet: call load() before the first use of the codec")
        return (2 * self.network(x0.float()) - 1).to(x0.dtype)
