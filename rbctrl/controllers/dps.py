"""DPS: one gradient step of the cost at the denoised image, pulled back through the network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, Setup, State, gradient, linearize
from rbctrl.integrators import DDIM
from rbctrl.process import Step


@dataclass(frozen=True)
class DPS(Controller):
    """Chung et al., Diffusion Posterior Sampling, ICLR 2023, Algorithm 1. https://arxiv.org/abs/2209.14687.

        u = -zeta grad_{x_t} |y - A x0_hat(x_t)|          ("released", with cost = residual_norm)
        u = -2 zeta grad_{x_t} |y - A x0_hat(x_t)|        ("paper")

    The paper writes zeta_t grad |r|^2 with zeta_t = zeta / |r| (appendix D.1), which is twice the step of the released
    code. The norm is per image; the released code takes it over the whole batch, so that images influence each other.
    It also clips x0_hat to [-1, 1] (`prior.clip`) and adds noise of the variance that its network learned
    (variance="learned"; priors adm_ffhq256 and adm_imagenet256 have one).

    The step size is that of the sampler it was tuned for (DDPM, 1000 steps): tune zeta with the number of steps. The
    energy is exact where every step has noise; with a learned variance it counts that variance as control, too, since
    the free chain has the fixed one.

    Without the network's Jacobian, jacobian="identity", it is FlowChef (Patel et al., 2024,
    https://arxiv.org/abs/2412.00100) on a rectified-flow prior with sampler=ddim (`experiment=flowchef`): the gradient
    is that at x0_hat, through the decoder alone, and no VJP of the network is needed.

    Args:
        zeta: step size, in units of the image per unit gradient.
        rule: which of the two steps.
        variance: of the noise of a step: that of the sampler, or between beta_tilde and beta as the network says.
        jacobian: d x0_hat / d x_t, that of the network or the identity in its place.
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("zeta", 0.01, 30.0)

    zeta: float = 0.3
    rule: Literal["released", "paper"] = "released"
    variance: Literal["fixed", "learned"] = "fixed"
    jacobian: Literal["network", "identity"] = "network"

    def __post_init__(self) -> None:
        if self.rule not in ("released", "paper"):
            raise ValueError(f"rule is 'released' or 'paper', got {self.rule!r}")
        if self.variance not in ("fixed", "learned"):
            raise ValueError(f"variance is 'fixed' or 'learned', got {self.variance!r}")
        if self.jacobian not in ("network", "identity"):
            raise ValueError(f"jacobian is 'network' or 'identity', got {self.jacobian!r}")

    def check(self, setup: Setup) -> str | None:
        if self.variance == "fixed":
            return None
        if not getattr(setup.prior, "learned_variance", False):
            return "variance=learned needs a network that learned one, such as prior=adm_ffhq256: use variance=fixed"
        if setup.process.integrator != DDIM(1.0):
            return "variance=learned is that of a DDPM step: use sampler=ddpm (DDIM with eta = 1), or variance=fixed"
        return None

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        step_size = self.zeta if self.rule == "released" else 2 * self.zeta
        if self.jacobian == "network":
            est, pull = linearize(run.process, x_t, i)
            step = run.push(est, i, -step_size * pull(gradient(run.objective, est.x0_hat)))
        else:
            est = run.process.estimate(x_t, i)
            step = run.push(est, i, -step_size * gradient(run.objective, est.x0_hat))
        if self.variance == "learned":
            step = replace(step, std=run.process.learned_noise(est, i))
        return step, state
