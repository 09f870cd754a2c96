"""The shipped text-to-image prior: drawings of known content and style (`rbctrl.shapes`, weights/shapes.md).

Latents [4, h, w] of 4 px under Stable Diffusion's schedule, v from a small `UNet2DConditionModel` that attends to the
words of a prompt and to the embeddings of reference images, which attention=concat and attention=afa give it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from rbctrl.attention import Attention, NoAttention
from rbctrl.attention.base import of_items, setting
from rbctrl.codecs.convolutional import ConvCodec
from rbctrl.data.base import Item
from rbctrl.data.files import read_picture, square
from rbctrl.data.shapes import Descriptions
from rbctrl.priors.embedding import Embedding
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.image_embeddings import required
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.prompted import PromptedPrior
from rbctrl.schedules import DiscreteVP
from rbctrl.shapes.networks import SIDE, ShapesDenoiser, ShapesDescriptor
from rbctrl.shapes.words import parse, to_tokens
from rbctrl.shipped import WEIGHTS, digest, load_shipped

LATENT_CHANNELS = 4


def shapes(
    weights: str | None = None,
    codec_weights: str | None = None,
    descriptor_weights: str | None = None,
    prompt: str = "",
    negative_prompt: str = "",
    attention: Attention | None = None,
    guidance: Guidance | None = None,
    compile: bool = False,
) -> PromptedPrior:
    """The shipped prior of drawings, RGB images in [-1, 1] whose sides are multiples of 8 px, best at 64 px.

    Args:
        weights: of the denoiser, safetensors of `rbctrl train shapes`; None takes the shipped ones.
        codec_weights: safetensors of `rbctrl train shapes_codec`; None takes the shipped ones.
        descriptor_weights: safetensors of `rbctrl train shapes_descriptor`, which embeds reference images; None takes
            the shipped ones.
        prompt: of all images, such as "two stars topleft, hatch" (`rbctrl.shapes.words`); items with a prompt of their
            own take that.
        negative_prompt: what guidance leads away from.
        attention: what the network attends to besides the text; None is text only.
        guidance: None is the prompt alone.
        compile: torch.compile for the denoiser (`rbctrl.priors.compiled`).

    Raises:
        ValueError: a word that the world does not know, or an attention that needs an IP-Adapter.
    """
    for text in (prompt, negative_prompt):
        parse(text)
    if attention is not None and attention.needs_adapter:
        raise ValueError(
            f"attention={type(attention).__name__} is of U-Nets with an IP-Adapter (prior=sdxl, sd15), and the shapes "
            "prior was trained with image tokens: attention=concat or afa shows it the same image"
        )
    path, descriptor = _weights(weights, "shapes"), _weights(descriptor_weights, "shapes_descriptor")
    attention = NoAttention() if attention is None else attention
    denoiser = NetworkPrior(
        partial(load_shipped, path, ShapesDenoiser),
        parameterization="v",
        time_input="index",
        network_schedule=DiscreteVP.sqrt_linear(),
        value_range=(-1.0, 1.0),
        codec=ConvCodec(_weights(codec_weights, "shapes_codec"), LATENT_CHANNELS),
        channels=LATENT_CHANNELS,
        stride=2,
        memory_format="channels_last",
        compile=compile,
        fingerprint=lambda: "+".join(map(digest, (path, descriptor) if attention.active else (path,))),
        trained_at=SIDE,
    )
    reader = _Reader(denoiser, descriptor, attention, negative_prompt)
    files, embed = required(attention.images), partial(reader.embed, prompt)
    prior = PromptedPrior(denoiser, embed, guidance, files, attention, reader.embed_rows)
    prior.examples = _drawings
    return prior


def _drawings(side: int) -> list[Item]:
    """Drawings of combinations that no training has seen, described in words."""
    return list(Descriptions(4, side).items())


def _weights(path: str | None, name: str) -> Path:
    return WEIGHTS / f"{name}.safetensors" if path is None else Path(path)


@dataclass(eq=False)
class _Reader:
    """Prompts and reference images to what the network is told."""

    denoiser: NetworkPrior
    descriptor: Path
    attention: Attention
    negative_prompt: str

    def embed(self, prompt: str) -> tuple[Embedding, Embedding]:
        """Of all images."""
        pictures = {kind: place and _picture(kind, place) for kind, place in self.attention.images.items()}
        words, pooled, images = self._rows([prompt], pictures, 1)
        positive = Embedding(words[0], pooled[0], images[0])
        return positive, self._negative(positive)

    def embed_rows(self, prompts: Sequence[str], references: Mapping[str, Tensor]) -> tuple[Embedding, Embedding]:
        """Of each row: its prompt, and its reference images [B, 3, H, W] by kind."""
        own, places = of_items(self.attention.images, references), self.attention.images
        pictures = {
            kind: own[kind] if kind in own else place and _picture(kind, place) for kind, place in places.items()
        }
        positive = Embedding(*self._rows(prompts, pictures, len(prompts)))
        return positive, self._negative(positive)

    def _negative(self, positive: Embedding) -> Embedding:
        """Beside zeros for all images."""
        words, pooled, _ = self._rows([self.negative_prompt], {}, 1)
        images = torch.zeros_like(positive.images)
        if positive.tokens.ndim == 3:
            n = len(positive.tokens)
            return Embedding(words.expand(n, -1, -1), pooled.expand(n, -1), images)
        return Embedding(words[0], pooled[0], images)

    @torch.no_grad()
    def _rows(
        self, prompts: Sequence[str], pictures: Mapping[str, Tensor | None], n: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [n, L, D], pooled [n, D] and images [n, k, E]."""
        self.denoiser.load()
        network = self.denoiser.network
        like = next(network.parameters())
        tokens, pooled = network.text(to_tokens([parse(prompt) for prompt in prompts]).to(like.device))
        width = network.config["image_width"]
        images = [
            like.new_zeros(n, width) if picture is None else self._embedded(picture.to(like.device)).expand(n, -1)
            for picture in pictures.values()
        ]
        return tokens, pooled, torch.stack(images, 1) if images else like.new_zeros(n, 0, width)

    def _embedded(self, pictures: Tensor) -> Tensor:
        return self._described.to(pictures.device)(pictures.float())["words"]

    @cached_property
    def _described(self) -> ShapesDescriptor:
        return load_shipped(self.descriptor, ShapesDescriptor).eval()


def _picture(kind: str, place: str) -> Tensor:
    """[1, 3, SIDE, SIDE], the centre of a file."""
    return square(read_picture(place, setting(kind)), SIDE)[None]
