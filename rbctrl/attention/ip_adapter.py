"""IP-Adapter: image tokens beside the text, in a cross-attention of their own.

    out = W_o [ softmax(q K_text^T / sqrt(d)) V_text + scale softmax(q K_image^T / sqrt(d)) V_image ]

The processors are diffusers' own, and are there while the prior has its adapter attached (`rbctrl.priors.adapter`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from rbctrl.attention.base import Attention, check_one_style, references
from rbctrl.attention.scope import installed
from rbctrl.attention.sites import Site, find_sites, patterns, select


@dataclass(frozen=True)
class IPAdapter(Attention):
    """Ye et al., IP-Adapter, 2023. https://arxiv.org/abs/2308.06721.

    With `where` the blocks that carry style it is InstantStyle (Wang et al., 2024, https://arxiv.org/abs/2404.02733):
    "up_blocks.0.attentions.1.*" of XL. The blocks that are not chosen attend to the text alone.

    Args:
        style: picture, or .safetensors of its embedding.
        content: the same of a content image, whose tokens go before those of the style; None: there is none.
        scale: of the attention to images; 0 is the text-only run, exactly.
        neg_content_prompt: words for what the style image shows; their text embedding is subtracted from its own, as
            InstantStyle does (`rbctrl.priors.content_words`). Of base adapters. None: nothing is.
        neg_content_scale: times how much; 0 is nothing, exactly.
        where: patterns of names of blocks.

    Raises:
        ValueError: a negative scale, or several styles.
    """

    needs_adapter: ClassVar[bool] = True

    style: str
    content: str | None = None
    scale: float = 1.0
    neg_content_prompt: str | None = None
    neg_content_scale: float = 0.5
    where: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        check_one_style(self.style)
        object.__setattr__(self, "where", patterns(self.where))
        for name, value in {"scale": self.scale, "neg_content_scale": self.neg_content_scale}.items():
            if not value >= 0:
                raise ValueError(f"attention.{name} must not be negative, got {value}")

    @property
    def images(self) -> Mapping[str, str | None]:
        return references(self.content, self.style) if self.scale > 0 else {"null": None}

    @property
    def subtracted(self) -> Mapping[str, tuple[str, float]]:
        if not (self.scale > 0 and self.neg_content_prompt and self.neg_content_scale > 0):
            return {}
        return {"style": (self.neg_content_prompt, self.neg_content_scale)}

    @contextmanager
    def scope(self, network: nn.Module, tail: Mapping[str, int]) -> Iterator[nn.Module]:
        if not self.active:
            yield network
            return
        sites = adapted(network)
        if not sites:
            raise ValueError(
                f"attention=ip_adapter needs a network with an IP-Adapter, and this {type(network).__name__} has none: "
                "prior=sd15 or prior=sdxl"
            )
        chosen = select(sites, self.where)
        old = {site: site.module.processor.scale for site in sites}
        with installed(network, {}):
            try:
                for site in sites:
                    site.module.processor.scale = [self.scale if site in chosen else 0.0] * len(old[site])
                yield network
            finally:
                for site, scale in old.items():
                    site.module.processor.scale = scale


def adapted(network: nn.Module) -> list[Site]:
    """The blocks of a network whose processors hold the projections of an IP-Adapter."""
    return [site for site in find_sites(network) if hasattr(site.module.processor, "to_k_ip")]
