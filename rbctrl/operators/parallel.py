"""Several operators side by side, y the values of all of them in one vector per row.

    A(x) = [A_1(x), A_2(x), ...],     y = [y_1, y_2, ...]

Style and content together are two parts with two references. Where parts read one network (`Descriptor.trunk`) of the
same image, it is evaluated once for all of them. `rbctrl.costs.Parts` weighs one cost against another.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.noise import Noise
from rbctrl.operators.base import Operator
from rbctrl.operators.common import with_buffers
from rbctrl.operators.style import Style
from rbctrl.rng import ImageRNG


class Parallel(Operator):
    """Parts by name. Noise is added to all of y, so parts that observe a mask only are meant for noise=none.

    Args:
        parts: operators; a random one is drawn from the same streams as if it were alone.

    Raises:
        ValueError: there are none.
    """

    y_is: ClassVar[str] = "values of several kinds"
    shape: tuple[int, ...] | None = None

    def __init__(self, parts: Mapping[str, Operator]) -> None:
        super().__init__()
        if not parts:
            raise ValueError("operator=parallel needs parts: operators by name")
        self.parts = nn.ModuleDict(parts)
        self._shapes: dict[str, tuple[int, ...]] = {}

    def values(self, image: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """A_k(image) of the parts of these names, or of all, each in its own shape."""
        known: dict[Hashable, Tensor] = {}
        return {name: self._value(self.parts[name], image, known) for name in names or self.parts}

    def forward(self, image: Tensor) -> Tensor:
        """All values, [B, sum of their sizes]."""
        return _packed(self.values(image))

    def measure(self, image: Tensor) -> Tensor:
        """What each part measures, of the image or of a reference of its own."""
        measured = {name: part.measure(image) for name, part in self.parts.items()}
        self._shapes.update({name: tuple(value.shape[1:]) for name, value in measured.items()})
        return _packed(measured)

    def targets(self, y: Tensor) -> dict[str, Tensor]:
        """y [B, ...] by part, each in its own shape.

        Raises:
            RuntimeError: nothing was measured by this operator, so that nobody knows the sizes.
        """
        if not self._shapes:
            raise RuntimeError("the sizes of the parts are known once the operator has measured an image")
        sizes = [torch.Size(shape).numel() for shape in self._shapes.values()]
        parts = zip(self._shapes.items(), y.split(sizes, dim=1), strict=True)
        return {name: part.view(len(y), *shape) for (name, shape), part in parts}

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Parallel:
        """The parts, drawn."""
        drawn = self._with({name: part.draw(rng, shape) for name, part in self.parts.items()})
        drawn.shape, drawn._shapes = tuple(shape), {}
        return drawn

    def take(self, rows: Tensor) -> Parallel:
        """The parts of the given rows."""
        return self._with({name: part.take(rows) for name, part in self.parts.items()})

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the operator was drawn for.

        Raises:
            ValueError: it is not drawn, as y has no shape of an image any more.
        """
        if self.shape is None:
            raise ValueError("a vector of several values does not tell the size of an image: give images as the data")
        return self.shape

    def doubt(self, noise: Noise) -> str | None:
        return next((why for part in self.parts.values() if (why := part.doubt(noise)) is not None), None)

    def load(self) -> None:
        for part in self.parts.values():
            part.load()

    def files(self) -> tuple[RequiredFile, ...]:
        found = [(f"operator.parts.{name}.", file) for name, part in self.parts.items() for file in part.files()]
        return tuple(replace(file, setting=node + file.setting.removeprefix("operator.")) for node, file in found)

    def fingerprint(self) -> str:
        return "+".join(found for part in self.parts.values() if (found := part.fingerprint()))

    def _value(self, part: Operator, image: Tensor, known: dict[Hashable, Tensor]) -> Tensor:
        if not isinstance(part, Style):
            return part(image)
        seen = part.seen(image)
        key = (part.descriptor.trunk, id(seen) if seen is image else part)
        if key not in known:
            known[key] = part.descriptor.features(seen)
        return part.descriptor.project(known[key]).to(image.dtype)

    def _with(self, parts: Mapping[str, Operator]) -> Parallel:
        copied = with_buffers(self)
        copied._modules = {"parts": nn.ModuleDict(parts)}
        return copied


def _packed(values: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten(1) for value in values.values()], dim=1)
