"""Weights and ancestors of clouds: P samples of one image whose paths depend on each other."""

from __future__ import annotations

import torch
from torch import Tensor

from rbctrl.controllers.base import Run

LOG_PSI = "log_psi"  # where a controller leaves [B], the log of its belief in y at x_t, up to what a cloud shares


def effective_number(log_weights: Tensor, particles: int) -> Tensor:
    """(sum w)^2 / sum w^2 of the cloud of each row, [B], between 1 and P; 0 where no path of a cloud has any weight.

    Args:
        log_weights: [B], cloud after cloud; what is not finite counts as weight 0.
        particles: P.
    """
    w = _normalised(log_weights.view(-1, particles))
    squares = w.square().sum(1)
    return torch.where(squares > 0, 1 / squares, 0.0).repeat_interleave(particles)


def resample(run: Run, log_weights: Tensor, particles: int, key: str, where: Tensor | None = None) -> Tensor:
    """Which row each row goes on as, [B], by systematic resampling within its cloud.

    (Carpenter, Clifford and Fearnhead, IEE Proc. Radar 146, 1999.)

    Args:
        run: its streams give one uniform number per cloud.
        log_weights: [B], cloud after cloud; what is not finite counts as weight 0. A cloud without any weight stays as
            it is.
        particles: P.
        key: of the stream.
        where: [B], the same within a cloud: which clouds are resampled; None: all.
    """
    clouds = log_weights.view(-1, particles)
    firsts = torch.arange(0, len(log_weights), particles)
    offset = run.rng.take(firsts).uniform(key)[:, None].to(clouds)
    edges = _normalised(clouds).cumsum(1)
    steps = torch.arange(particles, device=clouds.device)
    points = ((steps + offset) / particles).contiguous()
    chosen = torch.searchsorted(edges / edges[:, -1:], points, right=True).clamp(max=particles - 1)
    stays = edges[:, -1:] == 0
    if where is not None:
        stays = stays | ~where.view_as(clouds)
    chosen = torch.where(stays, steps, chosen)
    first = particles * torch.arange(len(clouds), device=clouds.device)[:, None]
    return (first + chosen).flatten()


def check_clouds(run: Run, particles: int) -> None:
    """Refuses a batch that does not hold whole clouds.

    Raises:
        ValueError: a cloud, samples k P to (k + 1) P - 1 of one image, is torn apart.
    """
    rows = run.rng.rows
    for begin in range(0, len(rows), particles):
        item, first = rows[begin]
        if first % particles or rows[begin : begin + particles] != tuple((item, first + k) for k in range(particles)):
            raise ValueError(
                f"clouds hold {particles} samples of one image: "
                f"n_samples and batch_size must be multiples of {particles}"
            )


def _normalised(clouds: Tensor) -> Tensor:
    """Weights [clouds, P] that sum to 1 in each cloud; all 0 where no path has any."""
    return clouds.where(clouds.isfinite(), -torch.inf).softmax(1).nan_to_num(0.0)
