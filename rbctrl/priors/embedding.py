"""Embedded prompts: what a text-to-image network is told of one text for all rows, or of a text of each row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rbctrl.priors.guidance import Condition


class Embedding(nn.Module):
    """An embedded prompt.

    Args:
        tokens: [L, D]; or [B, L, D], an embedded prompt of each row, and then pooled and images have a B, too.
        pooled: [P], for networks that take one vector of the whole prompt, too.
        images: [k, E], embeddings of k images, for networks that take those besides.
    """

    tokens: Tensor
    pooled: Tensor | None
    images: Tensor | None

    def __init__(self, tokens: Tensor, pooled: Tensor | None = None, images: Tensor | None = None) -> None:
        super().__init__()
        for name, value in {"tokens": tokens, "pooled": pooled, "images": images}.items():
            self.register_buffer(name, None if value is None else value.detach().float())

    @property
    def of_rows(self) -> bool:
        """Whether each row has a prompt of its own."""
        return self.tokens.ndim == 3

    def rows(self, n: int) -> Condition:
        """For n rows: tokens [n, L, D] and, where there are such, pooled [n, P] and images [n, k, E].

        Raises:
            ValueError: the rows have prompts of their own, and are not n.
        """
        if self.of_rows and len(self.tokens) != n:
            raise ValueError(f"{len(self.tokens)} rows have a prompt each, and {n} rows were asked for")
        return self.under(self.tokens.expand(n, -1, -1))

    def under(self, tokens: Tensor) -> Condition:
        """Other tokens [n, L, D] with this pooled vector and these images."""
        more = (part for part in (self.pooled, self.images) if part is not None)
        if self.of_rows:
            return (tokens, *more)
        return (tokens, *(part.expand(len(tokens), *part.shape) for part in more))

    def beside(self, images: Tensor) -> Embedding:
        """The same prompt with images [k, E]."""
        return Embedding(self.tokens, self.pooled, images)

    def zeros(self) -> Embedding:
        """Zeros of the same shapes."""
        return Embedding(*map(torch.zeros_like, (part[0] for part in self.rows(1))))

    def same(self, other: Embedding) -> bool:
        """Whether both are prompts of all rows and say the same, to the last bit."""
        if self.of_rows or other.of_rows:
            return False
        return all(torch.equal(mine, theirs) for mine, theirs in zip(self.rows(1), other.rows(1), strict=True))
