"""Files to tensors, by Pillow alone: any size, mode and orientation becomes [3, H, W] in [-1, 1].

Transparency is laid over white, gray and palette images become RGB, 16-bit gray keeps its 16 bits (of 16-bit colour
Pillow itself keeps 8), EXIF orientation is applied, and of several frames the first is taken.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

_WHITE_LEVEL = {"I": 65535.0, "F": 1.0}  # 16 bits often arrive as I; floats are taken as [0, 1]
ARRAY_SUFFIXES = (".npy", ".pt")


class Unreadable(ValueError):
    """A file that cannot become an item; the message is one sentence that says why."""


def read_image(path: Path) -> Tensor:
    """An image file as [3, H, W] in [-1, 1], fp32.

    Raises:
        Unreadable: the file is no image, is damaged, or its white level is unknown.
    """
    photo = decode(path)
    if photo.mode[0] in "IF":
        return _from_deep_gray(photo)
    if photo.has_transparency_data:
        return 2 * _over_white(photo) - 1
    return _to_tensor(photo.convert("RGB")) / 127.5 - 1


def read_picture(path: str | Path, setting: str) -> Tensor:
    """A picture that a setting names as [3, H, W] in [-1, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        kind = " but a folder: name a file in it" if file.is_dir() and str(path) else ""
        raise FileNotFoundError(f"there is no picture {str(path)!r} ({setting}){kind}")
    try:
        return read_image(file)
    except Unreadable as error:
        raise ValueError(f"{path} {error}") from error


def read_measurement(path: Path) -> Tensor:
    """A measurement: an image file, or a floating-point tensor in .npy or .pt, taken as it is.

    Raises:
        Unreadable: the file cannot be read, or is no tensor of finite floating-point numbers.
    """
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return read_image(path)
    y = _load_array(path)
    if not isinstance(y, Tensor) or not y.is_floating_point():
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise Unreadable(f"holds {kind}, not a tensor of floating-point numbers in [-1, 1]")
    if y.numel() == 0 or not y.isfinite().all():
        raise Unreadable("is empty or holds values that are not finite")
    return y.float()


def center_crop(image: Tensor, height: int, width: int) -> Tensor:
    """The middle [C, height, width] of [C, H, W]."""
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def square(image: Tensor, size: int) -> Tensor:
    """The middle square of an image [C, H, W] in [-1, 1] as [C, size, size]: antialiased bicubic, clamped."""
    side = min(image.shape[1:])
    image = center_crop(image, side, side)
    small = F.interpolate(image[None], (size, size), mode="bicubic", antialias=True, align_corners=False)
    return small[0].clamp(-1, 1)


def decode(path: Path) -> Image.Image:
    """An image file as Pillow has it, upright.

    Raises:
        Unreadable: the file is no image, or is damaged.
    """
    try:
        with Image.open(path) as photo:
            photo.load()
            return ImageOps.exif_transpose(photo)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"is larger than Pillow reads ({error}): reduce it first") from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise almost anything
        raise Unreadable(f"cannot be decoded as an image ({type(error).__name__}: {error})") from error


def _load_array(path: Path) -> object:
    try:
        if path.suffix.lower() == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives and refused pickles raise many types
        raise Unreadable(f"cannot be loaded as a tensor ({type(error).__name__}: {error})") from error


def _to_tensor(photo: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(photo, dtype=np.float32)).permute(2, 0, 1).contiguous()


def _over_white(photo: Image.Image) -> Tensor:
    rgba = _to_tensor(photo.convert("RGBA")) / 255
    return rgba[:3] * rgba[3:] + (1 - rgba[3:])


def _from_deep_gray(photo: Image.Image) -> Tensor:
    gray = torch.from_numpy(np.array(photo).astype(np.float32))
    white = _WHITE_LEVEL.get(photo.mode, 65535.0)
    if not ((gray >= 0) & (gray <= white)).all():
        raise Unreadable(f"holds values outside [0, {white:g}], so its white level is unknown: save it as PNG")
    return (2 * gray / white - 1).expand(3, -1, -1).contiguous()
