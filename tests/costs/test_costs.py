import pytest
import torch
from torch.autograd import gradcheck

from rbctrl.costs import Cosine, Cost, GaussianNLL, PoissonNLL, ResidualNorm, TotalVariation, WeightedSum
from rbctrl.noise import GaussianNoise, NoNoise, PoissonNoise
from rbctrl.observation import Observation
from rbctrl.operators.base import Operator
from rbctrl.rng import ImageRNG

RNG = ImageRNG(0, tuple((str(k), 0) for k in range(3)), torch.float64)


class LeftHalf(Operator):
    def forward(self, image):
        return image[..., :2]


def image():
    return RNG.uniform("image", (3, 4, 4)) * 1.6 - 0.8


def observation(noise=None):
    y = LeftHalf()(RNG.uniform("truth", (3, 4, 4)) * 1.6 - 0.8)
    return Observation(y, LeftHalf(), noise or GaussianNoise(0.1))


COSTS = {
    "residual_norm": ResidualNorm(),
    "gaussian_nll": GaussianNLL(),
    "poisson_nll": PoissonNLL(peak=50.0),
    "total_variation": TotalVariation(),
    "cosine": Cosine(),
    "sum": WeightedSum({"a": ResidualNorm(), "b": TotalVariation()}, {"b": 0.3}),
}


@pytest.mark.parametrize("name", COSTS)
def test_cost_of_a_batch_is_the_cost_of_its_images(name):
    cost, obs, x = COSTS[name], observation(), image()
    whole = cost(x, obs)
    assert whole.shape == (3,)
    for k in range(3):
        row = torch.tensor([k])
        torch.testing.assert_close(cost(x[row], obs.take(row)), whole[row])


@pytest.mark.parametrize("name", COSTS)
def test_gradient_is_that_of_finite_differences(name):
    obs = observation()
    assert gradcheck(lambda x: COSTS[name](x, obs), (image().requires_grad_(),))


@pytest.mark.parametrize("name", ["residual_norm", "gaussian_nll", "poisson_nll", "cosine"])
def test_cost_is_least_at_the_truth(name):
    x = image()
    obs = Observation(LeftHalf()(x), LeftHalf(), GaussianNoise(0.1))
    best = COSTS[name](x, obs)
    assert best.abs().max() < 1e-12
    assert (COSTS[name](x + 0.1 * RNG.normal("d", (3, 4, 4)), obs) > best + 1e-6).all()


def test_norm_has_a_gradient_where_the_residual_is_zero():
    x = image().requires_grad_()
    obs = Observation(LeftHalf()(x.detach()), LeftHalf(), GaussianNoise(0.1))
    (grad,) = torch.autograd.grad(ResidualNorm()(x, obs).sum(), x)
    assert (grad == 0).all()


def test_gaussian_cost_is_the_likelihood_up_to_its_constant():
    obs, x = observation(), image()
    difference = obs.nll(x) - GaussianNLL()(x, obs)
    torch.testing.assert_close(difference, difference[:1].expand(3))
    assert GaussianNLL(sigma_y=0.2)(x, obs)[0] == pytest.approx(float(GaussianNLL()(x, obs)[0]) / 4)


def test_poisson_cost_weighs_a_residual_by_the_expected_variance():
    """(counts - expected)^2 / (2 expected), written in counts."""
    obs, x, peak = observation(PoissonNoise(40.0)), image(), 40.0
    counts, expected = peak * (obs.y + 1) / 2, peak * (x[..., :2] + 1) / 2
    written = ((counts - expected).square() / (2 * counts.clamp(min=1.0))).flatten(1).sum(1)
    torch.testing.assert_close(PoissonNLL()(x, obs), written)


def test_total_variation_of_a_ramp():
    ramp = torch.arange(4.0, dtype=torch.float64).view(1, 1, 1, 4).expand(1, 3, 4, 4)
    assert TotalVariation()(ramp, None).item() == pytest.approx(1.0)


def test_cosine_ignores_the_length_of_features():
    obs, x = observation(), image()
    torch.testing.assert_close(Cosine()(2 * x, obs), Cosine()(x, obs))
    torch.testing.assert_close(
        Cosine()(x, Observation(-LeftHalf()(x), LeftHalf(), NoNoise())), torch.full((3,), 2.0).double()
    )


def test_sum_is_the_weighted_sum_and_names_must_agree():
    obs, x = observation(), image()
    torch.testing.assert_close(COSTS["sum"](x, obs), ResidualNorm()(x, obs) + 0.3 * TotalVariation()(x, obs))
    with pytest.raises(ValueError, match="weights for \\['c'\\]"):
        WeightedSum({"a": ResidualNorm()}, {"c": 1.0})


def test_costs_without_a_scale_say_so():
    obs = observation(NoNoise())
    with pytest.raises(ValueError, match="cost.sigma_y"):
        GaussianNLL()(image(), obs)
    with pytest.raises(ValueError, match="cost.peak"):
        PoissonNLL()(image(), obs)
    with pytest.raises(ValueError, match="sigma_y > 0"):
        GaussianNLL(sigma_y=0.0)


def test_costs_say_beforehand_what_they_would_raise():
    for cost in COSTS.values():
        assert cost.check(LeftHalf(), GaussianNoise(0.1)) is None
    for cost, noise in ((GaussianNLL(), NoNoise()), (PoissonNLL(), GaussianNoise(0.1))):
        for asked, prefix in ((cost, ""), (WeightedSum({"a": ResidualNorm(), "b": cost}), "in cost.terms.b, ")):
            with pytest.raises(ValueError) as raised:
                cost(image(), observation(noise))
            assert asked.check(LeftHalf(), noise) == prefix + str(raised.value)


def test_a_base_cost_cannot_be_made():
    with pytest.raises(TypeError):
        Cost()
