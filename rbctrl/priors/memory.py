"""How a large prior spends memory and precision. States, autoencoder and gradients are fp32 in any case."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import nn

from rbctrl.codecs import Autoencoder
from rbctrl.offload import Budget
from rbctrl.pretrained import Kept, Source
from rbctrl.priors.compiled import compiled

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Memory:
    """Choices between memory, time and precision.

    Args:
        precision: of the network's weights and activations.
        checkpoint: controllers that differentiate through the network recompute its blocks in the backward pass:
            one more forward for a fraction of the memory; nothing changes for the others.
        attention_slicing: heads of a U-Net's attention one group after the other: "auto", "max", or a number of heads;
            None leaves attention to torch, whose kernels need no such help on most GPUs.
        compile: torch.compile for the network (`rbctrl.priors.compiled`).
        vae_checkpoint: the same for the autoencoder, block by block and layer by layer: two more forwards.
        vae_slicing: the autoencoder takes one image of a batch at a time.
        vae_tiling: and one tile of an image at a time, which is an approximation.
        gpu: GiB of a GPU on which the parts of the model take turns, if they do not fit together (`rbctrl.offload`);
            None puts everything there at once, and keeps the encoders of items with prompts on the host.
        reserve: GiB of it for activations.

    Raises:
        ValueError: no such value, or what does not go together.
    """

    precision: Precision = "float32"
    checkpoint: bool = True
    attention_slicing: Literal["auto", "max"] | int | None = None
    compile: bool = False
    vae_checkpoint: bool = True
    vae_slicing: bool = False
    vae_tiling: bool = False
    gpu: float | None = None
    reserve: float = 4.0

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"memory.precision is one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        if self.compile not in (True, False):
            raise ValueError(f"memory.compile is true or false, got {self.compile!r}")
        if self.budget is not None and self.compile:
            raise ValueError("memory.compile and memory.gpu exclude each other: what is compiled stays where it is")

    @property
    def budget(self) -> Budget | None:
        """Of the GPU."""
        return None if self.gpu is None else Budget(self.gpu, self.reserve)

    @property
    def dtype(self) -> torch.dtype:
        """Of the network."""
        return getattr(torch, self.precision)

    def encoders(self, source: Source) -> Source:
        """Where encoders are read from that every batch asks again: they stay on the host, but not on a budget."""
        return Kept(source) if self.budget is None else source

    def prepare(self, model: nn.Module) -> nn.Module:
        """The network of diffusers with these choices."""
        if self.checkpoint:
            model.enable_gradient_checkpointing()
        if self.attention_slicing is not None:
            if not hasattr(model, "set_attention_slice"):
                raise ValueError(f"{type(model).__name__} has no attention slices: memory.attention_slicing=null")
            model.set_attention_slice(self.attention_slicing)
        if self.compile:
            compiled(model)
        return model

    def autoencoder(self, source: Source, kind: str, name: str) -> Autoencoder:
        """The codec of a part, a class of diffusers, with these choices."""

        def build() -> nn.Module:
            import diffusers

            return source.part(getattr(diffusers, kind), name, torch.float32)

        options = {"checkpoint": self.vae_checkpoint, "slicing": self.vae_slicing, "tiling": self.vae_tiling}
        config = partial(source.settings, name)  # shapes are asked for before any weight is read
        return Autoencoder(build, **options, fingerprint=lambda: source.fingerprint(name), config=config)
