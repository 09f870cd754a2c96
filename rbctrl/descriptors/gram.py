"""Gram matrices: which features of a place occur together, averaged over the places of an image.

    G_l = F_l F_l^T / M_l,      F_l [N_l, M_l] the features of layer l at M_l places

What is where is averaged out, colours and textures stay (Gatys, Ecker and Bethge, Image style transfer using
convolutional neural networks, CVPR 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, fill, read_tensors
from rbctrl.descriptors.base import Descriptor
from rbctrl.descriptors.preprocess import Crop, Preprocess
from rbctrl.pretrained.base import content_hash

_FILES = {"vgg16": "vgg16-397923af.pth", "vgg19": "vgg19-dcbb9e9d.pth"}
_CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # of each block; pooling in between
_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


def gram(features: Tensor) -> Tensor:
    """Features [B, N, h, w] to G / (2 N), [B, N^2]: |difference|^2 is Gatys' E_l = |G - G'|^2 / (4 N^2)."""
    flat = features.flatten(2)
    return (flat @ flat.mT).flatten(1) / (2 * flat.shape[1] * flat.shape[2])


class VGGGram(Descriptor):
    """Gatys et al., CVPR 2016: with cost=squared_distance it is their style loss, mean of E_l over the layers.

    The image is not cropped. Features are those after the rectifier. Gatys' own network has rescaled weights and
    average pooling; torchvision's weights are as trained.

    Args:
        path: the weights in torchvision's layout ("features.0.weight"); its classifier is not read.
        net: "vgg19", Gatys', or "vgg16".
        layers: "convB_K", the K-th convolution of block B.
        pooling: "max", as trained, or "average".
        size: both sides of what the network sees; None: the image's own.

    Raises:
        ValueError: no such net, layer or pooling.
    """

    def __init__(
        self,
        path: str,
        net: Literal["vgg16", "vgg19"] = "vgg19",
        layers: Sequence[str] = _LAYERS,
        pooling: Literal["max", "average"] = "max",
        size: int | None = None,
    ) -> None:
        crop: Crop = "none"
        super().__init__(Preprocess(size, crop, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)))
        if net not in _FILES or pooling not in ("max", "average"):
            raise ValueError(f"net is 'vgg16' or 'vgg19' and pooling 'max' or 'average', got {net!r} and {pooling!r}")
        known = [f"conv{b + 1}_{k + 1}" for b, count in enumerate(_CONVOLUTIONS[net]) for k in range(count)]
        unknown = [layer for layer in layers if layer not in known]
        if unknown or not layers:
            raise ValueError(f"{net} has no layers {unknown}; it has {', '.join(known)}")
        self.layers, self.pooling, self.net = tuple(layers), pooling, net
        self._names = known
        self.network: nn.Sequential | None = None
        published = f"it is published at https://download.pytorch.org/models/{_FILES[net]}"
        self._file = RequiredFile(path, published, "operator.descriptor.path")

    def read(self) -> None:
        state = {k: v for k, v in read_tensors(self._file).items() if not k.startswith("classifier.")}
        with torch.device("meta"):
            network = VGGConvolutions(_widths(state, _CONVOLUTIONS[self.net]), _CONVOLUTIONS[self.net])
        self.network = fill(network, state, self._file.place).features

    def files(self) -> tuple[RequiredFile, ...]:
        return (self._file,)

    def fingerprint(self) -> str:
        return content_hash(self._file.path)[:16] if self._file.path.is_file() else ""

    def encode(self, x: Tensor) -> Tensor:
        found, names = {}, iter(self._names)
        for layer in self.network:  # type: ignore[union-attr]
            if isinstance(layer, nn.Conv2d):
                name = next(names)
            x = F.avg_pool2d(x, 2) if isinstance(layer, nn.MaxPool2d) and self.pooling == "average" else layer(x)
            if isinstance(layer, nn.ReLU) and name in self.layers:
                found[name] = gram(x)
            if len(found) == len(set(self.layers)):
                break
        scale = len(self.layers) ** -0.5
        return torch.cat([scale * found[name] for name in self.layers], dim=1)


class VGGConvolutions(nn.Module):
    """The convolutional part, under torchvision's names."""

    def __init__(self, widths: Sequence[int], counts: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = iter(zip([3, *widths], widths))
        for count in counts:
            for _ in range(count):
                layers += [nn.Conv2d(*next(sizes), 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)


def _widths(state: Mapping[str, Tensor], counts: Sequence[int]) -> list[int]:
    """Channels of each convolution, from the biases; those of VGG where there is none."""
    widths, place = [], 0
    for block, count in enumerate(counts):
        for _ in range(count):
            bias = state.get(f"features.{place}.bias")
            widths.append(min(64 * 2**block, 512) if bias is None else len(bias))
            place += 2
        place += 1
    return widths
