"""Descriptors: images to vectors of what counts in them, for costs that compare features."""

from rbctrl.descriptors.base import Descriptor
from rbctrl.descriptors.preprocess import Preprocess

__all__ = ["Descriptor", "Preprocess"]
