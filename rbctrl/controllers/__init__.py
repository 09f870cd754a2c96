"""Controllers: what is added to the reverse process so that it meets the measurement."""

from rbctrl.controllers.base import Controller, Run, State, adam, gradient, linearize
from rbctrl.controllers.composite import Composite
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
from rbctrl.controllers.p2l import P2L
from rbctrl.controllers.particles import Particles
from rbctrl.controllers.proximal import Proximal
from rbctrl.controllers.psld import PSLD
from rbctrl.controllers.rb_modulation import RBModulation, RBModulationProx
from rbctrl.controllers.rb_modulation_encode import RBModulationEncode
from rbctrl.controllers.rb_modulation_exact import RBModulationExact
from rbctrl.controllers.rb_modulation_latent import RBModulationLatent
from rbctrl.controllers.red_diff import REDdiff
from rbctrl.controllers.resample import ReSample
from rbctrl.controllers.shooting import Shooting
from rbctrl.controllers.stsl import STSL
from rbctrl.controllers.window import Window

__all__ = [
    "Composite",
    "Controller",
    "DAPS",
    "DDNMPlus",
    "DDRM",
    "DPS",
    "DenseMomentMatching",
    "Doob",
    "ExactPosterior",
    "GMLDPS",
    "MCGDiff",
    "MomentMatching",
    "NoControl",
    "P2L",
    "PSLD",
    "Particles",
    "Proximal",
    "PseudoinverseGuidance",
    "RBModulation",
    "RBModulationEncode",
    "RBModulationExact",
    "RBModulationLatent",
    "RBModulationProx",
    "REDdiff",
    "ReSample",
    "Run",
    "STSL",
    "Shooting",
    "State",
    "Window",
    "adam",
    "gradient",
    "linearize",
]
