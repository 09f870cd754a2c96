import math

import pytest
import torch

from rbctrl.metrics import NLL, Chi2
from rbctrl.noise import GaussianNoise, NoNoise, PoissonNoise
from rbctrl.observation import Observation, observe
from rbctrl.operators import Operator
from rbctrl.rng import ImageRNG


class Mask(Operator):
    """Measures the left part of the columns."""

    def __init__(self, share=0.25):
        super().__init__()
        self.share = share

    @property
    def observed(self):
        return (torch.arange(16) < 16 * self.share).double()

    def forward(self, image):
        return image * self.observed


def world(n, noise, share=0.25):
    rng = ImageRNG(0, tuple((f"item{k}", 0) for k in range(n)), torch.float64)
    truth = 2 * rng.uniform("truth", (3, 16, 16)) - 1
    return truth, observe(Mask(share), noise, truth, rng)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_chi2_of_the_truth_is_one_over_many_draws(share):
    n, m = 400, 3 * 16 * 16 * share
    truth, obs = world(n, GaussianNoise(0.05), share)
    scores = Chi2()(truth, None, obs)
    error = math.sqrt(2 / (m * n))  # the variance of chi2 with m degrees of freedom, divided by m, is 2 / m
    assert scores.shape == (n,)
    assert abs(scores.mean() - 1) < 5 * error
    assert scores.var().item() == pytest.approx(2 / m, rel=0.4)
    wrong = Observation(obs.y, obs.operator, GaussianNoise(0.052))
    assert abs(Chi2()(truth, None, wrong).mean() - 1) > 5 * error  # 4 % off in sigma_y is noticed


def test_chi2_counts_measured_entries_only():
    truth, obs = world(3, GaussianNoise(0.1))
    scores = Chi2()(truth, None, obs)
    expected = ((obs.y - truth) / 0.1)[..., :4].square().flatten(1).mean(1)
    torch.testing.assert_close(scores, expected)
    changed = truth.clone()
    changed[..., 4:] = 0.7
    assert Chi2()(changed, None, obs).equal(scores)


def test_chi2_is_undefined_without_noise():
    truth, obs = world(2, NoNoise())
    assert Chi2()(truth, truth, obs).isnan().tolist() == [True, True]


def test_nll_is_that_of_the_observation():
    truth, obs = world(2, GaussianNoise(0.1))
    m, chi2 = 3 * 16 * 4, Chi2()(truth, None, obs)
    expected = m * (chi2 / 2 + math.log(0.1 * math.sqrt(2 * math.pi)))
    torch.testing.assert_close(NLL()(truth, None, obs), expected)
    assert NLL()(*world(2, NoNoise())[:1], None, world(2, NoNoise())[1]).isnan().all()
    assert NLL()(truth, None, world(2, PoissonNoise())[1]).isfinite().all()


@pytest.mark.parametrize("metric", [Chi2(), NLL()])
def test_scores_are_per_row_and_carry_no_gradient(metric):
    truth, obs = world(4, GaussianNoise(0.1))
    scores = metric(truth.requires_grad_(), None, obs)
    assert not scores.requires_grad
    one = metric(truth[2:3], None, obs.take(torch.tensor([2])))
    torch.testing.assert_close(one, scores[2:3])
