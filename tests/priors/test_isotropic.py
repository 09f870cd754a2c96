"""The isotropic mixture against the general one, which is checked against integrals in test_mixture.py."""

import dataclasses

import pytest
import torch

from rbctrl.noise import GaussianNoise, PoissonNoise
from rbctrl.observation import given
from rbctrl.operators import LinearOperator, RandomMask
from rbctrl.operators.matrix import Matrix
from rbctrl.priors import ExactPrior, GaussianMixture
from rbctrl.priors.isotropic import IsotropicMixture
from rbctrl.rng import ImageRNG
from rbctrl.schedules import VE, VP, RectifiedFlow

D, M, K, B, V = 6, 2, 5, 4, 0.3
T = torch.tensor(0.4, dtype=torch.float64)
WEIGHTS = [0.3, 0.1, 0.25, 0.15, 0.2]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MEANS = {"plane": random(K, 2) @ random(2, D, seed=1), "space": random(K, D, seed=2), "origin": torch.zeros(K, D)}
X = random(B, D, seed=3)


def pair(means="plane", schedule=None, variance=V):
    """The isotropic mixture, and the general one with the same numbers and covariance V I."""
    schedule = schedule or VP()
    covariances = V * torch.eye(D, dtype=torch.float64).expand(K, D, D)
    return (
        IsotropicMixture(schedule, WEIGHTS, MEANS[means], variance),
        GaussianMixture(schedule, WEIGHTS, MEANS[means], covariances),
    )


