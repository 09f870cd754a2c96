"""Kinds of tokens, and the subsets of them that attention feature aggregation averages over.

    null      the image slot of a text-only run (Stable Cascade: an embedding of zeros)
    text      tokens of the prompt                            content   tokens of a content image
    pooled    tokens of the pooled prompt (Stable Cascade)    style     tokens of a style image

A second and a third style image are kinds of their own, "style_2" and "style_3": each takes the place of "style" in
every branch that has it, and the results are averaged (`mixed`).

A block of Stable Cascade also attends to the image itself; these tokens are in every branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Rule = Literal["released", "paper"]
KINDS = ("text", "pooled", "null", "content", "style")
PLAIN = ("text", "pooled", "null")  # what a text-only run attends to


@dataclass(frozen=True)
class Branch:
    """One attention over a subset of the tokens.

    Args:
        name: of the branch.
        kinds: of the tokens in it, of `KINDS`; those that a network does not have add nothing.
        weight: its share, before shares are made to sum to 1.

    Raises:
        ValueError: an unknown kind, or a negative weight.
    """

    name: str
    kinds: tuple[str, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise ValueError(f"branch {self.name!r} attends to kinds of {', '.join(KINDS)}, got {self.kinds!r}")
        if not self.weight >= 0:
            raise ValueError(f"the weight of branch {self.name!r} must not be negative, got {self.weight}")


_TEXT = ("text", "pooled")
_BRANCHES: dict[tuple[Rule, bool], dict[str, tuple[str, ...]]] = {
    ("released", False): {"text": _TEXT, "text_style": (*_TEXT, "style"), "style": ("text", "style")},
    ("released", True): {
        "text": _TEXT,
        "content": (*_TEXT, "content"),
        "content_style": (*_TEXT, "content", "style"),
        "style": (*_TEXT, "style"),
    },
    ("paper", False): {"text": _TEXT, "text_style": (*_TEXT, "style"), "style": ("style",)},
    ("paper", True): {
        "text": _TEXT,
        "content": ("content",),
        "content_style": ("content", "style"),
        "style": ("style",),
    },
}


def branches(rule: Rule, composed: bool, weights: Mapping[str, float] | None = None) -> tuple[Branch, ...]:
    """The branches of RB-Modulation: 3 for a style, 4 for a content and a style ("composed").

    In the released code the tokens of the prompt are in every branch, and its "style" only lacks the pooled ones; in
    the paper the branches of images are without any text.

    Args:
        rule: whose sets of tokens.
        composed: whether there is a content image.
        weights: by name; branches that are not named get 0. None: all the same.

    Raises:
        ValueError: no such rule or branch, or no weight at all.
    """
    if (rule, composed) not in _BRANCHES:
        raise ValueError(f"attention.rule is 'released' or 'paper', got {rule!r}")
    table = _BRANCHES[rule, composed]
    weights = dict.fromkeys(table, 1.0) if weights is None else dict(weights)
    unknown = sorted(set(weights) - set(table))
    if unknown:
        raise ValueError(f"attention.weights are of {', '.join(table)}; got {', '.join(unknown)}")
    found = tuple(Branch(name, kinds, float(weights.get(name, 0.0))) for name, kinds in table.items())
    if not sum(branch.weight for branch in found) > 0:
        raise ValueError("attention.weights are all 0: one branch needs a weight, or take attention=none")
    return found


def shares(found: tuple[Branch, ...], strength: float = 1.0) -> dict[tuple[str, ...], float]:
    """Subset of tokens to its share; they sum to 1, and subsets without a share are left out.

    At a strength below 1 the rest is the attention of a text-only run, `PLAIN`.
    """
    total = sum(branch.weight for branch in found)
    result: dict[tuple[str, ...], float] = {}
    for kinds, share in [(PLAIN, 1 - strength), *((b.kinds, strength * b.weight / total) for b in found)]:
        if share > 0:
            result[kinds] = result.get(kinds, 0.0) + share
    return result


def style_kinds(n: int) -> tuple[str, ...]:
    """Of n style images: "style", "style_2", ..."""
    return tuple("style" if k == 0 else f"style_{k + 1}" for k in range(n))


def mixed(found: Mapping[tuple[str, ...], float], styles: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    """Shares of subsets in which each of several style images takes the place of "style".

    Args:
        found: subset of tokens to its share.
        styles: kind to its part of the style; they sum to 1.
    """
    result: dict[tuple[str, ...], float] = {}
    for kinds, share in found.items():
        for kind, part in styles.items() if "style" in kinds else [("style", 1.0)]:
            result[tuple(kind if old == "style" else old for old in kinds)] = share * part
    return result
