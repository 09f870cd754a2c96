"""Codecs: between images and the space a prior lives in."""

from rbctrl.codecs.base import Codec, Identity

__all__ = ["Codec", "Identity"]
