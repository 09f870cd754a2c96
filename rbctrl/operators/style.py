"""Style as an inverse problem: the operator is a descriptor, and y is its value on a reference picture.

    y = Psi(reference),     A(x) = Psi(x)

The reference is the item that a run measures, so rows, pictures and report are those of any other operator; or it is a
picture of the operator's own, whatever the item is. Its features are computed once for a batch, before the first step.
With noise=none and cost=cosine a controller then follows the style of the reference. With more pictures, y lies between
the features of all,

    y = (1 - sum_k s_k) Psi(reference) + sum_k s_k Psi(towards_k)
"""

from __future__ import annotations

from collections.abc import Sequence
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
        towards: a second picture, or several more; y is then between the features of the first and those of these.
        share: of the second in y, or of each of several, from 0 to 1 in all: style interpolation (Rout et al., Figure
            19, whose rule is not given).
        mask: a picture, white where the subject is; the rest of the reference is black to the descriptor. It is resized
            to what it is laid over.
        masked: "reference", as in RB-Modulation's demo, or "both": the generated image, too, which then counts only
            there.
        size: images with a longer short side are reduced to it first. Where costs see previews, of 192 px for Stable
            Cascade, a reference as sharp as a photograph asks for detail that no preview has.

    Raises:
        ValueError: no such `masked`, a size below 1, a share out of range, or not one share for each further picture.
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
        towards: str | Sequence[str] | None = None,
        share: float | Sequence[float] = 0.5,
    ) -> None:
        super().__init__()
        if masked not in get_args(Masked):
            raise ValueError(f"masked is 'reference' or 'both', got {masked!r}")
        if size is not None and size < 1:
            raise ValueError(f"size is at least 1 pixel, got {size}")
        self.descriptor, self.masked, self.size = descriptor, masked, size
        self.reference, self.mask = reference, mask
        self.towards = (towards,) if isinstance(towards, str) else tuple(towards or ())
        self.shares = _shares(share, self.towards)

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
            if not self.outline.any():
                raise ValueError(f"the mask {self.mask} is black everywhere: it is white where the subject is")
        _ = self.others  # whether they can be read
        drawn = with_buffers(self)
        drawn.shape = tuple(shape)
        return drawn

    def measure(self, image: Tensor) -> Tensor:
        """Psi of the reference, [B, D]; pictures of the operator's own are described once for all rows."""
        seen = image if self.picture is None else self.picture[None].to(image)
        if self.outline is not None:
            seen = _inside(seen, self.outline.to(image))
        y, weight = self.descriptor(self._reduced(seen)), 1 - sum(self.shares)
        for picture, share in zip(self.others, self.shares):
            other = self.descriptor(self._reduced(picture[None].to(image)))
            weight += share  # of all so far
            y = torch.lerp(y, other.expand_as(y), share / weight if share else 0.0)
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
        places = [("reference", self.reference), ("mask", self.mask), *(("towards", place) for place in self.towards)]
        own = (RequiredFile(p, "a picture of yours", f"operator.{n}") for n, p in places if p is not None)
        return (*self.descriptor.files(), *own)

    def fingerprint(self) -> str:
        return self.descriptor.fingerprint()

    @cached_property
    def picture(self) -> Tensor | None:
        """The operator's own reference [3, H, W]."""
        return None if self.reference is None else read_picture(self.reference, "operator.reference")

    @cached_property
    def others(self) -> tuple[Tensor, ...]:
        """The pictures that y leads towards, [3, H, W] each."""
        return tuple(read_picture(place, "operator.towards") for place in self.towards)

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


def _shares(share: float | Sequence[float], towards: Sequence[str]) -> tuple[float, ...]:
    """The part of each further picture in y."""
    shares = tuple(share) if isinstance(share, Sequence) else (share,) * min(len(towards), 1)
    if len(shares) != len(towards):
        raise ValueError(f"share is one number for each picture of towards, {len(towards)}, got {share!r}")
    checked = shares or (share,)
    if not all(0 <= part <= 1 for part in checked) or sum(checked) > 1 + 1e-6:
        raise ValueError(f"share is the part of each further picture, in all from 0 to 1, got {share}")
    return shares


def _check_proportions(mask: torch.Size, reference: tuple[int, ...], file: str | None) -> None:
    found, wanted = (height / width for height, width in (mask, reference))
    if abs(found / wanted - 1) > 0.02:
        raise ValueError(
            f"the mask {file} has {mask[1]} x {mask[0]} pixels and what it is laid over {reference[1]} x "
            f"{reference[0]}: it needs the same proportions"
        )
