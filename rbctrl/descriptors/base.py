"""What a descriptor has to offer: an image to a vector of what counts in it, such as its style.

    Psi(x) = project(features(x)),      features(x) = encode(preprocess(x))

A subclass writes `encode`, and where it has weights `read`, `files` and `fingerprint`. One with several heads on one
network writes `project`, too: where two of them share the network (`trunk`), its features are computed once for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable

from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.descriptors.preprocess import Preprocess


class Descriptor(nn.Module, ABC):
    """Images [B, 3, H, W] in [-1, 1] to features [B, D], each row on its own.

    Differentiable in the image and frozen: always in evaluation mode, and no weight ever has a gradient. It computes in
    the precision of its weights, fp32 unless a run moves it to fp64, and answers in that of the image.

    Args:
        preprocess: what `encode` sees of an image; None: the image on [0, 1].
    """

    def __init__(self, preprocess: Preprocess | None = None) -> None:
        super().__init__()
        self.preprocess = Preprocess() if preprocess is None else preprocess
        self._loaded = False
        self.eval()

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Preprocessed images [B, 3, h, w] to what the heads read, [B, F]. Never mixes rows."""

    def project(self, features: Tensor) -> Tensor:
        """The head: [B, F] to [B, D]."""
        return features

    def read(self) -> None:
        """Reads the weights into modules of this one; `load` calls it once."""

    def files(self) -> tuple[RequiredFile, ...]:
        """What `load` reads and does not come with the package."""
        return ()

    def fingerprint(self) -> str:
        """Identifies the weights, for the key of a result; empty where the configuration says it all."""
        return ""

    @property
    def trunk(self) -> Hashable:
        """What `features` depends on: descriptors whose trunks are equal have the same features of an image."""
        return self

    def load(self) -> None:
        """Reads the weights, once, and freezes them.

        Raises:
            FileNotFoundError: a file is not there; says where it is published and where to put it.
            ValueError: a file does not fit to the last tensor; names the first that do not.
        """
        if not self._loaded:
            self.read()
            self.requires_grad_(False).eval()
            self._loaded = True

    def features(self, image: Tensor) -> Tensor:
        """What the heads read of images [B, 3, H, W] in [-1, 1], [B, F], in the precision of the weights.

        Raises:
            ValueError: the images are not RGB.
            RuntimeError: the weights are not there yet.
        """
        name = type(self).__name__
        if not self._loaded:
            raise RuntimeError(f"the weights of {name} are not there yet: call load() before its first use")
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"{name} describes images [B, 3, H, W], got {list(image.shape)}")
        return self.encode(self.preprocess(image.to(self.preprocess.mean.dtype)))

    def forward(self, image: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to [B, D]."""
        return self.project(self.features(image)).to(image.dtype)

    def train(self, mode: bool = True) -> Descriptor:
        """Stays in evaluation mode: dropout and batch statistics would make a cost of noise, or mix rows."""
        return super().train(False)
