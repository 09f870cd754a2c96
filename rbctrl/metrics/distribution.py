"""Distances between a set of restored images and a set of references, in the features of a network of yours.

    FID = |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))
    KID = mean k(a, a') + mean k(b, b') - 2 mean k(a, b),   k(u, v) = (u . v / d + 1)^3,   without a = a', b = b'

over the features a of the restored images and b of the references, d of them. Both say how alike two sets are and
nothing about how well one image is restored. FID is biased upwards for few images: its covariances have rank n - 1, so
compare values with the same n only. KID is unbiased at any n.

Published values use Inception-v3 features; other features give other numbers, on another scale. No extractor comes with
rbctrl and none is downloaded: `features` is a module by its dotted path, or a file.
"""

from __future__ import annotations

import math
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from rbctrl.data.base import Data

if TYPE_CHECKING:
    from torchmetrics import Metric


_FILES = (".pt", ".pth", ".pt2", ".ts", ".jit", ".torchscript")


class SetMetric(ABC):
    """Scores all images of a cell together; computed by `rbctrl score`, once the cell is finished.

    Attributes:
        references: images to compare with; None: the truths of the images that are scored.
    """

    references: Data | None = None

    @abstractmethod
    def __call__(self, images: Iterable[Tensor], references: Iterable[Tensor]) -> float:
        """The score of two sets, each in batches [B, C, H, W] in [-1, 1]; NaN where it is undefined."""


class Features(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to features [B, D] in fp64.

    Args:
        network: a module that maps [B, 3, H, W] to [B, D], or to [B, D, 1, 1]; the dotted path of a class whose
            constructor needs no argument; or a file: TorchScript as saved by `torch.jit.save`, or a program as saved by
            `torch.export.save` (.pt2).
        value_range: the values that black and white have for the network, such as [0, 1] or [-1, 1].
        size: side that images are resized to, bilinear with antialias; None: they are left as they are.
        weights: a safetensors file for a `network` that is a module; None: it has its weights.

    Raises:
        FileNotFoundError: a file does not exist.
        TypeError: the network is neither a module nor a path.
        ValueError: the file is no network, or the weights do not fit.
    """

    def __init__(
        self,
        network: nn.Module | str,
        value_range: Sequence[float],
        size: int | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if len(value_range) != 2:
            raise ValueError(f"value_range is what black and white become, such as [0, 1], got {value_range!r}")
        if not isinstance(network, (nn.Module, str)):
            raise TypeError(f"features.network is a module (_target_: my_lab.Net) or a file, got {network!r}")
        self.network = _found(network) if isinstance(network, str) else network
        if weights is not None:
            _load_weights(self.network, _file(weights))
        self.black, self.white = map(float, value_range)
        self.size = size
        self.requires_grad_(False)
        if not isinstance(self.network, torch.fx.GraphModule):  # an exported program is what it was exported as
            self.network.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The features; gray images are repeated to three channels.

        Raises:
            ValueError: the network returns no [B, D].
        """
        images = images.float().clamp(-1, 1).expand(-1, 3, -1, -1)
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            images = interpolate(images, (self.size, self.size), mode="bilinear", antialias=True).clamp(-1, 1)
        features = self.network(self.black + (self.white - self.black) * (images + 1) / 2)
        if not isinstance(features, Tensor) or features.flatten(1).shape != features.shape[:2]:
            shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"the extractor returned {shape} for {len(images)} images: [B, D] is needed")
        return features.flatten(1).double()


class FID(SetMetric):
    """Heusel et al., GANs trained by a two time-scale update rule, NeurIPS 2017. https://arxiv.org/abs/1706.08500.

    By torchmetrics, in fp64.

    Args:
        features: the extractor.
        references: images to compare with; None: the truths of the images that are scored.
    """

    def __init__(self, features: Features, references: Data | None = None) -> None:
        self.features, self.references = features, references

    def __call__(self, images: Iterable[Tensor], references: Iterable[Tensor]) -> float:
        from torchmetrics.image.fid import FrechetInceptionDistance

        restored, expected = _both(self.features, images, references)
        if min(len(restored), len(expected)) < 2:
            return math.nan
        return float(_updated(FrechetInceptionDistance(_Given(restored.shape[1])), restored, expected).compute())


class KID(SetMetric):
    """Binkowski et al., Demystifying MMD GANs, ICLR 2018. https://arxiv.org/abs/1801.01401.

    By torchmetrics, in fp64, over all images at once: the mean over random subsets of 1000, as published, has the same
    expectation and depends on a seed. Of the larger set, as many images count as the smaller one has.

    Args:
        features: the extractor.
        references: images to compare with; None: the truths of the images that are scored.
    """

    def __init__(self, features: Features, references: Data | None = None) -> None:
        self.features, self.references = features, references

    def __call__(self, images: Iterable[Tensor], references: Iterable[Tensor]) -> float:
        from torchmetrics.image.kid import KernelInceptionDistance

        restored, expected = _both(self.features, images, references)
        n = min(len(restored), len(expected))
        if n < 2:
            return math.nan
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*save all extracted features in buffer")
            metric = KernelInceptionDistance(_Given(restored.shape[1]), subsets=1, subset_size=n)
        return float(_updated(metric, restored[:n], expected[:n]).compute()[0])


class _Given(nn.Module):
    """Features that were computed already, in the place where torchmetrics expects an extractor."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.num_features = n

    def forward(self, features: Tensor) -> Tensor:
        return features


def _both(features: Features, images: Iterable[Tensor], references: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    sets = [[features(batch) for batch in batches] for batches in (images, references)]
    restored, expected = (torch.cat(parts) if parts else torch.zeros(0, 1) for parts in sets)
    return restored, expected


def _updated(metric: Metric, restored: Tensor, expected: Tensor) -> Metric:
    metric.set_dtype(torch.float64)
    metric.update(expected, real=True)
    metric.update(restored, real=False)
    return metric


def _file(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"features need the file {file}, which does not exist: nothing is downloaded here")
    return file


def _found(network: str) -> nn.Module:
    """The module of a file or of a dotted path."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", network) or Path(network).suffix in _FILES:
        return _load(_file(network))
    from hydra.utils import get_object

    made = get_object(network)()
    if not isinstance(made, nn.Module):
        raise TypeError(f"features.network={network} makes a {type(made).__name__}: a torch.nn.Module is needed")
    return made


def _load(file: Path) -> nn.Module:
    try:
        if file.suffix == ".pt2":
            return torch.export.load(file).module()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            return torch.jit.load(file, map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{file} is no TorchScript and no exported program; for weights alone name the class as features.network, "
            f"and the file as features.weights: {str(error).splitlines()[0]}"
        ) from error


def _load_weights(network: nn.Module, file: Path) -> None:
    from safetensors.torch import load_file

    wrong = network.load_state_dict(load_file(file), strict=False)
    if wrong.missing_keys or wrong.unexpected_keys:
        named = [f"lacks {name}" for name in wrong.missing_keys[:3]]
        named += [f"has {name} besides" for name in wrong.unexpected_keys[:3]]
        raise ValueError(f"{file} does not fit {type(network).__name__}: it {', '.join(named)}")
