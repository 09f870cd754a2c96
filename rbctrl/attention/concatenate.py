"""Tokens of reference images beside those of the text, in one softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from rbctrl.attention.afa import Aggregation
from rbctrl.attention.base import Attention, check_one_style, references
from rbctrl.attention.ip_adapter import adapted
from rbctrl.attention.sites import Site


@dataclass(frozen=True)
class Concatenate(Attention):
    """The tokens of reference images beside those of the text, in the network's own attention.

    "DirectConcat" in Rout et al., RB-Modulation, ICLR 2025: follows a style and leaks its content. A network that was
    trained with image tokens stays as it is. With an IP-Adapter the keys of text and images are in one softmax, where
    they compete, while the adapter was trained with two, whose results are added (`IPAdapter`). That is ours.

    Args:
        style: picture, or .safetensors of its embedding.
        content: the same of a content image; None: there is none.

    Raises:
        ValueError: several styles.
    """

    style: str
    content: str | None = None

    def __post_init__(self) -> None:
        check_one_style(self.style)

    @property
    def images(self) -> Mapping[str, str | None]:
        return references(self.content, self.style)

    def processors(self, network: nn.Module, tail: Mapping[str, int]) -> dict[Site, Callable]:
        kinds = ("text", *tail)
        return {site: Aggregation(site, {kinds: 1.0}, tail, ()) for site in adapted(network)}
