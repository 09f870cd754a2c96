"""A finite set of images as a prior: exact for any operator, non-linear ones too.

x_0 is one of x_1..x_N with equal probability, so every expectation is a softmax average:

    E[x_0 | x_t, y] = sum_i softmax_i( -|x_t - alpha x_i|^2 / (2 sigma^2) + log p(y | x_i) ) x_i.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from rbctrl.data.base import Data
from rbctrl.observation import Observation
from rbctrl.priors.base import Estimate, Prior
from rbctrl.rng import ImageRNG
from rbctrl.schedules import NoiseSchedule


class Empirical(Prior):
    """The exact denoiser of N images; an `ExactPrior`.

    Args:
        schedule: of the process.
        images: [N, C, H, W] in [-1, 1].
    """

    def __init__(self, schedule: NoiseSchedule, images: Tensor) -> None:
        super().__init__(schedule)
        if images.ndim < 2 or len(images) == 0:
            raise ValueError(f"an empirical prior needs images [N, ...] with N > 0, got shape {tuple(images.shape)}")
        self.register_buffer("images", images)
        self.shape = tuple(images.shape[1:])
        self._likelihood: tuple[Observation, Tensor] | None = None

    def fingerprint(self) -> str:
        return hashlib.sha256(self.images.cpu().numpy().tobytes()).hexdigest()[:16]

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        if tuple(image_shape) != self.shape:
            raise ValueError(f"this empirical prior holds images of shape {self.shape}, got {tuple(image_shape)}")
        return self.shape

    def predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        return self._estimate(x_t, t, self._logits(x_t, t))

    def predict_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Estimate:
        """E[x_0 | x_t, y]."""
        return self._estimate(x_t, t, self._logits(x_t, t) + self.log_likelihoods(obs))

    def variance_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """Var[x_0 | x_t, y] of each pixel, like x_t."""
        w = (self._logits(x_t, t) + self.log_likelihoods(obs)).softmax(1)
        flat = self.images.flatten(1).to(x_t.dtype)
        return (w @ flat.square() - (w @ flat).square()).clamp(min=0).view_as(x_t)

    def log_likelihood(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """log p(y | x_t), [B]."""
        logits = self._logits(x_t, t)
        return (logits.log_softmax(1) + self.log_likelihoods(obs)).logsumexp(1)

    def log_likelihoods(self, obs: Observation) -> Tensor:
        """log p(y | x_i) for every row and image, [B, N]; kept for the observation it was made for."""
        if self._likelihood is None or self._likelihood[0] is not obs:
            n = len(self.images)
            images = self.images.to(obs.y.dtype)
            rows = [-obs.take(torch.full((n,), k, device=images.device)).nll(images) for k in range(len(obs.y))]
            self._likelihood = (obs, torch.stack(rows))
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
        flat = self.images.flatten(1).to(w.dtype)
        mean = w @ flat
        variance = (w @ flat.square() - mean.square()).clamp(min=0)
        return mean.view(-1, *self.shape), variance.view(-1, *self.shape)

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
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        flat, images = x_t.flatten(1), self.images.flatten(1).to(x_t.dtype)
        # |x_t|^2 is the same for all images and leaves the softmax alone
        return (alpha * flat @ images.T - alpha**2 / 2 * images.square().sum(1)) / sigma**2

    def _estimate(self, x_t: Tensor, t: Tensor, logits: Tensor) -> Estimate:
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        x0_hat = (logits.softmax(1) @ self.images.flatten(1).to(x_t.dtype)).view_as(x_t)
        return Estimate(x0_hat, (x_t - alpha * x0_hat) / sigma)


def from_data(data: Data, schedule: NoiseSchedule) -> Empirical:
    """The empirical prior of the images of a data source, all of one shape."""
    images = [item.image for item in data.items()]
    if not images or any(image is None or image.shape != images[0].shape for image in images):
        raise ValueError("an empirical prior needs at least one image, and all of one shape: set data.size")
    return Empirical(schedule, torch.stack(images))
