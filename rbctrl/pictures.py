"""Images as files: where they lie, 8-bit pictures, exact arrays.

A picture is an 8-bit PNG: -1 is black, 1 is white, values beyond are clamped, and pixels that are not finite are
magenta. An exact image is a .npy beside it that holds the tensor as it was computed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Kind = Literal["truth", "measurement", "image", "mean", "sd"]
_NOT_FINITE = torch.tensor([255, 0, 255], dtype=torch.uint8).view(3, 1, 1)  # magenta: no gap looks like a colour
_log = logging.getLogger("rbctrl.results")


def image_path(folder: Path, item: str, sample: int | str, kind: Kind) -> Path:
    """Where a picture lies: images/ITEM/KIND.png, and image_SAMPLE.png for the samples.

    Truth, measurement, mean and sd belong to the item; the image of sample "mean" is the mean. The exact image of a
    sample is the same path with the suffix .npy.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"no picture is of kind {kind!r}: use one of {', '.join(get_args(Kind))}")
    if kind == "image":
        kind = "mean" if sample == "mean" else f"image_{sample}"  # type: ignore[assignment]
    return folder / "images" / _safe(item) / f"{kind}.png"


def is_picture(x: Tensor) -> bool:
    """Whether a state, measurement or image [C, H, W] can be saved as a picture: gray or RGB."""
    return x.ndim == 3 and x.shape[0] in (1, 3)


def save_picture(path: Path, image: Tensor) -> None:
    """Saves [C, H, W] in [-1, 1] (C is 1 or 3) as an 8-bit PNG; a warning counts pixels that are not finite.

    No picture is stretched to its own range, so pictures compare.

    Raises:
        ValueError: the tensor is no image.
        OSError: the disk is full.
    """
    picture = to_picture(image)
    broken = int(_broken(image).sum())
    if broken:
        _log.warning("%s has %d pixels that are not finite; they are magenta", path, broken)
    replace_file(path, lambda file: picture.save(file, "PNG"))


def save_exact(path: Path, image: Tensor) -> None:
    """Saves a tensor of any shape as .npy, every bit of it."""
    replace_file(path, lambda file: np.save(file, image.detach().cpu().numpy()))


def load_exact(path: Path) -> Tensor:
    """The tensor that `save_exact` saved."""
    return torch.from_numpy(np.load(path, allow_pickle=False))


def load_picture(path: Path) -> Tensor:
    """A picture as [C, H, W] in [-1, 1]: what was saved, clamped and rounded to one of 256 levels.

    Raises:
        OSError: the file is no whole picture.
    """
    with Image.open(path) as picture:
        levels = np.asarray(picture, dtype=np.float32)
    return torch.from_numpy(levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1).copy()) / 127.5 - 1


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file that is there as a whole or not at all, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def to_picture(image: Tensor) -> Image.Image:
    """A tensor [C, H, W] in [-1, 1] with one or three channels as an 8-bit RGB or gray picture.

    A pixel with a NaN or infinity in any channel becomes magenta, (255, 0, 255), never a gray level: a gray image with
    such a pixel is therefore an RGB picture.

    Raises:
        ValueError: the tensor has another shape.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise ValueError(f"a tensor of shape {list(image.shape)} is no picture: [1 or 3, H, W] is needed")
    image = image.detach().float().cpu()
    broken = _broken(image)
    levels = (127.5 * (image.where(~broken, 0.0).clamp(-1, 1) + 1)).round().byte()
    if broken.any():
        levels = torch.where(broken, _NOT_FINITE, levels)
    return Image.fromarray((levels[0] if len(levels) == 1 else levels.permute(1, 2, 0).contiguous()).numpy())


def _broken(image: Tensor) -> Tensor:
    """Which pixels have a channel that is not finite, [H, W]."""
    return ~image.isfinite().all(0)


def _safe(item: str) -> str:
    """A folder name for any item name; what had to be changed is marked by a hash, so that names stay distinct."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", item)[:80].strip(".")
    return name if name and name == item else f"{name}-{hashlib.blake2b(item.encode(), digest_size=4).hexdigest()}"
