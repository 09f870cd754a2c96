"""The latent space of a diffusers autoencoder: AutoencoderKL, VQModel or AutoencoderTiny.

    z = (E(x) - shift) scale,     x = D(z / scale + shift)

E is the mean of a KL autoencoder and the unquantised output of a VQ one, so that nothing is drawn; scale and shift are
those of the model's config. Weights, activations and gradients are fp32, whatever the precision of the network: in fp16
decoders overflow and their gradients vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from rbctrl.codecs.base import Codec
from rbctrl.codecs.saving import forget_inputs, recompute_layers
from rbctrl.offload import SAMPLING, Part
from rbctrl.rng import ImageRNG

Quantize = Literal["straight_through", "none"]
_KINDS = ("AutoencoderKL", "VQModel", "AutoencoderTiny")


class Autoencoder(Codec):
    """A diffusers autoencoder as a codec. Deterministic and differentiable both ways.

    Args:
        model: the autoencoder, or a function that builds and fills it; the function is called by `load`.
        quantize: of a VQModel, which has to be told: "straight_through" decodes the nearest codes and lets the gradient
            pass as if they were the latent (PSLD's LDM), "none" decodes the latent itself; None for the others.
        scaling_factor: scale; None is that of the model's config.
        checkpoint: recomputes activations in the backward pass, block by block and in these layer by layer: the least
            memory, for two more forwards.
        slicing: one image at a time; with `checkpoint`, only one image's activations exist at once.
        tiling: overlapping tiles of one image (AutoencoderKL, AutoencoderTiny). An approximation: seams are blended.
        fingerprint: identifies the weights.
        config: of the autoencoder, or a function that reads it, for the shapes that are asked for before `load`.

    Raises:
        ValueError: quantize is no such choice, or the autoencoder and the options do not fit (when the model is known).
    """

    scale: Tensor  # [C, 1, 1]
    shift: Tensor  # [C, 1, 1]

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        *,
        quantize: Quantize | None = None,
        scaling_factor: float | None = None,
        checkpoint: bool = False,
        slicing: bool = False,
        tiling: bool = False,
        fingerprint: Callable[[], str] | str = "",
        config: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        if quantize not in (None, *get_args(Quantize)):
            raise ValueError(f"quantize is one of {', '.join(get_args(Quantize))} or None, got {quantize!r}")
        self.quantize, self.scaling_factor = quantize, scaling_factor
        self.checkpoint, self.slicing, self.tiling = checkpoint, slicing, tiling
        self._fingerprint, self._build = fingerprint, None if isinstance(model, nn.Module) else model
        self.model: nn.Module | None = None
        if isinstance(model, nn.Module):
            self._set(model)

    def load(self) -> None:
        if self.model is None:
            self._set(self._build())

    def fingerprint(self) -> str:
        return self._fingerprint if isinstance(self._fingerprint, str) else self._fingerprint()

    def parts(self) -> tuple[Part, ...]:
        return (Part("autoencoder", SAMPLING, self.model),)

    @property
    def config(self) -> Mapping[str, object]:
        """Of the autoencoder; needs `load`, or to have been given."""
        if self.model is not None:
            return self.model.config
        if self._config is None:
            raise RuntimeError("the autoencoder is not there yet: call load() before its first use")
        return self._config if isinstance(self._config, Mapping) else self._config()

    @property
    def downscaling(self) -> int:
        """Pixels per latent pixel and side."""
        blocks = self.config.get("encoder_block_out_channels") or self.config["block_out_channels"]
        return 2 ** (len(blocks) - 1)

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.config.get("vq_embed_dim") or self.config["latent_channels"]

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        f, channels = self.downscaling, self.config["in_channels"]
        if len(image_shape) != 3 or image_shape[0] != channels:
            raise ValueError(f"this autoencoder encodes images [{channels}, H, W], got {tuple(image_shape)}")
        if any(side % f for side in image_shape[1:]):
            raise ValueError(
                f"this autoencoder encodes multiples of {f} px, got {'x'.join(map(str, image_shape[1:]))}: "
                "crop to such a number (data.size=..., or load(path, size=...))"
            )
        return (self.channels, *(side // f for side in image_shape[1:]))

    def encode(self, image: Tensor) -> Tensor:
        return self._each(self._encode, image.float()).to(image.dtype)

    def decode(self, x0: Tensor) -> Tensor:
        return self._each(self._decode, x0.float()).to(x0.dtype)

    def _encode(self, image: Tensor) -> Tensor:
        code = self.model.encode(image)
        z = code.latent_dist.mode() if hasattr(code, "latent_dist") else code.latents
        return (z - self.shift) * self.scale

    def _decode(self, x0: Tensor) -> Tensor:
        z = x0 / self.scale + self.shift
        if self.quantize == "none":
            return self.model.decode(z, force_not_quantize=True).sample
        return self.model.decode(z).sample

    def _each(self, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """call(x), whole or row by row."""
        whole = not self._has_blocks  # nothing inside recomputes itself
        rows = x.split(1) if self.slicing else (x,)
        if self.checkpoint and (self.slicing or whole) and torch.is_grad_enabled() and x.requires_grad:
            return torch.cat([recompute(call, row, use_reentrant=False) for row in rows])
        return torch.cat([call(row) for row in rows])

    @property
    def _has_blocks(self) -> bool:
        """Whether diffusers can checkpoint it; its AutoencoderTiny forgets to scale the image when it does."""
        return "encoder_block_out_channels" not in self.config

    def _set(self, model: nn.Module) -> None:
        _check(model, self.quantize, self.tiling)
        self.model = model.float().eval().requires_grad_(False)
        forget_inputs(model)
        if self.checkpoint and self._has_blocks:
            recompute_layers(model)
            model._supports_gradient_checkpointing = True  # VQModel has the same blocks and does not say so
            model.enable_gradient_checkpointing()
        if self.tiling:
            model.enable_tiling()
        config = self.config
        scale = config["scaling_factor"] if self.scaling_factor is None else self.scaling_factor
        std, mean = config.get("latents_std"), config.get("latents_mean")
        shift = mean if mean is not None else config.get("shift_factor") or 0.0
        self.register_buffer("scale", self._per_channel(scale) / self._per_channel(1.0 if std is None else std), False)
        self.register_buffer("shift", self._per_channel(shift), False)

    def _per_channel(self, value: float | list[float]) -> Tensor:
        value = torch.as_tensor(value, dtype=torch.float32, device=next(self.model.parameters()).device)
        return value.reshape(-1).expand(self.channels).clone().view(-1, 1, 1)


class Previewed(Codec):
    """Costs see the images of a cheap autoencoder, the result is rendered by the full one.

    Args:
        full: encodes, and renders the final image.
        preview: decodes, with gradients: an AutoencoderTiny of the same latent space, say.
    """

    def __init__(self, full: Codec, preview: Codec) -> None:
        super().__init__()
        self.full, self.preview = full, preview

    def load(self) -> None:
        self.full.load()
        self.preview.load()

    def fingerprint(self) -> str:
        return "+".join(part for part in (self.full.fingerprint(), self.preview.fingerprint()) if part)

    def parts(self) -> tuple[Part, ...]:
        preview = (replace(part, name="preview") for part in self.preview.parts())
        return (*preview, *(replace(part, phase="rendering") for part in self.full.parts()))

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        shape, previewed = self.full.state_shape(image_shape), self.preview.state_shape(image_shape)
        if shape != previewed:
            raise ValueError(
                f"the preview decodes latents {previewed} and the full autoencoder has {shape}: they are no pair"
            )
        return shape

    def encode(self, image: Tensor) -> Tensor:
        return self.full.encode(image)

    def decode(self, x0: Tensor) -> Tensor:
        return self.preview.decode(x0)

    def render(self, x0: Tensor, rng: ImageRNG | None = None) -> Tensor:
        return self.full.render(x0, rng)


def _check(model: nn.Module, quantize: Quantize | None, tiling: bool) -> None:
    kind = type(model).__name__
    if kind not in _KINDS:
        raise ValueError(f"a codec is made of {', '.join(_KINDS)}, not of {kind}")
    if kind == "VQModel" and quantize is None:
        raise ValueError("a VQModel needs quantize='straight_through' or 'none': which gradient its codebook has")
    if kind != "VQModel" and quantize is not None:
        raise ValueError(f"quantize={quantize} is of VQModels, and this is an {kind}: leave it out")
    if kind == "VQModel" and tiling:
        raise ValueError("a VQModel cannot be tiled: use slicing or checkpoint")
    if quantize == "none" and model.config.get("lookup_from_codebook"):
        raise ValueError("this VQModel decodes code indices, which have no unquantised form: quantize=straight_through")
