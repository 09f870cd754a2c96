import pytest
import torch
from worlds import setup

from rbctrl.controllers.classical import Bicubic
from rbctrl.noise import NoNoise
from rbctrl.observation import given
from rbctrl.operators import Downsample, FreeformMask, GaussianBlur, MotionBlur


def ramp(n):
    return torch.linspace(-0.9, 0.9, n, dtype=torch.float64).expand(1, 3, n, n)


def test_a_ramp_comes_back_in_place():
    operator, image = Downsample(4), ramp(32)
    large = Bicubic(0.0).reconstruct(given(operator, NoNoise(), operator(image)), (3, 32, 32))
    inside = (..., slice(8, -8))
    half_a_pixel = 0.9 / 31  # on the ramp
    assert (large[inside] - image[inside]).abs().max() < half_a_pixel / 2  # with a = -0.75 ramps are a little wavy
    assert (large.roll(1, -1)[inside] - image[inside]).abs().min() > half_a_pixel


def test_denoising_lowers_the_error_of_noisy_photographs_and_0_is_plain_bicubic(measure, psnr):
    obs = measure(Downsample(2), sigma_y=0.2)
    plain = torch.nn.functional.interpolate(obs.y, scale_factor=2, mode="bicubic", align_corners=False)
    assert torch.equal(Bicubic(0.0).reconstruct(obs, (3, 64, 64)), plain)
    assert (psnr(Bicubic(0.1).reconstruct(obs, (3, 64, 64))) > psnr(plain) + 0.5).all()


@pytest.mark.parametrize("operator", [GaussianBlur(1.0), FreeformMask((0.1, 0.2)), MotionBlur(5, 0.5)])
def test_what_does_not_reduce_the_image_is_refused(operator, silent):
    reason = Bicubic().check(setup(silent, operator))
    assert type(operator).__name__ in reason and "controller=tv" in reason


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="controller.denoise"):
        Bicubic(-0.1)
