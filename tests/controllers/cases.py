"""One of each controller, for the tests that every controller must pass."""

from rbctrl.controllers import (
    DPS,
    Doob,
    NoControl,
    Proximal,
    PseudoinverseGuidance,
    RBModulation,
    RBModulationProx,
    Window,
)

PIXEL = {
    "none": NoControl(),
    "dps": DPS(0.3),
    "dps_paper": DPS(0.3, rule="paper"),
    "rb_modulation": RBModulation(),
    "rb_modulation_recomputed": RBModulation(eps="recomputed", prox_weight=1.0),
    "rb_modulation_prox": RBModulationProx(),
    "proximal_ddnm": Proximal(weight=0.0, eps="frozen"),
    "proximal_diffpir": Proximal(weight=1.0),
    "guidance": PseudoinverseGuidance(),
    "window": Window(DPS(0.3), 0.25, 0.75),
}
EXACT = {"doob": Doob(), "doob_variance": Doob(exact_variance=True)}
