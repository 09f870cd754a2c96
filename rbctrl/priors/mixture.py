"""Gaussian mixtures: the posterior, the h-function and the optimal control in closed form.

x_0 ~ sum_k w_k N(m_k, C_k), x_t = alpha x_0 + sigma eps, y = A x_0 + sigma_y n with linear A. Given the component,
x_0 is Gaussian with precision P_k = C_k^-1 + (alpha/sigma)^2 I + A^T A / sigma_y^2 and mean P_k^-1 h_k,

    h_k = C_k^-1 m_k + (alpha / sigma^2) x_t + A^T y / sigma_y^2,

and the log-weight of the component is, up to a constant, log w_k - (m_k^T C_k^-1 m_k + log|P_k C_k|) / 2 + h_k^T
P_k^-1 h_k / 2. Without y the same formulas give E[x_0 | x_t].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rbctrl.noise import Noise
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator
from rbctrl.priors.base import Estimate, Prior, needs_linear_gaussian
from rbctrl.rng import ImageRNG
from rbctrl.schedules import NoiseSchedule


class GaussianMixture(Prior):
    """sum_k w_k N(m_k, C_k) over states of D numbers; an `ExactPrior` for linear operators and Gaussian noise.

    Computed in fp64; the result has the dtype of x_t.

    Args:
        schedule: of the process.
        weights: [K], positive; normalised here.
        means: [K, D].
        covariances: [K, D, D], symmetric positive definite.
        shape: of one state, with D numbers; None is (D,). Operators see [B, *shape].
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence,
        covariances: Tensor | Sequence,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(schedule)
        weights, means, covariances = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, covariances))
        if means.ndim != 2 or weights.shape != means.shape[:1] or covariances.shape != (*means.shape, means.shape[1]):
            raise ValueError(
                "a mixture needs weights [K], means [K, D] and covariances [K, D, D], got "
                f"{tuple(weights.shape)}, {tuple(means.shape)} and {tuple(covariances.shape)}"
            )
        if not (weights > 0).all():
            raise ValueError(f"the weights of a mixture are positive, got {weights.tolist()}")
        self.shape = (means.shape[1],) if shape is None else tuple(shape)
        if math.prod(self.shape) != means.shape[1]:
            raise ValueError(f"shape {self.shape} does not hold the {means.shape[1]} numbers of a mean")
        factor, failed = torch.linalg.cholesky_ex(covariances)
        if failed.any():
            raise ValueError("the covariances of a mixture are symmetric and positive definite")
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means)
        self.register_buffer("covariances", covariances)
        self.register_buffer("factor", factor)
        self.register_buffer("precisions", torch.linalg.inv(covariances))
        self._matrix: tuple[Observation, Tensor] | None = None

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        if tuple(image_shape) != self.shape:
            raise ValueError(f"this mixture lives on {self.shape}, got data of shape {tuple(image_shape)}")
        return self.shape

    def check(self, operator: Operator, noise: Noise) -> str | None:
        """Why the posterior is no mixture, in one sentence; None if it is one."""
        return needs_linear_gaussian(operator, noise)

    def predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        return self._estimate(x_t, t, None)

    def predict_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Estimate:
        """E[x_0 | x_t, y]."""
        return self._estimate(x_t, t, obs)

    def variance_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """Var[x_0 | x_t, y] of each coordinate, [B, *shape]."""
        logits, means, covariances = self._components(x_t, t, obs)
        w = logits.softmax(1)[..., None]
        second = means.square() + covariances.diagonal(dim1=-2, dim2=-1)
        return ((w * second).sum(1) - (w * means).sum(1).square()).view_as(x_t).to(x_t.dtype)

    def log_likelihood(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """log p(y | x_t), [B]."""
        given, free = (self._components(x_t, t, o)[0].logsumexp(1) for o in (obs, None))
        return given - free - obs.nll(torch.zeros_like(x_t))

    def log_evidence(self, obs: Observation) -> Tensor:
        """log p(y), [B]."""
        matrix = self._operator_matrix(obs)  # [B or 1, m, D]
        y = obs.y.flatten(1).double()
        mean = torch.einsum("bmd,kd->bkm", matrix, self.means)
        noise = obs.sigma_y**2 * torch.eye(y.shape[1], dtype=torch.float64, device=y.device)
        covariance = torch.einsum("bmd,kde,bne->bkmn", matrix, self.covariances, matrix) + noise
        normal = torch.distributions.MultivariateNormal(mean, covariance)
        unmeasured = y.shape[1] - obs.n_measured  # such entries are 0 in y and in A: pure noise density at 0
        constant = unmeasured * math.log(obs.sigma_y * math.sqrt(2 * math.pi))
        return (self.weights.log() + normal.log_prob(y[:, None])).logsumexp(1) + constant

    def posterior(self, obs: Observation) -> tuple[Tensor, Tensor, Tensor]:
        """p(x_0 | y) as a mixture for each row: weights [B, K], means [B, K, D], covariances [B or 1, K, D, D]."""
        logits, means, covariances = self._solve(obs.y, None, 0.0, 0.0, obs)
        return logits.softmax(1), means, covariances

    def moments_given(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """E[x_0 | y] and Var[x_0 | y] of each coordinate, both [B, *shape]."""
        weights, means, covariances = self.posterior(obs)
        w = weights[..., None]
        mean = (w * means).sum(1)
        second = (w * (means.square() + covariances.diagonal(dim1=-2, dim2=-1))).sum(1)
        return tuple(v.view(-1, *self.shape).to(obs.y.dtype) for v in (mean, second - mean.square()))

    def sample_given(self, obs: Observation, rng: ImageRNG, key: str) -> Tensor:
        """x_0 ~ p(x_0 | y), one for each row of the observation, [B, *shape]."""
        weights, means, covariances = self.posterior(obs)
        pick = rng.uniform(f"{key}/component").double()
        k = (pick[:, None] > weights.cumsum(1)[:, :-1]).sum(1)
        factor = torch.linalg.cholesky(covariances).expand(len(k), -1, -1, -1)
        rows = torch.arange(len(k), device=k.device)
        white = rng.normal(f"{key}/white", (self.means.shape[1],)).double()
        x_0 = means[rows, k] + (factor[rows, k] @ white[..., None])[..., 0]
        return x_0.view(-1, *self.shape).to(rng.dtype)

    def sample_marginal(self, t: Tensor, rng: ImageRNG, shape: tuple[int, ...]) -> Tensor:
        """x_t ~ p_t, [B, *shape]."""
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        return alpha * self.sample(rng, "init/x0") + sigma * rng.normal("init", self.shape)

    def sample(self, rng: ImageRNG, key: str) -> Tensor:
        """x_0 ~ p_0, [B, *shape], from the streams of this key: data and the start of a run have different ones."""
        pick = rng.uniform(f"{key}/component").double()
        k = (pick[:, None] > self.weights.cumsum(0)[:-1]).sum(1)
        white = rng.normal(f"{key}/white", (self.means.shape[1],)).double()
        x_0 = self.means[k] + (self.factor[k] @ white[..., None])[..., 0]
        return x_0.view(-1, *self.shape).to(rng.dtype)

    def _estimate(self, x_t: Tensor, t: Tensor, obs: Observation | None) -> Estimate:
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        logits, means, _ = self._components(x_t, t, obs)
        x0_hat = (logits.softmax(1)[..., None] * means).sum(1).view_as(x_t)
        return Estimate(x0_hat.to(x_t.dtype), ((x_t - alpha * x0_hat) / sigma).to(x_t.dtype))

    def _components(self, x_t: Tensor, t: Tensor, obs: Observation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights [B, K] up to a constant, means [B, K, D] and covariances of x_0 given x_t (and y)."""
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        return self._solve(x_t, x_t.flatten(1).double(), alpha, sigma, obs)

    def _solve(
        self, like: Tensor, x: Tensor | None, alpha: float, sigma: float, obs: Observation | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        dim = self.means.shape[1]
        precision = self.precisions[None]
        natural = (self.precisions @ self.means[..., None])[..., 0]
        h = natural.expand(len(like), -1, -1)
        if x is not None:
            precision = precision + (alpha / sigma) ** 2 * torch.eye(dim, dtype=torch.float64, device=like.device)
            h = h + (alpha / sigma**2 * x)[:, None]
        if obs is not None:
            matrix = self._operator_matrix(obs) / obs.sigma_y
            precision = precision + (matrix.mT @ matrix)[:, None]
            y = obs.y.flatten(1).double() / obs.sigma_y
            h = h + torch.einsum("bmd,bm->bd", matrix.expand(len(like), -1, -1), y)[:, None]
        factor = torch.linalg.cholesky(precision)
        covariances = torch.cholesky_inverse(factor)
        if len(covariances) == 1:  # the rows share it, and one product does for all
            means = torch.einsum("kde,bke->bkd", covariances[0], h)
        else:
            means = (covariances @ h[..., None])[..., 0]
        log_det = 2 * (
            factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        )
        constant = self.weights.log() - (self.means * natural).sum(1) / 2 - log_det / 2
        return constant + (h * means).sum(2) / 2, means, covariances

    def _operator_matrix(self, obs: Observation) -> Tensor:
        """A as a matrix, [B, m, D], or [1, m, D] where all rows share it; kept for the observation it was made for."""
        if (reason := self.check(obs.operator, obs.noise)) is not None:
            raise ValueError(reason)
        if self._matrix is None or self._matrix[0] is not obs:
            basis = torch.eye(self.means.shape[1], dtype=obs.y.dtype, device=obs.y.device).view(-1, *self.shape)
            shared = obs.operator.take(torch.zeros(1, dtype=torch.long)) is obs.operator
            rows = range(1 if shared else len(obs.y))
            matrices = [obs.operator.take(torch.full((len(basis),), k))(basis).flatten(1).T for k in rows]
            stack = torch.stack(matrices).double()
            same = len(stack) > 1 and bool((stack == stack[:1]).all())  # as for all samples of one image
            self._matrix = (obs, stack[:1] if same else stack)
        return self._matrix[1]
