"""Rectified-flow transformers, Stable Diffusion 3 and Flux: x_t = (1 - t) x_0 + t eps, and out = eps - x_0."""

from __future__ import annotations

from functools import partial

from rbctrl.pretrained import source
from rbctrl.priors.denoisers import SD3, Flux
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.memory import Memory
from rbctrl.priors.prompted import PromptedPrior
from rbctrl.priors.scheduler import check_flow
from rbctrl.priors.text import Texts, encode_flux, encode_sd3
from rbctrl.priors.text_to_image import Family, TextToImage
from rbctrl.schedules import RectifiedFlow


def stable_diffusion_3(
    model: str,
    *,
    published: str = "stabilityai/stable-diffusion-3-medium-diffusers",
    prompt: str = "",
    negative_prompt: str = "",
    embeddings: str | None = None,
    t5_length: int = 256,
    guidance: Guidance | None = None,
    memory: Memory | None = None,
    preview: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
) -> PromptedPrior:
    """A prior of Stable Diffusion 3 or 3.5; the arguments are those of `stable_diffusion`.

    Its own sampler takes times that are shifted towards noise (3.0): sampler.grid.shift=3.

    Args:
        model: folder or hub id in diffusers' layout.
        published: hub id to name when it is missing.
        prompt: of the image.
        negative_prompt: what guidance leads away from.
        embeddings: a file instead of both.
        t5_length: tokens that T5 reads; 0 does without T5, which is most of the model's text memory.
        guidance: None is the prompt alone.
        memory: None is fp32, with gradient checkpointing.
        preview: folder or hub id of an AutoencoderTiny.
        variant: of the weight files.
        local_files_only: downloads nothing.
    """
    encoders = ("text_encoder", "text_encoder_2", *(("text_encoder_3",) if t5_length else ()))
    encode = partial(encode_sd3, length=t5_length)
    family = Family("transformer", "SD3Transformer2DModel", SD3, "t", encoders, encode, 2, "madebyollin/taesd3")
    parts = source(model, published=published, variant=variant, local_files_only=local_files_only)
    texts = Texts(prompt, negative_prompt, embeddings)
    return TextToImage(family, parts, RectifiedFlow(), "flow", check_flow, texts, guidance, memory, preview).prior()


def flux(
    model: str,
    *,
    published: str = "black-forest-labs/FLUX.1-dev",
    prompt: str = "",
    negative_prompt: str = "",
    embeddings: str | None = None,
    t5_length: int = 512,
    distilled_guidance: float = 3.5,
    guidance: Guidance | None = None,
    memory: Memory | None = None,
    preview: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
) -> PromptedPrior:
    """A prior of Flux; the arguments are those of `stable_diffusion`.

    Args:
        model: folder or hub id in diffusers' layout.
        published: hub id to name when it is missing.
        prompt: of the image.
        negative_prompt: what `guidance` leads away from.
        embeddings: a file instead of both.
        t5_length: tokens that T5 reads; 256 for the "schnell" model.
        distilled_guidance: the scale that the distilled network ("dev") is told, in one evaluation.
        guidance: a second branch on top of that; None is the prompt alone.
        memory: None is fp32, with gradient checkpointing.
        preview: folder or hub id of an AutoencoderTiny.
        variant: of the weight files.
        local_files_only: downloads nothing.
    """
    adapter = partial(Flux, distilled_guidance=distilled_guidance)
    encode = partial(encode_flux, length=t5_length)
    family = Family(
        "transformer",
        "FluxTransformer2DModel",
        adapter,
        "t",
        ("text_encoder", "text_encoder_2"),
        encode,
        patch=2,
        tiny="madebyollin/taef1",
    )
    parts = source(model, published=published, variant=variant, local_files_only=local_files_only)
    texts = Texts(prompt, negative_prompt, embeddings)
    return TextToImage(family, parts, RectifiedFlow(), "flow", check_flow, texts, guidance, memory, preview).prior()
