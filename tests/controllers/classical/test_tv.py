import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from rbctrl.controllers.classical import TV
from rbctrl.controllers.classical.denoise import denoise_tv
from rbctrl.noise import GaussianNoise, NoNoise
from rbctrl.observation import given, observe
from rbctrl.operators import BoxMask, Downsample, GaussianBlur, Identity
from rbctrl.rng import ImageRNG

SIZE = 10
SHARP = dict(n_steps=200, rho=0.3, inner_steps=100)


def small_problem(operator):
    """A bright square on a ramp, measured with noise."""
    image = torch.linspace(-0.5, 0.2, SIZE, dtype=torch.float64).expand(1, 1, SIZE, SIZE).clone()
    image[..., 2:6, 3:8] = 0.8
    rng = ImageRNG(0, (("square", 0),), torch.float64)
    return observe(operator.double().draw(rng, (1, SIZE, SIZE)), GaussianNoise(0.1), image, rng)


def objective(image, obs, weight, smooth=0.0):
    dy = torch.nn.functional.pad(image.diff(dim=-2), (0, 0, 0, 1))
    dx = torch.nn.functional.pad(image.diff(dim=-1), (0, 1))
    return obs.residual(image).square().sum() / 2 + weight * (dy.square() + dx.square() + smooth).sqrt().sum()


def brute_force(obs, weight):
    """L-BFGS on TV with |grad| smoothed less and less."""

    def value(flat, smooth):
        image = torch.from_numpy(flat).view(1, 1, SIZE, SIZE).requires_grad_()
        with torch.enable_grad():
            total = objective(image, obs, weight, smooth)
        return total.item(), torch.autograd.grad(total, image)[0].flatten().numpy()

    flat = np.zeros(SIZE * SIZE)
    for smooth in (1e-2, 1e-4, 1e-6, 1e-8):
        options = dict(maxiter=1500, maxfun=3000, ftol=1e-14, gtol=1e-9)
        flat = minimize(value, flat, args=(smooth,), jac=True, method="L-BFGS-B", options=options).x
    return torch.from_numpy(flat).view(1, 1, SIZE, SIZE)


@pytest.mark.parametrize("operator", [GaussianBlur(1.0), Downsample(2), BoxMask(4, "centre")], ids=repr)
def test_the_limit_is_the_minimiser_found_by_brute_force(operator):
    obs, weight = small_problem(operator), 0.05
    truth = brute_force(obs, weight)
    best = objective(truth, obs, weight)
    found, early, other = (
        TV(w, **(SHARP | more)).reconstruct(obs, (1, SIZE, SIZE))
        for w, more in ((weight, {}), (weight, {"n_steps": 2}), (weight / 2, {}))
    )
    assert abs(objective(found, obs, weight) / best - 1) < 1e-3
    assert objective(early, obs, weight) / best - 1 > 1e-2  # not there yet
    assert objective(other, obs, weight) / best - 1 > 1e-2  # the minimiser of another weight


def test_the_limit_of_a_strictly_convex_problem_is_the_same_image():
    obs = small_problem(GaussianBlur(0.6))
    truth = brute_force(obs, 0.05)
    errors = [
        (TV(w, 200, 0.3, inner_steps).reconstruct(obs, (1, SIZE, SIZE)) - truth).abs().max()
        for w, inner_steps in ((0.05, 400), (0.05, 50), (0.05, 10), (0.1, 400))
    ]
    assert errors[0] < 3e-3 < errors[1] < errors[2]  # what is left is the inner denoiser's
    assert errors[3] > 2e-2


@pytest.mark.parametrize("rho", [1.0, 4.0])
def test_on_the_identity_it_is_the_denoiser_whatever_rho(rho):
    obs = small_problem(Identity())
    found = TV(0.1, n_steps=200, rho=rho, inner_steps=200).reconstruct(obs, (1, SIZE, SIZE))
    exact = denoise_tv(obs.y, 0.1, 20000)
    assert (found - exact).abs().max() < 2e-3
    assert (denoise_tv(obs.y, 0.09, 20000) - exact).abs().max() > 5e-3


def test_a_flat_image_stays_flat():
    operator = Downsample(2)
    y = torch.full((1, 1, 5, 5), 0.3, dtype=torch.float64)
    found = TV(0.05, **SHARP).reconstruct(given(operator, NoNoise(), y), (1, SIZE, SIZE))
    torch.testing.assert_close(found, torch.full_like(found, 0.3), rtol=0, atol=1e-6)


def test_the_default_settings_are_near_the_limit(measure):
    obs = measure(GaussianBlur(1.5)).take(torch.tensor([0]))
    default, limit = (
        objective(c.reconstruct(obs, (3, 64, 64)), obs, 0.01) for c in (TV(0.01), TV(0.01, n_steps=150, inner_steps=60))
    )
    crude = objective(TV(0.01, n_steps=100, inner_steps=2).reconstruct(obs, (3, 64, 64)), obs, 0.01)
    assert default / limit - 1 < 5e-3 < crude / limit - 1


@pytest.mark.parametrize(("setting", "value"), [("weight", 0.0), ("n_steps", 0), ("rho", -1.0), ("inner_steps", 1)])
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"controller.{setting}"):
        TV(**{setting: value})
