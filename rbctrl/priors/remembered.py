"""Embedded prompts by their text, so that the encoders are asked for each prompt once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from rbctrl.offload import size
from rbctrl.pretrained import Source
from rbctrl.priors.embedding import Embedding

Encode = Callable[[Source, Sequence[str], torch.dtype], list[Embedding]]  # dtype: of T5, which is large; CLIP is fp32
ROOM = 2**28  # bytes: 680 prompts of Stable Cascade, 32 of Flux


@dataclass(eq=False)
class Remembered:
    """Prompts to embeddings, on the host; those that were not asked for longest are forgotten first.

    Args:
        encode: of the family; an embedding follows from its prompt alone.
        dtype: of T5.
        room: bytes for what is remembered.
    """

    encode: Encode
    dtype: torch.dtype
    room: int = ROOM
    _found: dict[str, Embedding] = field(default_factory=dict, repr=False)  # the latest at the end

    @torch.no_grad()
    def __call__(self, source: Source, prompts: Sequence[str]) -> list[Embedding]:
        """The embedding of each prompt; the encoders of the source are read only for what is new."""
        distinct = dict.fromkeys(prompts)
        new = [prompt for prompt in distinct if prompt not in self._found]
        if new:
            self._found |= zip(new, self.encode(source, new, self.dtype), strict=True)
        wanted = {prompt: self._found.pop(prompt) for prompt in distinct}
        self._found |= wanted
        while sum(map(size, self._found.values())) > self.room:
            del self._found[next(iter(self._found))]
        return [Embedding(wanted[prompt].tokens, wanted[prompt].pooled) for prompt in prompts]  # its place is its own
