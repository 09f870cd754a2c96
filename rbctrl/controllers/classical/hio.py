"""Hybrid input-output: what phase retrieval was solved with before there were priors.

u is the image in its margin, M projects on images of the measured modulus, and p is a pixel where M(u) keeps what is
known: 0 in the margin, and [0, 1] (or [-1, 1]) in the image. Elsewhere the input is pushed away from the output,

    u' = M(u) where p,  u - beta M(u) elsewhere,

and in the last steps M(u) is projected on what is known instead (error reduction).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.controllers.base import Run, Setup, State, needs_pixels
from rbctrl.controllers.classical.base import Classical, positive
from rbctrl.observation import Observation
from rbctrl.operators.phase_retrieval import PhaseRetrieval

_SAME = 1e-6  # of pixels in [-1, 1], what the way into the margin and back may round


@dataclass(frozen=True)
class HIO(Classical):
    """Fienup, Phase retrieval algorithms: a comparison, Applied Optics 21, 1982, from random phases in each restart.

    The energy is undefined.

    Args:
        steps: of input-output; a tenth as many of error reduction follow.
        beta: of the push, about 0.9 in the literature.

    Raises:
        ValueError: steps < 1 or beta <= 0.
    """

    steps: int = 1000
    beta: float = 0.9

    def __post_init__(self) -> None:
        positive("controller.steps", self.steps)
        positive("controller.beta", self.beta)

    def check(self, setup: Setup) -> str | None:
        """Needs pixels and phase retrieval."""
        if not isinstance(setup.operator, PhaseRetrieval):
            return (
                f"hio retrieves phases, and {type(setup.operator).__name__} measures no modulus: use controller=guess"
            )
        return needs_pixels(setup, "hio")

    def start(self, run: Run) -> tuple[Tensor, State]:
        """x_T, which nothing depends on, and the image that the random phases of this restart lead to."""
        x_t, _ = super().start(run)
        angle = 2 * math.pi * run.rng.uniform("hio/phase", tuple(run.obs.y.shape[1:]))
        return x_t, {"image": self._retrieve(run.obs, torch.polar(run.obs.operator.modulus(run.obs.y), angle))}

    def reconstruct(self, obs: Observation, shape: tuple[int, ...]) -> Tensor:
        """From phases that are all 0."""
        modulus = obs.operator.modulus(obs.y)
        return self._retrieve(obs, torch.complex(modulus, torch.zeros_like(modulus)))

    def _retrieve(self, obs: Observation, spectrum: Tensor) -> Tensor:
        operator, modulus = obs.operator, obs.operator.modulus(obs.y)
        u = torch.fft.ifft2(spectrum, norm="ortho").real
        for k in range(self.steps + self.steps // 10):
            spectrum = torch.fft.fft2(u, norm="ortho")
            output = torch.fft.ifft2(modulus * torch.sgn(spectrum), norm="ortho").real
            known = operator.embed(operator.extract(output).clamp(-1, 1))
            fits = (known - output).abs() < _SAME
            u = known if k >= self.steps else torch.where(fits, output, u - self.beta * output)
        return operator.extract(u)
