"""The network G of Tran et al., Explore Image Deblurring via Encoded Blur Kernel Space, CVPR 2021.

A sharp image and a latent give a blurred image, x + R(U(F(x), latent)): features F of a quarter of the size, a
U-shaped adapter U of five more halvings with the latent joined at the bottom, and a reconstruction R. Written from the
layout of the published checkpoints, whose keys are those of this module; images are on [0, 1], with sides of multiples
of 128, and the latent has 8 width channels on a grid of side / 128 (512 x 2 x 2 at 256 px).

Note:
    The published adapter's activations work in place, so that its skip connections carry LeakyReLU(x), not x. The
    weights were trained that way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 128
_UNUSED = "kernel_extractor."  # the network that finds the latent of a given blur
_TAIL = 64  # channels of the last layers, whatever the width


class KernelWizard(nn.Module):
    """(image, latent) to the blurred image.

    Args:
        width: channels of the features; 64 in the published weights.
        front: residual blocks of the features, 10 there.
        back: residual blocks of the reconstruction, 20 there.
    """

    def __init__(self, width: int = 64, front: int = 10, back: int = 20) -> None:
        super().__init__()
        self.width = width
        curve = nn.LeakyReLU(0.1)
        features = [nn.Conv2d(3, width, 3, padding=1), curve]
        for _ in range(2):
            features += [nn.Conv2d(width, width, 3, stride=2, padding=1), curve]
        self.feature_extractor = nn.Sequential(*features, *(_Residual(width) for _ in range(front)))
        self.adapter = nn.Module()
        self.adapter.model = _Level(width, [1, 2, 4, 8, 8])
        self.recon_trunk = nn.Sequential(
            *(_Residual(width) for _ in range(back)),
            *(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), curve),
            *(nn.Conv2d(width, 4 * _TAIL, 3, padding=1), nn.PixelShuffle(2), curve),
            *(nn.Conv2d(_TAIL, _TAIL, 3, padding=1), curve),
            nn.Conv2d(_TAIL, 3, 3, padding=1),
        )

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """[B, 3, H, W] on [0, 1] and [B, 8 width, H / 128, W / 128] to [B, 3, H, W]."""
        return image + self.recon_trunk(self.adapter.model(self.feature_extractor(image), latent))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class _Double(nn.Module):
    """Two convolutions of 5 x 5."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(inputs, outputs, 5, padding=2), nn.Conv2d(outputs, outputs, 5, padding=2)
        self.double_conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class _Level(nn.Module):
    """One halving, what lies below it, and one doubling; the outermost has no skip connection and ends in tanh."""

    def __init__(self, width: int, multiples: list[int], outermost: bool = True) -> None:
        super().__init__()
        outer = width * (1 if outermost else multiples[0])
        inner = width * (multiples[0] if outermost else multiples[1])
        self.outermost = outermost
        halve = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=False)
        self.down = nn.Sequential(halve) if outermost else nn.Sequential(nn.LeakyReLU(0.2), halve)
        below = multiples if outermost else multiples[1:]
        if len(below) > 1:
            self.submodule = _Level(width, below, outermost=False)
        double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.up = nn.Sequential(nn.ReLU(), _Double(2 * inner, outer), double)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        if self.outermost:
            return self.up(self.submodule(self.down(x), latent)).tanh()
        skip = F.leaky_relu(x, 0.2)
        lower = self.down(x)
        joined = self.submodule(lower, latent) if hasattr(self, "submodule") else torch.cat([lower, latent], 1)
        return torch.cat([self.up(joined), skip], 1)


def read_wizard(file: str | Path) -> KernelWizard:
    """The network of a published checkpoint; its width and depths are read from the keys.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such checkpoint: a tensor is missing, unknown or of another shape.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"NonlinearBlur: there is no checkpoint {str(file)!r}: download GOPRO_wVAE.pth first")
    state = _state(file)
    try:
        width = len(state["feature_extractor.0.weight"])
        network = KernelWizard(width, _depth(state, "feature_extractor"), _depth(state, "recon_trunk"))
        network.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"NonlinearBlur: {str(file)!r} is no KernelWizard checkpoint: {reason}") from error
    return network.eval().requires_grad_(False)


def _state(file: str | Path) -> dict[str, Tensor]:
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives and refused pickles raise many types
        raise ValueError(f"NonlinearBlur: {str(file)!r} cannot be loaded ({type(error).__name__})") from error
    if not isinstance(saved, Mapping) or not all(isinstance(value, Tensor) for value in saved.values()):
        raise ValueError(f"NonlinearBlur: {str(file)!r} holds no table of tensors")
    return {name: value for name, value in saved.items() if not name.startswith(_UNUSED)}


def _depth(state: Mapping[str, Tensor], part: str) -> int:
    return len({name for name in state if re.fullmatch(rf"{part}\.\d+\.conv1\.weight", name)})
