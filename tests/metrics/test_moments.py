"""Moments of samples against exact ones: literal values, the law of exact samples, and parts of the image."""

import math

import pytest
import torch
from worlds import MODES, ONE_GAUSSIAN, plane, tiny_prior

from rbctrl.metrics import CovarianceError, Draws, MeanError, VarianceRatio
from rbctrl.noise import GaussianNoise
from rbctrl.observation import given
from rbctrl.operators import Operator, RandomMask
from rbctrl.operators.matrix import Matrix
from rbctrl.priors import Empirical
from rbctrl.priors.gaussian_field import gaussian_field
from rbctrl.rng import ImageRNG
from rbctrl.schedules import VP

RNG = ImageRNG(0, (("a", 0),), torch.float64)
N = 4096


def draws_of(prior, operator, y, samples=None, n=N):
    """`samples`, or n exact ones, of one observation."""
    obs = given(operator, GaussianNoise(0.2), y)
    draws = Draws(torch.zeros(0), None, obs, prior, RNG)
    return Draws(draws.posterior(n) if samples is None else samples, None, obs, prior, RNG)


def flat(parts=MODES, samples=None, n=N, matrix=((1.0, 0.0),)):
    return draws_of(plane(parts), Matrix(matrix), torch.full((1, 1), 0.4, dtype=torch.float64), samples, n)


def moments(draws):
    return tuple(v[0] for v in draws.prior.moments_given(draws.obs))


def test_values_of_two_samples_are_those_computed_by_hand():
    mean, variance = moments(flat(n=2))
    shift, spread = torch.tensor([0.3, -0.4], dtype=torch.float64), torch.tensor([0.5, 2.0], dtype=torch.float64)
    pair = torch.stack([mean + shift * variance.sqrt() + s * spread for s in (1, -1)])  # variance 2 spread^2
    draws = flat(samples=pair)
    assert MeanError()(draws) == pytest.approx(math.sqrt((0.3**2 + 0.4**2) / 2))
    assert VarianceRatio()(draws) == pytest.approx(float(2 * spread.square().sum() / variance.sum()))
    assert VarianceRatio("observed")(draws) == pytest.approx(float(2 * 0.25 / variance[0]))
    assert VarianceRatio("unobserved")(draws) == pytest.approx(float(2 * 4.0 / variance[1]))


def test_covariance_error_is_the_frobenius_norm_against_the_total_covariance_of_the_mixture():
    weights, means, covariances = (v[0] for v in plane().posterior(flat(n=2).obs))
    mean = weights @ means
    exact = sum(w * (c + torch.outer(m - mean, m - mean)) for w, m, c in zip(weights, means, covariances))
    torch.testing.assert_close(exact.diagonal(), moments(flat(n=2))[1])
    factor = math.sqrt(3 / 2) * torch.linalg.cholesky(exact).T  # 4 points of covariance `exact` with n - 1 = 3
    corners = torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]], dtype=torch.float64) / math.sqrt(2)
    samples = mean + corners @ factor
    assert CovarianceError()(flat(samples=samples)) == pytest.approx(0.0, abs=1e-12)
    assert CovarianceError()(flat(samples=mean + 2 * (samples - mean))) == pytest.approx(3.0)


@pytest.mark.parametrize("parts", [ONE_GAUSSIAN, MODES])
def test_exact_samples_score_as_the_docstrings_say_and_biased_ones_do_not(parts):
    exact = flat(parts)
    mean, variance = moments(exact)
    error, ratio = 5 / N**0.5, 5 * (2 / N) ** 0.5
    assert MeanError()(exact) < error
    assert abs(VarianceRatio()(exact) - 1) < ratio
    shifted = flat(parts, exact.samples + 0.1 * variance.sqrt())
    wide = flat(parts, mean + 1.1 * (exact.samples - mean))
    assert MeanError()(shifted) > error
    assert VarianceRatio()(wide) - 1 > ratio


def test_covariance_error_of_exact_samples_of_a_gaussian_is_the_root_of_its_expected_square():
    exact = flat(ONE_GAUSSIAN)
    _, _, c = exact.prior.posterior(exact.obs)
    floor = math.sqrt(float(1 + c.diagonal(dim1=-2, dim2=-1).sum() ** 2 / c.square().sum()) / N)
    assert CovarianceError()(exact) < 3 * floor
    swapped = flat(ONE_GAUSSIAN, exact.samples.flip(1))
    assert CovarianceError()(swapped) > 3 * floor


def test_parts_are_the_pixels_of_the_mask_and_make_up_the_whole():
    prior = gaussian_field(VP())
    operator = RandomMask(0.5).draw(RNG, (1, 8, 8))
    draws = draws_of(prior, operator, operator(prior.sample(RNG, "truth")), n=64)
    seen = operator.observed[0, 0].bool()
    found, exact = draws.samples.var(0)[0], moments(draws)[1][0]
    for where, part in (("observed", seen), ("unobserved", ~seen)):
        assert VarianceRatio(where)(draws) == pytest.approx(float(found[part].mean() / exact[part].mean()))
    assert VarianceRatio("observed")(draws) != pytest.approx(VarianceRatio("unobserved")(draws))


def test_pixels_are_observed_even_where_the_signs_of_a_column_cancel():
    """A^T 1 of [[1, 0], [-1, 0]] is 0; the first coordinate is read nevertheless."""
    cancelling = Matrix([[1.0, 0.0], [-1.0, 0.0]])
    draws = draws_of(plane(), cancelling, torch.tensor([[0.4, -0.4]], dtype=torch.float64), n=64)
    found, exact = draws.samples.var(0), moments(draws)[1]
    assert VarianceRatio("observed")(draws) == pytest.approx(float(found[0] / exact[0]))
    everything = draws_of(plane(), Matrix([[1.0, 1.0]]), torch.ones(1, 1, dtype=torch.float64), n=64)
    assert math.isnan(VarianceRatio("unobserved")(everything))


METRICS = (MeanError(), VarianceRatio(), VarianceRatio("observed"), CovarianceError())


class Square(Operator):
    def forward(self, image):
        return image.square()


def test_undefined_scores_are_nan():
    unknown = draws_of(tiny_prior(), Matrix([[1.0, 0.0]]), torch.zeros(1, 1), torch.zeros(4, 2))
    assert all(math.isnan(metric(unknown)) for metric in METRICS)
    assert all(math.isnan(metric(flat(n=1))) for metric in METRICS[1:])
    empirical = Empirical(VP(), torch.eye(2, dtype=torch.float64))
    images = empirical.images[[0, 1, 1]]
    square = draws_of(empirical, Square(), torch.zeros(1, 2, dtype=torch.float64), images)
    assert math.isnan(CovarianceError()(square)) and math.isnan(VarianceRatio("observed")(square))
    assert math.isfinite(VarianceRatio()(square))


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="'middle'"):
        VarianceRatio("middle")
