"""The shipped descriptor of drawings: their style, their content, or what their words say of them.

A small convolutional network trained by contrast on the drawings of `rbctrl.shapes`, with blur and noise (`rbctrl train
shapes_descriptor`). It looks at 32 px, so that a control cannot please it by single pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from rbctrl.descriptors.base import Descriptor
from rbctrl.descriptors.preprocess import Preprocess
from rbctrl.shapes.networks import ShapesDescriptor
from rbctrl.shipped import WEIGHTS, digest, load_shipped

Head = Literal["style", "content", "words"]


class Shapes(Descriptor):
    """Unit vectors [B, 64] of drawings whose sides are multiples of 32 px.

    Args:
        head: "style", "content", or "words": near the vectors of the words that describe a drawing.
        weights: safetensors of `rbctrl train shapes_descriptor`; None takes the shipped ones.

    Raises:
        ValueError: no such head.
    """

    def __init__(self, head: Head = "style", weights: str | None = None) -> None:
        super().__init__(Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
        if head not in get_args(Head):
            raise ValueError(f"descriptor.head is one of {', '.join(get_args(Head))}, got {head!r}")
        self.head = head
        self.weights = WEIGHTS / "shapes_descriptor.safetensors" if weights is None else Path(weights)
        self.network: ShapesDescriptor | None = None

    def read(self) -> None:
        self.network = load_shipped(self.weights, ShapesDescriptor)

    def fingerprint(self) -> str:
        return digest(self.weights)

    def encode(self, x: Tensor) -> Tensor:
        return self.network(x)[self.head]
