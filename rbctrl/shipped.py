"""Reading the networks that `rbctrl train` writes: architecture in the metadata, fp16 weights, safetensors."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from torch import nn

WEIGHTS = Path(__file__).parent / "priors" / "weights"

Network = TypeVar("Network", bound=nn.Module)


def load_shipped(path: Path, build: Callable[..., Network]) -> Network:
    """The network `build(**architecture)` with the weights of a file, as fp32.

    Args:
        path: a file that `rbctrl train` wrote.
        build: the class; the metadata names all its arguments.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such checkpoint, or its tensors do not fit the architecture it names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: make them with `rbctrl train`, or fix the path in prior")
    try:
        with safe_open(path, framework="pt") as file:
            metadata, state = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error})") from error
    names = inspect.signature(build).parameters
    missing = [name for name in names if name not in metadata]
    if missing:
        raise ValueError(
            f"{path} does not name its architecture ({', '.join(missing)}): it was not made by rbctrl train, "
            "or is the weights of another kind of network"
        )
    network = build(**{name: ast.literal_eval(metadata[name]) for name in names})
    expected = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    found = {name: tuple(w.shape) for name, w in state.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise ValueError(
            f"{path} does not fit the architecture it names; first differing tensors: {', '.join(wrong[:3])}"
        )
    network.load_state_dict({name: w.float() for name, w in state.items()})
    return network


def digest(path: Path) -> str:
    """Identifies the contents of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
