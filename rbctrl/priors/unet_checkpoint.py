"""The tensors of guided-diffusion (ADM) and of latent diffusion under the names of diffusers' `UNet2DModel`.

Both have the same layers under different names. The original counts its blocks through all levels, a block being a
residual block, its attention and, at the end of a level, what changes the resolution:

    input_blocks.0.0                                        conv_in
    input_blocks.n.{0, 1}                                   down_blocks.l.{resnets.j, attentions.j}
    middle_block.{0, 1, 2}                                  mid_block.{resnets.0, attentions.0, resnets.1}
    output_blocks.n.{0, 1}                                  up_blocks.l.{resnets.j, attentions.j}
    its own block, or last in one                           down_blocks.l.downsamplers.0, up_blocks.l.upsamplers.0

Queries, keys and values of an attention are one tensor of 3 C rows. In the legacy order of ADM and latent diffusion
they are [head][q | k | v][C / heads]; in the new order, which these released models do not have, [q | k | v][C]. The
shapes are the same, so that a mistake would not be seen in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rbctrl.checkpoints import check_fit, fill, shapes
from rbctrl.priors.unet_layout import UNetLayout, build

if TYPE_CHECKING:
    from diffusers import UNet2DModel

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
_QKV = ("to_q", "to_k", "to_v")


def load(layout: UNetLayout, state: Mapping[str, Tensor], source: object) -> UNet2DModel:
    """The network with the tensors of a checkpoint in its original names.

    Raises:
        ValueError: the tensors are not exactly those of this layout.
    """
    with torch.device("meta"):
        network = build(layout)
    return fill(network, rename(layout, shapes(network.state_dict()), state, source), source)


def rename(
    layout: UNetLayout, targets: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], source: object
) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of `UNet2DModel`, whose shapes are `targets`."""
    table = names(layout, targets)
    check_fit(source, _describe(layout), {old: _shape(old, new, targets) for old, new in table.items()}, shapes(state))
    renamed = {}
    for old, new in table.items():
        parts = split_qkv(state[old], layout) if len(new) == 3 else (state[old],)
        renamed |= {name: part.reshape(targets[name]) for name, part in zip(new, parts)}
    return renamed


def names(layout: UNetLayout, targets: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
    """The original name of each tensor, and its name in `UNet2DModel`: three where q, k and v are one."""
    table = {}
    for old, new in _layers(layout):
        for kind in ("weight", "bias"):
            split = tuple(f"{name}.{kind}" for name in new)
            if split[0] in targets:  # a residual block has a skip connection only where its width changes
                table[f"{old}.{kind}"] = split
    return table


def split_qkv(qkv: Tensor, layout: UNetLayout) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v [C, ...] of a tensor [3 C, ...]."""
    if layout.qkv_order == "new":
        return qkv.chunk(3)
    heads = qkv.unflatten(0, (-1, 3, layout.head_channels))
    q, k, v = (part.flatten(0, 1) for part in heads.unbind(1))
    return q, k, v


def _shape(old: str, new: tuple[str, ...], targets: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """That of the original tensor: attention is made of one-dimensional convolutions there."""
    first, *rest = targets[new[0]]
    is_attention = old.endswith((".qkv.weight", ".proj_out.weight"))
    return (first * len(new), *rest, *((1,) if is_attention else ()))


def _describe(layout: UNetLayout) -> str:
    return f"a U-Net of {layout.channels} channels x {list(layout.multipliers)}, {layout.blocks} blocks per level"


def _layers(layout: UNetLayout) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(original, ours) of every layer that has weights."""
    yield "time_embed.0", ("time_embedding.linear_1",)
    yield "time_embed.2", ("time_embedding.linear_2",)
    yield "label_emb", ("class_embedding",)
    yield "input_blocks.0.0", ("conv_in",)
    yield from _way_down(layout)
    yield from _residual("middle_block.0", "mid_block.resnets.0")
    yield from _attention("middle_block.1", "mid_block.attentions.0")
    yield from _residual("middle_block.2", "mid_block.resnets.1")
    yield from _way_up(layout)
    yield "out.0", ("conv_norm_out",)
    yield "out.2", ("conv_out",)


def _way_down(layout: UNetLayout) -> Iterator[tuple[str, tuple[str, ...]]]:
    block = 1
    for level in range(len(layout.multipliers)):
        for j in range(layout.blocks):
            yield from _residual(f"input_blocks.{block}.0", f"down_blocks.{level}.resnets.{j}")
            if layout.attends(level):
                yield from _attention(f"input_blocks.{block}.1", f"down_blocks.{level}.attentions.{j}")
            block += 1
        if level + 1 < len(layout.multipliers):
            yield from _resample(layout, f"input_blocks.{block}.0", f"down_blocks.{level}.downsamplers.0", "op")
            block += 1


def _way_up(layout: UNetLayout) -> Iterator[tuple[str, tuple[str, ...]]]:
    block = 0
    for up, level in enumerate(reversed(range(len(layout.multipliers)))):
        for j in range(layout.blocks + 1):
            old, k = f"output_blocks.{block}", 1
            yield from _residual(f"{old}.0", f"up_blocks.{up}.resnets.{j}")
            if layout.attends(level):
                yield from _attention(f"{old}.1", f"up_blocks.{up}.attentions.{j}")
                k = 2
            if level > 0 and j == layout.blocks:
                yield from _resample(layout, f"{old}.{k}", f"up_blocks.{up}.upsamplers.0", "conv")
            block += 1


def _residual(old: str, new: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for theirs, ours in _RESIDUAL.items():
        yield f"{old}.{theirs}", (f"{new}.{ours}",)


def _attention(old: str, new: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for theirs, ours in _ATTENTION.items():
        yield f"{old}.{theirs}", (f"{new}.{ours}",)
    yield f"{old}.qkv", tuple(f"{new}.{name}" for name in _QKV)


def _resample(layout: UNetLayout, old: str, new: str, convolution: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if layout.resampling == "resblock":
        yield from _residual(old, new)
    else:
        yield f"{old}.{convolution}", (f"{new}.conv",)
