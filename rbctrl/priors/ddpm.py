"""Unconditional pixel-space networks in diffusers' layout: google/ddpm-* on the hub, or a folder of `save_pretrained`.

Older repositories have the network and its scheduler_config.json side by side, pipelines in unet/ and scheduler/. What
the scheduler says of the beta table and of the output has to agree with what this prior states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import nn

from rbctrl.pretrained import Folder
from rbctrl.priors.network import NetworkPrior, Parameterization
from rbctrl.priors.scheduler import check_table
from rbctrl.schedules import DiscreteVP, NoiseSchedule


def ddpm(
    path: str,
    network_schedule: DiscreteVP,
    published: str = "google/ddpm-celebahq-256",
    parameterization: Parameterization = "eps",
    schedule: NoiseSchedule | None = None,
    clip: tuple[float, float] | None = None,
    channels: int = 3,
    stride: int = 32,
    learned_variance: bool = False,
    trained_at: int | None = 256,
    local_files_only: bool = False,
    compile: bool = False,
) -> NetworkPrior:
    """A `UNet2DModel` of images in [-1, 1] that is told the index of a beta table.

    Args:
        path: a folder, or a repository on the hub, of the network alone or of its pipeline.
        network_schedule: the beta table it was trained with.
        published: the repository to name when it is missing.
        parameterization: of its output.
        schedule: of the process; None is `network_schedule`.
        clip: (low, high) for x0_hat.
        channels: of its images.
        stride: sides are multiples of it: 2 to the number of its downsamplings.
        learned_variance: whether half of its output is a variance.
        trained_at: side of its training images in px.
        local_files_only: nothing is downloaded.
        compile: torch.compile for the network (`rbctrl.priors.compiled`).
    """
    source = Folder(path, published, "prior.path", local_files_only=local_files_only)

    def network() -> nn.Module:
        from diffusers import UNet2DModel

        part = _part(source)
        config = _scheduler(source, part)
        if config is not None:
            check_table(config, path, network_schedule, parameterization)
        return source.part(UNet2DModel, part, torch.float32)

    return NetworkPrior(
        network,
        parameterization=parameterization,
        time_input="index",
        network_schedule=network_schedule,
        value_range=(-1.0, 1.0),
        schedule=schedule,
        clip=clip,
        channels=channels,
        stride=stride,
        learned_variance=learned_variance,
        trained_at=trained_at,
        compile=compile,
        fingerprint=lambda: source.fingerprint(_part(source)),
        files=source.files(),
    )


def _part(source: Folder) -> str:
    """Where the network lies: beside its model_index.json, or in a folder of its own."""
    return "" if (source.folder("") / "config.json").is_file() else "unet"


def _scheduler(source: Folder, part: str) -> Mapping[str, object] | None:
    """The scheduler's config; None where the network came without one."""
    file = source.folder("" if part == "" else "scheduler") / "scheduler_config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
