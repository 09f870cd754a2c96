"""Controllers: what is added to the reverse process so that it meets the measurement."""

from rbctrl.controllers.base import Controller, Run, State, adam, gradient, linearize
from rbctrl.controllers.doob import Doob
from rbctrl.controllers.dps import DPS
from rbctrl.controllers.guidance import PseudoinverseGuidance
from rbctrl.controllers.none import NoControl
from rbctrl.controllers.proximal import Proximal
from rbctrl.controllers.rb_modulation import RBModulation, RBModulationProx
from rbctrl.controllers.window import Window

__all__ = [
    "DPS",
    "Controller",
    "Doob",
    "NoControl",
    "Proximal",
    "PseudoinverseGuidance",
    "RBModulation",
    "RBModulationProx",
    "Run",
    "State",
    "Window",
    "adam",
    "gradient",
    "linearize",
]
