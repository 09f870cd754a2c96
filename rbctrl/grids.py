"""Time grids: the n + 1 descending times t_0 > t_1 > ... > t_n of a sampler.

A grid that ends at t = 0 ends on the image. Truth tables use `LogSNR`, which ends at sigma > 0: there the control
energy of the last step is finite, and the chain approaches its SDE uniformly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.schedules import NoiseSchedule

MAX_STEPS = 100_000  # a step is at least one evaluation of a network


class TimeGrid(ABC):
    """How the steps are spread over [0, 1]."""

    @abstractmethod
    def times(self, schedule: NoiseSchedule, n_steps: int) -> Tensor:
        """[n_steps + 1] times, fp64, descending."""


def _linspace(first: float, last: float, n_steps: int) -> Tensor:
    return torch.linspace(first, last, n_steps + 1, dtype=torch.float64)


@dataclass(frozen=True)
class Uniform(TimeGrid):
    """Equal steps in t, moved towards noise by `shift`: t -> shift t / (1 + (shift - 1) t).

    (Esser et al., ICML 2024, eq. 23.)
    """

    t_start: float = 1.0
    t_end: float = 0.0
    shift: float = 1.0

    def times(self, schedule: NoiseSchedule, n_steps: int) -> Tensor:
        t = _linspace(self.t_start, self.t_end, n_steps)
        return self.shift * t / (1 + (self.shift - 1) * t)


@dataclass(frozen=True)
class Quadratic(TimeGrid):
    """Steps that shrink towards the image: t = t_start (1 - i/n)^2 (Song et al., DDIM, ICLR 2021, appendix D.2)."""

    t_start: float = 1.0

    def times(self, schedule: NoiseSchedule, n_steps: int) -> Tensor:
        return self.t_start * _linspace(1.0, 0.0, n_steps).square()


@dataclass(frozen=True)
class SquareRoot(TimeGrid):
    """Long steps in the noise, half as long as equal ones at the image: t = t_start (1 - sqrt(i/n)).

    The "quadratic" steps of DiffPIR (Zhu et al., CVPRW 2023), as deepinv 0.5 has them: indices sqrt(linspace(0, T^2))
    of a table of levels that begins with the noise.
    """

    t_start: float = 1.0

    def times(self, schedule: NoiseSchedule, n_steps: int) -> Tensor:
        return self.t_start * (1 - _linspace(0.0, 1.0, n_steps).sqrt())


@dataclass(frozen=True)
class PolyRho(TimeGrid):
    """Equal steps in (sigma / alpha)^(1 / rho), then one step to 0 (Karras et al., NeurIPS 2022, eq. 5)."""

    sigma_max: float = 80.0
    sigma_min: float = 0.02
    rho: float = 7.0

    def times(self, schedule: NoiseSchedule, n_steps: int) -> Tensor:
        if n_steps < 2:
            raise ValueError(f"grid poly_rho needs n_steps >= 2, got {n_steps}")
        roots = _linspace(self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho), n_steps - 1)
        t = schedule.time(-2 * self.rho * roots.log())
        return torch.cat([t, torch.zeros(1, dtype=torch.float64)])


@dataclass(frozen=True)
class LogSNR(TimeGrid):
    """Equal steps in log-SNR: the grid of truth tables. `start` is noisy, `end` is clean."""

    start: float = -4.0
    end: float = 12.0

    def times(self, schedule: NoiseSchedule, n_steps: int) -> Tensor:
        return schedule.time(_linspace(self.start, self.end, n_steps))


@dataclass(frozen=True)
class EqualAlpha(TimeGrid):
    """Equal steps in alpha at the times of a table, given log-SNRs among them: the grid of MCGDiff's mixture benchmark.

    Cardoso et al., Monte Carlo guided Diffusion, ICLR 2024 (https://arxiv.org/abs/2308.07983). From the image on, the
    next time is the first at which alpha fell by (1 - tail) / (n_steps - matched), or a matched one; from alpha =
    `tail` on, the steps that are left are equal in t. The benchmark counts times: its 20 are n_steps = 19.

    Note:
        The released function looks for the matched times in one sorted list of the distances of all coordinates, and so
        forces in other times than it means to; here they are the ones that are meant.

    Args:
        levels: T; times are multiples of 1 / T.
        matched: log-SNRs that have to be among the times, rounded to the table; those beyond `tail` or on the image are
            left out.
        tail: alpha where equal steps in t begin.

    Raises:
        ValueError: levels or tail out of range; no more steps than matched times; a schedule whose alpha is constant.
    """

    levels: int = 999
    matched: tuple[float, ...] = ()
    tail: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "matched", tuple(self.matched))
        if self.levels < 1 or not 0 < self.tail < 1:
            raise ValueError(
                f"grid equal_alpha needs levels >= 1 and a tail in (0, 1), got levels={self.levels}, tail={self.tail}"
            )

    def times(self, schedule: NoiseSchedule, n_steps: int) -> Tensor:
        table = torch.arange(self.levels + 1, dtype=torch.float64) / self.levels
        alpha = schedule.levels(table)[0].tolist()
        end = next((k for k, level in enumerate(alpha) if level < self.tail), self.levels)
        matched = (schedule.time(torch.tensor(self.matched, dtype=torch.float64)) * self.levels).round().tolist()
        forced = {int(k) for k in matched if 0 < k < end}
        if n_steps <= len(forced):
            raise ValueError(
                f"grid equal_alpha has {len(forced)} matched times, so it needs n_steps > {len(forced)}, got {n_steps}"
            )
        fall, chosen = (alpha[0] - alpha[end]) / (n_steps - len(forced)), [0]
        if fall <= 0:
            raise ValueError("grid equal_alpha needs a schedule whose alpha falls: take grid poly_rho where alpha = 1")
        for k in range(1, end):
            if k in forced or alpha[chosen[-1]] - alpha[k] >= fall:
                chosen.append(k)
        rest = _linspace(chosen[-1], self.levels, n_steps + 1 - len(chosen)).ceil()[1:]
        return torch.cat([table[chosen], rest / self.levels]).flip(0)


def check_times(times: Tensor) -> Tensor:
    """The times, if a sampler can run them.

    Raises:
        ValueError: fewer than two times or too many, a time outside [0, 1], or two equal times in a row.
    """
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"a time grid has at least two times (n_steps >= 1), got {len(times)}")
    if len(times) > MAX_STEPS + 1:
        raise ValueError(f"n_steps is {len(times) - 1}, and each step evaluates the prior: take {MAX_STEPS} at most")
    if not ((times >= 0) & (times <= 1 + 1e-12)).all():
        raise ValueError(
            f"times must lie in [0, 1], got {float(times.min()):.4g} to {float(times.max()):.4g}: "
            "the grid leaves the range of the schedule: take sampler/grid=uniform, or lower sampler.grid.sigma_max"
        )
    if (times.diff() == 0).any():
        raise ValueError("two times of the grid are equal: take fewer steps or another grid")
    if not math.isfinite(float(times.sum())):
        raise ValueError("the time grid holds a number that is not finite")
    return times