class PerRow(LinearOperator):
    """A matrix [B, m, D] of its own for each row; its last row of row 0 measures nothing."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    @property
    def observed(self):
        return (self.matrix != 0).any(2).to(self.matrix)

    def forward(self, image):
        return (self.matrix @ image[..., None])[..., 0]

    def adjoint(self, y):
        return (self.matrix.mT @ y[..., None])[..., 0]

    def take(self, rows):
        return PerRow(self.matrix[rows])


def per_row():
    matrix = random(B, M, D, seed=4)
    matrix[0, 1] = 0
    return PerRow(matrix)


OPERATORS = {"shared": lambda: Matrix(random(M, D, seed=4)), "per_row": per_row}


def observe(operator="shared"):
    return given(OPERATORS[operator](), GaussianNoise(0.2), random(B, M, seed=5))


def rng(n=B):
    return ImageRNG(0, tuple((f"row{k}", 0) for k in range(n)), torch.float64)


def answers(prior, obs):
    """All numbers that an exact prior gives, by name; of random ones those that do not depend on a matrix root."""
    free, guided = prior.predict(X, T), prior.predict_given(X, T, obs)
    mean, variance = prior.moments_given(obs)
    return {
        "x0_hat": free.x0_hat,
        "eps_hat": free.eps_hat,
        "x0_hat given y": guided.x0_hat,
        "eps_hat given y": guided.eps_hat,
        "variance given y": prior.variance_given(X, T, obs),
        "log likelihood": prior.log_likelihood(X, T, obs),
        "log evidence": prior.log_evidence(obs),
        "posterior mean": mean,
        "posterior variance": variance,
        "sample": prior.sample(rng(), "data"),
        "marginal sample": prior.sample_marginal(T, rng(), (D,)),
    }


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()])
@pytest.mark.parametrize("means", MEANS)
def test_every_answer_is_that_of_the_general_mixture(means, schedule, operator):
    ours, general = (answers(prior, observe(operator)) for prior in pair(means, schedule))
    for name, value in general.items():
        torch.testing.assert_close(ours[name], value, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def test_every_answer_depends_on_the_variance():
    ours, general = (answers(prior, observe()) for prior in pair(variance=1.001 * V))
    for name, value in general.items():
        assert not torch.allclose(ours[name], value, **CLOSE), name


@dataclasses.dataclass(frozen=True)
class Unit(ImageRNG):
    """White noise e_k for row k, and one uniform number: a sample then shows a column of its matrix root."""

    pick: float = 0.0

    def uniform(self, key, shape=()):
        return torch.full((len(self.rows),), self.pick, dtype=torch.float64)

    def normal(self, key, shape):
        return torch.eye(D, dtype=torch.float64)


@pytest.mark.parametrize("pick", [0.0, 0.3, 0.9999])
def test_posterior_samples_are_affine_in_white_noise_with_the_exact_mean_and_covariance(pick):
    ours, general = pair()
    obs = given(OPERATORS["shared"](), GaussianNoise(0.2), random(1, M, seed=5).expand(D, M))
    weights, means, covariances = general.posterior(obs)
    k = int((pick > weights[0].cumsum(0)[:-1]).sum())
    rows = ours.sample_given(obs, Unit(0, rng(D).rows, torch.float64, pick=pick), "exact") - means[0, k]
    torch.testing.assert_close(rows.T @ rows, covariances[0, k], **CLOSE)
    torch.testing.assert_close(rows, rows.T, **CLOSE)  # the symmetric root
    others = [j for j in range(K) if j != k]
    assert not any(torch.allclose(rows - means[0, j] + means[0, k], rows, **CLOSE) for j in others)


def test_posterior_samples_of_rows_with_operators_of_their_own_have_their_moments():
    ours, _ = pair()
    n = 4000
    obs = observe("per_row").take(torch.tensor([1]).expand(n))
    x_0 = ours.sample_given(obs, rng(n), "exact")
    mean, variance = (v[0] for v in ours.moments_given(observe("per_row").take(torch.tensor([1]))))
    assert ((x_0.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    assert not ((x_0.mean(0) - ours.moments_given(observe("per_row"))[0][2]).abs() < 5 * (variance / n).sqrt()).all()


@pytest.mark.parametrize("means", ["plane", "space"])
def test_jacobian_of_the_denoiser_is_symmetric_and_its_covariance(means):
    """d x0_hat / d x_t = (alpha / sigma^2) Cov[x_0 | x_t]; shifted coordinates would not be symmetric."""
    prior, _ = pair(means)
    alpha, sigma = (float(v) for v in prior.schedule.levels(T))
    jacobian = torch.autograd.functional.jacobian(lambda x: prior.predict(x[None], T).x0_hat[0], X[0])
    torch.testing.assert_close(jacobian, jacobian.T, **CLOSE)
    nothing = given(Matrix(torch.zeros(1, D)), GaussianNoise(1.0), torch.zeros(B, 1, dtype=torch.float64))
    variance = prior.variance_given(X, T, nothing)[0]
    torch.testing.assert_close(jacobian.diagonal(), alpha / sigma**2 * variance, **CLOSE)
    shifted = torch.autograd.functional.jacobian(lambda x: prior.predict(x.roll(1)[None], T).x0_hat[0], X[0])
    assert not torch.allclose(shifted, shifted.T, **CLOSE)


def test_gradients_flow_through_the_estimate_given_y_too():
    prior, general = pair()
    obs = observe()
    ours, theirs = (
        torch.autograd.functional.jacobian(lambda x, p=p: p.predict_given(x, T, obs).x0_hat.sum(0), X)
        for p in (prior, general)
    )
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_single_precision_is_enough_between_far_modes():
    """At D = 800 two means of norm 450 and 160 apart, x_t half-way: where the weights are most sensitive."""
    far = 8.0 * torch.tensor([[2.0, 2.0], [2.0, 1.0]], dtype=torch.float64).repeat(1, 400)
    prior = IsotropicMixture(VP(), [0.5, 0.5], far)
    alpha, sigma = (float(v) for v in prior.schedule.levels(T))
    x = alpha * far.mean(0, keepdim=True) + sigma * 1e-3 * random(64, 800)
    exact, single = prior.predict(x, T).x0_hat, prior.predict(x.float(), T).x0_hat
    assert single.dtype == torch.float32
    assert (exact - single).abs().max() < 0.01
    assert (exact - prior.predict(x.bfloat16().double(), T).x0_hat).abs().max() > 0.01


def test_the_protocol_is_met_in_the_shape_of_the_states():
    prior = IsotropicMixture(VP(), WEIGHTS, MEANS["plane"], V, shape=(1, 2, 3))
    assert isinstance(prior, ExactPrior)
    est = prior.predict(X.view(B, 1, 2, 3), T)
    torch.testing.assert_close(est.x0_hat.flatten(1), pair()[0].predict(X, T).x0_hat)
    mask = RandomMask(0.5).double().draw(rng(), (1, 2, 3))
    obs = given(mask, GaussianNoise(0.2), X.view(B, 1, 2, 3))
    assert prior.predict_given(X.view(B, 1, 2, 3), T, obs).x0_hat.shape == (B, 1, 2, 3)
    with pytest.raises(ValueError, match="lives on"):
        prior.state_shape((6,))


def test_what_no_isotropic_mixture_has_is_refused():
    for args, word in (
        ((WEIGHTS[:2], MEANS["plane"]), "weights"),
        (([-1.0] + WEIGHTS[1:], MEANS["plane"]), "positive"),
        ((WEIGHTS, MEANS["plane"], 0.0), "variance"),
        ((WEIGHTS, MEANS["plane"], 1.0, (3,)), "shape"),
    ):
        with pytest.raises(ValueError, match=word):
            IsotropicMixture(VP(), *args)
    obs = given(OPERATORS["shared"](), PoissonNoise(), random(B, M))
    with pytest.raises(ValueError, match="Gaussian noise"):
        pair()[0].predict_given(X, T, obs)
