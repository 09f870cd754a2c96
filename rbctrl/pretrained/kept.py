"""A source whose parts stay in the memory of the host once they were read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.pretrained.base import Source


@dataclass(frozen=True, eq=False)
class Kept(Source):
    """Reads each part once: for encoders that every batch asks again.

    Args:
        source: what is read.
    """

    source: Source
    _parts: dict[tuple[type, str, torch.dtype], nn.Module] = field(default_factory=dict, repr=False)

    def part(self, kind: type[nn.Module], name: str, dtype: torch.dtype) -> nn.Module:
        key = (kind, name, dtype)
        if key not in self._parts:
            self._parts[key] = self.source.part(kind, name, dtype)
        return self._parts[key]

    def folder(self, name: str) -> Path:
        return self.source.folder(name)

    def files(self) -> tuple[RequiredFile, ...]:
        return self.source.files()

    def fingerprint(self, *names: str) -> str:
        return self.source.fingerprint(*names)
