"""Classifier-free guidance: two branches of one network, as one output.

    out = negative + scale (prompt - negative)

All parameterisations (eps, v, flow, x0) are affine in each other at one x_t, so the same formula guides each of them;
alpha = 0 is no special case. Two branches that would be the same are evaluated once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Condition = tuple[Tensor, ...]  # what the network is told besides x_t and t; each [B, ...]
Evaluate = Callable[..., Tensor]  # (x_t [B, ...], *condition) to the output of the network, like x_t


@dataclass(frozen=True)
class Guidance:
    """Ho and Salimans, Classifier-Free Diffusion Guidance, 2022. https://arxiv.org/abs/2207.12598.

    The rescaling is that of Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, WACV 2024,
    section 3.4 (https://arxiv.org/abs/2305.08891): out (phi std(prompt) / std(out) + 1 - phi). Its deviations are those
    of each image; RB-Modulation's released code takes them over the batch, so that images influence each other.

    Args:
        scale: 1 is the prompt alone, 0 the negative prompt alone; each is one evaluation.
        rescale: phi in [0, 1]; 0 does not rescale.
        branches: "batched" evaluates both in one call of twice the rows, "separate" in two calls with half the memory.

    Raises:
        ValueError: rescale outside [0, 1], or no such branches.
    """

    scale: float = 1.0
    rescale: float = 0.0
    branches: Literal["batched", "separate"] = "batched"

    def __post_init__(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"guidance.rescale lies in [0, 1], got {self.rescale}")
        if self.branches not in ("batched", "separate"):
            raise ValueError(f"guidance.branches is 'batched' or 'separate', got {self.branches!r}")

    def single(self, same: bool) -> Literal["prompt", "negative"] | None:
        """The one branch that is enough, if one is; `same`: prompt and negative prompt are equal."""
        if self.scale == 1 or same:
            return "prompt"
        return "negative" if self.scale == 0 else None

    def __call__(self, evaluate: Evaluate, x_t: Tensor, prompt: Condition, negative: Condition) -> Tensor:
        """The guided output at x_t [B, ...]."""
        if self.branches == "batched":
            both = [torch.cat(pair) for pair in zip(prompt, negative, strict=True)]
            wanted, unwanted = evaluate(torch.cat([x_t, x_t]), *both).chunk(2)
        else:
            wanted, unwanted = evaluate(x_t, *prompt), evaluate(x_t, *negative)
        out = unwanted + self.scale * (wanted - unwanted)
        return out if self.rescale == 0 else self._rescaled(out, wanted)

    def _rescaled(self, out: Tensor, wanted: Tensor) -> Tensor:
        factor = _std(wanted) / _std(out)
        return out * (self.rescale * factor + 1 - self.rescale)


def _std(value: Tensor) -> Tensor:
    """Of each image, [B, 1, ...]."""
    return value.flatten(1).std(dim=1).view(-1, *[1] * (value.ndim - 1))
