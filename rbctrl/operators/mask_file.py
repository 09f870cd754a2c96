"""Inpainting with a mask that the user drew."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rbctrl.operators.common import read_grey
from rbctrl.operators.inpainting import Mask


class MaskFile(Mask):
    """The user's own mask, for every image: white (above mid-grey) is observed, black is missing.

    Args:
        path: an image file of the size of the images; it is never resized.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, or dark everywhere.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise FileNotFoundError(f"MaskFile: there is no file {str(path)!r}")
        self.path = str(path)
        self._missing = np.asarray(read_grey(path, "MaskFile")) < 128
        if self._missing.all():
            raise ValueError(f"MaskFile: {self.path!r} observes nothing: white is observed, and no pixel is")

    def missing(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """The dark pixels of the file, if it fits."""
        if self._missing.shape != (height, width):
            rows, columns = self._missing.shape
            raise ValueError(
                f"MaskFile: {self.path!r} is {rows} x {columns} (height x width), the images are {height} x {width}: "
                "resize the file"
            )
        return self._missing
