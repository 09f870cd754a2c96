"""A finite set of images as a prior: exact for any operator, non-linear ones too.

x_0 is one of x_1..x_N with equal probability, so every expectation is a softmax average:

    E[x_0 | x_t, y] = sum_i softmax_i( -|x_t - alpha x_i|^2 / (2 sigma^2) + log p(y | x_i) ) x_i.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import torch
from torch import Tensor

from rbctrl.data.base import Data
from rbctrl.noise import Noise
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator
from rbctrl.priors.base import Estimate, Prior
from rbctrl.rng import ImageRNG
from rbctrl.schedules import NoiseSchedule


class Empirical(Prior):
    """The exact denoiser of N images; an `ExactPrior` for any operator and any noise with a density.

    Log-weights are sums over all pixels divided by sigma^2, 1e5 and more at a log-SNR of 12: they are computed in fp64
    whatever the dtype of x_t, which is that of the result.

    Args:
        schedule: of the process.
        images: [N, C, H, W] in [-1, 1].
    """

    def __init__(self, schedule: NoiseSchedule, images: Tensor) -> None:
        super().__init__(schedule)
        if images.ndim < 2 or len(images) == 0:
            raise ValueError(f"an empirical prior needs images [N, ...] with N > 0, got shape {tuple(images.shape)}")
        flat = images.flatten(1).double()
        self.register_buffer("images", images)
        self.register_buffer("flat", flat, persistent=False)
        self.register_buffer("squares", flat.square().sum(1), persistent=False)
        self.shape = tuple(images.shape[1:])
        self._likelihood: tuple[Observation, Tensor] | None = None

    def fingerprint(self) -> str:
        return hashlib.sha256(self.images.cpu().numpy().tobytes()).hexdigest()[:16]

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        if tuple(image_shape) != self.shape:
            raise ValueError(f"this empirical prior holds images of shape {self.shape}, got {tuple(image_shape)}")
        return self.shape

    def check(self, operator: Operator, noise: Noise) -> str | None:
        """Why log p(y | x_i) is not finite; None if it is."""
        zero = torch.zeros((), dtype=torch.float64)
        if noise.nll(zero, zero).isfinite():
            return None
        return (
            f"prior=empirical weighs its images by p(y | x_i), which {type(noise).__name__} leaves undefined: "
            "use noise=gaussian with a small sigma_y"
        )

    def predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        return self._estimate(x_t, t, self._logits(x_t, t))

    def predict_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Estimate:
        """E[x_0 | x_t, y]."""
        return self._estimate(x_t, t, self._logits(x_t, t) + self.log_likelihoods(obs))

    def variance_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """Var[x_0 | x_t, y] of each pixel, like x_t."""
        w = (self._logits(x_t, t) + self.log_likelihoods(obs)).softmax(1)
        return self._variance(w).view_as(x_t).to(x_t.dtype)

    def log_likelihood(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """log p(y | x_t), [B]."""
        logits = self._logits(x_t, t)
        return (logits.log_softmax(1) + self.log_likelihoods(obs)).logsumexp(1)

    def log_likelihoods(self, obs: Observation) -> Tensor:
        """log p(y | x_i) for every row and image, [B, N], fp64; kept for the observation it was made for."""
        if self._likelihood is None or self._likelihood[0] is not obs:
            images = self.images.to(obs.y.dtype)  # A runs in its own dtype, what follows in fp64
            repeated = (torch.full((len(images),), k, device=images.device) for k in range(len(obs.y)))
            parts = [obs.take(rows) for rows in repeated]
            self._likelihood = (obs, torch.stack([-replace(part, y=part.y.double()).nll(images) for part in parts]))
        return self._likelihood[1]

    def posterior(self, obs: Observation) -> Tensor:
        """p(x_i | y), [B, N]."""
        return self.log_likelihoods(obs).softmax(1)

    def log_evidence(self, obs: Observation) -> Tensor:
        """log p(y), [B]."""
        return self.log_likelihoods(obs).logsumexp(1) - math.log(len(self.images))

    def moments_given(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """E[x_0 | y] and Var[x_0 | y] of each pixel, both [B, *shape]."""
        w = self.posterior(obs)
        return tuple(v.view(-1, *self.shape).to(obs.y.dtype) for v in (w @ self.flat, self._variance(w)))

    def sample_given(self, obs: Observation, rng: ImageRNG, key: str) -> Tensor:
        """x_0 ~ p(x_0 | y), one for each row of the observation, [B, *shape]."""
        pick = rng.uniform(f"{key}/component")
        k = (pick[:, None] > self.posterior(obs).cumsum(1)[:, :-1].to(pick.dtype)).sum(1)
        return self.images[k].to(rng.dtype)

    def sample_marginal(self, t: Tensor, rng: ImageRNG, shape: tuple[int, ...]) -> Tensor:
        """x_t ~ p_t, [B, *shape]."""
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        pick = (rng.uniform("init/component") * len(self.images)).long()
        return alpha * self.images[pick].to(rng.dtype) + sigma * rng.normal("init", self.shape)

    def _logits(self, x_t: Tensor, t: Tensor) -> Tensor:
        """-|x_t - alpha x_i|^2 / (2 sigma^2) without |x_t|^2, which leaves the softmax alone; [B, N], fp64."""
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        return (alpha * x_t.flatten(1).double() @ self.flat.T - alpha**2 / 2 * self.squares) / sigma**2

    def _estimate(self, x_t: Tensor, t: Tensor, logits: Tensor) -> Estimate:
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        x0_hat = (logits.softmax(1) @ self.flat).view_as(x_t)
        return Estimate(x0_hat.to(x_t.dtype), ((x_t - alpha * x0_hat) / sigma).to(x_t.dtype))

    def _variance(self, w: Tensor) -> Tensor:
        """Of each pixel under weights [B, N] of the images, [B, D]."""
        return (w @ self.flat.square() - (w @ self.flat).square()).clamp(min=0)


def from_data(data: Data, schedule: NoiseSchedule) -> Empirical:
    """The empirical prior of the images of a data source, all of one shape."""
    images = [item.image for item in data.items()]
    if not images or any(image is None or image.shape != images[0].shape for image in images):
        raise ValueError("an empirical prior needs at least one image, and all of one shape: set data.size")
    return Empirical(schedule, torch.stack(images))
