"""Closed forms against brute force: numerical integration and autograd."""

import pytest
import torch
from worlds import MODES, SIGMA_Y, Y, plane

from rbctrl.noise import GaussianNoise, PoissonNoise
from rbctrl.observation import given
from rbctrl.operators.base import LinearOperator
from rbctrl.operators.matrix import Matrix
from rbctrl.priors import ExactPrior, GaussianMixture
from rbctrl.rng import ImageRNG
from rbctrl.schedules import VE, VP, RectifiedFlow

T = torch.tensor(0.3, dtype=torch.float64)
X = torch.tensor([[0.3, -0.2], [-0.5, 0.9]], dtype=torch.float64)


def observation(n=2):
    return given(Matrix([[1.0, 0.0]]), GaussianNoise(SIGMA_Y), torch.full((n, 1), Y, dtype=torch.float64))


def grid_density(prior, x_t, given_y):
    """Unnormalised p(x_0 | x_t, y) on a fine grid of the plane, and the grid."""
    axis = torch.linspace(-4, 4, 801, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(-1, 2)
    components = torch.distributions.MultivariateNormal(prior.means, prior.covariances)
    log_p = (components.log_prob(points[:, None]) + prior.weights.log()).logsumexp(1)
    alpha, sigma = (float(v) for v in prior.schedule.levels(T))
    log_p = log_p - (x_t - alpha * points).square().sum(1) / (2 * sigma**2)
    if given_y:
        log_p = log_p - (Y - points[:, 0]).square() / (2 * SIGMA_Y**2)
    return log_p, points


@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()])
@pytest.mark.parametrize("given_y", [False, True])
def test_estimates_are_the_integrals(schedule, given_y):
    prior = plane(MODES, schedule)
    obs = observation()
    est = prior.predict_given(X, T, obs) if given_y else prior.predict(X, T)
    for k in range(2):
        log_p, points = grid_density(prior, X[k], given_y)
        w = log_p.softmax(0)[:, None]
        mean = (w * points).sum(0)
        torch.testing.assert_close(est.x0_hat[k], mean, rtol=0, atol=1e-6)
        if given_y:
            variance = (w * (points - mean).square()).sum(0)
            torch.testing.assert_close(prior.variance_given(X, T, obs)[k], variance, rtol=0, atol=1e-6)


def test_likelihood_is_the_integral():
    prior, obs = plane(), observation()
    ours = prior.log_likelihood(X, T, obs)
    for k in range(2):
        joint, free = (grid_density(prior, X[k], given_y)[0].logsumexp(0) for given_y in (True, False))
        constant = torch.log(torch.tensor(SIGMA_Y * (2 * torch.pi) ** 0.5, dtype=torch.float64))
        torch.testing.assert_close(ours[k], joint - free - constant, rtol=0, atol=1e-6)


def test_conditional_mean_is_tweedie_plus_the_gradient_of_log_h():
    """E[x_0 | x_t, y] = x0_hat + sigma^2 / alpha grad log h(x_t)."""
    prior, obs = plane(), observation()
    x = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad(prior.log_likelihood(x, T, obs).sum(), x)
    alpha, sigma = (float(v) for v in prior.schedule.levels(T))
    moved = prior.predict(X, T).x0_hat + sigma**2 / alpha * grad
    torch.testing.assert_close(prior.predict_given(X, T, obs).x0_hat, moved, rtol=0, atol=1e-9)


def test_posterior_and_evidence_are_bayes():
    prior, obs = plane(), observation(1)
    w, means, covariances = (v[0] for v in prior.posterior(obs))
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    evidence = torch.stack(
        [
            torch.distributions.Normal(m @ a, (a @ c @ a + SIGMA_Y**2).sqrt()).log_prob(torch.tensor(Y))
            for m, c in zip(prior.means, prior.covariances)
        ]
    )
    torch.testing.assert_close(w, (prior.weights.log() + evidence).softmax(0))
    torch.testing.assert_close(prior.log_evidence(obs)[0], (prior.weights.log() + evidence).logsumexp(0))
    for k, (m, c) in enumerate(zip(prior.means, prior.covariances)):
        gain = c @ a / (a @ c @ a + SIGMA_Y**2)
        torch.testing.assert_close(means[k], m + gain * (Y - m @ a))
        torch.testing.assert_close(covariances[k], c - gain[:, None] * (a @ c)[None])


