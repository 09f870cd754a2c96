"""Noise schedules: x_t = alpha_t x_0 + sigma_t eps, for t in [0, 1]; t = 0 is clean.

Everything follows from the log-SNR, log(alpha_t^2 / sigma_t^2), in fp64 (fp32 tables are off by 1e-4 near t = 0). The
families differ only in how alpha and sigma share one log-SNR:

    variance preserving   alpha^2 + sigma^2 = 1        VE   alpha = 1        rectified flow   alpha + sigma = 1
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor


class NoiseSchedule(ABC):
    """The levels (alpha_t, sigma_t) of a diffusion or flow. Tensors in and out are fp64."""

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha_t^2 / sigma_t^2), decreasing in t; +inf at t = 0."""

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`."""

    @abstractmethod
    def from_log_snr(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of a log-SNR."""

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t) at times t of any shape."""
        return self.from_log_snr(self.log_snr(t.double()))


class _VariancePreserving(NoiseSchedule):
    def from_log_snr(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


@dataclass(frozen=True)
class VP(_VariancePreserving):
    """Continuous VP-SDE, beta(t) = beta_min + (beta_max - beta_min) t (Song et al., ICLR 2021, eq. 33)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"VP needs 0 < beta_min <= beta_max, got {self.beta_min} and {self.beta_max}")

    def log_snr(self, t: Tensor) -> Tensor:
        area = self.beta_min * t + (self.beta_max - self.beta_min) * t.square() / 2
        return -torch.expm1(area).log()

    def time(self, log_snr: Tensor) -> Tensor:
        area = torch.nn.functional.softplus(-log_snr)
        slope = self.beta_max - self.beta_min
        return 2 * area / (self.beta_min + (self.beta_min**2 + 2 * slope * area).sqrt())


@dataclass(frozen=True)
class DiscreteVP(_VariancePreserving):
    """A DDPM beta table. Time t = k / T is the state after k of T noising steps: alpha_bar of table index k - 1.

    At these times the table is exact; between them alpha_bar is interpolated linearly.

    Args:
        betas: the T noise variances of the table, each in (0, 1); the last may be 1, which ends on pure noise.
    """

    betas: tuple[float, ...]
    _alpha_bar: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        betas = torch.tensor(tuple(self.betas), dtype=torch.float64)
        if len(betas) == 0 or not ((betas > 0) & (betas <= 1)).all() or (betas[:-1] == 1).any():
            raise ValueError("betas is a non-empty list of numbers in (0, 1), of which the last may be 1")
        alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])
        object.__setattr__(self, "betas", tuple(self.betas))
        object.__setattr__(self, "_alpha_bar", alpha_bar)

    @classmethod
    def linear(cls, n: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> DiscreteVP:
        """Betas equally spaced (Ho et al., NeurIPS 2020; ADM)."""
        return cls(tuple(torch.linspace(beta_start, beta_end, n, dtype=torch.float64).tolist()))

    @classmethod
    def sqrt_linear(cls, n: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> DiscreteVP:
        """Square roots of beta equally spaced; the defaults are Stable Diffusion's ("scaled_linear" in diffusers)."""
        roots = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), n, dtype=torch.float64)
        return cls(tuple(roots.square().tolist()))

    @classmethod
    def zero_snr(cls, table: DiscreteVP) -> DiscreteVP:
        """Another table moved and scaled so that it ends on pure noise, alpha_bar = 0.

        Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, WACV 2024, algorithm 1. A network of
        eps says nothing about the image there: such models predict v.
        """
        root = table._alpha_bar[1:].sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), root.square()])
        return cls(tuple((1 - alpha_bar[1:] / alpha_bar[:-1]).tolist()))

    def __len__(self) -> int:
        return len(self.betas)

    def alpha_bar(self, t: Tensor) -> Tensor:
        """alpha_t^2."""
        k = t.double() * len(self)
        low = k.floor().clamp(0, len(self) - 1)
        index, part = low.long(), k - low
        # t = k / T is not exact in binary: snap, so that the table is
        part = torch.where((part - part.round()).abs() < 1e-9, part.round(), part)
        return torch.lerp(self._alpha_bar[index], self._alpha_bar[index + 1], part)

    def log_snr(self, t: Tensor) -> Tensor:
        return self.alpha_bar(t).logit()

    def time(self, log_snr: Tensor) -> Tensor:
        alpha_bar = log_snr.double().sigmoid()
        high = torch.searchsorted(-self._alpha_bar, -alpha_bar).clamp(1, len(self))
        below, above = self._alpha_bar[high - 1], self._alpha_bar[high]
        return (high - 1 + (below - alpha_bar) / (below - above)).clamp(min=0) / len(self)  # above 1: outside


@dataclass(frozen=True)
class Cosine(_VariancePreserving):
    """Cosine schedule (Nichol and Dhariwal, ICML 2021, eq. 17), shifted as in Stable Cascade.

    Args:
        offset: s of the paper.
        shift: log-SNR is moved by -2 log(shift): more noise at the same t, for larger images.
        alpha_bar_min: floor of alpha_bar at t = 1.
        alpha_bar_max: its ceiling at t = 0; 1 is clean, Stable Cascade ends at 0.9999.
    """

    offset: float = 0.008
    shift: float = 1.0
    alpha_bar_min: float = 1e-4
    alpha_bar_max: float = 1.0

    def __post_init__(self) -> None:
        if self.shift <= 0:
            raise ValueError(f"shift must be positive, got {self.shift}")
        if not 0 < self.alpha_bar_min < self.alpha_bar_max <= 1:
            raise ValueError(
                f"alpha_bar lies in (0, 1], got alpha_bar_min={self.alpha_bar_min}, alpha_bar_max={self.alpha_bar_max}"
            )

    def log_snr(self, t: Tensor) -> Tensor:
        scale = math.pi / 2 / (1 + self.offset)
        alpha_bar = ((t + self.offset) * scale).cos().square() / math.cos(self.offset * scale) ** 2
        alpha_bar = torch.where(t > 0, alpha_bar, torch.ones_like(alpha_bar))
        limits = torch.tensor([self.alpha_bar_min, self.alpha_bar_max], dtype=torch.float64)
        low, high = limits.logit().tolist()
        return (alpha_bar.clamp(*limits.tolist()).logit() - 2 * math.log(self.shift)).clamp(low, high)

    def time(self, log_snr: Tensor) -> Tensor:
        scale = math.pi / 2 / (1 + self.offset)
        alpha_bar = (log_snr + 2 * math.log(self.shift)).sigmoid()
        return (alpha_bar.sqrt() * math.cos(self.offset * scale)).acos() / scale - self.offset


@dataclass(frozen=True)
class VE(NoiseSchedule):
    """Variance exploding: alpha = 1, sigma_t = sigma_max t^rho. A uniform grid in t is Karras' grid in sigma.

    (Karras et al., NeurIPS 2022, eq. 5 with sigma_min = 0.)
    """

    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if self.sigma_max <= 0 or self.rho <= 0:
            raise ValueError(f"VE needs sigma_max > 0 and rho > 0, got {self.sigma_max} and {self.rho}")

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * (math.log(self.sigma_max) + self.rho * t.log())

    def time(self, log_snr: Tensor) -> Tensor:
        return ((-log_snr / 2 - math.log(self.sigma_max)) / self.rho).exp()

    def from_log_snr(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(log_snr), (-log_snr / 2).exp()


@dataclass(frozen=True)
class RectifiedFlow(NoiseSchedule):
    """Straight paths: alpha = 1 - t, sigma = t (Liu et al., ICLR 2023)."""

    def log_snr(self, t: Tensor) -> Tensor:
        return 2 * (torch.log1p(-t) - t.log())

    def time(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2).sigmoid()

    def from_log_snr(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        return (log_snr / 2).sigmoid(), (-log_snr / 2).sigmoid()
