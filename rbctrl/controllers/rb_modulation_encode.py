"""RB-Modulation in latent space by way of pixels: a closed form in the image, and its difference encoded.

    x  = D(z0_hat),     x* = argmin |x' - x|^2 + |y - A x'|^2 / rho,     z0* = z0_hat + E(x*) - E(x)

Nothing is differentiated, neither network nor decoder. E(x*) - E(x) instead of E(x*) - z0_hat leaves out what the codec
itself loses: without a measurement's correction the latent stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rbctrl.controllers.base import Controller, Eps, Knob, Run, Setup, State, check_eps, needs_linear
from rbctrl.controllers.rb_modulation import check_proximal, proximal_weight
from rbctrl.controllers.starts import Init, check_init, needs_start, start
from rbctrl.process import Step


@dataclass(frozen=True)
class RBModulationEncode(Controller):
    """Ours, after Rout et al., RB-Modulation, ICLR 2025, Algorithm 2. https://arxiv.org/abs/2405.17401.

    A step costs one evaluation of the network, one of the decoder, two of the encoder and a solve with A, and no more
    memory than sampling. For an affine codec whose encoder is the pseudo-inverse of its decoder, E(x*) - E(x) is the
    nearest latent to the correction x* - x: the part of it that the decoder cannot show is lost, so the measurement is
    met less than by `RBModulationLatent`. In pixels it is `RBModulationProx`. The energy is exact where every step has
    noise.

    Args:
        strength: of the measurement against x, in rho = max(sigma_y, sigma_floor)^2 / (strength r_t^2).
        eps: whether eps_hat stays or follows from z_t and z0*.
        sigma_floor: sigma_y is not taken below this, on [-1, 1].
        init: z_T as the sampler has it ("noise"), or from the encoded measurement, by fresh noise ("forward") or DDIM
            run backwards ("inversion"): for a linear operator, and a grid that starts at less noise.
    """

    knob: ClassVar[Knob | None] = Knob("strength", 0.01, 100.0)

    strength: float = 1.0
    eps: Eps = "recomputed"
    sigma_floor: float = 0.02
    init: Init = "noise"

    def __post_init__(self) -> None:
        check_eps(self.eps)
        check_proximal(self.strength, self.sigma_floor)
        check_init(self.init)

    def check(self, setup: Setup) -> str | None:
        return needs_linear(setup, "rb_modulation_encode") or needs_start(setup, self.init)

    def start(self, run: Run) -> tuple[Tensor, State]:
        return start(run, self.init), {}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        codec, obs = run.objective.codec, run.obs
        est = run.process.estimate(x_t, i)
        image = codec.decode(est.x0_hat)
        solved = obs.operator.prox(image, obs.y, proximal_weight(run, i, self.strength, self.sigma_floor))
        return run.replace_x0(est, i, est.x0_hat + codec.encode(solved) - codec.encode(image), self.eps), state
