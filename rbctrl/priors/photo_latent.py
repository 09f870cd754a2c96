"""The shipped latent prior: a small autoencoder and a denoiser of its latents (see weights/photo_latent.md).

It exercises what latent methods need, a decoder that is no exact inverse and a latent space that is not pixels, with
no download; the pixel prior `photo` restores better.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rbctrl.codecs.convolutional import ConvCodec
from rbctrl.networks import ConvUNet
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.photographs import SIGMA_TRAINED
from rbctrl.schedules import VE, VP, NoiseSchedule
from rbctrl.shipped import WEIGHTS, digest, load_shipped


def photo_latent(
    weights: str | None = None,
    codec_weights: str | None = None,
    schedule: NoiseSchedule | None = None,
    latent_channels: int = 8,
    stride: int = 2,
    compile: bool = False,
) -> NetworkPrior:
    """The shipped latent prior of photographs, RGB images in [-1, 1] whose sides are multiples of 4 `stride` px.

    Args:
        weights: of the denoiser, safetensors of `rbctrl train latent`; None takes the shipped ones.
        codec_weights: safetensors of `rbctrl train codec`; None takes the shipped ones.
        schedule: of the process; None is VP(0.1, 20). Any will do: the network is told sigma / alpha.
        latent_channels: of the codec.
        stride: of the denoiser, in latent pixels; 2 for the shipped one.
        compile: torch.compile for the denoiser (`rbctrl.priors.compiled`).
    """
    path = WEIGHTS / "photo_latent.safetensors" if weights is None else Path(weights)
    codec = WEIGHTS / "photo_codec.safetensors" if codec_weights is None else Path(codec_weights)
    return NetworkPrior(
        partial(load_shipped, path, ConvUNet),
        parameterization="x0",
        time_input="sigma",
        network_schedule=VE(SIGMA_TRAINED),
        value_range=(-1.0, 1.0),
        schedule=VP() if schedule is None else schedule,
        codec=ConvCodec(codec, latent_channels),
        channels=latent_channels,
        stride=stride,
        memory_format="channels_last",
        compile=compile,
        fingerprint=partial(digest, path),
    )
