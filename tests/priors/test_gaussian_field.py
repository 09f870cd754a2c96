import math

import pytest
import torch

from rbctrl.cli import load_experiment
from rbctrl.noise import GaussianNoise
from rbctrl.observation import observe
from rbctrl.operators import RandomMask
from rbctrl.priors.gaussian_field import gaussian_field
from rbctrl.rng import ImageRNG
from rbctrl.schedules import VP
from rbctrl.testing import check_prior

FIELD = {"size": 8, "length_scale": 1.5, "sd": 0.4, "mean": 0.1, "jitter": 0.001}


def rows(n):
    return ImageRNG(0, tuple((f"item{k}", 0) for k in range(n)), torch.float64)


def test_covariance_of_two_pixels_falls_with_their_distance_as_stated():
    covariance = gaussian_field(VP(), **FIELD).covariances[0].view(8, 8, 8, 8)
    assert float(covariance[2, 3, 2, 3]) == pytest.approx(0.16 * 1.001)
    for (a, b), squared in {((2, 3), (2, 4)): 1, ((2, 3), (5, 3)): 9, ((0, 0), (7, 7)): 98}.items():
        assert float(covariance[(*a, *b)]) == pytest.approx(0.16 * math.exp(-squared / (2 * 1.5**2)))


def test_samples_have_the_mean_and_covariance_of_the_field_and_not_that_of_a_rougher_one():
    n = 4096
    prior, rougher = gaussian_field(VP(), **FIELD), gaussian_field(VP(), **FIELD | {"length_scale": 1.3})
    images = prior.sample(rows(n), "x")
    assert images.shape == (n, 1, 8, 8)
    assert (images.mean(0) - 0.1).abs().max() < 5 * 0.4 / n**0.5
    found = images.flatten(1).T.cov()
    c = prior.covariances[0]
    error = 5 * ((c.square() + c.diagonal()[:, None] * c.diagonal()) / n).sqrt()  # of a sample covariance
    assert ((found - c).abs() < error).all()
    assert not ((found - rougher.covariances[0]).abs() < error).all()


def test_a_missing_pixel_is_partly_known_from_its_neighbours():
    prior = gaussian_field(VP(), **FIELD)
    rng = rows(1)
    operator = RandomMask(0.5).draw(rng, (1, 8, 8))
    obs = observe(operator, GaussianNoise(0.1), prior.sample(rng, "x"), rng)
    variance = prior.moments_given(obs)[1]
    seen = operator.observed > 0
    assert variance[seen].max() < 0.1**2  # better than its own measurement
    assert 2 * variance[seen].mean() < variance[~seen].mean() < 0.5 * 0.4**2
    independent = gaussian_field(VP(), **FIELD | {"length_scale": 0.05})
    assert independent.moments_given(obs)[1][~seen].min() > 0.9 * 0.4**2


def test_it_passes_the_shared_suite_of_priors():
    prior = gaussian_field(VP(), **FIELD)
    assert check_prior(prior)


def test_options_of_conf_draw_their_data_from_the_field():
    experiment = load_experiment("prior=gaussian_field", "data=gmm", "metrics=likelihood")
    items = list(experiment.data.items())
    assert [tuple(item.image.shape) for item in items] == [(1, 8, 8)] * 4
    assert not torch.equal(items[0].image, items[1].image)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"length_scale": 0.0}, {"sd": -1.0}, {"jitter": -0.1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        gaussian_field(VP(), **FIELD | wrong)


def test_a_singular_covariance_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="raise jitter"):
        gaussian_field(VP(), **FIELD | {"length_scale": 8.0, "jitter": 0.0})
