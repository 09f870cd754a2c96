"""Images and measurements to work on."""

from rbctrl.data.base import Batch, Data, Item
from rbctrl.data.folder import Folder, Measurements
from rbctrl.data.sources import Leaves, Memory, Photos
from rbctrl.data.style_prompts import StylePrompts

__all__ = ["Batch", "Data", "Folder", "Item", "Leaves", "Measurements", "Memory", "Photos", "StylePrompts"]
