"""Style as an inverse problem: the operator is a descriptor, and y is its value on a reference picture.

    y = Psi(reference),     A(x) = Psi(x)

The reference is the item that a run measures, so rows, pictures and report are those of any other operator; or it is a
picture of the operator's own, whatever the item is. Its features are computed once for a batch, before the first step.
With noise=none and cost=cosine a controller then follows the style of the reference.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from rbctrl.checkpoints import RequiredFile
from rbctrl.data.files import read_picture
from rbctrl.descriptors import Descriptor
from rbctrl.descriptors.preprocess import resize
from rbctrl.noise import Noise, NoNoise
from rbctrl.operators.base import Operator
from rbctrl.operators.common import with_buffers
from rbctrl.rng import ImageRNG

Masked = Literal["reference", "both"]


class Style(Operator):
    """Features of an image; what they say, style or content, is the descriptor's business.

    Args:
        descriptor: Psi.
        reference: a picture that y is measured of; None: the item.
        towards: a second picture; y is then on the way from the features of the first to those of this one.
        share: of the second in y, from 0 to 1: style interpolation (Rout et al., Figure 19, whose rule is not given).
        mask: a picture, white where the subject is; the rest of the reference is black to the descriptor. It is resized
            to what it is laid over.
        masked: "reference", as in RB-Modulation's demo, or "both": the generated image, too, which then counts only
            there.
        size: images with a longer short side are reduced to it first. Where costs see previews, of 192 px for Stable
            Cascade, a reference as sharp as a photograph asks for detail that no preview has.

    Raises:
        ValueError: no such `masked`, a size below 1, or a share out of range.
    """

    y_is: ClassVar[str] = "features"
    shape: tuple[int, ...] | None = None

    def __init__(
        self,
        descriptor: Descriptor,
        reference: str | None = None,
        mask: str | None = None,
        masked: Masked = "reference",
        size: int | None = None,
        towards: str | None = None,
        share: float = 0.5,
    ) -> None:
        super().__init__()
        if masked not in get_args(Masked):
            raise ValueError(f"masked is 'reference' or 'both', got {masked!r}")
        if size is not None and size < 1:
            raise ValueError(f"size is at least 1 pixel, got {size}")
        if not 0 <= share <= 1:
            raise ValueError(f"share is the part of the second picture, from 0 to 1, got {share}")
        self.descriptor, self.masked, self.size, self.share = descriptor, masked, size, share
        self.reference, self.mask, self.towards = reference, mask, towards

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Style:
        """The operator of images of this shape; nothing is random.

        Raises:
            FileNotFoundError: there is no such reference or mask.
            ValueError: one is no picture, the mask has other proportions than the reference, or images are not RGB.
        """
        if len(shape) != 3 or shape[0] != 3:
            raise ValueError(f"a descriptor of style sees images [3, H, W], and these are {list(shape)}")
        measured = shape if self.picture is None else tuple(self.picture.shape)
        if self.outline is not None:
            _check_proportions(self.outline.shape[1:], measured[1:], self.mask)
        _ = self.second  # whether it can be read
        drawn = with_buffers(self)
        drawn.shape = tuple(shape)
        return drawn

    def measure(self, image: Tensor) -> Tensor:
        """Psi of the reference, [B, D]; pictures of the operator's own are described once for all rows."""
        seen = image if self.picture is None else self.picture[None].to(image)
        if self.outline is not None:
            seen = _inside(seen, self.outline.to(image))
        y = self.descriptor(self._reduced(seen))
        if self.second is not None:
            other = self.descriptor(self._reduced(self.second[None].to(image)))
            y = torch.lerp(y, other.expand_as(y), self.share)
        return y.expand(len(image), -1)

    def forward(self, image: Tensor) -> Tensor:
        """Psi of the image, [B, D]."""
        return self.descriptor(self.seen(image))

    def seen(self, image: Tensor) -> Tensor:
        """What the descriptor is shown of an image; the very tensor if nothing is to be done."""
        if self.outline is not None and self.masked == "both":
            image = _inside(image, self.outline.to(image))
        return self._reduced(image)

    def take(self, rows: Tensor) -> Style:
        """Itself: nothing differs from row to row."""
        return self

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the operator was drawn for.

        Raises:
            ValueError: it is not drawn, as features do not tell how large their image was.
        """
        if self.shape is None:
            raise ValueError("features do not tell the size of an image: give the reference picture itself as the data")
        return self.shape

    def doubt(self, noise: Noise) -> str | None:
        if isinstance(noise, NoNoise):
            return None
        return f"y are features, and noise with sigma_y {noise.sigma_y:.3g} is added to each of them: add noise=none"

    def load(self) -> None:
        self.descriptor.load()

    def files(self) -> tuple[RequiredFile, ...]:
        places = {"reference": self.reference, "mask": self.mask, "towards": self.towards}
        own = (RequiredFile(p, "a picture of yours", f"operator.{n}") for n, p in places.items() if p is not None)
        return (*self.descriptor.files(), *own)

    def fingerprint(self) -> str:
        return self.descriptor.fingerprint()

    @cached_property
    def picture(self) -> Tensor | None:
        """The operator's own reference [3, H, W]."""
        return None if self.reference is None else read_picture(self.reference, "operator.reference")

    @cached_property
    def second(self) -> Tensor | None:
        """The picture that y leads towards, [3, H, W]."""
        return None if self.towards is None else read_picture(self.towards, "operator.towards")

    @cached_property
    def outline(self) -> Tensor | None:
        """The mask [1, H, W] in [0, 1]."""
        return None if self.mask is None else (read_picture(self.mask, "operator.mask").mean(0, keepdim=True) + 1) / 2

    def _reduced(self, image: Tensor) -> Tensor:
        short = min(image.shape[2:])
        if self.size is None or short <= self.size:
            return image
        return resize(image, tuple(round(side * self.size / short) for side in image.shape[2:]))


def _inside(image: Tensor, outline: Tensor) -> Tensor:
    """The image where the outline [1, h, w] is 1, black where it is 0."""
    if outline.shape[1:] != image.shape[2:]:
        outline = F.interpolate(outline[None], image.shape[2:], mode="bilinear", antialias=True)[0]
    return (image + 1) * outline - 1


def _check_proportions(mask: torch.Size, reference: tuple[int, ...], file: str | None) -> None:
    found, wanted = (height / width for height, width in (mask, reference))
    if abs(found / wanted - 1) > 0.02:
        raise ValueError(
            f"the mask {file} has {mask[1]} x {mask[0]} pixels and what it is laid over {reference[1]} x "
            f"{reference[0]}: it needs the same proportions"
        )
