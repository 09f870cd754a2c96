"""Where a run begins: z_T from the measurement instead of from noise alone.

    x  = A^T (A A^T + rho I)^-1 y,   rho = (sigma_y / 0.5)^2          (A^+ y where there is no noise)

is the most likely image if pixels are independent with the standard deviation of photographs, 0.5 on [-1, 1]; E(x) is
then taken to the level of z_T, by fresh noise or by DDIM run backwards.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from rbctrl.controllers.base import Run, Setup, needs_linear
from rbctrl.process import ReverseProcess

Init = Literal["forward", "inversion", "noise"]
SD = 0.5  # of the pixels of photographs


def start(run: Run, init: Init) -> Tensor:
    """x_T, [B, *shape]."""
    if init == "noise":
        return run.process.init(run.rng)
    z0 = encoded_measurement(run)
    return run.process.init(run.rng, z0) if init == "forward" else ddim_inversion(run.process, z0)


def check_init(init: str) -> None:
    """Raises ValueError unless init is an `Init`."""
    if init not in get_args(Init):
        raise ValueError(f"init is one of {', '.join(get_args(Init))}; got {init!r}")


def needs_start(setup: Setup, init: Init) -> str | None:
    """The reason if a run cannot start from the measurement."""
    if init == "noise":
        return None
    if setup.process.start == "marginal":
        return f"init={init} starts from the measurement, sampler.start=marginal from p_T: set controller.init=noise"
    return needs_linear(setup, f"a start from the measurement (init={init})")


def encoded_measurement(run: Run) -> Tensor:
    """E(x), [B, *shape]; needs a linear operator."""
    obs = run.obs
    shape = obs.operator.image_shape(tuple(obs.y.shape[1:]))
    grey = torch.zeros(len(obs.y), *shape, dtype=obs.y.dtype, device=obs.y.device)
    return run.objective.codec.encode(obs.operator.prox(grey, obs.y, (obs.sigma_y / SD) ** 2))


def ddim_inversion(process: ReverseProcess, z0: Tensor) -> Tensor:
    """z_T by the steps of DDIM (eta = 0) in reverse order from a clean z0 [B, ...]; one evaluation each.

    Each step takes eps_hat at the state before it and the time after it.
    """
    alpha, sigma = process.alpha, process.sigma
    z, clean = alpha[-1] * z0, z0
    for i in reversed(range(process.n_steps)):
        eps = process.estimate(z, i).eps_hat
        if sigma[i + 1] > 0:
            clean = (z - sigma[i + 1] * eps) / alpha[i + 1]
        z = alpha[i] * clean + sigma[i] * eps
    return z
