"""Stable Diffusion 1.x, 2.x and XL: U-Nets in the latent space of a KL autoencoder, f = 8."""

from __future__ import annotations

from functools import partial
from typing import Literal

from rbctrl.attention import Attention, NoAttention
from rbctrl.pretrained import source
from rbctrl.priors.denoisers import UNet
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.ip_adapter import AdapterFiles
from rbctrl.priors.memory import Memory
from rbctrl.priors.prompted import PromptedPrior
from rbctrl.priors.scheduler import check_table
from rbctrl.priors.text import Texts, encode_sd, encode_xl
from rbctrl.priors.text_to_image import Family, TextToImage
from rbctrl.schedules import DiscreteVP

_CLIPS = ("text_encoder", "text_encoder_2")
FAMILIES = {
    "sd": Family("unet", "UNet2DConditionModel", UNet, "index", _CLIPS[:1], encode_sd),
    "xl": Family(
        "unet", "UNet2DConditionModel", UNet, "index", _CLIPS, encode_xl, tiny="madebyollin/taesdxl", tower=_CLIPS[1]
    ),
}


def stable_diffusion(
    model: str,
    *,
    published: str = "stable-diffusion-v1-5/stable-diffusion-v1-5",
    family: Literal["sd", "xl"] = "sd",
    parameterization: Literal["eps", "v"] = "eps",
    schedule: DiscreteVP | None = None,
    prompt: str = "",
    negative_prompt: str | None = "",
    embeddings: str | None = None,
    attention: Attention | None = None,
    ip_adapter: AdapterFiles | None = None,
    guidance: Guidance | None = None,
    memory: Memory | None = None,
    preview: str | None = None,
    config: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
) -> PromptedPrior:
    """A prior of Stable Diffusion; schedule and parameterisation are compared with the model's own scheduler.

    Args:
        model: folder or hub id in diffusers' layout, or one .safetensors or .ckpt file in the original layout.
        published: hub id to name when it is missing; of a single file, also where its configs come from.
        family: "sd" is 1.x and 2.x, "xl" is XL.
        parameterization: "v" for 2.x at 768 px and the zero-SNR models.
        schedule: of the training; None is Stable Diffusion's own.
        prompt: of the image; "" is the prior of all images.
        negative_prompt: what guidance leads away from; None is zeros, as XL's published pipeline takes them.
        embeddings: a file of `rbctrl.priors.text.save_embeddings` instead of both; no text encoder is then read.
        attention: what the network attends to besides the text, reference images included; None is text only.
        ip_adapter: what makes tokens of reference images; read only where `attention` has some.
        guidance: None is the prompt alone.
        memory: None is fp32, with gradient checkpointing.
        preview: folder or hub id of an AutoencoderTiny that costs look through, instead of the full decoder.
        config: of a single file: folder or hub id of its configs and tokenizers.
        variant: "fp16" reads the files of that name.
        local_files_only: downloads nothing.

    Raises:
        ValueError: no such family, or reference images without an IP-Adapter.
    """
    if family not in FAMILIES:
        raise ValueError(f"family is one of {', '.join(FAMILIES)}, got {family!r}")
    schedule = DiscreteVP.sqrt_linear() if schedule is None else schedule
    return TextToImage(
        FAMILIES[family],
        source(model, published=published, config=config, variant=variant, local_files_only=local_files_only),
        schedule,
        parameterization,
        partial(check_table, schedule=schedule, parameterization=parameterization),
        Texts(prompt, negative_prompt, embeddings),
        guidance,
        memory,
        preview,
        NoAttention() if attention is None else attention,
        ip_adapter,
    ).prior()
