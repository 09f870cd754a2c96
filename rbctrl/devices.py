"""Where tensors live and how exact they are: devices and dtypes by name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def full_fp32(device: torch.device) -> AbstractContextManager:
    """On a GPU, convolutions of fp32 numbers in fp32: torch's default there is TF32, with 10 bits of mantissa."""
    if device.type != "cuda":
        return nullcontext()
    cudnn = torch.backends.cudnn
    return cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False)


def pick_device(name: str) -> torch.device:
    """The device of a name; auto is the GPU where there is one.

    Raises:
        ValueError: torch knows no such device, or it is not there.
    """
    if name == "auto":
        return _numbered(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name} is no device torch knows: use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name} was asked for and torch sees no GPU here: use device=cpu")
    if device.type not in ("cpu", "cuda", "mps", "xpu") or (device.type == "mps" and not torch.mps.is_available()):
        raise ValueError(f"device={name} was asked for, which computes nothing here: use auto, cpu or cuda")
    return _numbered(device)


def _numbered(device: torch.device) -> torch.device:
    """cuda as cuda:0, since torch holds the two for different devices."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def pick_dtype(name: str) -> torch.dtype:
    """float32 or float64.

    Raises:
        ValueError: any other name.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}; got {name!r}")
    return DTYPES[name]
