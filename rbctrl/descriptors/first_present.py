"""A descriptor whose weights may not be there, and the one that takes its place then: never in silence."""

from __future__ import annotations

import logging

from rbctrl.descriptors.base import Descriptor

log = logging.getLogger(__name__)


def first_present(preferred: Descriptor, otherwise: Descriptor) -> Descriptor:
    """The preferred one if all of its files are here; else the other one, which is logged with what is missing.

    The two give different rows: which of them it is enters the key of a cell by its fingerprint.
    """
    missing = next((file for file in preferred.files() if not file.present()), None)
    if missing is None:
        return preferred
    log.warning(
        "no %s at %s, so the descriptor is %s instead, which describes something else: %s",
        type(preferred).__name__,
        missing.place,
        type(otherwise).__name__,
        missing.published,
    )
    return otherwise
