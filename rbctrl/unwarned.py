"""Warnings that would say what is said elsewhere, or what is meant to be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unwarned(name: str) -> Iterator[None]:
    """A logger, and those below it, say nothing but errors."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
