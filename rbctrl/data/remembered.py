"""Items that are read once per process, for sweeps whose cells see the same images."""

from __future__ import annotations

from collections.abc import Iterator

from rbctrl.data.base import Data, Item


class Remembered(Data):
    """The items of another data, kept in memory after the first pass if they fit into `limit` bytes.

    Files that change later are not noticed: all cells of a sweep see the same images.
    """

    def __init__(self, data: Data, limit: int = 2**28) -> None:
        super().__init__()
        self.data, self.limit = data, limit
        self.skipped, self.unreadable = data.skipped, data.unreadable
        self._kept: list[Item] | None = None

    def items(self) -> Iterator[Item]:
        """The items, from memory from the second pass on."""
        if self._kept is not None:
            yield from self._kept
            return
        kept, size = [], 0
        for item in self.data.items():
            size += sum(part.nbytes for part in (item.image, item.y) if part is not None)
            if size <= self.limit:
                kept.append(item)
            yield item
        if size <= self.limit:
            self._kept = kept

    def __len__(self) -> int:
        return len(self.data)
