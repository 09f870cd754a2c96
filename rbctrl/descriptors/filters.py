"""Gram matrices of fixed filters: a descriptor of palette and texture that needs no weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rbctrl.descriptors.base import Descriptor
from rbctrl.descriptors.gram import gram

_OPPONENT = (  # orthonormal: luminance, red against green, blue against yellow
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), -1 / math.sqrt(2), 0.0),
    (-1 / math.sqrt(6), -1 / math.sqrt(6), 2 / math.sqrt(6)),
)
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_SMALLEST = 4  # pixels on a side of the coarsest scale


class FilterGram(Descriptor):
    """Second-order statistics of colours, edges and lines at several scales: no network, no download.

    At each scale, halved by a binomial filter, the features of a pixel are its three opponent colours, their first
    derivatives (central differences) and their second ones, and a constant; their Gram matrix holds mean colour,
    covariance of colours, and energy and orientation of edges and lines in each colour. It tells palettes and textures
    apart, and knows nothing of objects or of how a painter paints.

    Args:
        scales: number of them, from the image's own size down.
        edges: gain of the derivatives, which are small beside the colours.

    Raises:
        ValueError: fewer than one scale or no positive gain; of an image, that it is too small.
    """

    def __init__(self, scales: int = 4, edges: float = 4.0) -> None:
        super().__init__()
        if scales < 1 or not edges > 0:
            raise ValueError(f"a bank of filters needs scales >= 1 and edges > 0, got {scales} and {edges}")
        self.scales, self.edges = scales, edges
        blur, d1, d2 = torch.tensor(_BINOMIAL), torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([1.0, -2.0, 1.0])
        one = torch.tensor([0.0, 1.0, 0.0])
        derivatives = [(d1, one), (one, d1), (d2, one), (one, d2), (d1, d1)]  # of (rows, columns)
        kernels = torch.stack([torch.outer(rows, columns) for rows, columns in derivatives])
        self.register_buffer("kernels", edges * kernels[:, None], persistent=False)
        self.register_buffer("blur", torch.outer(blur, blur)[None, None], persistent=False)
        self.register_buffer("opponent", torch.tensor(_OPPONENT), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < _SMALLEST << (self.scales - 1):
            raise ValueError(
                f"{self.scales} scales of filters need images of {_SMALLEST << (self.scales - 1)} pixels on a side, "
                f"got {list(x.shape[2:])}: take fewer (operator.descriptor.scales=...)"
            )
        colours = torch.einsum("oc,bchw->bohw", self.opponent, 2 * x - 1)
        found = []
        for scale in range(self.scales):
            if scale:
                colours = _each(F.pad(colours, (2, 2, 2, 2), mode="reflect"), self.blur, stride=2)
            edges = _each(F.pad(colours, (1, 1, 1, 1), mode="reflect"), self.kernels)
            found.append(gram(torch.cat([torch.ones_like(colours[:, :1]), colours, edges], dim=1)))
        return torch.cat(found, dim=1) / math.sqrt(self.scales)


def _each(x: Tensor, kernels: Tensor, stride: int = 1) -> Tensor:
    """Every kernel [K, 1, k, k] on every channel [B, C, H, W]: [B, C K, h, w]."""
    height, width = x.shape[2:]
    filtered = F.conv2d(x.reshape(-1, 1, height, width), kernels, stride=stride)
    return filtered.reshape(len(x), -1, *filtered.shape[2:])
