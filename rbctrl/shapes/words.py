"""Prompts of the world: "two stars topleft, hatch, on stripes" to tokens, one for each factor, and back.

The tokens are [BOS, count, shape, position, palette, texture, background]; PAD is what a prompt does not say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rbctrl.shapes.world import CONTENT, FACTORS, STYLE, Scenes

PAD, BOS = 0, 1
LENGTH = 1 + len(FACTORS)
_FIRST = dict(zip(FACTORS, torch.tensor([0, *map(len, FACTORS.values())]).cumsum(0).add(2).tolist()))
VOCABULARY = 2 + sum(map(len, FACTORS.values()))

_SLOTS = {word: (factor, k) for factor, words in FACTORS.items() for k, word in enumerate(words)}
_SAME = {"plus signs": "plus", "crosses": "plus", "hearts": "heart", "a": "one", "an": "one", "centre": "center"}
_FILLER = {"in", "at", "on", "the", "of", "with", "and", "style", "colors", "colours", "background", "texture"}


def parse(prompt: str) -> dict[str, int]:
    """What a prompt says: factor to index into `FACTORS`.

    Words may come in any order; plurals, "top left" for "topleft" and small words (in, at, on, the, of, with, and,
    style, colors, background, texture) are understood.

    Raises:
        ValueError: a word that the world does not know, or two for one factor.
    """
    text = re.sub(r"\b(top|bottom)[ -](left|right)\b", r"\1\2", prompt.lower())
    said: dict[str, int] = {}
    for raw in re.findall(r"[^\s,.;:]+", text):
        word = _SAME.get(raw, raw)
        word = word if word in _SLOTS else word.removesuffix("s")
        if raw in _FILLER:
            continue
        if word not in _SLOTS:
            raise ValueError(f"the shapes prior does not know the word {raw!r} of {prompt!r}: it knows {_vocabulary()}")
        factor, k = _SLOTS[word]
        if said.get(factor, k) != k:
            raise ValueError(f"{prompt!r} says two things about the {factor}: keep one of them")
        said[factor] = k
    return said


def to_tokens(said: Sequence[Mapping[str, int]]) -> Tensor:
    """Tokens [n, LENGTH] of what n prompts say."""
    rows = [[BOS, *(_FIRST[name] + one[name] if name in one else PAD for name in FACTORS)] for one in said]
    return torch.tensor(rows, dtype=torch.long)


def scene_tokens(scenes: Scenes) -> Tensor:
    """The full descriptions of scenes, [n, LENGTH]; palettes without a name have no word."""
    tokens = torch.full((len(scenes), LENGTH), BOS)
    for k, name in enumerate(FACTORS):
        index = getattr(scenes, name)
        tokens[:, k + 1] = torch.where(index < 0, PAD, _FIRST[name] + index)
    return tokens


def forget(tokens: Tensor, generator: torch.Generator, style: float, content: float, everything: float) -> Tensor:
    """Tokens with words left out at random, as training wants them.

    Args:
        tokens: [n, LENGTH].
        generator: of the choice.
        style: share of rows without any style word; half as often each of the three is missing alone.
        content: the same of each word of the content.
        everything: share of rows without any word.
    """
    n = len(tokens)

    def chosen(share: float, columns: int = 1) -> Tensor:
        return torch.rand(n, columns, generator=generator) < share

    words = [chosen(content, len(CONTENT)), chosen(style) | chosen(style / 2, len(STYLE))]
    missing = torch.cat([torch.zeros(n, 1, dtype=torch.bool), torch.cat(words, 1) | chosen(everything)], 1)
    return torch.where(missing, PAD, tokens)


def describe(scene: Scenes, factors: Sequence[str] = tuple(FACTORS)) -> str:
    """A prompt of one scene that names these factors, where they have a name."""
    said = [FACTORS[name][int(getattr(scene, name)[0])] for name in factors if int(getattr(scene, name)[0]) >= 0]
    return " ".join(said)


def _vocabulary() -> str:
    return "; ".join(", ".join(words) for words in FACTORS.values())
