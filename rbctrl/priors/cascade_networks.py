"""StableCascadeUNet under the signature of `rbctrl.priors.denoisers`; time is the log-SNR of x_t.

The network is told r, the time at which the cosine schedule without shift has this log-SNR. Its embedding takes sin and
cos of 10000 r in the precision of r: in bf16 they would be wrong by up to 2. So r stays in fp32 and reduced precision
is autocast.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from rbctrl.priors.denoisers import Denoiser
from rbctrl.schedules import Cosine

_UNSHIFTED = Cosine(alpha_bar_max=0.9999)


class Cascade(Denoiser):
    """A network of Stable Cascade.

    Args:
        model: a StableCascadeUNet in fp32 or bf16.

    Raises:
        ValueError: in fp16, in which its activations overflow.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if model.dtype == torch.float16:
            raise ValueError("Stable Cascade overflows in fp16: prior.memory.precision=bfloat16 or float32")

    def mixed(self, x: Tensor) -> AbstractContextManager:
        """Reduced precision where the weights have it, fp32 for r."""
        reduced = self.model.dtype == torch.bfloat16
        return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=reduced)


class StageC(Cascade):
    """eps of latents [B, 16, h, w], from tokens of a text [B, L, D], its pooled vector [B, P] and images [B, n, E]."""

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor, pooled: Tensor, images: Tensor) -> Tensor:
        tokens, pooled, images = self.cast(tokens, pooled, images)
        with self.mixed(x):
            return self.model(x, ratio(log_snr), pooled[:, None], tokens, images).sample

    def tail(self, kinds: Iterable[str]) -> dict[str, int]:
        """The tokens after those of the text, for images of these kinds."""
        return dict.fromkeys(("pooled", *kinds), self.model.config.clip_seq)


class StageB(Cascade):
    """eps of latents [B, 4, H, W], from a pooled vector [B, P] and a latent of stage C [B, 16, h, w]."""

    def forward(self, x: Tensor, log_snr: Tensor, pooled: Tensor, latent: Tensor) -> Tensor:
        pooled, latent = self.cast(pooled, latent)
        with self.mixed(x):
            return self.model(x, ratio(log_snr), pooled[:, None], effnet=latent).sample


def ratio(log_snr: Tensor) -> Tensor:
    """r of log-SNRs, of any shape; by way of fp64, since the arc cosine loses half of the digits."""
    return _UNSHIFTED.time(log_snr.double()).to(log_snr.dtype)
