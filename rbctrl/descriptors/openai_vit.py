"""OpenAI's vision transformer: the layout of its tensors, and the same network in transformers.

    conv1.weight [W, 3, p, p]   class_embedding [W]   positional_embedding [1 + (side / p)^2, W]   ln_pre.*   ln_post.*
    transformer.resblocks.K: ln_1.*  attn.in_proj_{weight,bias} (q, k, v)  attn.out_proj.*  ln_2.*  mlp.c_{fc,proj}.*

Heads have 64 channels and the activation is x sigmoid(1.702 x), as in all models that OpenAI published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn

_HEAD = 64
_DEPTHS = {768: 12, 1024: 24}  # of the published ones, so that one that was cut off does not pass for a shorter one
_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


@dataclass(frozen=True)
class Dimensions:
    """Of a vision transformer; the defaults are those of ViT-L/14 at 224 px."""

    width: int = 1024
    layers: int = 24
    patch: int = 14
    patches: int = 256
    inner: int = 4096

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Dimensions:
        """What a table of tensors in either layout says; ViT-L/14 where it says nothing."""
        numbered = r"(?:transformer\.resblocks|encoder\.layers)\.(\d+)\."
        blocks = [int(match[1]) for name in state if (match := re.match(numbered, name))]
        conv, position = (state.get(name, state.get(_NAMES[name])) for name in ("conv1.weight", "positional_embedding"))
        inner = state.get("transformer.resblocks.0.mlp.c_fc.weight", state.get("encoder.layers.0.mlp.fc1.weight"))
        width = cls.width if conv is None else conv.shape[0]
        known = {
            "width": width,
            "patch": None if conv is None else conv.shape[-1],
            "layers": max([_DEPTHS.get(width, 1), *(block + 1 for block in blocks)]),
            "patches": None if position is None else len(position) - 1,
            "inner": None if inner is None else len(inner),
        }
        return cls(**{name: value for name, value in known.items() if value is not None})

    @property
    def side(self) -> int:
        """Of the images, in pixels."""
        return isqrt(self.patches) * self.patch

    def layout(self) -> dict[str, tuple[int, ...]]:
        """The shapes of OpenAI's tensors, by name."""
        w, inner = self.width, self.inner
        shapes = {
            "class_embedding": (w,),
            "positional_embedding": (1 + self.patches, w),
            "conv1.weight": (w, 3, self.patch, self.patch),
        }
        shapes |= {f"{norm}.{kind}": (w,) for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")}
        for k in range(self.layers):
            block = f"transformer.resblocks.{k}"
            shapes |= {f"{block}.{norm}.{kind}": (w,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
            shapes |= {f"{block}.attn.in_proj_weight": (3 * w, w), f"{block}.attn.in_proj_bias": (3 * w,)}
            sizes = {"attn.out_proj": (w, w), "mlp.c_fc": (inner, w), "mlp.c_proj": (w, inner)}
            for layer, (out, into) in sizes.items():
                shapes |= {f"{block}.{layer}.weight": (out, into), f"{block}.{layer}.bias": (out,)}
        return shapes

    def network(self) -> nn.Module:
        """transformers' CLIPVisionModel of these dimensions, without values (on the meta device)."""
        from transformers import CLIPVisionConfig, CLIPVisionModel

        config = CLIPVisionConfig(
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=max(self.width // _HEAD, 1),
            image_size=self.side,
            patch_size=self.patch,
            hidden_act="quick_gelu",
        )
        with torch.device("meta"):
            network = CLIPVisionModel(config)
        for module in network.modules():
            if "position_ids" in dict(module.named_buffers(recurse=False)):
                module.register_buffer("position_ids", torch.arange(1 + self.patches)[None], persistent=False)
        return network


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's tensors under the names of transformers' CLIPVisionModel (5; without its "vision_model." of 4)."""
    return dict(pair for name, value in state.items() for pair in _renamed(name, value))


def _renamed(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)", name)
    if block is None:
        yield _NAMES[name], value
    elif block[2] == "attn.in_proj":
        for part, third in zip("qkv", value.chunk(3)):
            yield f"encoder.layers.{block[1]}.self_attn.{part}_proj.{block[3]}", third
    else:
        yield f"encoder.layers.{block[1]}.{_PARTS[block[2]]}.{block[3]}", value
