"""The shipped prior: a small convolutional denoiser of photographs (see weights/photo.md, its model card).

It knows edges, colours and textures, not scenes: large holes get plausible blur, not content.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rbctrl.networks import ConvUNet
from rbctrl.priors.network import NetworkPrior
from rbctrl.schedules import VE, VP, NoiseSchedule
from rbctrl.shipped import WEIGHTS, digest, load_shipped

SHIPPED = WEIGHTS / "photo.safetensors"
SIGMA_TRAINED = 80.0  # the largest noise level of the training


def photo(
    weights: str | None = None,
    schedule: NoiseSchedule | None = None,
    clip: tuple[float, float] | None = None,
    stride: int = 8,
    compile: bool = False,
) -> NetworkPrior:
    """The shipped prior of photographs, RGB images in [-1, 1] whose sides are multiples of `stride` px.

    Args:
        weights: safetensors of `rbctrl train`; None takes the shipped ones.
        schedule: of the process; None is VP(0.1, 20). Any will do: the network is told sigma / alpha.
        clip: (low, high) for x0_hat; None does not clip.
        stride: of the network; 8 for the shipped one.
        compile: torch.compile for the network (`rbctrl.priors.compiled`).
    """
    path = SHIPPED if weights is None else Path(weights)
    return NetworkPrior(
        partial(load_shipped, path, ConvUNet),
        parameterization="x0",
        time_input="sigma",
        network_schedule=VE(SIGMA_TRAINED),
        value_range=(-1.0, 1.0),
        schedule=VP() if schedule is None else schedule,
        clip=clip,
        channels=3,
        stride=stride,
        memory_format="channels_last",
        compile=compile,
        fingerprint=partial(digest, path),
    )
