"""Diffusers' folder layout, here or on the Hugging Face hub, read strictly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from rbctrl.checkpoints import RequiredFile, check_fit, shapes
from rbctrl.pretrained.base import Source, content_hash

_HAS_ACCELERATE = find_spec("accelerate") is not None  # then diffusers allocates weights once
_TEXT_FILES = ("*.json", "*.txt", "*.model")


@dataclass(frozen=True)
class Folder(Source):
    """Diffusers' layout: a folder here, or a repository on the hub.

    Args:
        model: path or repository.
        published: the repository to name when it is missing.
        setting: the key of the configuration that names it.
        variant: of the weight files.
        local_files_only: nothing is downloaded.
    """

    model: str
    published: str
    setting: str
    variant: str | None = None
    local_files_only: bool = False

    def part(self, kind: type[nn.Module], name: str, dtype: torch.dtype) -> nn.Module:
        return _strictly(kind, self._fetched(name, weights=True), dtype, self.variant)

    def folder(self, name: str) -> Path:
        return self._fetched(name, weights=False)

    def file(self, name: str) -> Path:
        """One file of it, by its path inside.

        Raises:
            FileNotFoundError: there is none.
        """
        (required,) = self.files()
        root = required.path if required.path.is_dir() else self._downloaded(required, (name,))
        if not (root / name).is_file():
            raise FileNotFoundError(f"{root} has no file {name}: {required.published}")
        return root / name

    def files(self) -> tuple[RequiredFile, ...]:
        page = f"https://huggingface.co/{self.published}"
        where = f"it is published at {page} (hf download {self.published} --local-dir FOLDER)"
        return (RequiredFile(self.model, where, self.setting),)

    def fingerprint(self, *names: str) -> str:
        found = [path for name in names for path in _weights(self._fetched(name, weights=True), self.variant)]
        return hashlib.sha256("".join(map(content_hash, found)).encode()).hexdigest()[:16]

    def _fetched(self, name: str, weights: bool) -> Path:
        """The folder of a part."""
        (required,) = self.files()
        root = required.path if required.path.is_dir() else self._from_hub(required, name, weights)
        folder = root / name if name else root
        if not folder.is_dir():
            raise FileNotFoundError(f"{root} has no folder {name}: {required.published}")
        return folder

    def _from_hub(self, required: RequiredFile, name: str, weights: bool) -> Path:
        inside = f"{name}/" if name else ""
        names = [*_TEXT_FILES, *(_weight_names(self.variant) if weights else ())]
        return self._downloaded(required, tuple(inside + name for name in names))

    def _downloaded(self, required: RequiredFile, patterns: tuple[str, ...]) -> Path:
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", self.model):
            raise FileNotFoundError(required.missing())
        try:
            return _snapshot(self.model, patterns, self.local_files_only)
        except OSError as error:  # not cached, no network, no such repository, or one behind a licence
            raise FileNotFoundError(
                f"{required.missing()} (the hub: {_line(error)}; where a licence is asked for, accept it on that page "
                "and log in with hf auth login)"
            ) from error


@cache
def _snapshot(repository: str, patterns: tuple[str, ...], local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, allow_patterns=list(patterns), local_files_only=local_files_only))


def _weight_names(variant: str | None) -> tuple[str, ...]:
    shard = "-?????-of-?????"
    if variant is None:
        return ("*model.safetensors", f"*model{shard}.safetensors")
    return (f"*.{variant}.safetensors", f"*.{variant}{shard}.safetensors")


def _weights(folder: Path, variant: str | None) -> list[Path]:
    return sorted(path for name in _weight_names(variant) for path in folder.glob(name))


def _strictly(kind: type[nn.Module], folder: Path, dtype: torch.dtype, variant: str | None) -> nn.Module:
    """A part of a folder; an error where a tensor is missing, left over or of another shape."""
    if not _weights(folder, variant):
        raise _no_weights(folder, variant)
    is_transformers = kind.__module__.startswith("transformers")
    options = {"variant": variant, "use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    options |= {"dtype": dtype} if is_transformers else {"torch_dtype": dtype, "low_cpu_mem_usage": _HAS_ACCELERATE}
    try:
        with _without_bars(is_transformers):
            network, found = kind.from_pretrained(folder, **options)
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"{folder} does not fit {kind.__name__}: {_line(error)}") from error
    missing = sorted(found["missing_keys"])
    left_over = sorted(name for name in found["unexpected_keys"] if not name.endswith("position_ids"))  # 0, 1, 2, ...
    if missing or left_over:
        expected = shapes(network.state_dict())
        have = {name: shape for name, shape in expected.items() if name not in missing}
        check_fit(folder, kind.__name__, expected, have | dict.fromkeys(left_over, ()))
    return network.eval()


@contextmanager
def _without_bars(is_transformers: bool) -> Iterator[None]:
    """The progress bars of the library that reads are off meanwhile."""
    logging = import_module("transformers.utils.logging" if is_transformers else "diffusers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _no_weights(folder: Path, variant: str | None) -> Exception:
    if any(folder.glob("*.bin")) or any(folder.glob("*.ckpt")):
        return ValueError(
            f"{folder} holds weights as pickles only, which could run any code: "
            "convert them where you trust them, model.save_pretrained(folder, safe_serialization=True)"
        )
    named = "safetensors" if variant is None else f"safetensors of the variant {variant}"
    present = ", ".join(sorted(path.name for path in folder.glob("*.safetensors"))) or "none"
    return FileNotFoundError(f"{folder} has no weights: no {named} in it, present are {present}")


def _line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:300]
