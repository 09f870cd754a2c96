"""Blur of light under a response curve, pixel by pixel."""

import numpy as np
import pytest
import torch
from operators.nonlinear import images
from scipy.ndimage import correlate

from rbctrl.operators import Downsample, GammaBlur, GaussianBlur, KernelBlur, MotionBlur

KERNEL = np.random.default_rng(0).random((3, 5))


def test_it_is_the_root_of_the_mean_power(make_rng):
    x = images(make_rng, (2, 8, 9)) * 0.9
    y = GammaBlur(KernelBlur(KERNEL), 2.2)(x)
    for row, channel in ((0, 1), (2, 0)):
        light = ((x[row, channel].numpy() + 1) / 2) ** 2.2
        seen = correlate(light, KERNEL / KERNEL.sum(), mode="mirror") ** (1 / 2.2)
        np.testing.assert_allclose(y[row, channel], 2 * seen - 1, atol=1e-12)


def test_gamma_one_is_the_blur_itself(make_rng):
    x, blur = images(make_rng, (2, 8, 9)) * 0.9, GaussianBlur(0.8)
    torch.testing.assert_close(GammaBlur(blur, 1.0)(x), blur(x), rtol=0, atol=1e-12)
    assert (GammaBlur(blur, 2.2)(x) - blur(x)).abs().max() > 0.05


def test_a_bright_point_is_wider_than_in_a_linear_blur():
    x = torch.full((1, 1, 9, 9), -0.9, dtype=torch.float64)
    x[..., 4, 4] = 1.0
    curved, linear = (GammaBlur(GaussianBlur(1.0), gamma)(x)[0, 0, 4, 6] for gamma in (2.2, 1.0))
    assert curved > linear + 0.1


def test_black_pixels_have_a_finite_gradient():
    x = torch.full((1, 1, 9, 9), -1.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(GammaBlur(KernelBlur(np.ones((3, 3))), 2.2)(x).sum(), x)
    assert slope.isfinite().all()


def test_kernels_are_drawn_per_item(make_rng):
    operator = GammaBlur(MotionBlur(5, 0.5)).draw(make_rng(2), (1, 8, 8))
    assert operator.get_buffer(operator.drawn).shape == (2, 1, 5, 5)
    assert GammaBlur(GaussianBlur(1.0)).drawn is None


def test_what_it_cannot_do_is_one_sentence():
    with pytest.raises(TypeError, match="GaussianBlur, got Downsample"):
        GammaBlur(Downsample(2))
    with pytest.raises(ValueError, match="gamma >= 1"):
        GammaBlur(GaussianBlur(1.0), 0.5)
