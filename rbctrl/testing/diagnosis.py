"""Which conventions a network seems to follow, found by trying them on noisy images.

A wrong declaration is silent: the network runs and its images are merely bad. Here the output is read under every
parameterisation and sign, and the network is run on every time input and on the two usual value ranges. The
declaration is doubted where another is clearly better and denoises at every level of noise; among the best of those
the one that changes least is named.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn

from rbctrl.priors.base import Estimate, Prior
from rbctrl.priors.network import NetworkPrior, Parameterization, TimeInput
from rbctrl.priors.prompted import PromptedPrior
from rbctrl.schedules import DiscreteVP, NoiseSchedule

RANGES = ((-1.0, 1.0), (0.0, 1.0))
CLEARLY = 0.5  # dB of mean gain by which another declaration has to be better
EQUAL = 0.3  # dB within which declarations are as good as the best


@dataclass(frozen=True, eq=False)
class Probe:
    """Clean states and noisy ones: x_t = alpha clean + sigma eps, with sigma / alpha = level.

    Attributes:
        real: whether the states are those of images.
    """

    level: float
    t: Tensor
    alpha: float
    sigma: float
    clean: Tensor
    x_t: Tensor
    real: bool = True

    def both_ways(self) -> Probe:
        """The first two states and their negatives: dark photographs alone would speak for a range that begins at 0."""
        clean, x_t = (torch.cat([v[:2], -v[:2]]) for v in (self.clean, self.x_t))
        return replace(self, clean=clean, x_t=x_t)

    def gain(self, est: Estimate) -> float:
        """How much nearer x0_hat is to the clean state than x_t / alpha is, in dB, mean over the images."""
        gain = self.psnr(est.x0_hat) - self.psnr(self.x_t / self.alpha)
        return -math.inf if math.isnan(gain) else gain

    def psnr(self, x0: Tensor) -> float:
        """Of states on [-1, 1], mean over the images."""
        error = (x0 - self.clean).flatten(1).square().mean(1)
        return float((10 * (4 / error).log10()).mean())


@dataclass(frozen=True)
class Conventions:
    """What a `NetworkPrior` declares about its network, in the words of its arguments."""

    parameterization: str
    sign: int
    time_input: str
    value_range: tuple[float, float]
    table: bool = False  # whether time_input=index means the linear table, since the declared schedule has none

    def changes(self, declared: Conventions) -> list[str]:
        """Where it differs from the declared one, in words."""
        words = []
        if self.parameterization != declared.parameterization:
            words.append(f"the output looks like {self.parameterization} and was declared {declared.parameterization}")
        if self.sign != declared.sign:
            words.append(f"its sign looks like {self.sign} and was declared {declared.sign}")
        if self.time_input != declared.time_input:
            schedule = " of the linear beta table (network_schedule)" if self.table else ""
            words.append(f"time_input looks like {self.time_input}{schedule} and was declared {declared.time_input}")
        if self.value_range != declared.value_range:
            seems, said = ([f"{v:g}" for v in r] for r in (self.value_range, declared.value_range))
            words.append(f"value_range looks like [{', '.join(seems)}] and was declared [{', '.join(said)}]")
        return words


def declared(prior: NetworkPrior) -> Conventions:
    """What the prior says."""
    low, high = prior.center - prior.radius, prior.center + prior.radius
    return Conventions(prior.parameterization, prior.sign, prior.time_input, (low, high))


class _Told(nn.Module):
    """A network that is told a condition beside x and time, of as many rows as x has."""

    def __init__(self, network: nn.Module, condition: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.network, self.condition = network, condition

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.network(x, time, *self.condition)


def network_of(prior: Prior, n: int) -> NetworkPrior | None:
    """What can be read under other conventions, at n rows: a network, or that of a prompt without its guidance."""
    if isinstance(prior, NetworkPrior):
        return prior
    if not isinstance(prior, PromptedPrior) or prior.attention.active or prior.prompt is None:
        return None
    told, said = prior.denoiser, declared(prior.denoiser)
    return NetworkPrior(
        _Told(told.network, prior.prompt.rows(n)),
        parameterization=told.parameterization,
        time_input=told.time_input,
        network_schedule=told.network_schedule,
        value_range=said.value_range,
        schedule=told.schedule,
        learned_variance=told.learned_variance,
        sign=told.sign,
        clip=told.clip,
        memory_format="channels_last" if told.memory_format == torch.channels_last else "contiguous",
    )


@torch.no_grad()
def diagnose(prior: NetworkPrior, probes: Sequence[Probe]) -> str | None:
    """The likely mistakes in the declaration of a network, in words; None if no other one is clearly better."""
    said = declared(prior)
    gains = dict(_gains(prior, said, probes))
    scores = {conventions: sum(gain) / len(gain) for conventions, gain in gains.items()}
    denoising = {conventions: scores[conventions] for conventions, gain in gains.items() if min(gain) > 0}
    best = max(denoising.values(), default=-math.inf)
    if not best > scores[said] + CLEARLY:
        return None
    good = [conventions for conventions, score in denoising.items() if score >= best - EQUAL]
    chosen = min(good, key=lambda conventions: (len(conventions.changes(said)), -scores[conventions]))
    return f"{'; '.join(chosen.changes(said))} (mean gain {scores[chosen]:+.1f} dB instead of {scores[said]:+.1f} dB)"


def _gains(
    prior: NetworkPrior, said: Conventions, probes: Sequence[Probe]
) -> Iterator[tuple[Conventions, list[float]]]:
    """Every declaration with its gains in dB; the network runs once for each time input and range."""
    for time_input, value_range in itertools.product(get_args(TimeInput), dict.fromkeys((said.value_range, *RANGES))):
        seen = replace(said, time_input=time_input, value_range=value_range)
        table = time_input == "index" and not isinstance(prior.network_schedule, DiscreteVP)
        schedule = DiscreteVP.linear() if table else prior.network_schedule
        try:
            network = _as(prior, seen, schedule)
            outputs = [seen.sign * network.output(probe.x_t, probe.t) for probe in probes]  # whatever its sign
        except ValueError:  # this schedule does not reach the noise of a probe
            continue
        for parameterization, sign in itertools.product(get_args(Parameterization), (1, -1)):
            read = replace(seen, parameterization=parameterization, sign=sign, table=table)
            reader = _as(prior, read, schedule)
            estimates = [reader.estimate(probe.x_t, probe.t, sign * out) for probe, out in zip(probes, outputs)]
            yield read, [probe.gain(est) for probe, est in zip(probes, estimates)]


def _as(prior: NetworkPrior, conventions: Conventions, schedule: NoiseSchedule) -> NetworkPrior:
    """The same network under another declaration."""
    other = copy.copy(prior)
    other.parameterization, other.time_input = conventions.parameterization, conventions.time_input
    other.network_schedule, other._levels, other.sign = schedule, {}, conventions.sign
    low, high = conventions.value_range
    other.radius, other.center, other.native = (high - low) / 2, (high + low) / 2, False
    return other
