"""Stable Cascade's image encoder, EfficientNetV2-S without its classifier: images to latents [B, 16, h, w].

    z = BN(W_{1x1} features((x01 - mean) / std)),      x01 the image on [0, 1], reduced to 32 h x 32 w px

Published as effnet_encoder.safetensors, under torchvision's names (Tan and Le, EfficientNetV2, ICML 2021, table 4):

    backbone.0             3 x 3, stride 2, to 24
    backbone.1 ... 3       fused blocks: a 3 x 3 that expands, a 1 x 1 that projects; without expansion the 3 x 3 alone
    backbone.4 ... 6       blocks: a 1 x 1 that expands, a 3 x 3 per channel, squeeze and excitation, a projection
    backbone.7             1 x 1, to 1280
    mapper.0, mapper.1     1 x 1 without bias, and batch normalisation without weights

After each convolution comes batch normalisation, and SiLU but for the projections.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, fill, read_tensors

STRIDE = 32  # pixels that it reads per latent pixel and side
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_FILE = "effnet_encoder.safetensors"
_EPS = 1e-3  # of batch normalisation in torchvision's EfficientNetV2


@dataclass(frozen=True)
class Stage:
    """Blocks of one width.

    Args:
        fused: which kind.
        expand: factor of the expansion.
        stride: of the first block.
        width: of the output.
        blocks: number of them.
    """

    fused: bool
    expand: int
    stride: int
    width: int
    blocks: int


@dataclass(frozen=True)
class Layout:
    """Widths of the network: of its first layer, its stages and its last layer."""

    first: int
    stages: tuple[Stage, ...]
    last: int


PUBLISHED = Layout(
    24,
    (
        Stage(True, 1, 1, 24, 2),
        Stage(True, 4, 2, 48, 4),
        Stage(True, 4, 2, 64, 4),
        Stage(False, 4, 2, 128, 6),
        Stage(False, 6, 1, 160, 9),
        Stage(False, 6, 2, 256, 15),
    ),
    1280,
)


class EffNet(nn.Module):
    """The network.

    Args:
        layout: its widths.
        channels: of a latent.
    """

    def __init__(self, layout: Layout = PUBLISHED, channels: int = 16) -> None:
        super().__init__()
        width, stages = layout.first, []
        for stage in layout.stages:
            strides = [stage.stride, *[1] * (stage.blocks - 1)]
            widths = [width, *[stage.width] * (stage.blocks - 1)]
            stages.append(nn.Sequential(*(Block(stage, w, s) for w, s in zip(widths, strides, strict=True))))
            width = stage.width
        self.backbone = nn.Sequential(_layer(3, layout.first, 3, 2), *stages, _layer(width, layout.last))
        self.mapper = nn.Sequential(
            nn.Conv2d(layout.last, channels, 1, bias=False), nn.BatchNorm2d(channels, affine=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mapper(self.backbone(x))


class Block(nn.Module):
    """One block; it adds its input where both have one shape."""

    def __init__(self, stage: Stage, width: int, stride: int) -> None:
        super().__init__()
        inner, self.residual = width * stage.expand, stride == 1 and width == stage.width
        if stage.fused and stage.expand == 1:
            layers = [_layer(width, stage.width, 3, stride)]
        elif stage.fused:
            layers = [_layer(width, inner, 3, stride), _layer(inner, stage.width, active=False)]
        else:
            layers = [_layer(width, inner), _layer(inner, inner, 3, stride, groups=inner)]
            layers += [SqueezeExcitation(inner, max(1, width // 4)), _layer(inner, stage.width, active=False)]
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.residual else self.block(x)


class SqueezeExcitation(nn.Module):
    """Weighs channels by what their means say."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class ImageEncoder(nn.Module):
    """The encoder from its file.

    Args:
        file: safetensors in the published layout, or a folder with effnet_encoder.safetensors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, file: RequiredFile) -> None:
        super().__init__()
        place = file.path / _FILE if file.path.is_dir() else file.path
        self.file = RequiredFile(str(place), file.published, file.setting)
        self.network: EffNet | None = None
        for name, value in {"mean": MEAN, "std": STD}.items():
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)

    def load(self) -> None:
        """Reads the weights, once.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it does not fit to the last tensor.
        """
        if self.network is None:
            state = read_tensors(self.file)
            with torch.device("meta"):
                network = EffNet(PUBLISHED)
            self.network = fill(network, state, Path(self.file.place)).eval().requires_grad_(False)

    def forward(self, image: Tensor, shape: tuple[int, int]) -> Tensor:
        """Latents [B, 16, h, w] of images [B, 3, H, W] in [-1, 1]; the reduction to 32 h x 32 w is bicubic, ours."""
        if self.network is None:
            raise RuntimeError("the weights are not there yet: call load() before the first use of the encoder")
        sides = tuple(STRIDE * side for side in shape)
        x = (image.float() + 1) / 2
        if tuple(x.shape[2:]) != sides:
            x = F.interpolate(x, sides, mode="bicubic", antialias=True, align_corners=False)
        return self.network((x - self.mean) / self.std).to(image.dtype)


def _layer(width: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True) -> nn.Module:
    convolution = nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    parts = [convolution, nn.BatchNorm2d(out, eps=_EPS)]
    return nn.Sequential(*parts, nn.SiLU()) if active else nn.Sequential(*parts)
