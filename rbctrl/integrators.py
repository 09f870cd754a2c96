"""One step of the reverse process, t -> s, as three numbers: x_s = c_x0 x0_hat + c_eps eps_hat + c_z z, z ~ N(0, I)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

Coefficients = tuple[float, float, float]


class Integrator(ABC):
    """Turns the levels before and after a step into its coefficients (c_x0, c_eps, c_z)."""

    @abstractmethod
    def coefficients(self, alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Coefficients:
        """Of the step from (alpha_t, sigma_t) towards the image, (alpha_s, sigma_s)."""


def _check_eta(eta: float) -> None:
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must lie in [0, 1], got {eta}: above 1 the noise exceeds sigma_s")


@dataclass(frozen=True)
class DDIM(Integrator):
    """Song, Meng and Ermon, DDIM, ICLR 2021, eq. 12 and 16. eta = 1 is DDPM's ancestral step, eta = 0 has no noise."""

    eta: float = 1.0

    def __post_init__(self) -> None:
        _check_eta(self.eta)

    def coefficients(self, alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Coefficients:
        lost = 1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2
        c_z = self.eta * sigma_s * math.sqrt(lost)
        return alpha_s, math.sqrt(max(sigma_s**2 - c_z**2, 0.0)), c_z


@dataclass(frozen=True)
class ScaledDDPM(Integrator):
    """DDPM's posterior mean with eta times its noise: the DPS baseline of MCGDiff's mixture benchmark.

    x_s = mean of q(x_s | x_t, x_0 = x0_hat) + eta sd z (Ho et al., NeurIPS 2020, eq. 7), whatever eta: where DDIM(eta)
    gives the noise it saves to eps_hat, this one drops it. For eta < 1 the marginals are therefore too narrow, and more
    steps do not mend it; eta = 1 is DDIM(1).
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        _check_eta(self.eta)

    def coefficients(self, alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Coefficients:
        c_x0, c_eps, c_z = DDIM(1.0).coefficients(alpha_t, sigma_t, alpha_s, sigma_s)
        return c_x0, c_eps, self.eta * c_z


@dataclass(frozen=True)
class Renoise(Integrator):
    """x0_hat under partly fresh noise, as DDNM (eta) and DiffPIR (zeta = eta^2) step.

    eta = 1 forgets eps_hat. This is no discretisation of the reverse SDE: more steps do not approach it.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        _check_eta(self.eta)

    def coefficients(self, alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Coefficients:
        return alpha_s, sigma_s * math.sqrt(1 - self.eta**2), sigma_s * self.eta


@dataclass(frozen=True)
class FlowRenoise(Integrator):
    """The noise of FlowDPS (Kim et al., 2025, https://arxiv.org/abs/2503.08136), for rectified flows.

    x_s = alpha_s x0_hat + sigma_s (sqrt(sigma_s) eps_hat + sqrt(1 - sigma_s) z): `Renoise` with eta^2 = 1 - sigma_s, so
    that the noise is fresh towards the image and carried on before.
    """

    def coefficients(self, alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Coefficients:
        if not math.isclose(alpha_s + sigma_s, 1.0, abs_tol=1e-9):
            raise ValueError("sampler=flowdps is for rectified flows, alpha + sigma = 1: use prior/schedule=flow")
        return alpha_s, sigma_s * math.sqrt(sigma_s), sigma_s * math.sqrt(1 - min(sigma_s, 1.0))


@dataclass(frozen=True)
class EulerMaruyama(Integrator):
    """Euler-Maruyama for dX = [f X - g^2 score] dt + g dW, over equal parts of log-SNR.

    With score = -eps_hat / sigma_t and g^2 dt = sigma_t^2 d(log-SNR):

        x_s = x_t (1 + log(alpha_s / alpha_t)) - sigma_t D eps_hat + sigma_t sqrt(D) z,  D = log-SNR_s - log-SNR_t
    """

    def coefficients(self, alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Coefficients:
        if alpha_t == 0 or sigma_s == 0:
            raise ValueError(
                "Euler-Maruyama needs a grid inside alpha > 0 and sigma > 0: choose sampler/grid=log_snr, "
                "or the ddim sampler, which can end on the image"
            )
        passed = 2 * math.log(alpha_s * sigma_t / (sigma_s * alpha_t))
        drift = 1 + math.log(alpha_s / alpha_t)
        return drift * alpha_t, sigma_t * (drift - passed), sigma_t * math.sqrt(passed)


def forward_kernel(alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Coefficients:
    """An up-move of the grid (time travel, restarts): x_s ~ q(x_s | x_t), still three coefficients."""
    ratio = alpha_s / alpha_t
    return alpha_s, ratio * sigma_t, math.sqrt(sigma_s**2 - (ratio * sigma_t) ** 2)
