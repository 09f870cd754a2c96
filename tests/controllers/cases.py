"""One of each controller, for the tests that every controller must pass."""

from rbctrl.controllers import (
    DAPS,
    DDRM,
    DPS,
    DDNMPlus,
    Doob,
    MomentMatching,
    NoControl,
    Proximal,
    PseudoinverseGuidance,
    RBModulation,
    RBModulationExact,
    RBModulationProx,
    REDdiff,
    Shooting,
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
    "ddrm": DDRM(),
    "ddnm_plus": DDNMPlus(),
    "ddnm_plus_scalar": DDNMPlus("scalar"),
    "guidance": PseudoinverseGuidance(),
    "moment_matching": MomentMatching(max_steps=3),
    "rb_modulation_exact": RBModulationExact(),
    "rb_modulation_exact_released": RBModulationExact(rule="released"),
    "shooting": Shooting(horizon=2, inner_steps=3),
    "shooting_to_the_end": Shooting(inner_steps=2),
    "red_diff": REDdiff(),
    "daps": DAPS(n_ode=2, langevin_steps=5, lr=2e-5),
    "window": Window(DPS(0.3), 0.25, 0.75),
}
EXACT = {"doob": Doob(), "doob_variance": Doob(exact_variance=True)}
