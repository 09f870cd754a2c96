"""The first stage of latent diffusion, a VQGAN without its discriminator, held by diffusers' `VQModel`.

Both have the same layers under different names; the original counts the levels of its decoder from the image, diffusers
from the latent, and its attention is made of 1 x 1 convolutions:

    {encoder, decoder}.{conv_in, norm_out, conv_out}           {encoder, decoder}.{conv_in, conv_norm_out, conv_out}
    encoder.down.l.{block.j, downsample}                       encoder.down_blocks.l.{resnets.j, downsamplers.0}
    decoder.up.l.{block.j, upsample}                           decoder.up_blocks.(L - 1 - l).{resnets.j, upsamplers.0}
    mid.{block_1, attn_1, block_2}                             mid_block.{resnets.0, attentions.0, resnets.1}
    quant_conv, quantize.embedding, post_quant_conv            the same
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rbctrl.checkpoints import check_fit, fill, shapes

if TYPE_CHECKING:
    from diffusers import VQModel

_RESIDUAL = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


@dataclass(frozen=True)
class FirstStageLayout:
    """The size of such an autoencoder, in the terms of the original configurations.

    Args:
        channels: of the first level.
        multipliers: width of each level over that of the first; a level halves the side of the one before.
        blocks: residual blocks of a level on the way down; one more on the way up.
        latent_channels: of the latent and of its codes.
        codes: number of codes.
    """

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    latent_channels: int
    codes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))


def config(layout: FirstStageLayout) -> dict[str, object]:
    """Of the `VQModel`; its latents are not scaled."""
    n = len(layout.multipliers)
    return {
        "in_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * n,
        "up_block_types": ("UpDecoderBlock2D",) * n,
        "block_out_channels": tuple(layout.channels * m for m in layout.multipliers),
        "layers_per_block": layout.blocks,
        "latent_channels": layout.latent_channels,
        "vq_embed_dim": layout.latent_channels,
        "num_vq_embeddings": layout.codes,
        "scaling_factor": 1.0,
    }


def build(layout: FirstStageLayout) -> VQModel:
    """The autoencoder with random weights."""
    from diffusers import VQModel

    return VQModel(**config(layout))


def load(layout: FirstStageLayout, state: Mapping[str, Tensor], source: object) -> VQModel:
    """The autoencoder with the tensors of a checkpoint in its original names.

    Raises:
        ValueError: the tensors are not exactly those of this layout.
    """
    with torch.device("meta"):
        model = build(layout)
    return fill(model, rename(layout, shapes(model.state_dict()), state, source), source)


def rename(
    layout: FirstStageLayout, targets: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], source: object
) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of `VQModel`, whose shapes are `targets`."""
    table = {
        f"{old}.{kind}": f"{new}.{kind}"
        for old, new in _layers(layout)
        for kind in ("weight", "bias")
        if f"{new}.{kind}" in targets
    }
    expected = {old: (*targets[new], *((1, 1) if _is_attention(old) else ())) for old, new in table.items()}
    described = f"a first stage of {layout.channels} channels x {list(layout.multipliers)}, {layout.codes} codes"
    check_fit(source, described, expected, shapes(state))
    return {new: state[old].reshape(targets[new]) for old, new in table.items()}


def _is_attention(old: str) -> bool:
    return old.endswith((".q.weight", ".k.weight", ".v.weight", ".proj_out.weight"))


def _layers(layout: FirstStageLayout) -> Iterator[tuple[str, str]]:
    """(original, ours) of every layer that has weights."""
    last = len(layout.multipliers) - 1
    for name in ("quant_conv", "quantize.embedding", "post_quant_conv"):
        yield name, name
    for part in ("encoder", "decoder"):
        yield f"{part}.conv_in", f"{part}.conv_in"
        yield f"{part}.norm_out", f"{part}.conv_norm_out"
        yield f"{part}.conv_out", f"{part}.conv_out"
        yield from _named(_RESIDUAL, f"{part}.mid.block_1", f"{part}.mid_block.resnets.0")
        yield from _named(_ATTENTION, f"{part}.mid.attn_1", f"{part}.mid_block.attentions.0")
        yield from _named(_RESIDUAL, f"{part}.mid.block_2", f"{part}.mid_block.resnets.1")
    for level in range(last + 1):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{last - level}"
        for j in range(layout.blocks):
            yield from _named(_RESIDUAL, f"encoder.down.{level}.block.{j}", f"{down}.resnets.{j}")
        for j in range(layout.blocks + 1):
            yield from _named(_RESIDUAL, f"decoder.up.{level}.block.{j}", f"{up}.resnets.{j}")
        yield f"encoder.down.{level}.downsample.conv", f"{down}.downsamplers.0.conv"
        yield f"decoder.up.{level}.upsample.conv", f"{up}.upsamplers.0.conv"


def _named(table: Mapping[str, str], old: str, new: str) -> Iterator[tuple[str, str]]:
    for theirs, ours in table.items():
        yield f"{old}.{theirs}", f"{new}.{ours}"
