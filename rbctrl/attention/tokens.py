"""Where the tokens of each kind lie in the keys of a block."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def split(keys: Tensor, own: int, tail: Mapping[str, int]) -> dict[str, Tensor]:
    """Keys or values [B, heads, n, d] by kind, as views: own tokens ("own"), then text, then the tail from the end.

    Args:
        keys: of all tokens.
        own: how many of the image itself come first.
        tail: kinds after the text, in order, with how many tokens each has; a kind is one image.

    Raises:
        ValueError: there are fewer tokens than that.
    """
    text = keys.shape[2] - own - sum(tail.values())
    if text < 0:
        raise ValueError(f"a block has {keys.shape[2] - own} tokens of a condition and the images alone {dict(tail)}")
    sizes = [own, text, *tail.values()]
    return dict(zip(("own", "text", *tail), keys.split(sizes, dim=2), strict=True))


def averaged(tokens: Tensor) -> Tensor:
    """The mean of the tokens [B, heads, n, d] of one image, n times."""
    return tokens.mean(dim=2, keepdim=True).expand_as(tokens)


def join(parts: Mapping[str, Tensor], kinds: tuple[str, ...]) -> Tensor:
    """The own tokens and those of the given kinds, in the order of the network, which is that of the parts."""
    return torch.cat([part for kind, part in parts.items() if kind in ("own", *kinds)], dim=2)
