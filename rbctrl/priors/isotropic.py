"""Isotropic Gaussian mixtures in high dimension: closed forms that never make a matrix of D x D numbers.

x_0 ~ sum_k w_k N(m_k, v I), x_t = alpha x_0 + sigma eps, y = A x_0 + sigma_y n with linear A of m rows. Let
S = alpha^2 v + sigma^2. Given x_t and the component,

    x_0 ~ N(mu_k, g I),   mu_k = (alpha v x_t + sigma^2 m_k) / S,   g = v sigma^2 / S,
    weight r_k ~ w_k N(x_t; alpha m_k, S I),

and with A A^T = U diag(s^2) U^T, rows b_i of U^T A and z = U^T y, the measurement adds, coordinate by coordinate,

    rho_i = g s_i^2 + sigma_y^2,   e_ki = z_i - b_i mu_k,   weight q_k ~ r_k prod_i N(e_ki; 0, rho_i),
    E[x_0 | x_t, y, k] = mu_k + g sum_i b_i e_ki / rho_i,   Cov[x_0 | x_t, y, k] = g I - g^2 sum_i b_i b_i^T / rho_i.

All of it lives in the span of the means and of the rows of A, p + m directions: x_t is read once, for its products with
them, and the estimate is written once. Without x_t the same formulas hold with alpha = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.noise import Noise
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator
from rbctrl.priors.base import Estimate, Prior, needs_linear_gaussian
from rbctrl.priors.measured import Measured, affine, measure, project
from rbctrl.rng import ImageRNG
from rbctrl.schedules import NoiseSchedule


class IsotropicMixture(Prior):
    """sum_k w_k N(m_k, v I) over states of D numbers; an `ExactPrior` for linear operators and Gaussian noise.

    x_t is multiplied in its own dtype; log-weights and all that has no D in its size are fp64. The result has the dtype
    of x_t.

    Args:
        schedule: of the process.
        weights: [K], positive; normalised here.
        means: [K, D]; the lower their rank p, the cheaper.
        variance: v > 0, of every coordinate of every component.
        shape: of one state, with D numbers; None is (D,). Operators see [B, *shape].
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence,
        variance: float = 1.0,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(schedule)
        weights, means = (torch.as_tensor(value, dtype=torch.float64) for value in (weights, means))
        if means.ndim != 2 or weights.shape != means.shape[:1]:
            raise ValueError(
                f"a mixture needs weights [K] and means [K, D], got {tuple(weights.shape)} and {tuple(means.shape)}"
            )
        if not (weights > 0).all():
            raise ValueError(f"the weights of a mixture are positive, got {weights.tolist()}")
        if not (variance > 0 and math.isfinite(variance)):
            raise ValueError(f"the variance of a mixture is positive and finite, got {variance}")
        self.shape = (means.shape[1],) if shape is None else tuple(shape)
        if math.prod(self.shape) != means.shape[1]:
            raise ValueError(f"shape {self.shape} does not hold the {means.shape[1]} numbers of a mean")
        self.variance = float(variance)
        _, values, vectors = torch.linalg.svd(means, full_matrices=False)
        basis = vectors[values > 1e-12 * values[0]]
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means)
        self.register_buffer("basis", basis)  # [p, D], orthonormal
        self.register_buffer("coordinates", means @ basis.T)  # [K, p], of the means
        self._measured: tuple[Observation, Measured] | None = None

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
        return self._belief(x_t.flatten(1), *self._levels(t), obs).variance().view_as(x_t).to(x_t.dtype)

    def log_likelihood(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """log p(y | x_t), [B]."""
        levels = self._levels(t)
        given, free = (self._belief(x_t.flatten(1), *levels, o).logits.logsumexp(1) for o in (obs, None))
        return given - free

    def log_evidence(self, obs: Observation) -> Tensor:
        """log p(y), [B]."""
        return self._posterior(obs).logits.logsumexp(1)

    def moments_given(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """E[x_0 | y] and Var[x_0 | y] of each coordinate, both [B, *shape]."""
        posterior = self._posterior(obs)
        origin = self.means.new_zeros(len(obs.y), self.means.shape[1])
        mean = affine(origin, 0.0, posterior.mean_coefficients(), posterior.directions)
        return tuple(v.view(-1, *self.shape).to(obs.y.dtype) for v in (mean, posterior.variance()))

    def sample_given(self, obs: Observation, rng: ImageRNG, key: str) -> Tensor:
        """x_0 ~ p(x_0 | y), one for each row of the observation, [B, *shape]."""
        posterior, measured = self._posterior(obs), self._measure(obs)
        k = _pick(rng.uniform(f"{key}/component").double(), _softmax(posterior.logits))
        white = math.sqrt(self.variance) * rng.normal(f"{key}/white", (self.means.shape[1],)).double()
        # the symmetric root of the covariance shrinks the white noise along b_i by sqrt(sigma_y^2 / rho_i)
        rho = self.variance * measured.energy + measured.noise
        shrink = self.variance / (rho * (1 + (measured.noise / rho).sqrt()))
        coefficients = affine(posterior.offset, 1.0, torch.eye(len(self.weights)).to(white)[k], posterior.loads)
        coefficients[:, len(self.basis) :] -= shrink * project(white, measured.rows)
        return affine(white, 1.0, coefficients, posterior.directions).view(-1, *self.shape).to(rng.dtype)

    def sample_marginal(self, t: Tensor, rng: ImageRNG, shape: tuple[int, ...]) -> Tensor:
        """x_t ~ p_t, [B, *shape]."""
        alpha, sigma = self._levels(t)
        return alpha * self.sample(rng, "init/x0") + sigma * rng.normal("init", self.shape)

    def sample(self, rng: ImageRNG, key: str) -> Tensor:
        """x_0 ~ p_0, [B, *shape], from the streams of this key: data and the start of a run have different ones."""
        k = _pick(rng.uniform(f"{key}/component").double(), self.weights[None])
        white = rng.normal(f"{key}/white", (self.means.shape[1],)).double()
        return (self.means[k] + math.sqrt(self.variance) * white).view(-1, *self.shape).to(rng.dtype)

    def _estimate(self, x_t: Tensor, t: Tensor, obs: Observation | None) -> Estimate:
        alpha, sigma = self._levels(t)
        x, belief = x_t.flatten(1), self._belief(x_t.flatten(1), alpha, sigma, obs)
        directions, mean = belief.directions.to(x), belief.mean_coefficients()
        x0_hat = affine(x, belief.keep, mean.to(x), directions)
        # (x_t - alpha x0_hat) / sigma, without the difference of two near numbers
        left = sigma / (alpha**2 * self.variance + sigma**2)
        eps_hat = affine(x, left, (-alpha / sigma * mean).to(x), directions)
        return Estimate(x0_hat.view_as(x_t), eps_hat.view_as(x_t))

    def _posterior(self, obs: Observation) -> _Belief:
        """Of x_0 given y alone."""
        nothing = obs.y.new_zeros(len(obs.y), 1, dtype=torch.float64)
        return self._solve(nothing.expand(-1, len(self.basis) + self._measure(obs).z.shape[1]), 0.0, 1.0, obs)

    def _levels(self, t: Tensor) -> tuple[float, float]:
        alpha, sigma = self.schedule.levels(t)
        return float(alpha), float(sigma)

    def _belief(self, x: Tensor, alpha: float, sigma: float, obs: Observation | None) -> _Belief:
        """Of x_0 given x_t [B, D], and y if there is an observation."""
        directions = self.basis if obs is None else self._measure(obs).directions
        return self._solve(project(x, directions.to(x)).double(), alpha, sigma, obs)

    def _solve(self, seen: Tensor, alpha: float, sigma: float, obs: Observation | None) -> _Belief:
        """From the products of x_t with the directions, [B, p (+ m)], fp64."""
        total = alpha**2 * self.variance + sigma**2
        keep, pull = alpha * self.variance / total, sigma**2 / total
        spread, p = self.variance * pull, len(self.basis)
        norms, loads = self.coordinates.square().sum(1), pull * self.coordinates
        constant = self.weights.log() - alpha**2 / (2 * total) * norms
        logits = torch.addmm(constant, seen[:, :p], alpha / total * self.coordinates.T)
        if obs is None:
            nothing = torch.zeros_like(seen[:, :p])
            return _Belief(logits, nothing, loads, self.basis, keep, spread, nothing[:1])
        measured = self._measure(obs)
        rho = spread * measured.energy + measured.noise  # [1 or B, m]
        error, shift = measured.z - keep * seen[:, p:], pull * measured.means
        scaled = error[:, None] - shift
        constant = measured.constant - (2 * math.pi * rho).log().sum(1) / 2
        logits = logits - _row_products(scaled.square(), 0.5 / rho) + constant[:, None]
        gain = spread / rho
        offset = torch.nn.functional.pad(gain * error, (p, 0))
        gain = gain[0] if shift.ndim == 2 else gain[:, None]
        loads = torch.cat([loads.expand(*shift.shape[:-1], -1), -gain * shift], dim=-1)
        shrink = torch.nn.functional.pad(spread**2 / rho, (p, 0))
        return _Belief(logits, offset, loads, measured.directions, keep, spread, shrink)

    def _measure(self, obs: Observation) -> Measured:
        """The measurement in the singular basis of A; kept for the observation it was made for."""
        if self._measured is None or self._measured[0] is not obs:
            self._measured = (obs, measure(obs, self.basis, self.means))
        return self._measured[1]


@dataclass(frozen=True, eq=False)
class _Belief:
    """Component k of x_0 is N(keep x_t + (offset + loads_k) D, spread I - D^T diag(shrink) D), D the n directions."""

    logits: Tensor  # [B, K]; their logsumexp is log p(x_t, y) up to what x_t alone decides
    offset: Tensor  # [B, n]
    loads: Tensor  # [(B,) K, n]
    directions: Tensor  # [(B,) n, D]
    keep: float
    spread: float
    shrink: Tensor  # [1 or B, n]

    def mean_coefficients(self) -> Tensor:
        """Of the mean beyond keep x_t, [B, n]."""
        return affine(self.offset, 1.0, _softmax(self.logits), self.loads)

    def variance(self) -> Tensor:
        """Of each coordinate, [B, D]."""
        weights = _softmax(self.logits)
        apart = self.loads - (self.mean_coefficients() - self.offset)[:, None]  # [B, K, n]
        form = (weights[..., None] * apart).mT @ apart - torch.diag_embed(self.shrink)
        if self.directions.ndim == 2:
            pairs = self.directions[:, None] * self.directions
            return self.spread + form.flatten(1) @ pairs.flatten(0, 1)
        return self.spread + ((form @ self.directions) * self.directions).sum(1)


def _softmax(logits: Tensor) -> Tensor:
    """Over the components, [B, K]; on a CPU the sum over the first of two dimensions is several times as fast."""
    return logits.T.softmax(0).T


def _row_products(x: Tensor, form: Tensor) -> Tensor:
    """sum_i x_bki f_bi of x [B, K, m] and f [1 or B, m], [B, K]."""
    return x @ form[0] if len(form) == 1 else (x @ form[..., None])[..., 0]


def _pick(uniform: Tensor, weights: Tensor) -> Tensor:
    """The component of each row, [B], from uniform numbers [B] and weights [1 or B, K]."""
    return (uniform[:, None] > weights.cumsum(1)[:, :-1]).sum(1)
