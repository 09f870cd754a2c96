"""Networks of diffusers under one signature: network(x [B, C, h, w], time [B], tokens [B, L, D], pooled [B, P]).

Time is the index of the beta table for U-Nets and t in [0, 1] for flow transformers, in fp32 whatever the precision of
the weights: in bf16 the index 981 would be 980. What goes in besides is cast to the precision of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Denoiser(nn.Module):
    """A network of diffusers.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def cast(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors in the precision of the weights."""
        return tuple(tensor.to(self.model.dtype) for tensor in tensors)


class UNet(Denoiser):
    """UNet2DConditionModel of Stable Diffusion 1.x, 2.x (tokens) and XL (tokens, pooled vector and image size)."""

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor, pooled: Tensor | None = None) -> Tensor:
        return self.run(x, time, tokens, pooled)

    def run(
        self, x: Tensor, time: Tensor, tokens: Tensor, pooled: Tensor | None = None, **more: list[Tensor]
    ) -> Tensor:
        """The output, with `more` of diffusers' added_cond_kwargs."""
        added = {} if pooled is None else {"text_embeds": self.cast(pooled)[0], "time_ids": self._size(x)}
        return self.model(x, time, self.cast(tokens)[0], added_cond_kwargs=added | more or None).sample

    def _size(self, x: Tensor) -> Tensor:
        """SDXL's micro-conditioning [B, 6]: size of the original, corner of the crop, size; of an uncropped image."""
        height, width = (8.0 * side for side in x.shape[-2:])
        return x.new_tensor([height, width, 0.0, 0.0, height, width]).expand(len(x), -1)


class SD3(Denoiser):
    """SD3Transformer2DModel of Stable Diffusion 3 and 3.5."""

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        return self.model(x, *self.cast(tokens, pooled), 1000 * time).sample


class Flux(Denoiser):
    """FluxTransformer2DModel: latents as tokens of 2 x 2 patches, with rotary positions.

    Args:
        model: the network.
        distilled_guidance: the guidance scale that a guidance-distilled network is told ("dev"); unused by others.
    """

    def __init__(self, model: nn.Module, distilled_guidance: float = 3.5) -> None:
        super().__init__(model)
        self.distilled_guidance = distilled_guidance

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        tokens, pooled = self.cast(tokens, pooled)
        guidance = torch.full_like(time, self.distilled_guidance) if self.model.config.guidance_embeds else None
        out = self.model(
            hidden_states=pack(x),
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=time,
            img_ids=_positions(x),
            txt_ids=x.new_zeros(tokens.shape[1], 3),
            guidance=guidance,
        ).sample
        return unpack(out, x.shape[-2:])


def pack(x: Tensor) -> Tensor:
    """[B, C, h, w] to [B, h/2 w/2, 4 C], one token for each 2 x 2 patch."""
    patches = nn.functional.pixel_unshuffle(x, 2)  # channels in the order (C, 2, 2)
    return patches.flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """The inverse of `pack`, for images of the given (h, w)."""
    height, width = size
    return nn.functional.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (height // 2, width // 2)), 2)


def _positions(x: Tensor) -> Tensor:
    """(0, row, column) of each token, [h/2 w/2, 3]."""
    rows, columns = (torch.arange(side // 2, device=x.device, dtype=torch.float32) for side in x.shape[-2:])
    grid = torch.stack(
        [torch.zeros(len(rows), len(columns), device=x.device), *torch.meshgrid(rows, columns, indexing="ij")], -1
    )
    return grid.flatten(0, 1)
