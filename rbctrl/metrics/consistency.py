"""Agreement with the measurement; no truth is needed.

The image is taken as it is, not clamped: these are statements about y = A x + n, and states of non-image priors are not
confined to [-1, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rbctrl.metrics.base import Metric
from rbctrl.observation import Observation


class Chi2(Metric):
    """|y - A x|^2 / (m sigma_y^2) over the m measured entries: about 1 for the truth, below 1 where noise is fitted.

    NaN if sigma_y = 0. With Poisson noise sigma_y is that of a mid-grey pixel, so 1 holds only on average.
    """

    def __call__(self, image: Tensor, truth: Tensor | None, obs: Observation) -> Tensor:
        """Mean squared residual in units of the noise; the truth is not used."""
        if obs.sigma_y == 0:
            return image.new_full((len(image),), math.nan)
        squares = obs.residual(image).detach().square()
        observed = obs.operator.observed
        if observed is not None:
            squares = torch.where(observed > 0, squares, 0.0)
        return squares.flatten(1).sum(1) / (obs.n_measured * obs.sigma_y**2)


class NLL(Metric):
    """-log p(y | image) in nats, normalised; NaN without noise."""

    def __call__(self, image: Tensor, truth: Tensor | None, obs: Observation) -> Tensor:
        """Sum over the measured entries; the truth is not used."""
        return obs.nll(image.detach())
