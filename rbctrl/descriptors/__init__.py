"""Descriptors: images to vectors of what counts in them, for costs that compare features."""

from rbctrl.descriptors.base import Descriptor
from rbctrl.descriptors.clip import CLIP
from rbctrl.descriptors.csd import CSD
from rbctrl.descriptors.filters import FilterGram
from rbctrl.descriptors.first_present import first_present
from rbctrl.descriptors.gram import VGGGram
from rbctrl.descriptors.preprocess import Preprocess

__all__ = ["CLIP", "CSD", "Descriptor", "FilterGram", "Preprocess", "VGGGram", "first_present"]