class PerRow(LinearOperator):
    """A mask of its own for each row."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    @property
    def observed(self):
        return self.mask

    def forward(self, image):
        return image * self.mask

    def adjoint(self, y):
        return y * self.mask

    def take(self, rows):
        return PerRow(self.mask[rows])


def test_rows_may_have_operators_of_their_own_and_unobserved_entries_do_not_count():
    prior = plane()
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    y = torch.full((2, 2), Y, dtype=torch.float64)
    obs = given(PerRow(mask), GaussianNoise(SIGMA_Y), y)
    single = observation(1)
    both = prior.predict_given(X, T, obs).x0_hat
    torch.testing.assert_close(both[:1], plane().predict_given(X[:1], T, single).x0_hat)
    torch.testing.assert_close(prior.log_likelihood(X, T, obs)[:1], plane().log_likelihood(X[:1], T, single))
    torch.testing.assert_close(prior.log_evidence(obs)[:1], plane().log_evidence(single))
    assert not torch.allclose(both[1], plane().predict_given(X, T, observation(2)).x0_hat[1])


def test_samples_have_the_moments_of_the_mixture():
    prior, n = plane(), 4000
    rng = ImageRNG(0, tuple((str(k), 0) for k in range(n)), torch.float64)
    alpha, sigma = (float(v) for v in prior.schedule.levels(T))
    x = prior.sample_marginal(T, rng, (2,))
    mean = alpha * (prior.weights[:, None] * prior.means).sum(0)
    assert ((x.mean(0) - mean).abs() < 5 * x.std(0) / n**0.5).all()
    second = alpha**2 * (prior.weights[:, None] * (prior.covariances.diagonal(dim1=1, dim2=2) + prior.means**2)).sum(0)
    assert ((x.square().mean(0) - second - sigma**2).abs() < 5 * x.square().std(0) / n**0.5).all()
    assert not ((x.mean(0) - mean - 0.2).abs() < 5 * x.std(0) / n**0.5).all()


def test_the_start_of_a_run_knows_nothing_of_the_truth_of_the_same_seed():
    from rbctrl.data.mixture import MixtureSamples

    prior, n = plane(), 500
    truths = torch.stack([item.image for item in MixtureSamples(prior, n, seed=0).items()]).double()
    rng = ImageRNG(0, tuple((f"draw/{k:04d}", 0) for k in range(n)), torch.float64)
    start = prior.sample_marginal(torch.tensor(0.01, dtype=torch.float64), rng, (2,))  # next to no noise

    def correlation(a, b):
        return float(torch.corrcoef(torch.stack([a[:, 0], b[:, 0]]))[0, 1])

    assert abs(correlation(start, truths)) < 5 / n**0.5
    assert correlation(prior.sample(rng, "data/x0"), truths) > 0.99  # what sharing the streams would do


def test_shape_reshapes_and_the_protocol_is_met():
    weights, means, covariances = MODES
    prior = GaussianMixture(VP(), weights, means, covariances, shape=(1, 1, 2))
    est = prior.predict(X.view(2, 1, 1, 2), T)
    assert est.x0_hat.shape == (2, 1, 1, 2)
    torch.testing.assert_close(est.x0_hat.flatten(1), plane().predict(X, T).x0_hat)
    assert isinstance(prior, ExactPrior)


def test_impossible_mixtures_are_refused():
    weights, means, covariances = MODES
    for args, word in (
        ((weights[:2], means, covariances), "weights"),
        (([-1.0, 1.0, 1.0], means, covariances), "positive"),
        ((weights, means, [[[1.0, 2.0], [2.0, 1.0]]] * 3), "definite"),
    ):
        with pytest.raises(ValueError, match=word):
            GaussianMixture(VP(), *args)
    with pytest.raises(ValueError, match="shape"):
        GaussianMixture(VP(), weights, means, covariances, shape=(3,))
    with pytest.raises(ValueError, match="lives on"):
        plane().state_shape((3, 8, 8))
    poisson = given(Matrix([[1.0, 0.0]]), PoissonNoise(), torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="Gaussian noise"):
        plane().predict_given(X, T, poisson)
