"""Unconditional latent diffusion with a VQ first stage (Rombach et al., CVPR 2022), from its published checkpoint.

One file holds everything, by prefix: the network twice, as trained and as a moving average (`model_ema.*`, whose names
have lost their dots), and the first stage. Samples of the paper use the moving average; loaders that look at
`model.diffusion_model.*` alone silently take the other one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, check_fit, read_tensors, shapes
from rbctrl.codecs import Autoencoder
from rbctrl.codecs.autoencoder import Quantize
from rbctrl.codecs.first_stage import FirstStageLayout, config
from rbctrl.codecs.first_stage import load as load_first_stage
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.unet_checkpoint import load as load_unet
from rbctrl.priors.unet_layout import UNetLayout
from rbctrl.schedules import DiscreteVP, NoiseSchedule

_RAW, _EMA, _FIRST_STAGE = "model.diffusion_model.", "model_ema.diffusion_model", "first_stage_model."


def ldm(
    path: str,
    layout: UNetLayout,
    first_stage: FirstStageLayout,
    network_schedule: DiscreteVP,
    published: str = "ask whoever trained it",
    weights: Literal["ema", "raw"] = "ema",
    quantize: Quantize = "straight_through",
    checkpoint: bool = False,
    schedule: NoiseSchedule | None = None,
    clip: tuple[float, float] | None = None,
    trained_at: int | None = 256,
    compile: bool = False,
) -> NetworkPrior:
    """Latent diffusion without a condition; latents are those of the first stage, unscaled.

    Args:
        path: of `model.ckpt`, under its original names of tensors.
        layout: the size of the network.
        first_stage: the size of the autoencoder.
        network_schedule: the beta table it was trained with; the file's own has to agree.
        published: where the file can be had, for the sentence that says it is missing.
        weights: the moving average, as the paper's samples, or those at the end of the training.
        quantize: what the decoder does with a latent: see `rbctrl.codecs.Autoencoder`.
        checkpoint: recomputes the activations of the autoencoder in the backward pass.
        schedule: of the process; None is `network_schedule`.
        clip: (low, high) for x0_hat.
        trained_at: side of its training images in px.
        compile: torch.compile for the network (`rbctrl.priors.compiled`).

    Raises:
        ValueError: `weights` is no such choice.
    """
    if weights not in ("ema", "raw"):
        raise ValueError(f"weights is 'ema' or 'raw', got {weights!r}")
    file = RequiredFile(path, published)

    def network() -> nn.Module:
        state = read_tensors(file)
        _check_schedule(path, network_schedule, state)
        return load_unet(layout, _network_tensors(path, state, weights), path)

    def autoencoder() -> nn.Module:
        return load_first_stage(first_stage, below(_FIRST_STAGE, read_tensors(file)), f"{path} ({_FIRST_STAGE}*)")

    return NetworkPrior(
        network,
        parameterization="eps",
        time_input="index",
        network_schedule=network_schedule,
        value_range=(-1.0, 1.0),
        schedule=schedule,
        codec=Autoencoder(autoencoder, quantize=quantize, checkpoint=checkpoint, config=config(first_stage)),
        channels=layout.in_channels,
        stride=layout.stride,
        clip=clip,
        fingerprint=file.fingerprint,
        files=(file,),
        trained_at=trained_at,
        compile=compile,
    )


def below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def _network_tensors(path: str, state: Mapping[str, Tensor], weights: str) -> dict[str, Tensor]:
    """Those of the network; the moving average gets its dots back from the names of the other ones."""
    raw = below(_RAW, state)
    if weights == "raw":
        return raw
    ema = below(_EMA, state)
    if not ema:
        raise ValueError(f"{path} has no moving average (model_ema.*): use prior.weights=raw, or the published file")
    dotless = {name.replace(".", ""): name for name in raw}
    expected = {short: tuple(raw[name].shape) for short, name in dotless.items()}
    check_fit(f"the moving average of {path}", "its network", expected, shapes(ema))
    return {dotless[short]: value for short, value in ema.items()}


def _check_schedule(path: str, schedule: DiscreteVP, state: Mapping[str, Tensor]) -> None:
    """The file carries its own table: a declared one that differs is a mistake."""
    table = state.get("alphas_cumprod")
    if table is None:
        return
    ours = schedule.alpha_bar(torch.arange(1, len(schedule) + 1, dtype=torch.float64) / len(schedule))
    if len(table) != len(ours) or not torch.allclose(table.double(), ours, rtol=1e-3, atol=1e-6):
        raise ValueError(
            f"{path} was trained on another beta table (alpha_bar at its end {float(table[-1]):.3g}, declared "
            f"{float(ours[-1]):.3g}): set prior.network_schedule to it"
        )
