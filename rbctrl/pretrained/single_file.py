"""Stable Diffusion in one file, in the layout of its original code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, fill, read_tensors
from rbctrl.pretrained.base import Source, content_hash
from rbctrl.pretrained.folder import Folder

_Converted = tuple[str | None, dict[str, Tensor]]  # prefix of the part in the file, tensors under diffusers' names


@dataclass(frozen=True)
class SingleFile(Source):
    """Stable Diffusion in the layout of its original code, converted by diffusers' tables.

    Where the file holds averaged weights (EMA) beside the raw ones, the averaged are taken, as in the original code.

    Args:
        model: path of a .safetensors or .ckpt file.
        published: the repository to name when it is missing.
        layout: configs and tokenizers.
    """

    model: str
    published: str
    layout: Folder

    def part(self, kind: type[nn.Module], name: str, dtype: torch.dtype) -> nn.Module:
        convert = _CONVERSIONS.get(kind.__name__)
        if convert is None:
            raise ValueError(f"a single file has no {kind.__name__} that can be read: use a folder")
        network, tensors = _empty(kind, self.layout.folder(name)), read_tensors(self._file)
        prefix, converted = convert(tensors, network, name)
        lost = _lost(tensors, prefix, converted)
        filled = fill(network, converted | lost, self.model)
        return nn.Module.to(filled, dtype).eval()  # that of diffusers warns of nothing

    def folder(self, name: str) -> Path:
        return self.layout.folder(name)

    def files(self) -> tuple[RequiredFile, ...]:
        return (self._file, *self.layout.files())

    def fingerprint(self, *names: str) -> str:
        return content_hash(self._file.find())[:16]

    @property
    def _file(self) -> RequiredFile:
        return RequiredFile(self.model, f"it is published at https://huggingface.co/{self.published}", "prior.model")


def _empty(kind: type[nn.Module], folder: Path) -> nn.Module:
    """The network of a config, with random weights."""
    if kind.__module__.startswith("transformers"):
        return kind(kind.config_class.from_pretrained(folder))
    return kind.from_config(kind.load_config(folder))


def _unet(tensors: Mapping[str, Tensor], network: nn.Module, name: str) -> _Converted:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    converted = convert_ldm_unet_checkpoint(dict(tensors), network.config, extract_ema=True)
    return "model.diffusion_model.", converted


def _vae(tensors: Mapping[str, Tensor], network: nn.Module, name: str) -> _Converted:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return "first_stage_model.", convert_ldm_vae_checkpoint(dict(tensors), network.config)


def _clip(tensors: Mapping[str, Tensor], network: nn.Module, name: str) -> _Converted:
    """CLIP of Stable Diffusion 1.x and XL, or OpenCLIP of 2.x and XL."""
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint

    open_clip = {"text_encoder": "cond_stage_model.model.", "text_encoder_2": "conditioner.embedders.1.model."}[name]
    if any(key.startswith(open_clip) for key in tensors):
        converted = convert_open_clip_checkpoint(network, tensors, prefix=open_clip)
    else:
        converted = convert_ldm_clip_checkpoint(tensors)
    own = network.state_dict()
    if not any(key.startswith("text_model.") for key in own):  # transformers 5 has no such level in CLIPTextModel
        converted = {key.removeprefix("text_model."): value for key, value in converted.items()}
    ignored = ("position_ids",) if "text_projection.weight" in own else ("position_ids", "text_projection.weight")
    return None, {key: value for key, value in converted.items() if not key.endswith(ignored)}


def _lost(tensors: Mapping[str, Tensor], prefix: str | None, converted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the original that diffusers' tables passed over; text encoders leave some that carry nothing."""
    original = [] if prefix is None else [key for key in tensors if key.startswith(prefix)]
    if len(original) <= len(converted):
        return {}
    kept = {value.data_ptr() for value in converted.values()}
    return {key: tensors[key] for key in original if tensors[key].data_ptr() not in kept}


_CONVERSIONS = {
    "UNet2DConditionModel": _unet,
    "AutoencoderKL": _vae,
    "CLIPTextModel": _clip,
    "CLIPTextModelWithProjection": _clip,
}
