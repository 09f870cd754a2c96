"""Where the parts of a model are read from."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rbctrl.checkpoints import RequiredFile


class Source(ABC):
    """Where the parts of a model are read from; a part is named by its subfolder, "unet" or "text_encoder"."""

    @abstractmethod
    def part(self, kind: type[nn.Module], name: str, dtype: torch.dtype) -> nn.Module:
        """The part with its weights, in evaluation mode; "" is a model that is one part.

        Raises:
            FileNotFoundError: something is not there; says where it is published.
            ValueError: the weights do not fit the config, or are pickles.
        """

    @abstractmethod
    def folder(self, name: str) -> Path:
        """Where the config, or the tokenizer, of a part lies."""

    @abstractmethod
    def files(self) -> tuple[RequiredFile, ...]:
        """What is read."""

    @abstractmethod
    def fingerprint(self, *names: str) -> str:
        """Identifies the weights of these parts, 16 hex digits."""

    def settings(self, name: str) -> dict[str, Any]:
        """The config of a part; of "scheduler", that of the scheduler."""
        path = self.folder(name) / ("scheduler_config.json" if name == "scheduler" else "config.json")
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}: the folder is not complete")
        return json.loads(path.read_text(encoding="utf-8"))


def content_hash(path: Path) -> str:
    """SHA-256 of a file, read once as long as it does not change; the cache of the hub names large files by it."""
    target = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", target.name):
        return target.name
    state = target.stat()
    return _hash(target, state.st_size, state.st_mtime_ns)


@cache
def _hash(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
