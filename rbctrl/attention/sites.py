"""The attention blocks of a network that listen to a condition, and how to choose among them by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn


@dataclass(frozen=True, eq=False)
class Site:
    """One attention block.

    Attributes:
        name: as in `named_modules`, "up_blocks.1.attentions.0.transformer_blocks.0.attn2".
        module: diffusers' Attention; it has a `processor`.
        joint: its keys begin with the tokens of the image itself, as many as it has queries (Stable Cascade).
    """

    name: str
    module: nn.Module
    joint: bool


def find_sites(network: nn.Module) -> list[Site]:
    """The blocks of a network whose keys include its condition, in the order of `named_modules`.

    Of a `UNet2DConditionModel` these are the cross-attentions, of a `StableCascadeUNet` all of them. Blocks of
    transformers with joint streams (SD3, Flux) are none: their processors have another signature.
    """
    from diffusers.models.attention_processor import Attention
    from diffusers.models.unets.unet_stable_cascade import SDCascadeAttnBlock

    parents = {
        id(block.attention): bool(block.self_attn)
        for block in network.modules()
        if isinstance(block, SDCascadeAttnBlock)
    }
    found = []
    for name, module in network.named_modules():
        if not isinstance(module, Attention) or module.added_kv_proj_dim is not None:
            continue
        if id(module) in parents or module.is_cross_attention:
            found.append(Site(name, module, parents.get(id(module), False)))
    return found


def patterns(where: object) -> tuple[str, ...]:
    """Patterns of names of blocks, from one or several.

    Raises:
        ValueError: there is none, or one is no text.
    """
    found = (where,) if isinstance(where, str) else tuple(where) if isinstance(where, Sequence) else ()
    if not found or not all(isinstance(pattern, str) for pattern in found):
        raise ValueError(
            f"attention.where is a list of patterns of names of blocks, got {where!r}: ['*'] is all of them, and "
            "attention=none is none of them"
        )
    return found


def select(sites: Sequence[Site], where: Sequence[str]) -> list[Site]:
    """Those whose name fits one of the patterns, with * for any part: "*" is all, "up_blocks.*" the second half.

    Raises:
        ValueError: a pattern fits none.
    """
    for pattern in where:
        if not any(fnmatchcase(site.name, pattern) for site in sites):
            known = ", ".join(site.name for site in sites[:2] + sites[-1:]) or "none"
            raise ValueError(
                f"attention.where={pattern!r} fits none of the {len(sites)} blocks of the network: {known}"
            )
    return [site for site in sites if any(fnmatchcase(site.name, pattern) for pattern in where)]
