"""Attention feature aggregation: one query, a weighted mean of attentions over subsets of the tokens.

    out = W_o sum_b w_b softmax(q K_b^T / sqrt(d)) V_b,    sum_b w_b = 1

Queries, keys and values are computed once, for all tokens; a branch is a softmax over some of the keys. The mean may be
taken before the output projection, bias included, since the shares sum to 1. With one branch of all tokens it is plain
concatenation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rbctrl.attention.base import Attention
from rbctrl.attention.branches import PLAIN, Rule, branches, mixed, shares, style_kinds
from rbctrl.attention.sites import Site, find_sites, patterns, select
from rbctrl.attention.tokens import averaged, join, split

Tokens = Tensor | tuple[Tensor, list[Tensor]]  # of a condition; the second is what an IP-Adapter makes of it


@dataclass(frozen=True)
class AFA(Attention):
    """Rout et al., RB-Modulation, ICLR 2025, section 5.2 and released code. https://arxiv.org/abs/2405.17401.

    A style image makes three branches of each block, a content image besides four. On a U-Net with an IP-Adapter, whose
    image tokens have keys and values of their own, the branches are softmaxes over text and image keys together; that
    is ours, the authors' version for SDXL is not released; the adapter's own scale has no part in it. A U-Net has no
    pooled tokens, by which alone two of the released branches differ: there text and style together count twice.

    Args:
        style: picture, or .safetensors of its embedding; or several, between which the style then lies. Ours: a branch
            with style tokens is evaluated on those of each, and its results are averaged by `style_weights`.
        content: the same of a content image; None: there is none.
        rule: "released", or the token sets of the "paper" (`rbctrl.attention.branches`).
        weights: of the branches by name, relative; None: all the same, as published.
        strength: 0 is the text-only run, exactly; between 0 and 1 so much of each block's output is the aggregate and
            the rest is what the block attends to in a text-only run. Ours.
        style_weights: of several style images, relative; one without a weight is not read, so [1, 0] and [0, 1] are the
            runs on one of two images, exactly. None: all the same.
        average_style: every style token is the mean of them (released code); None: as the rule does.
        where: patterns of names of blocks; the others attend to text only, as published code has no others.

    Raises:
        ValueError: a strength outside [0, 1], no style image, weights that are not of them, or what `branches` refuses.
    """

    style: str | tuple[str, ...]
    content: str | None = None
    rule: Rule = "released"
    weights: Mapping[str, float] | None = None
    strength: float = 1.0
    style_weights: tuple[float, ...] | None = None
    average_style: bool | None = None
    where: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", patterns(self.where))
        object.__setattr__(self, "style", self.style if isinstance(self.style, str) else _images(self.style))
        if self.style_weights is not None:
            object.__setattr__(self, "style_weights", _numbers(self.style_weights))
        if not 0 <= self.strength <= 1:
            raise ValueError(f"attention.strength lies in [0, 1], got {self.strength}")
        self.shares()

    def shares(self) -> dict[tuple[str, ...], float]:
        """Subsets of kinds of tokens, with their shares of a block's output."""
        found = shares(branches(self.rule, self.content is not None, self.weights), self.strength)
        return mixed(found, {kind: part for kind, (_, part) in self._styles.items()})

    @property
    def _styles(self) -> dict[str, tuple[str, float]]:
        """Kind to place of the style images with a weight, and their parts, which sum to 1."""
        places = (self.style,) if isinstance(self.style, str) else self.style
        weights = (1.0,) * len(places) if self.style_weights is None else self.style_weights
        if len(weights) != len(places) or not 0 < sum(weights) < math.inf or not all(weight >= 0 for weight in weights):
            raise ValueError(
                f"attention.style_weights are of the {len(places)} images of attention.style, finite, not negative and "
                f"not all 0, got {list(weights)}"
            )
        named = zip(style_kinds(len(places)), places, weights)
        return {kind: (place, weight / sum(weights)) for kind, place, weight in named if weight > 0}

    @property
    def images(self) -> Mapping[str, str | None]:
        if self.strength == 0:
            return {"null": None}
        content = {} if self.content is None else {"content": self.content}
        return {"null": None} | content | {kind: place for kind, (place, _) in self._styles.items()}

    def processors(self, network: nn.Module, tail: Mapping[str, int]) -> dict[Site, Callable]:
        if not self.active:
            return {}
        missing = [kind for kind, place in self.images.items() if place is not None and kind not in tail]
        if missing:
            raise ValueError(f"attention=afa has {', '.join(missing)}, and the network's images are {dict(tail)}")
        average = self.rule == "released" if self.average_style is None else self.average_style
        sites, average = find_sites(network), tuple(self._styles) if average else ()
        chosen = select(sites, self.where)
        return {
            site: Aggregation(site, self.shares() if site in chosen else {PLAIN: 1.0}, tail, average) for site in sites
        }


