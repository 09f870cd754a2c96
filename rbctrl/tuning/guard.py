"""Settings are never chosen on the images that a table reports: tuning and held-out items are compared by content."""

from __future__ import annotations

import hashlib

from rbctrl.data.base import Data
from rbctrl.data.photos import photo_path
from rbctrl.data.sources import Photos


def check_disjoint(tuning: Data, held_out: Data) -> None:
    """Refuses tuning items that are held out, whatever their names and sizes.

    Raises:
        ValueError: an image is in both.
    """
    forbidden = contents(held_out)
    shared = sorted(name for digest, name in contents(tuning).items() if digest in forbidden)
    if shared:
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise ValueError(
            f"{shared[0]!r}{more} of the tuning images is held out for testing: "
            "choose others, such as data=photos_train, or say which images the test will use with --held-out data=..."
        )


def contents(data: Data) -> dict[str, str]:
    """The name of each item by the hash of what it shows: of its file where there is one, else of its pixels."""
    if isinstance(data, Photos):
        return {_digest(photo_path(name).read_bytes()): name for name in data.names}
    files = getattr(data, "files", None)
    if files is not None:
        return {_digest(file.read_bytes()): name for name, file in files}
    shown = {item.name: item.image if item.y is None else item.y for item in data.items()}
    return {_digest(image.contiguous().cpu().numpy().tobytes()): name for name, image in shown.items()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
