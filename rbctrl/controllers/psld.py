"""PSLD: DPS in latent space, with a term that asks the latent to survive its own correction in pixels.

    value(z0) = cost(D(z0), y) + (gamma / omega) |E(x + A^+(y - A x)) - z0|,    x = D(z0)
    u         = -omega J^T grad value(z0_hat),                                   J = d z0_hat / d z_t

x + A^+(y - A x) is the image with its measured part replaced ("glued"). At gamma = 0 this is latent DPS, and where
decoder and encoder are the identity it is DPS, whose step grows by gamma where |A^+ r| = |r|, as it does for masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from rbctrl.controllers.base import Controller, Knob, Run, Setup, State, gradient, linearize, needs_linear
from rbctrl.costs import ResidualNorm
from rbctrl.noise import GaussianNoise, NoNoise
from rbctrl.observation import Observation, given
from rbctrl.process import Step

Transpose = Literal["pinv", "adjoint", "released"]


@dataclass(frozen=True)
class PSLD(Controller):
    """Rout et al., Posterior Sampling with Latent Diffusion, NeurIPS 2023. https://arxiv.org/abs/2307.00619.

    Run by its authors on 1000 steps of DDIM with eta = 0. A step costs one evaluation and VJP of the network, and one
    of decoder and encoder each. The energy is exact where every step has noise, with prediction="noisy" an upper bound.

    Note:
        Paper and released code differ, and so do the defaults here. The paper glues with A^T and derives it for
        A A^T = I; for other operators A^T y has the wrong size, A^+ y the right one (transpose="pinv", the default).
        The released transposes are none: the identity for masks and both blurs, nearest-neighbour upsampling for
        super-resolution ("released"). The paper's algorithm squares both norms ("squared"), its code does not
        ("plain", the default). The code adds fresh measurement noise to A x in every step ("noisy"; "clean" is the
        default). It composites the result with the clean ground truth, which is not done here: see `Composite`.
        Its encoder draws a sample; codecs here are deterministic.

    Args:
        omega: of the measurement; the paper's eta.
        gamma: of the gluing.
        transpose: what brings y - A x back to pixels.
        norm: "plain" or "squared", of both terms; "squared" is that of cost=residual_norm.
        prediction: whether noise of the measurement's kind is added to A x.
    """

    uses_cost: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = Knob("omega", 0.01, 10.0)

    omega: float = 1.0
    gamma: float = 0.1
    transpose: Transpose = "pinv"
    norm: Literal["plain", "squared"] = "plain"
    prediction: Literal["clean", "noisy"] = "clean"

    def __post_init__(self) -> None:
        if not self.omega > 0 or self.gamma < 0:
            raise ValueError(f"psld needs omega > 0 and gamma >= 0, got omega={self.omega} and gamma={self.gamma}")
        choices = {"transpose": get_args(Transpose), "norm": ("plain", "squared"), "prediction": ("clean", "noisy")}
        for name, options in choices.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is one of {', '.join(options)}; got {getattr(self, name)!r}")

    def check(self, setup: Setup) -> str | None:
        if self.norm == "squared" and not isinstance(setup.cost, ResidualNorm):
            return "psld with norm=squared squares a norm: use cost=residual_norm, or norm=plain with any cost"
        if self.prediction == "noisy" and not isinstance(setup.noise, GaussianNoise | NoNoise):
            return "psld with prediction=noisy adds Gaussian noise: use noise=gaussian, or prediction=clean"
        return needs_linear(setup, "psld")

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        est, pull = linearize(run.process, x_t, i)
        value = partial(self._value, run, self._observation(run, i))
        return run.push(est, i, -self.omega * pull(gradient(value, est.x0_hat))), state

    def _observation(self, run: Run, i: int) -> Observation:
        """y, or y less the noise that the prediction gets."""
        obs = run.obs
        if self.prediction == "clean":
            return obs
        noise = obs.sigma_y * run.rng.normal(f"psld/noise/{i}", tuple(obs.y.shape[1:]))
        return given(obs.operator, obs.noise, obs.y - noise)

    def _value(self, run: Run, obs: Observation, z0: Tensor) -> Tensor:
        power = 1 if self.norm == "plain" else 2
        image = run.objective.decode(z0)
        value = run.objective.cost(image, obs) ** power
        if self.gamma == 0:
            return value
        glued = image + transposed(self.transpose, run.obs, run.obs.residual(image), image)
        gap = (run.objective.encode(glued) - z0).flatten(1)
        return value + self.gamma / self.omega * torch.linalg.vector_norm(gap, dim=1) ** power


def transposed(kind: Transpose, obs: Observation, residual: Tensor, image: Tensor) -> Tensor:
    """A residual [B, ...] in pixels, like `image`, by A^+, A^T or the stand-ins of PSLD's released code.

    Raises:
        ValueError: "released", for a measurement that is no image of the same channels.
    """
    if kind == "pinv":
        return obs.operator.pinv(residual)
    if kind == "adjoint":
        return obs.operator.adjoint(residual)
    if residual.ndim != 4 or residual.shape[1] != image.shape[1]:
        raise ValueError(
            f"transpose=released scales a measurement up to the image, and {tuple(residual.shape[1:])} is no image of "
            f"{image.shape[1]} channels: use transpose=pinv"
        )
    return residual if residual.shape == image.shape else F.interpolate(residual, image.shape[2:], mode="nearest")
