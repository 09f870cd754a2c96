"""What a codec has to offer, and the one of pixel space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.offload import Part
from rbctrl.rng import ImageRNG


class Codec(nn.Module, ABC):
    """Images [B, C, H, W] in [-1, 1] to and from the states [B, ...] of a prior.

    Attributes:
        affine: whether `decode` is an affine map; then Gaussian latents have Gaussian images.
    """

    affine: ClassVar[bool] = False

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Deterministic; differentiable."""

    @abstractmethod
    def decode(self, x0: Tensor) -> Tensor:
        """Differentiable: this is the image that costs see."""

    def load(self) -> None:
        """Reads the weights, once; `Prior.load` calls it."""

    def fingerprint(self) -> str:
        """Identifies the weights, for the key of a result; empty where the configuration says it all."""
        return ""

    def files(self) -> tuple[RequiredFile, ...]:
        """What `load` reads and does not come with the package."""
        return ()

    def parts(self) -> tuple[Part, ...]:
        """What can be moved to and from a GPU on its own, when the weights are there."""
        return ()

    def render(self, x0: Tensor, rng: ImageRNG | None = None) -> Tensor:
        """The final image; may be slower and better than `decode`, and draw noise."""
        return self.decode(x0)

    def under(self, prompts: Sequence[nn.Module]) -> Codec:
        """This codec for rows that have a prompt each, where rendering listens to it.

        Args:
            prompts: embedded prompt and negative prompt of each row (`rbctrl.priors.embedding.Embedding`).
        """
        return self

    def measured(self, image: Tensor) -> Tensor:
        """What an operator measures of an item: the image, unless it is to be seen as costs see images."""
        return image

    def decoded_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what `decode` gives for images [C, H, W]; a previewer's is smaller."""
        return image_shape

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one state for an image shape [C, H, W]."""
        return image_shape


class Identity(Codec):
    """The prior lives in pixel space."""

    affine: ClassVar[bool] = True

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, x0: Tensor) -> Tensor:
        return x0
