"""What a run leaves on disk: rows.csv, images/, config.yaml and versions.json.

A row is one sample of one item; the row with sample = "mean" is the posterior mean over the samples. Its energies are
averages over the n_alive samples that did not diverge, and it is alive if none did. The columns are

    item sample seed | psnr ssim, other metrics | final_cost control_energy nfe vjp decoder_vjp
                       seconds_per_image batch_size peak_memory alive

in this order. An undefined value (NaN, None) is blank, inf stays inf, peak_memory is in MiB. Each batch is one write to
the end of the file, so a run killed at any moment leaves whole rows and at most one half of a last line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from rbctrl.loggers import RowLogger, plain
from rbctrl.versions import versions

__all__ = ["ResultStore", "RowLogger", "image_path", "to_picture", "versions"]

ROW_KEY = ("item", "sample", "seed")
FIRST_METRICS = ("psnr", "ssim")
RUN_COLUMNS = (
    "final_cost",
    "control_energy",
    "nfe",
    "vjp",
    "decoder_vjp",
    "seconds_per_image",
    "batch_size",
    "peak_memory",
    "alive",
)
Kind = Literal["truth", "measurement", "image", "mean", "sd"]
_NOT_FINITE = torch.tensor([255, 0, 255], dtype=torch.uint8).view(3, 1, 1)  # magenta: no gap looks like a colour
_log = logging.getLogger(__name__)


class ResultStore:
    """The results of one run.

    Args:
        folder: made if needed. If it holds a rows.csv, rows are appended to it.
        loggers: receive a copy of each row; a list, or a mapping by name as configs have it.
    """

    def __init__(self, folder: Path, loggers: Sequence[RowLogger] | Mapping[str, RowLogger] = ()) -> None:
        self.folder = Path(folder)
        self.loggers = tuple(loggers.values() if isinstance(loggers, Mapping) else loggers)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.folder / "rows.csv"
        self._columns = _resume(self._file)

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Appends rows at once and brings them to the disk; the first write fixes the columns.

        Raises:
            ValueError: a row lacks item, sample or seed, or has a column that the file does not have.
        """
        if not rows:
            return
        new_file = self._columns is None
        columns = _columns(rows) if self._columns is None else self._columns
        _check_rows(rows, columns)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if new_file:
            writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
        with self._file.open("a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        self._columns = columns
        for logger in self.loggers:
            logger.write(rows)

    def save_image(self, item: str, sample: int | str, kind: Kind, image: Tensor) -> Path:
        """Saves [C, H, W] in [-1, 1] (C is 1 or 3) as an 8-bit PNG: -1 is black, 1 is white, values beyond are clamped.

        No picture is stretched to its own range, so pictures compare. The caller scales a map of standard deviations
        into [-1, 1]. Pixels that are not finite are drawn in magenta (see `to_picture`), and a warning counts them.

        Raises:
            ValueError: the kind is unknown, or the tensor is no image.
        """
        path = image_path(self.folder, item, sample, kind)
        picture = to_picture(image)
        broken = int(_broken(image).sum())
        if broken:
            _log.warning("%s has %d pixels that are not finite; they are magenta", path, broken)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        picture.save(partial, "PNG")
        partial.replace(path)
        return path

    def save_config(self, config: Mapping, versions: Mapping[str, str]) -> None:
        """Writes config.yaml and versions.json, and tells the loggers."""
        node = OmegaConf.create(config)  # type: ignore[call-overload]
        (self.folder / "config.yaml").write_text(OmegaConf.to_yaml(node), encoding="utf-8")
        text = json.dumps(dict(versions), indent=2, sort_keys=True) + "\n"
        (self.folder / "versions.json").write_text(text, encoding="utf-8")
        container = OmegaConf.to_container(node)
        for logger in self.loggers:
            logger.start(self.folder, container)  # type: ignore[arg-type]

    def close(self) -> None:
        """Closes the loggers; the files are complete after every write."""
        for logger in self.loggers:
            logger.close()


def image_path(folder: Path, item: str, sample: int | str, kind: Kind) -> Path:
    """Where a picture lies: images/ITEM/KIND.png, and image_SAMPLE.png for the samples.

    Truth, measurement, mean and sd belong to the item; the image of sample "mean" is the mean.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"no picture is of kind {kind!r}: use one of {', '.join(get_args(Kind))}")
    if kind == "image":
        kind = "mean" if sample == "mean" else f"image_{sample}"  # type: ignore[assignment]
    return folder / "images" / _safe(item) / f"{kind}.png"


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


def _columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    given = dict.fromkeys(name for row in rows for name in row)
    metrics = [name for name in given if name not in ROW_KEY + RUN_COLUMNS + FIRST_METRICS]
    return [*ROW_KEY, *(name for name in FIRST_METRICS if name in given), *metrics, *RUN_COLUMNS]


def _check_rows(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    for row in rows:
        missing = [name for name in ROW_KEY if name not in row]
        if missing:
            raise ValueError(f"a row lacks {', '.join(missing)}: every row needs item, sample and seed")
        unknown = [name for name in row if name not in columns]
        if unknown:
            raise ValueError(f"rows.csv has no column {', '.join(unknown)}: write to a new folder to add columns")


def _cell(value: object) -> str:
    value = plain(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _resume(file: Path) -> list[str] | None:
    """The columns of an existing file, after cutting the half line that a killed run may have left."""
    if not file.is_file():
        return None
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        _log.warning("%s ended in half a row, which is cut", file)
        with file.open("r+b") as handle:
            handle.truncate(len(whole))
    header = next(csv.reader(io.StringIO(whole.decode())), None)
    return header or None
