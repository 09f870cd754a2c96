"""Patches of the bundled training photographs as data: the finite set that is prior and truth of the experiment."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch

from rbctrl.data.base import Data, Item, check_positive
from rbctrl.data.patches import Patches
from rbctrl.data.photos import TRAINING


class PhotoPatches(Data):
    """n random patches; patch k is the same for every n.

    Args:
        n: number of patches.
        size: side in px.
    """

    def __init__(self, n: int = 1000, size: int = 8) -> None:
        super().__init__()
        check_positive("n", n)
        check_positive("size", size)
        self.n, self.size = n, size

    def __len__(self) -> int:
        return self.n

    def items(self) -> Iterator[Item]:
        for k in range(self.n):
            yield Item(f"patch/{k:04d}", _photographs().batch(k, 1, self.size)[0])


@cache
def _photographs() -> Patches:
    return Patches(torch.empty(0), photo_share=1.0, names=tuple(TRAINING))
