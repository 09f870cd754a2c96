"""What an attention method is to a prior: images in the condition, and processors while the network runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from rbctrl.attention.scope import installed
from rbctrl.attention.sites import Site

ITEM = "item"  # the place of an image that each item of the data brings along


class Attention(ABC):
    """A frozen configuration that a text-to-image prior takes; whatever else steers the run does not know of it.

    Attributes:
        needs_adapter: whether it is nothing without an IP-Adapter.
    """

    needs_adapter: ClassVar[bool] = False

    @property
    @abstractmethod
    def images(self) -> Mapping[str, str | None]:
        """Kind to place of the images in the condition, in the order of their tokens; None is an embedding of zeros.

        A place is a picture, a .safetensors file of one tensor [D], its embedding, or `ITEM`: each item of the data
        brings its own (`Item.references`).
        """

    @property
    def subtracted(self) -> Mapping[str, tuple[str, float]]:
        """Kind of image to words and k: k times their text embedding is taken out of the embedding of the image."""
        return {}

    @property
    def active(self) -> bool:
        """Whether anything differs from a text-only run."""
        return any(place is not None for place in self.images.values())

    def processors(self, network: nn.Module, tail: Mapping[str, int]) -> dict[Site, Callable]:
        """What to install; `tail` is the tokens after those of the text, by kind, with their numbers."""
        return {}

    def scope(self, network: nn.Module, tail: Mapping[str, int]) -> AbstractContextManager[nn.Module]:
        """The network with the method at work; afterwards it is as before."""
        return installed(network, self.processors(network, tail))


@dataclass(frozen=True)
class NoAttention(Attention):
    """The network as it is: text only."""

    @property
    def images(self) -> Mapping[str, str | None]:
        return {"null": None}


def references(content: str | None, style: str) -> dict[str, str | None]:
    """Content before style, where there is one: the order of the released code."""
    return {"style": style} if content is None else {"content": content, "style": style}


def check_one_style(style: object) -> None:
    """Raises ValueError for what is not the place of one picture."""
    if not isinstance(style, str):
        raise ValueError(f"attention.style is one picture here, got {style!r}: attention=afa mixes several")


def setting(kind: str) -> str:
    """The key of the configuration that names the image of a kind; several styles share theirs."""
    return f"attention.{kind.partition('_')[0]}"


def of_items(images: Mapping[str, str | None], brought: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The pictures that items bring along, of the kinds whose place is `ITEM`.

    Args:
        images: kind to place.
        brought: pictures [B, 3, H, W] by kind.

    Raises:
        ValueError: one of them is missing.
    """
    if (reason := lacking(images, brought)) is not None:
        raise ValueError(reason)
    return {kind: brought[kind] for kind, place in images.items() if place == ITEM}


def lacking(images: Mapping[str, str | None], brought: Collection[str]) -> str | None:
    """Which picture an item that brings these kinds along lacks, in one sentence; None if it has all of them."""
    for kind, place in images.items():
        if place == ITEM and kind not in brought:
            return f"{setting(kind)}=item, but the items of this data have no {kind} image: name a file"
    return None
