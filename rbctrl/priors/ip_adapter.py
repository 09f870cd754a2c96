"""IP-Adapters of Stable Diffusion's U-Nets: weights in the published layout, read once by diffusers' own loader.

    base    LayerNorm(Linear(embedding of the image)), 4 tokens; beside the negative prompt, of an embedding of zeros
    Plus    a resampler of the image encoder's states before its last layer; beside it, of an image of zeros

Between runs the network is as it was: the adapter lies beside it and is attached for the time of a scope.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, check_fit, read_tensors, shapes
from rbctrl.pretrained import Folder
from rbctrl.pretrained.base import content_hash
from rbctrl.priors.denoisers import UNet
from rbctrl.priors.image_embeddings import embed_images
from rbctrl.priors.prompted import PromptedPrior

_PINNED = "0.42.1"  # diffusers whose private loader this was tested with
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
        published: hub id to name when it is missing.
        local_files_only: downloads nothing.

    Raises:
        ValueError: weights of another format.
    """

    model: str
    weights: str
    image_encoder: str
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

    def read(self, network: nn.Module) -> Adapter:
        """The adapter of a UNet2DConditionModel, which is left as it was."""
        path = self.source.file(self.weights)
        return read_adapter(path, network, self.layout().tokens)

    def fingerprint(self) -> str:
        """Identifies the weights."""
        encoder = self.source.fingerprint(self.image_encoder)
        return f"{content_hash(self.source.file(self.weights))[:16]}+{encoder}"


class Adapter(nn.Module):
    """An IP-Adapter beside its network.

    Args:
        processors: by the name of the block in the network.
        projection: of embeddings to tokens.
        tokens: of one image.
    """

    def __init__(self, processors: Mapping[str, nn.Module], projection: nn.Module, tokens: int) -> None:
        super().__init__()
        self.names, self.tokens = tuple(processors), tokens
        self.processors, self.projection = nn.ModuleList(processors.values()), projection

    @contextmanager
    def attached(self, network: nn.Module) -> Iterator[None]:
        """The network listens to image tokens; afterwards it is as before, also after an exception."""
        with _kept(network):
            for name, processor in zip(self.names, self.processors):
                network.get_submodule(name).set_processor(processor)
            network.encoder_hid_proj, network.config.encoder_hid_dim_type = self.projection, "ip_image_proj"
            yield


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


def read_adapter(path: Path, network: nn.Module, tokens: int) -> Adapter:
    """The weights of a file, strictly, by diffusers' loader; the network is as before.

    Raises:
        ValueError: they are not those of an adapter of this network.
        RuntimeError: this version of diffusers has no such loader.
    """
    load = getattr(network, "_load_ip_adapter_weights", None)
    if load is None:
        raise RuntimeError(
            "IP-Adapters are read by UNet2DConditionModel._load_ip_adapter_weights, which this diffusers does not have "
            f"any more: install diffusers {_PINNED}"
        )
    tensors = read_tensors(RequiredFile(str(path), "", "prior.ip_adapter.weights"))
    state = {part: _below(part, tensors) for part in ("image_proj", "ip_adapter")}
    layers = _expected(network)
    left_over = {name for name in tensors if not name.startswith(("image_proj.", "ip_adapter."))}
    check_fit(
        path, f"{len(layers) // 2} cross-attentions", layers, shapes(state["ip_adapter"]) | dict.fromkeys(left_over, ())
    )
    with _kept(network), _unwarned():
        try:
            load([state], low_cpu_mem_usage=False)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{path} does not fit an IP-Adapter: {' '.join(str(error).split())[:300]}") from error
        processors = {
            name.removesuffix(".processor"): processor
            for name, processor in network.attn_processors.items()
            if hasattr(processor, "to_k_ip")
        }
        return Adapter(processors, network.encoder_hid_proj, tokens)


def _expected(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the layers: numbered 1, 3, 5, ... in the order of `attn_processors`."""
    blocks = [name.removesuffix(".processor") for name in network.attn_processors if name.endswith("attn2.processor")]
    return {
        f"{2 * k + 1}.to_{part}_ip.weight": tuple(network.get_submodule(name).to_k.weight.shape)
        for k, name in enumerate(blocks)
        for part in "kv"
    }


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


@contextmanager
def _unwarned() -> Iterator[None]:
    """The loader casts the network to the precision that it has, of which diffusers warns."""
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _kept(network: nn.Module) -> Iterator[None]:
    """Processors and projection of a network are what they were, when this ends."""
    processors = {name.removesuffix(".processor"): processor for name, processor in network.attn_processors.items()}
    projection, kind = network.encoder_hid_proj, network.config.encoder_hid_dim_type
    try:
        yield
    finally:
        del network.encoder_hid_proj  # a module that becomes None would leave its name behind
        network.encoder_hid_proj, network.config.encoder_hid_dim_type = projection, kind
        for name, processor in processors.items():
            network.get_submodule(name).set_processor(processor)
