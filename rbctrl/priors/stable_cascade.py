"""Stable Cascade: eps of latents [16, h, w] under a cosine schedule with shift, 42.67 pixels per latent pixel and side.

Stage C is the prior; costs look at its latents through a previewer, and stages B and A render the final image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor, nn

from rbctrl.attention import Attention, NoAttention
from rbctrl.checkpoints import RequiredFile
from rbctrl.codecs import Codec, Previewer
from rbctrl.codecs.effnet import ImageEncoder
from rbctrl.pretrained import Folder, Source, source
from rbctrl.priors.cascade_codec import CascadeCodec
from rbctrl.priors.cascade_networks import StageC
from rbctrl.priors.embedding import Embedding
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.image_embeddings import embed_images, embed_references, fingerprint, required
from rbctrl.priors.memory import Memory
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.prompted import PromptedPrior
from rbctrl.priors.remembered import Remembered
from rbctrl.priors.scheduler import check_cosine
from rbctrl.priors.stage_b import Rendering, Stages
from rbctrl.priors.text import EncodeAll, Texts, encode_cascade
from rbctrl.schedules import Cosine

_PREVIEWER = (
    "it is published at https://huggingface.co/stabilityai/stable-cascade "
    "(hf download stabilityai/stable-cascade previewer.safetensors --local-dir FOLDER)"
)

_ENCODER = _PREVIEWER.replace("previewer", "effnet_encoder")


def stable_cascade(
    model: str,
    *,
    preview: str,
    decoder: str | None = None,
    encoder: str | None = None,
    previewed: bool = False,
    published: str = "stabilityai/stable-cascade-prior",
    published_decoder: str = "stabilityai/stable-cascade",
    size: Literal["full", "lite"] = "full",
    schedule: Cosine | None = None,
    prompt: str = "",
    negative_prompt: str = "",
    embeddings: str | None = None,
    attention: Attention | None = None,
    guidance: Guidance | None = None,
    rendering: Rendering | None = None,
    memory: Memory | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
) -> PromptedPrior:
    """A prior of Stable Cascade.

    Its previews have 8 pixels per latent pixel, 192 px for images of 1024 px: what costs see is smaller than the image.

    Args:
        model: folder or hub id of stage C with its text and image encoders, in diffusers' layout.
        preview: the previewer in its published layout, a .safetensors file, of any width; or a substitute of yours, the
            folder or hub id of an AutoencoderTiny of 16 latent channels.
        decoder: folder or hub id of stages B and A; None: the preview is the result.
        encoder: effnet_encoder.safetensors in its published layout, or its folder; None: images cannot be encoded.
        previewed: measures items, references of style, as previews of their encoding, as released (`CascadeCodec`).
        published: hub id of the first, to name when it is missing.
        published_decoder: the same of stages B and A.
        size: "lite" is the small networks, 1.0 instead of 3.6 billion parameters in stage C.
        schedule: with the shift; None is that of the base model, shift=1.
        prompt: of the image; "" is the prior of all images.
        negative_prompt: what guidance leads away from.
        embeddings: a file of `rbctrl.priors.text.save_embeddings` instead of both; no text encoder is then read.
        attention: what the network attends to besides the text, reference images included; None is text only.
        guidance: None is the prompt alone.
        rendering: how stage B samples.
        memory: None is fp32, with gradient checkpointing; fp16 is refused.
        variant: of the weight files, "bf16".
        local_files_only: downloads nothing.

    Raises:
        ValueError: no such size, an attention that needs an IP-Adapter, or `previewed` without an encoder.
    """
    if size not in ("full", "lite"):
        raise ValueError(f"size is 'full' or 'lite', got {size!r}")
    if attention is not None and attention.needs_adapter:
        raise ValueError(
            f"attention={type(attention).__name__} is of U-Nets with an IP-Adapter (prior=sdxl, sd15), and Stable "
            "Cascade was trained with image tokens: attention=concat shows it the same image"
        )
    options = {"variant": variant, "local_files_only": local_files_only}
    suffix = "_lite" if size == "lite" else ""
    return StableCascade(
        source(model, published=published, **options),
        None if decoder is None else Folder(decoder, published_decoder, "prior.decoder", **options),
        suffix,
        Texts(prompt, negative_prompt, embeddings),
        NoAttention() if attention is None else attention,
        Cosine(alpha_bar_max=0.9999) if schedule is None else schedule,
        Memory() if memory is None else memory,
        preview,
        encoder,
        previewed,
    ).prior(guidance, Rendering() if rendering is None else rendering)


@dataclass(frozen=True)
class StableCascade:
    """The parts of a model and what is asked of it; `prior` makes the prior.

    Args:
        source: of stage C and the encoders.
        decoder: of stages B and A, or None.
        suffix: of the names of the networks' folders.
        texts: prompt and negative prompt.
        attention: with its reference images.
        schedule: of the process.
        memory: precision, checkpointing and the like.
        preview: what decodes for costs.
        encoder: what encodes images, or None.
        previewed: whether items are measured as previews.
    """

    source: Source
    decoder: Source | None
    suffix: str
    texts: Texts
    attention: Attention
    schedule: Cosine
    memory: Memory
    preview: str
    encoder: str | None
    previewed: bool

    def prior(self, guidance: Guidance | None, rendering: Rendering) -> PromptedPrior:
        """The prior; its `load` reads everything, encoders first."""
        words, encoders = Remembered(encode_cascade, torch.float32), self.memory.encoders(self.source)
        texts = cache(partial(self._embed_texts, partial(words, self.source)))  # for stages C and B
        embed_rows = partial(self._embed_rows, partial(words, encoders), encoders)
        stages = self.decoder and Stages(self.decoder, f"decoder{self.suffix}", texts, rendering, self.memory)
        denoiser = NetworkPrior(
            self._network,
            parameterization="eps",
            time_input="log_snr",
            network_schedule=self.schedule,
            value_range=(-1.0, 1.0),
            codec=CascadeCodec(self._previewer(), stages, self._encoder(), self.previewed),
            fingerprint=self._fingerprint,
        )
        files = (*self.source.files(), *required(self.attention.images))
        rows = embed_rows if self.texts.embeddings is None else None
        prior = PromptedPrior(denoiser, partial(self._embed, texts), guidance, files, self.attention, rows)
        prior.budget = self.memory.budget
        return prior

    def _network(self) -> nn.Module:
        from diffusers import StableCascadeUNet

        self._check_model()  # here, too: where items have the prompts, none is embedded before
        model = self.source.part(StableCascadeUNet, f"prior{self.suffix}", self.memory.dtype)
        return StageC(self.memory.prepare(model))

    def _check_model(self) -> None:
        check_cosine(self.source.settings("scheduler"), self.source.files()[0].place, self.schedule)

    def _previewer(self) -> Codec:
        if self.preview.endswith(".safetensors"):
            return Previewer(RequiredFile(self.preview, _PREVIEWER, "prior.preview"))
        substitute = Folder(self.preview, self.preview, "prior.preview")
        return self.memory.autoencoder(substitute, "AutoencoderTiny", "")

    def _encoder(self) -> ImageEncoder | None:
        return None if self.encoder is None else ImageEncoder(RequiredFile(self.encoder, _ENCODER, "prior.encoder"))

    def _embed_texts(self, encode: EncodeAll) -> tuple[Embedding, Embedding]:
        self._check_model()
        return self.texts.embed(encode)

    def _embed(self, texts: Callable[[], tuple[Embedding, Embedding]]) -> tuple[Embedding, Embedding]:
        """Both prompts with their images, which are zeros beside the negative one."""
        prompts = texts()
        images = embed_images(self.source, self.attention.images, self._image_width)
        return prompts[0].beside(images), prompts[1].beside(torch.zeros_like(images))

    def _embed_rows(
        self, encode: EncodeAll, encoders: Source, prompts: Sequence[str], references: Mapping[str, Tensor]
    ) -> tuple[Embedding, Embedding]:
        """The same for a prompt and the reference images of each row."""
        positive, negative = self.texts.embed_rows(prompts, encode)
        images = embed_references(encoders, self.attention.images, references, len(prompts), self._image_width)
        return positive.beside(images), negative.beside(torch.zeros_like(images))

    @property
    def _image_width(self) -> int:
        return self.source.settings(f"prior{self.suffix}")["clip_image_in_channels"]

    def _fingerprint(self) -> str:
        read = [f"prior{self.suffix}", *(["text_encoder"] if self.texts.embeddings is None else [])]
        read += ["image_encoder"] if self.attention.active else []
        more = [fingerprint(self.attention.images)]
        more += [] if self.texts.embeddings is None else [RequiredFile(self.texts.embeddings, "").fingerprint()]
        return "+".join(part for part in (self.source.fingerprint(*read), *more) if part)
