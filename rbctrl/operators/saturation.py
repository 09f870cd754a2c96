"""Pointwise losses of a sensor: saturation (high dynamic range) and few levels (quantisation)."""

from __future__ import annotations

from torch import Tensor

from rbctrl.operators.base import PseudoInvertible
from rbctrl.operators.common import straight_through


class HighDynamicRange(PseudoInvertible):
    """y = clip(factor x, -1, 1): an exposure `factor` times too long, on [-1, 1] and so around mid-grey.

    The gradient is that of the clip, 0 where it saturates. A^+ y = y / factor.

    Args:
        factor: 2 in the benchmarks (DAPS, RED-diff).

    Raises:
        ValueError: factor < 1.
    """

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        if not factor >= 1:
            raise ValueError(f"HighDynamicRange needs a factor of at least 1, got {factor}")
        self.factor = factor

    def forward(self, image: Tensor) -> Tensor:
        """The clipped image."""
        return (self.factor * image).clamp(-1, 1)

    def pinv(self, y: Tensor) -> Tensor:
        """The darkest and least bright image that is measured as y."""
        return y / self.factor


class Quantize(PseudoInvertible):
    """y is the nearest of 2^bits levels from -1 to 1, ends included.

    The derivative of a step is 0 or infinite; the gradient here is straight-through, that of y = x. A^+ y = y.

    Args:
        bits: 1 to 16.

    Raises:
        ValueError: bits is no whole number from 1 to 16.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        if bits not in range(1, 17):
            raise ValueError(f"Quantize needs a whole number of bits from 1 to 16, got {bits}")
        self.bits = int(bits)

    def forward(self, image: Tensor) -> Tensor:
        """The nearest level."""
        steps = 2**self.bits - 1
        level = ((image.clamp(-1, 1) + 1) / 2 * steps).round()
        return straight_through(2 * level / steps - 1, image)

    def pinv(self, y: Tensor) -> Tensor:
        """The level itself."""
        return y
