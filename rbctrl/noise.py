"""Measurement noise. Images and measurements are in [-1, 1], and so is sigma_y.

The literature does not agree on this unit: DPS, PSLD and DAPS add 0.05 on [-1, 1]; DDRM, DDNM and DiffPIR name 0.05 on
[0, 1], which is 0.1 here. `describe` prints sigma_y in all three units.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rbctrl.rng import ImageRNG

if TYPE_CHECKING:
    from rbctrl.operators.base import Operator

IMAGE = "an image"  # what y is where nothing else is said: brightness on [-1, 1], -1 is black


class Noise(ABC):
    """How y differs from A(x)."""

    sigma_y: float

    @abstractmethod
    def add(self, clean: Tensor, rng: ImageRNG) -> Tensor:
        """y from A(x), both [B, ...] in [-1, 1]. The key is "measurement": every controller sees the same y."""

    @abstractmethod
    def nll(self, y: Tensor, clean: Tensor) -> Tensor:
        """-log p(y | A(x)) of each entry, [B, ...], normalised."""

    def check(self, operator: Operator) -> str | None:
        """Why the measurements of this operator cannot have such noise, in one sentence; None if they can."""
        return None

    def describe(self) -> str:
        """sigma_y in the three units in use."""
        s = self.sigma_y
        return f"sigma_y {s:.4g} on [-1, 1] = {s / 2:.4g} on [0, 1] = {s * 127.5:.4g} of 255"


@dataclass(frozen=True)
class NoNoise(Noise):
    """y = A(x). The likelihood is a point mass: `nll` and chi2 are undefined (NaN)."""

    sigma_y: float = 0.0

    def __post_init__(self) -> None:
        if self.sigma_y != 0:
            raise ValueError(f"noise=none has sigma_y 0, got {self.sigma_y}: use noise=gaussian")

    def add(self, clean: Tensor, rng: ImageRNG) -> Tensor:
        return clean

    def nll(self, y: Tensor, clean: Tensor) -> Tensor:
        return torch.full_like(y, math.nan)


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """y = A(x) + sigma_y n, sigma_y on [-1, 1]."""

    sigma_y: float = 0.05

    def __post_init__(self) -> None:
        if not (self.sigma_y > 0 and math.isfinite(self.sigma_y)):
            raise ValueError(f"noise=gaussian needs a finite sigma_y > 0, got {self.sigma_y}: use noise=none")

    def add(self, clean: Tensor, rng: ImageRNG) -> Tensor:
        return clean + self.sigma_y * rng.normal("measurement", clean.shape[1:])

    def nll(self, y: Tensor, clean: Tensor) -> Tensor:
        return ((y - clean) / self.sigma_y).square() / 2 + math.log(self.sigma_y * math.sqrt(2 * math.pi))


@dataclass(frozen=True)
class PoissonNoise(Noise):
    """Photon counts: y = 2 k / peak - 1 with k ~ Poisson(peak (A(x) + 1) / 2).

    DPS's official setting is peak = 255. It also clips y to [-1, 1], which is not done here: clipping biases bright
    pixels.

    Args:
        peak: mean count of a white pixel.
    """

    peak: float = 255.0

    def __post_init__(self) -> None:
        if not self.peak > 0:
            raise ValueError(f"noise=poisson needs peak > 0, got {self.peak}")

    @property
    def sigma_y(self) -> float:  # type: ignore[override]
        """Standard deviation on [-1, 1] of a mid-grey pixel: what controllers that assume Gaussian noise use."""
        return math.sqrt(2 / self.peak)

    def add(self, clean: Tensor, rng: ImageRNG) -> Tensor:
        return 2 * rng.poisson("measurement", self._rate(clean)) / self.peak - 1

    def nll(self, y: Tensor, clean: Tensor) -> Tensor:
        """Counts are discrete: nats per count, with the log-factorial."""
        rate = self._rate(clean).clamp(min=1e-3)
        count = (self.peak * (y + 1) / 2).clamp(min=0)
        return rate - count * rate.log() + torch.lgamma(count + 1)

    def check(self, operator: Operator) -> str | None:
        """Only an image has photons to count."""
        if operator.y_is == IMAGE:
            return None
        name = type(operator).__name__
        return f"noise=poisson counts photons, and y of {name} is {operator.y_is}, no image: use noise=gaussian"

    def _rate(self, clean: Tensor) -> Tensor:
        return self.peak * ((clean + 1) / 2).clamp(min=0)
