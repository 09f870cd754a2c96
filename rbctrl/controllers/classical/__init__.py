"""Classical baselines: controllers that compute one image from y and never ask the prior."""

from rbctrl.controllers.classical.base import Classical
from rbctrl.controllers.classical.bicubic import Bicubic
from rbctrl.controllers.classical.biharmonic import Biharmonic
from rbctrl.controllers.classical.guess import Guess
from rbctrl.controllers.classical.hio import HIO
from rbctrl.controllers.classical.pinv import Pinv
from rbctrl.controllers.classical.tv import TV
from rbctrl.controllers.classical.wiener import Wiener

__all__ = ["HIO", "TV", "Bicubic", "Biharmonic", "Classical", "Guess", "Pinv", "Wiener"]