class Aggregation:
    """The processor of one block: it reads nothing but what the block is called with.

    Args:
        site: of the block; its present processor holds the projections of an IP-Adapter.
        shares: subset of kinds to share.
        tail: kinds after the text, with their numbers of tokens.
        average: kinds whose tokens are all replaced by their mean.

    Raises:
        ValueError: the block normalises what this processor would not.
    """

    def __init__(
        self, site: Site, shares: Mapping[tuple[str, ...], float], tail: Mapping[str, int], average: tuple[str, ...]
    ) -> None:
        self.site, self.shares, self.tail, self.average = site, dict(shares), dict(tail), average
        self.adapter = site.module.processor if hasattr(site.module.processor, "to_k_ip") else None
        norms = [name for name in ("spatial_norm", "group_norm", "norm_cross", "norm_q", "norm_k")]
        present = [name for name in norms if getattr(site.module, name, None) is not None]
        if present:
            raise ValueError(f"{site.name} has {', '.join(present)}, which attention=afa does not compute")

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tokens | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """As diffusers calls it: hidden states [B, N, C] or [B, C, H, W], and a result like them."""
        if attention_mask is not None:
            raise ValueError(f"attention=afa takes no attention mask, and {self.site.name} was given one")
        x = hidden_states.flatten(2).transpose(1, 2) if hidden_states.ndim == 4 else hidden_states
        keys, values = self._parts(attn, encoder_hidden_states, x.shape[1] if self.site.joint else 0)
        query = _heads(attn, attn.to_q(x))
        out = sum(
            share * _attend(query, join(keys, kinds), join(values, kinds)) for kinds, share in self.shares.items()
        )
        out = attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2).to(query.dtype)))
        if hidden_states.ndim == 4:
            out = out.transpose(1, 2).reshape(hidden_states.shape)
        out = out + hidden_states if attn.residual_connection else out
        return out / attn.rescale_output_factor

    def _parts(self, attn: nn.Module, tokens: Tokens, own: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Keys and values by kind, of all tokens at once."""
        text, images = tokens if isinstance(tokens, tuple) else (tokens, [])
        keys, values = [attn.to_k(text)], [attn.to_v(text)]
        for k, image in enumerate(images):
            keys.append(self.adapter.to_k_ip[k](image.flatten(1, 2)))
            values.append(self.adapter.to_v_ip[k](image.flatten(1, 2)))
        both = (split(_heads(attn, torch.cat(all_, dim=1)), own, self.tail) for all_ in (keys, values))
        return tuple({kind: self._averaged(kind, part) for kind, part in parts.items()} for parts in both)

    def _averaged(self, kind: str, part: Tensor) -> Tensor:
        return averaged(part) if kind in self.average else part


def _heads(attn: nn.Module, x: Tensor) -> Tensor:
    """[B, n, heads d] to [B, heads, n, d]."""
    return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(query, key, value)


def _images(style: object) -> tuple[str, ...]:
    if not isinstance(style, Sequence) or not style or not all(isinstance(place, str) and place for place in style):
        raise ValueError(f"attention.style is a picture, or a list of some, got {style!r}")
    return tuple(style)


def _numbers(weights: object) -> tuple[float, ...]:
    try:
        return tuple(map(float, weights))  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise ValueError(f"attention.style_weights is a list of numbers, got {weights!r}") from None
