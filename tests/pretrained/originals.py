"""Tensors of a diffusers model under the names of Stable Diffusion's original code, for configs of two levels."""

from __future__ import annotations

import re

_RES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def unet_name(name: str) -> str:
    """One residual block per level: inputs are stem, level, downsampling, level; outputs have one block more each."""
    for ours, theirs in _UNET.items():
        if name.startswith(ours + "."):
            return "model.diffusion_model." + name.replace(ours, theirs, 1)
    place, kind, index, rest = re.fullmatch(
        r"(down_blocks\.\d|up_blocks\.\d|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)", name
    ).groups()
    side, _, level = place.partition(".")
    if kind == "resnets":
        module, _, leaf = rest.rpartition(".")
        rest = f"{_RES[module]}.{leaf}"
    if side == "mid_block":
        block = f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}"
    elif side == "down_blocks":
        block = f"input_blocks.{2 * int(level) + 1}" if kind != "downsamplers" else f"input_blocks.{2 * int(level) + 2}"
        block, rest = (f"{block}.0", f"op.{rest.removeprefix('conv.')}") if kind == "downsamplers" else (block, rest)
    else:
        block = f"output_blocks.{2 * int(level) + (1 if kind == 'upsamplers' else int(index))}"
        block = f"{block}.1" if kind == "upsamplers" else block
    part = {"resnets": ".0.", "attentions": ".1."}.get(kind, ".") if side != "mid_block" else "."
    return f"model.diffusion_model.{block}{part}{rest}"


def vae_name(name: str) -> str:
    """The decoder counts its levels from the finest."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    finest = {"0": "1", "1": "0"}
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"decoder.up.{finest[m[1]]}.block.{m[2]}", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{finest[m[1]]}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    for ours, theirs in attention.items():
        name = name.replace(f"mid_block.attentions.0.{ours}", f"mid.attn_1.{theirs}")
    return f"first_stage_model.{name}"


def unet_tensors(model) -> dict:
    """The U-Net."""
    return {unet_name(name): value for name, value in model.state_dict().items()}


def vae_tensors(model) -> dict:
    """The autoencoder; its attention is made of 1 x 1 convolutions there."""
    state = {vae_name(name): value for name, value in model.state_dict().items()}
    return {
        name: value[..., None, None] if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name) else value
        for name, value in state.items()
    }


def clip_tensors(model, prefix="cond_stage_model.transformer.") -> dict:
    """CLIP as transformers names it, one level deeper, with its positions 0, 1, 2, ..."""
    import torch

    state = {
        f"{prefix}text_model.{name.removeprefix('text_model.')}": value for name, value in model.state_dict().items()
    }
    return state | {f"{prefix}text_model.embeddings.position_ids": torch.arange(12)[None]}


def open_clip_tensors(model, prefix="conditioner.embedders.1.model.") -> dict:
    """OpenCLIP: one matrix for q, k and v, and a projection that multiplies from the right."""
    import torch

    state = {name.removeprefix("text_model."): value for name, value in model.state_dict().items()}
    out = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": state["text_projection.weight"].T,
        "logit_scale": torch.tensor(1.0),
    }
    for name, value in state.items():
        match = re.fullmatch(r"encoder\.layers\.(\d)\.(.+)\.(weight|bias)", name)
        if match is None or re.search(r"[kv]_proj", name):
            continue
        layer, module, leaf = match.groups()
        renamed = {
            "self_attn.q_proj": "attn.in_proj_",
            "self_attn.out_proj": "attn.out_proj.",
            "layer_norm1": "ln_1.",
            "layer_norm2": "ln_2.",
            "mlp.fc1": "mlp.c_fc.",
            "mlp.fc2": "mlp.c_proj.",
        }[module]
        if module == "self_attn.q_proj":
            value = torch.cat([state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"])
        out[f"transformer.resblocks.{layer}.{renamed}{leaf}"] = value
    return {prefix + name: value.contiguous() for name, value in out.items()}
