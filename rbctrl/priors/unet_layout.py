"""The size of the U-Net of guided-diffusion (ADM) and of latent diffusion, and the same as diffusers' `UNet2DModel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from diffusers import UNet2DModel


@dataclass(frozen=True)
class UNetLayout:
    """The size of such a network, in the terms of the original configurations.

    Args:
        channels: of the first level.
        multipliers: width of each level over that of the first.
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention: factors of downsampling at which residual blocks are followed by attention.
        head_channels: channels of one attention head.
        in_channels: of the input.
        out_channels: of the output; twice those of the input with a learned variance.
        scale_shift: whether the time scales and shifts (ADM) or only shifts (latent diffusion).
        resampling: by a residual block (ADM) or by a convolution (latent diffusion).
        qkv_order: of the rows of queries, keys and values.
        classes: number of class labels; None for an unconditional network.
    """

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    head_channels: int
    in_channels: int = 3
    out_channels: int = 3
    scale_shift: bool = True
    resampling: Literal["resblock", "conv"] = "resblock"
    qkv_order: Literal["legacy", "new"] = "legacy"
    classes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))
        object.__setattr__(self, "attention", tuple(self.attention))
        if self.resampling not in ("resblock", "conv"):
            raise ValueError(f"resampling is 'resblock' or 'conv', got {self.resampling!r}")
        if self.qkv_order not in ("legacy", "new"):
            raise ValueError(f"qkv_order is 'legacy' or 'new', got {self.qkv_order!r}")
        wrong = [ds for ds in self.attention if ds not in self._factors]
        if wrong:
            raise ValueError(
                f"attention lists factors of downsampling, of which there are {self._factors}; got {wrong[0]}"
            )
        odd = [width for width in self._attended if width % self.head_channels]
        if odd:
            raise ValueError(f"head_channels={self.head_channels} does not divide the {odd[0]} channels of a level")

    @property
    def stride(self) -> int:
        """Sides of the input are multiples of it."""
        return self._factors[-1]

    @property
    def _factors(self) -> tuple[int, ...]:
        return tuple(2**level for level in range(len(self.multipliers)))

    @property
    def _attended(self) -> tuple[int, ...]:
        widths = [self.channels * m for m in self.multipliers]
        return (*(width for width, ds in zip(widths, self._factors) if ds in self.attention), widths[-1])

    def attends(self, level: int) -> bool:
        """Whether the residual blocks of a level are followed by attention."""
        return self._factors[level] in self.attention


def build(layout: UNetLayout) -> UNet2DModel:
    """The network with random weights."""
    from diffusers import UNet2DModel

    levels = range(len(layout.multipliers))
    plain = "ResnetDownsampleBlock2D" if layout.resampling == "resblock" else "DownBlock2D"
    down = tuple("AttnDownBlock2D" if layout.attends(level) else plain for level in levels)
    resample = "resnet" if layout.resampling == "resblock" else "conv"
    return UNet2DModel(
        in_channels=layout.in_channels,
        out_channels=layout.out_channels,
        block_out_channels=tuple(layout.channels * m for m in layout.multipliers),
        layers_per_block=layout.blocks,
        down_block_types=down,
        up_block_types=tuple(name.replace("Downsample", "Upsample").replace("Down", "Up") for name in reversed(down)),
        downsample_type=resample,
        upsample_type=resample,
        attention_head_dim=layout.head_channels,
        resnet_time_scale_shift="scale_shift" if layout.scale_shift else "default",
        attn_norm_num_groups=32,
        norm_eps=1e-5,
        freq_shift=0,
        flip_sin_to_cos=True,
        num_class_embeds=layout.classes,
    )
