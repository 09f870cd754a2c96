"""Files of weights: where they are published, how they are read, and what is wrong with one that does not fit.

Nothing is ever run that a file brings along: safetensors hold tensors only, and pickles are read by `torch.load` with
`weights_only=True`. A file that does not fit its network to the last tensor is refused; there is no partial load.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]

# What training loops leave in their checkpoints beside the weights; it is read as empty stand-ins.
_LEFT_BEHIND = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)
_TABLES = ("state_dict", "model_state_dict")  # keys that the weights stand under


@dataclass(frozen=True)
class RequiredFile:
    """A file or folder that a run reads and that does not come with the package.

    Args:
        place: its path, or the id of a repository on the Hugging Face hub.
        published: where to get it from, in words that end a sentence.
        setting: the key of the configuration that says where it is.
    """

    place: str
    published: str
    setting: str = "prior.path"

    @property
    def path(self) -> Path:
        """The place as a path, with ~ expanded."""
        return Path(self.place).expanduser()

    def present(self) -> bool:
        """Whether it is here: at its path, or in the cache of the hub."""
        return self.path.exists() or (_is_hub_id(self.place) and _cached(self.place))

    def size(self) -> float:
        """Bytes at its path; inf of a repository, whose files are not known before they are read."""
        if not self.path.exists():
            return math.inf if _is_hub_id(self.place) else 0.0
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return float(sum(file.stat().st_size for file in files if file.is_file()))

    def find(self) -> Path:
        """The path.

        Raises:
            FileNotFoundError: there is nothing; says where it is published and where to put it.
        """
        if not self.path.exists():
            raise FileNotFoundError(self.missing())
        return self.path

    def missing(self) -> str:
        """One sentence on an absent file."""
        return f"no weights at {self.place}: {self.published}; put it there, or say where it is with {self.setting}=..."

    def fingerprint(self) -> str:
        """Identifies the content, 16 hex digits; empty where there is no such file."""
        if not self.path.is_file():
            return ""
        with self.path.open("rb") as file:
            return _digest(file).hexdigest()[:16]


def _digest(file: object) -> hashlib._Hash:
    digest = hashlib.sha256()
    while block := file.read(1 << 22):
        digest.update(block)
    return digest


def _is_hub_id(place: str) -> bool:
    return place.count("/") == 1 and not place.startswith(("/", ".", "~")) and "\\" not in place


def _cached(hub_id: str) -> bool:
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        return False
    snapshots = Path(HF_HUB_CACHE, f"models--{hub_id.replace('/', '--')}", "snapshots")
    return snapshots.is_dir() and any(snapshots.iterdir())


def read_tensors(file: RequiredFile) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a checkpoint of `torch.save`, whose table of weights is unwrapped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds more than tensors.
    """
    path = file.find()
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if isinstance(content, Mapping):
        content = next((content[name] for name in _TABLES if name in content), content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no table of named tensors: it is no checkpoint of a network")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error})") from error


def _read_pickle(path: Path) -> object:
    stand_ins = [_stand_in(name) for name in _LEFT_BEHIND]
    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # what cannot be read is refused below
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} holds more than tensors ({_first_line(error)}), and unpickling that could run any code: "
                "convert it to safetensors where you trust it (rbctrl/priors/own.py shows how)"
            ) from error
        except (RuntimeError, EOFError, KeyError) as error:
            raise ValueError(f"{path} is damaged or no checkpoint of torch.save ({_first_line(error)})") from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


class _Empty:
    def __new__(cls, *ignored: object) -> _Empty:
        return object.__new__(cls)

    def __init__(self, *ignored: object) -> None: ...

    def __setstate__(self, ignored: object) -> None: ...


def _stand_in(name: str) -> type:
    module, _, qualified = name.rpartition(".")
    return type(qualified, (_Empty,), {"__module__": module})


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "GLOBAL" in line] or lines or [type(error).__name__]
    return named[0][:160]


def check_fit(source: object, network: str, expected: Shapes, found: Shapes) -> None:
    """Whether the tensors of a file are exactly those of a network.

    Raises:
        ValueError: names the first that are missing, left over, or of another shape.
    """
    missing = [name for name in expected if name not in found]
    left_over = [name for name in found if name not in expected]
    reshaped = [name for name in expected if name in found and tuple(found[name]) != tuple(expected[name])]
    if not (missing or left_over or reshaped):
        return
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_some(missing)})")
    if left_over:
        parts.append(f"{len(left_over)} unknown ({_some(left_over)})")
    if reshaped:
        shapes = [f"{name} is {list(found[name])}, not {list(expected[name])}" for name in reshaped[:2]]
        parts.append(f"{len(reshaped)} of another shape ({'; '.join(shapes)})")
    raise ValueError(f"{source} does not fit {network}: of {len(expected)} tensors {', '.join(parts)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a table of tensors."""
    return {name: tuple(value.shape) for name, value in state.items()}


def fill(network: nn.Module, state: Mapping[str, Tensor], source: object) -> nn.Module:
    """The network with exactly these tensors, in fp32; it may have been built on the meta device.

    Raises:
        ValueError: as `check_fit`, or a tensor that the file cannot fill.
    """
    check_fit(source, type(network).__name__, shapes(network.state_dict()), shapes(state))
    floats = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    network.load_state_dict(floats, strict=True, assign=True)
    empty = [name for name, value in [*network.named_parameters(), *network.named_buffers()] if value.is_meta]
    if empty:
        raise ValueError(f"{source} leaves {_some(empty)} of {type(network).__name__} without values")
    return network
