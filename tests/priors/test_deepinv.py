"""A denoiser with deepinv's signature as a prior; the package itself is tested where it is installed."""

import pytest
import torch
from torch import nn

from rbctrl.priors.deepinv import deepinv_denoiser
from rbctrl.schedules import VE, VP

T = torch.tensor(0.1, dtype=torch.float64)
MEAN, SD = 0.5, 0.2


class Denoiser(nn.Module):
    """denoiser(x, sigma) on [0, 1], exact for pixels of N(0.5, 0.2^2)."""

    def forward(self, x, sigma):
        share = SD**2 / (SD**2 + sigma.square().view(-1, 1, 1, 1))
        return MEAN + share * (x - MEAN)


@pytest.mark.parametrize("schedule", [None, VE(sigma_max=1.5, rho=1.0)])
def test_it_is_the_exact_prior_of_its_gaussian_on_our_range(schedule):
    prior = deepinv_denoiser(Denoiser, sigma_max=1.0, schedule=schedule)
    prior.load()
    alpha, sigma = (float(v) for v in (schedule or VP()).levels(T))
    x_t = torch.linspace(-1, 1, 96, dtype=torch.float64).view(2, 3, 4, 4)
    mean, sd = 2 * MEAN - 1, 2 * SD
    exact = mean + alpha * sd**2 / (alpha**2 * sd**2 + sigma**2) * (x_t - alpha * mean)
    torch.testing.assert_close(prior.predict(x_t, T).x0_hat, exact, rtol=0, atol=1e-10)
    on_another_range = deepinv_denoiser(Denoiser(), sigma_max=1.0, schedule=schedule, value_range=(-1.0, 1.0))
    assert not torch.allclose(on_another_range.predict(x_t, T).x0_hat, exact, atol=1e-2)


def test_noise_beyond_its_training_is_refused():
    prior = deepinv_denoiser(Denoiser(), sigma_max=50 / 255)
    with pytest.raises(ValueError, match="above all that this network was trained for"):
        prior.predict(torch.zeros(1, 3, 4, 4), torch.tensor(0.9, dtype=torch.float64))


def test_a_denoiser_of_the_package():
    models = pytest.importorskip("deepinv.models", exc_type=ImportError)
    prior = deepinv_denoiser(models.TVDenoiser(), sigma_max=0.2)
    assert prior.predict(torch.zeros(1, 3, 8, 8), T).x0_hat.shape == (1, 3, 8, 8)
