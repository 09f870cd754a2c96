"""IP-Adapters of Stable Diffusion's U-Nets, in their published layout.

    base    LayerNorm(Linear(embedding of the image)), 4 tokens; beside the negative prompt, of an embedding of zeros
    Plus    a resampler of the image encoder's states before its last layer; beside it, of an image of zeros

Between runs the network is as it was: the adapter lies beside it and is attached for the time of a scope
(`rbctrl.priors.adapter`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from rbctrl.attention import Attention
from rbctrl.checkpoints import RequiredFile
from rbctrl.pretrained import Folder, Source
from rbctrl.pretrained.base import content_hash
from rbctrl.priors.adapter import Adapter, read_adapter
from rbctrl.priors.content_words import TextTower, subtracted, tower
from rbctrl.priors.denoisers import UNet
from rbctrl.priors.image_embeddings import embed_images, embed_references
from rbctrl.priors.prompted import PromptedPrior

BASE_TOKENS = 4


@dataclass(frozen=True)
class Layout:
    """What a file of weights is made for.

    Args:
        tokens: of one image.
        width: of what the image encoder gives.
        states: Plus reads its states before the last layer, [S, width]; the base adapter its embedding, [width].
    """

    tokens: int
    width: int
    states: bool


@dataclass(frozen=True)
class AdapterFiles:
    """Where an IP-Adapter and its image encoder are read from.

    Args:
        model: folder, or hub id of a repository.
        weights: .safetensors file in it.
        image_encoder: folder in it, of a CLIPVisionModelWithProjection.
        text_encoder: folder or hub id of the text half of that CLIP, for words that are subtracted from an image; None:
            the model has it (XL's second text encoder is that of XL's base adapter).
        published: hub id to name when it is missing.
        local_files_only: downloads nothing.

    Raises:
        ValueError: weights of another format.
    """

    model: str
    weights: str
    image_encoder: str
    text_encoder: str | None = None
    published: str = "h94/IP-Adapter"
    local_files_only: bool = False

    def __post_init__(self) -> None:
        if Path(self.weights).suffix != ".safetensors":
            raise ValueError(
                f"an IP-Adapter is read from .safetensors, got prior.ip_adapter.weights={self.weights}: the published "
                "repository has every file in that format, too"
            )

    @property
    def source(self) -> Folder:
        """Of both."""
        return Folder(self.model, self.published, "prior.ip_adapter.model", None, self.local_files_only)

    def files(self) -> tuple[RequiredFile, ...]:
        """What is read."""
        return self.source.files()

    def layout(self) -> Layout:
        """From the shapes in the file; no weight is read."""
        path = self.source.file(self.weights)
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())

            def shape(name: str) -> list[int]:
                return file.get_slice(name).get_shape()

            if "image_proj.proj.weight" in names:
                return Layout(BASE_TOKENS, shape("image_proj.proj.weight")[1], states=False)
            if {"image_proj.latents", "image_proj.proj_in.weight"} <= names:
                tokens, width = shape("image_proj.latents")[1], shape("image_proj.proj_in.weight")[1]
                return Layout(tokens, width, states=True)
        raise ValueError(f"{path} is no IP-Adapter of the base or the Plus layout; others (Full, FaceID) are not read")

    def embed(self, places: Mapping[str, str | None]) -> tuple[Tensor, Tensor]:
        """Of the images at these places, and of as many that stand beside the negative prompt; [k, ...] each."""
        layout, given = self.layout(), {kind: place for kind, place in places.items() if place is not None}
        *images, nothing = embed_images(
            self.source, given | {"null": None}, layout.width, self.image_encoder, layout.states
        )
        return torch.stack(images), torch.stack([nothing] * len(images))

    def embed_rows(
        self, source: Source, places: Mapping[str, str | None], references: Mapping[str, Tensor], n: int
    ) -> tuple[Tensor, Tensor]:
        """The same for each of n rows, [n, k, ...] each; `source` is where the image encoder is read from."""
        layout, given = self.layout(), {kind: place for kind, place in places.items() if place is not None}
        encoder = (layout.width, self.image_encoder, layout.states)
        found = embed_references(source, given | {"null": None}, references, n, *encoder)
        return found[:, :-1], found[:, -1:].expand_as(found[:, :-1])

    def subtracted(self, attention: Attention, own: TextTower | None) -> Tensor:
        """What is taken out of the embeddings of the images of `attention`, [k, width].

        Raises:
            ValueError: the adapter reads no embeddings, or those of another CLIP.
        """
        layout = self.layout()
        if layout.states:
            raise ValueError(
                "attention.neg_content_prompt is subtracted from an image's embedding, and Plus reads states of its "
                f"image: take a base adapter instead of prior.ip_adapter.weights={self.weights}"
            )
        given = tuple(kind for kind, place in attention.images.items() if place is not None)
        return subtracted(attention.subtracted, given, self.tower(own), layout.width)

    def tower(self, own: TextTower | None) -> TextTower | None:
        """The text half of its CLIP; `own` is that of the model, if it has one."""
        return own if self.text_encoder is None else tower(self.text_encoder, self.local_files_only)

    def read(self, network: nn.Module) -> Adapter:
        """The adapter of a UNet2DConditionModel, which is left as it was."""
        path = self.source.file(self.weights)
        return read_adapter(path, network, self.layout().tokens)

    def fingerprint(self) -> str:
        """Identifies the weights."""
        encoder = self.source.fingerprint(self.image_encoder)
        return f"{content_hash(self.source.file(self.weights))[:16]}+{encoder}"


class AdaptedUNet(UNet):
    """A U-Net with its adapter beside it: the last part of its condition is embeddings of k images, [B, k, ...]."""

    def __init__(self, model: nn.Module, adapter: Adapter) -> None:
        super().__init__(model)
        self.adapter = adapter

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor, *more: Tensor) -> Tensor:
        pooled, images = (None, *more)[-2:]
        return self.run(x, time, tokens, pooled, image_embeds=[self.cast(images)[0]])

    def tail(self, kinds: Iterable[str]) -> dict[str, int]:
        """The tokens of images of these kinds; a text-only run has none."""
        return {kind: self.adapter.tokens for kind in kinds if kind != "null"}


class AdaptedPrior(PromptedPrior):
    """A prompted prior on an `AdaptedUNet`; its adapter is attached as long as its scope is open."""

    @contextmanager
    def scope(self) -> Iterator[None]:
        if self._inside:
            yield
            return
        self._loaded()
        network = self.denoiser.network
        with network.adapter.attached(network.model), super().scope():
            yield
