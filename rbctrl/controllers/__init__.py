"""Controllers: what is added to the reverse process so that it meets the measurement."""

from rbctrl.controllers.base import Controller, Run, State, adam, gradient, linearize
from rbctrl.controllers.daps import DAPS
from rbctrl.controllers.ddnm import DDNMPlus
from rbctrl.controllers.ddrm import DDRM
from rbctrl.controllers.doob import Doob
from rbctrl.controllers.dps import DPS
from rbctrl.controllers.exact_posterior import ExactPosterior
from rbctrl.controllers.gml_dps import GMLDPS
from rbctrl.controllers.guidance import PseudoinverseGuidance
from rbctrl.controllers.mcgdiff import MCGDiff
from rbctrl.controllers.moment_matching import MomentMatching
from rbctrl.controllers.moment_matching_dense import DenseMomentMatching
from rbctrl.controllers.none import NoControl
from rbctrl.controllers.particles import Particles
from rbctrl.controllers.proximal import Proximal
from rbctrl.controllers.psld import PSLD
from rbctrl.controllers.rb_modulation import RBModulation, RBModulationProx
from rbctrl.controllers.rb_modulation_encode import RBModulationEncode
from rbctrl.controllers.rb_modulation_exact import RBModulationExact
from rbctrl.controllers.rb_modulation_latent import RBModulationLatent
from rbctrl.controllers.red_diff import REDdiff
from rbctrl.controllers.shooting import Shooting
from rbctrl.controllers.window import Window

__all__ = [
    "DDRM",
    "GMLDPS",
    "PSLD",
    "DenseMomentMatching",
    "MCGDiff",
    "Particles",
    "DAPS",
    "DPS",
    "Controller",
    "DDNMPlus",
    "Doob",
    "ExactPosterior",
    "MomentMatching",
    "NoControl",
    "Proximal",
    "PseudoinverseGuidance",
    "RBModulation",
    "RBModulationEncode",
    "RBModulationExact",
    "RBModulationLatent",
    "RBModulationProx",
    "REDdiff",
    "Run",
    "Shooting",
    "State",
    "Window",
    "adam",
    "gradient",
    "linearize",
]
