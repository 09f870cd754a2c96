"""The finite prior against sums over its images, also for an operator that is not linear."""

import pytest
import torch

from rbctrl.controllers import Doob, NoControl
from rbctrl.controllers.base import Run
from rbctrl.costs import ResidualNorm
from rbctrl.data import Item, Memory
from rbctrl.grids import LogSNR
from rbctrl.noise import GaussianNoise, NoNoise, PoissonNoise
from rbctrl.observation import Objective, given
from rbctrl.operators.base import Operator
from rbctrl.priors import Empirical, ExactPrior
from rbctrl.priors.empirical import from_data
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.schedules import VP

IMAGES = ImageRNG(3, tuple((str(k), 0) for k in range(5)), torch.float64).normal("images", (1, 3, 3)) * 0.4
T = torch.tensor(0.3, dtype=torch.float64)


class Gram(Operator):
    """Non-linear: all products of two rows of the image."""

    def forward(self, image):
        return image @ image.mT


def setting(rows):
    prior = Empirical(VP(), IMAGES)
    y = Gram()(IMAGES[:1]).expand(rows, -1, -1, -1) + 0.05
    return prior, given(Gram(), GaussianNoise(0.25), y)


def test_estimates_are_sums_over_the_images():
    prior, obs = setting(2)
    rng = ImageRNG(0, (("a", 0), ("b", 0)), torch.float64)
    x_t = prior.sample_marginal(T, rng, (1, 3, 3))
    alpha, sigma = (float(v) for v in prior.schedule.levels(T))
    for k in range(2):
        prior_weight = torch.stack([-(x_t[k] - alpha * x).square().sum() / (2 * sigma**2) for x in IMAGES])
        likelihood = torch.stack([-obs.take(torch.tensor([k])).nll(x[None])[0] for x in IMAGES])
        for ours, weight in (
            (prior.predict(x_t, T), prior_weight),
            (prior.predict_given(x_t, T, obs), prior_weight + likelihood),
        ):
            mean = (weight.softmax(0).view(-1, 1, 1, 1) * IMAGES).sum(0)
            torch.testing.assert_close(ours.x0_hat[k], mean, rtol=0, atol=1e-9)
            torch.testing.assert_close(alpha * ours.x0_hat[k] + sigma * ours.eps_hat[k], x_t[k])
        h = (prior_weight.log_softmax(0) + likelihood).logsumexp(0)
        torch.testing.assert_close(prior.log_likelihood(x_t, T, obs)[k], h)


def test_doob_draws_each_image_as_often_as_bayes_says_for_a_nonlinear_operator():
    n = 1500
    prior, obs = setting(n)
    process = ddim(prior, (1, 3, 3), 60, LogSNR(-6, 10), start="marginal")
    run = Run(process, Objective(ResidualNorm(), obs), ImageRNG(0, tuple((str(k), 0) for k in range(n)), torch.float64))
    truth = prior.posterior(obs.take(torch.tensor([0])))[0]

    def distance(controller):
        x_0 = sample(run, controller).x0_hat
        nearest = (x_0[:, None] - IMAGES).square().flatten(2).sum(2).argmin(1)
        frequency = torch.bincount(nearest, minlength=5) / n
        return float((frequency - truth).abs().max())

    bound = 5 * (0.25 / n) ** 0.5 + 1 / 60
    assert distance(Doob()) < bound < distance(NoControl())


@pytest.mark.parametrize("log_snr", [6.0, 12.0])
def test_weights_of_near_duplicates_are_exact_in_fp32(log_snr):
    """Two images that differ in one pixel by sigma / alpha: the log-weights differ by about 1 and are 1e7 and more."""
    rng = ImageRNG(4, (("a", 0),))
    first = 0.4 * rng.normal("image", (3, 16, 16))
    second = first.clone()
    second[0, 0, 0, 0] += 1.5 * torch.tensor(-log_snr / 2).exp()
    prior = Empirical(VP(), torch.cat([first, second]))
    t = LogSNR(log_snr, 13.0).times(prior.schedule, 1)[0]
    alpha, sigma = (float(v) for v in prior.schedule.levels(t))
    x_t = alpha * (first + second) / 2 + sigma * rng.normal("noise", (3, 16, 16))
    distances = (x_t.double() - alpha * prior.images.double()).flatten(1).square().sum(1)
    share = (-distances / (2 * sigma**2)).softmax(0)  # without the large terms that cancel
    eps = (x_t.double() - alpha * torch.einsum("n,nchw->chw", share, prior.images.double())) / sigma
    est = prior.predict(x_t, t)
    assert est.x0_hat.dtype == est.eps_hat.dtype == torch.float32
    torch.testing.assert_close(est.eps_hat.double(), eps, rtol=0, atol=1e-5)
    flat = prior.images.flatten(1)
    single = ((alpha * x_t.flatten(1) @ flat.T - alpha**2 / 2 * flat.square().sum(1)) / sigma**2).softmax(1)[0]
    assert log_snr < 12 or (single.double() - share).abs().max() > 0.05


def test_likelihoods_of_an_fp32_run_are_summed_in_fp64():
    prior, obs = setting(2)
    single = given(obs.operator, obs.noise, obs.y.float())
    double = given(obs.operator, obs.noise, single.y.double())
    images = prior.images.float()
    exact = torch.stack([-double.take(torch.full((5,), k)).nll(images.double()) for k in range(2)])
    ours = Empirical(VP(), images).log_likelihoods(single)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, exact, rtol=0, atol=2e-5)  # A itself runs in fp32


def test_noise_without_a_density_is_refused_and_any_operator_is_taken():
    prior, _ = setting(1)
    assert prior.check(Gram(), GaussianNoise(0.1)) is prior.check(Gram(), PoissonNoise()) is None
    assert "NoNoise leaves undefined" in prior.check(Gram(), NoNoise())


def test_images_come_from_any_data_source_of_one_shape():
    data = Memory([Item(str(k), x.float()) for k, x in enumerate(IMAGES)])
    prior = from_data(data, VP())
    assert isinstance(prior, ExactPrior) and prior.state_shape((1, 3, 3)) == (1, 3, 3)
    assert prior.fingerprint() != Empirical(VP(), 2 * IMAGES).fingerprint()
    with pytest.raises(ValueError, match="one shape"):
        from_data(Memory([Item("a", torch.zeros(1, 3, 3)), Item("b", torch.zeros(1, 4, 4))]), VP())
    with pytest.raises(ValueError, match="holds images"):
        prior.state_shape((3, 3, 3))
