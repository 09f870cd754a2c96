"""Latent priors whose posterior is exact: a known law of the latents z, seen through an affine codec.

With D(z) = D(0) + L z and a linear operator A, the measurement of the image is a linear measurement of the latent,

    y - A D(0) = (A L) z + noise,

so whatever an `ExactPrior` knows of p(z | y), the optimal control included, it knows here. It is the world in which
controllers of latent priors are held against the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from rbctrl.codecs import Codec
from rbctrl.codecs.block_pca import fitted
from rbctrl.data.base import Data
from rbctrl.noise import Noise
from rbctrl.observation import Observation
from rbctrl.operators.base import LinearOperator, Operator
from rbctrl.priors.base import Estimate, ExactPrior, Prior, needs_linear_gaussian
from rbctrl.priors.mixture import GaussianMixture
from rbctrl.rng import ImageRNG
from rbctrl.schedules import NoiseSchedule


class AffineLatent(Prior):
    """The law of `latents` over the states of an affine codec; an `ExactPrior` for linear operators, Gaussian noise.

    All moments and samples are those of the latent.

    Args:
        latents: of shape [K, h, w], such as a `GaussianMixture`.
        codec: with `affine = True`, such as `BlockPCA`.
    """

    def __init__(self, latents: ExactPrior, codec: Codec) -> None:
        super().__init__(latents.schedule, codec)
        if not codec.affine:
            raise ValueError(f"{type(codec).__name__} is not affine, so the posterior would not be known: use BlockPCA")
        self.latents, self.shape = latents, latents.shape
        self._seen: tuple[Observation, Observation] | None = None

    def fingerprint(self) -> str:
        return self.codec.fingerprint()

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.latents.state_shape(self.codec.state_shape(image_shape))

    def check(self, operator: Operator, noise: Noise) -> str | None:
        """Why the posterior is not known, in one sentence; None if it is."""
        return needs_linear_gaussian(operator, noise)

    def predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        return self.latents.predict(x_t, t)

    def predict_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Estimate:
        """E[z_0 | z_t, y]."""
        return self.latents.predict_given(x_t, t, self._of_latent(obs))

    def variance_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """Var[z_0 | z_t, y] of each coordinate, [B, *shape]."""
        return self.latents.variance_given(x_t, t, self._of_latent(obs))

    def log_likelihood(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """log p(y | z_t), [B]."""
        return self.latents.log_likelihood(x_t, t, self._of_latent(obs))

    def log_evidence(self, obs: Observation) -> Tensor:
        """log p(y), [B]."""
        return self.latents.log_evidence(self._of_latent(obs))

    def moments_given(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """E[z_0 | y] and Var[z_0 | y] of each coordinate, both [B, *shape]."""
        return self.latents.moments_given(self._of_latent(obs))

    def sample_given(self, obs: Observation, rng: ImageRNG, key: str) -> Tensor:
        """z_0 ~ p(z_0 | y), one for each row of the observation, [B, *shape]."""
        return self.latents.sample_given(self._of_latent(obs), rng, key)

    def sample_marginal(self, t: Tensor, rng: ImageRNG, shape: tuple[int, ...]) -> Tensor:
        """z_t ~ p_t, [B, *shape]."""
        return self.latents.sample_marginal(t, rng, shape)

    def sample(self, rng: ImageRNG, key: str) -> Tensor:
        """z_0 ~ p_0, [B, *shape]."""
        return self.latents.sample(rng, key)

    def _of_latent(self, obs: Observation) -> Observation:
        """The same measurement as one of the latent; kept, since the prior keeps what it derives from it."""
        if self._seen is None or self._seen[0] is not obs:
            origin = self.codec.decode(torch.zeros(1, *self.shape, dtype=obs.y.dtype, device=obs.y.device))
            y = obs.y - obs.operator(origin.expand(len(obs.y), -1, -1, -1))
            self._seen = obs, replace(obs, y=y, operator=Decoded(obs.operator, self.codec, origin))
        return self._seen[1]


class Decoded(LinearOperator):
    """z -> A (D(z) - D(0)), linear for an affine codec."""

    def __init__(self, operator: LinearOperator, codec: Codec, origin: Tensor) -> None:
        super().__init__()
        self.operator, self.codec, self.origin = operator, codec, origin

    @property
    def observed(self) -> Tensor | None:
        return self.operator.observed

    def forward(self, z: Tensor) -> Tensor:
        """Latents [B, *shape] to measurements."""
        return self.operator(self.codec.decode(z) - self.origin)

    def adjoint(self, y: Tensor) -> Tensor:
        """L^T A^T y, by the chain rule: what is linear has one gradient everywhere."""
        image = self.operator.adjoint(y)
        with torch.enable_grad():
            z = self.codec.encode(torch.zeros_like(image)).requires_grad_()
            return torch.autograd.grad(self.codec.decode(z), z, image)[0]

    def take(self, rows: Tensor) -> Decoded:
        """The given rows; itself where the operator is the same for all."""
        taken = self.operator.take(rows)
        return self if taken is self.operator else Decoded(taken, self.codec, self.origin)


def pca_gaussian(
    schedule: NoiseSchedule, data: Data, size: int = 16, block: int = 4, n_components: int = 8, jitter: float = 1e-3
) -> AffineLatent:
    """One Gaussian over the block-PCA latents of images of `size` px, with the moments of photographs.

    Mean and covariance are those of all windows of `size` px on the grid of blocks. Scaled by its codec, a latent
    coordinate has unit mean square.

    Args:
        schedule: of the process.
        data: the photographs, of any sizes from `size` on.
        size: of the image in px, a multiple of `block`.
        block: f.
        n_components: K; the latent has K (size / f)^2 numbers and its covariance the square of that.
        jitter: variance of white noise in the latent, in units of its mean variance.

    Raises:
        ValueError: a size that is no multiple of the block, no images, or too few of them for their covariance.
    """
    if size < block or size % block:
        raise ValueError(f"size is a multiple of block={block}, got {size}")
    images = [item.image for item in data.items() if item.image is not None]
    codec = fitted(images, block, n_components)
    windows = _windows([codec.encode(image[None].double()) for image in images], size // block)
    mean = windows.mean(0)
    covariance = windows.T.cov()
    covariance += jitter * covariance.diagonal().mean() * torch.eye(len(mean), dtype=torch.float64)
    if torch.linalg.cholesky_ex(covariance).info:
        raise ValueError(
            f"{len(windows)} windows are too few for the covariance of {len(mean)} numbers: more images, or more jitter"
        )
    shape = (n_components, size // block, size // block)
    return AffineLatent(GaussianMixture(schedule, [1.0], mean[None], covariance[None], shape), codec)


def _windows(latents: Sequence[Tensor], side: int) -> Tensor:
    """All side x side windows of latents [1, K, h, w], [N, K side side]."""
    return torch.cat([F.unfold(z, side)[0].T for z in latents])
