"""Denoisers of deepinv as priors.

They are denoiser(x, sigma) with x = x_0 + sigma n on [0, 1] and sigma [B] in the same units, and give E[x_0 | x]: a
network of parameterisation x0 on a VE schedule, and by `NetworkPrior` one of any process. deepinv is not imported here:
its classes are named in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from rbctrl.priors.network import NetworkPrior
from rbctrl.schedules import VE, VP, NoiseSchedule


def deepinv_denoiser(
    denoiser: nn.Module | Callable[[], nn.Module],
    sigma_max: float,
    value_range: tuple[float, float] = (0.0, 1.0),
    schedule: NoiseSchedule | None = None,
    clip: tuple[float, float] | None = None,
    channels: int | None = 3,
    stride: int = 1,
    fingerprint: str = "",
    trained_at: int | None = None,
    compile: bool = False,
) -> NetworkPrior:
    """A denoiser of deepinv, or any module of its signature, as a prior.

    Args:
        denoiser: the module, or what builds it; in YAML, `_target_` and `_partial_: true`.
        sigma_max: the largest noise it was trained for, on its own range: 50 / 255 is 0.2 for many. The grid of the
            sampler may not start above it (sampler.grid.sigma_max, which is on [-1, 1], is at most twice as large).
        value_range: (low, high) of its images.
        schedule: of the process; None is VP.
        clip: (low, high) for x0_hat, on [-1, 1].
        channels: of its images; None for any.
        stride: sides are multiples of it.
        fingerprint: identifies the weights, which deepinv loads by itself.
        trained_at: side of its training images in px; None: any.
        compile: torch.compile for the network (`rbctrl.priors.compiled`).
    """
    return NetworkPrior(
        denoiser,
        parameterization="x0",
        time_input="sigma",
        network_schedule=VE(sigma_max),
        value_range=value_range,
        schedule=VP() if schedule is None else schedule,
        clip=clip,
        channels=channels,
        stride=stride,
        fingerprint=fingerprint,
        trained_at=trained_at,
        compile=compile,
    )
