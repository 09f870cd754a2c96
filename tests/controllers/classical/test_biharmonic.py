import pytest
import torch
from worlds import setup

from rbctrl.controllers.classical import Biharmonic
from rbctrl.noise import NoNoise
from rbctrl.observation import given
from rbctrl.operators import BoxMask, Downsample, GaussianBlur, RandomMask
from rbctrl.rng import ImageRNG


def drawn(mask, n=1, size=24):
    return mask.draw(ImageRNG(0, tuple((f"i{k}", 0) for k in range(n)), torch.float64), (3, size, size))


def saddle(size=24):
    """x y, which is biharmonic; 1, 2 and 3 times in the three channels."""
    t = torch.linspace(-0.5, 0.5, size, dtype=torch.float64)
    return torch.stack([k * t[:, None] * t[None, :] for k in (1.0, 2.0, 3.0)])[None]


def test_a_biharmonic_image_is_filled_exactly():
    image = saddle()
    operator = drawn(BoxMask(6, "centre"))
    filled = Biharmonic(0.0).reconstruct(given(operator, NoNoise(), operator(image)), (3, 24, 24))
    torch.testing.assert_close(filled, image, rtol=0, atol=1e-8)
    wavy = (9 * image).cos()
    filled = Biharmonic(0.0).reconstruct(given(operator, NoNoise(), operator(wavy)), (3, 24, 24))
    assert (filled - wavy).abs().max() > 1e-4  # the tolerance above rejects what is not biharmonic


def test_measured_pixels_stay_without_denoising(measure):
    obs = measure(RandomMask(0.5))
    seen = obs.operator.observed.expand_as(obs.y) > 0
    plain, smooth = (Biharmonic(w).reconstruct(obs, (3, 64, 64)) for w in (0.0, 0.05))
    torch.testing.assert_close(plain[seen], obs.y[seen], rtol=0, atol=1e-12)
    assert (smooth[seen] - obs.y[seen]).abs().mean() > 0.01


def test_each_row_has_its_own_mask():
    operator, image = drawn(BoxMask(6, margin=3), n=2), saddle().expand(2, -1, -1, -1)
    assert not torch.equal(*operator.observed)
    filled = Biharmonic(0.0).reconstruct(given(operator, NoNoise(), operator(image)), (3, 24, 24))
    torch.testing.assert_close(filled, image, rtol=0, atol=1e-8)


def test_denoising_raises_the_psnr_under_noise(measure, psnr):
    obs = measure(RandomMask(0.5), sigma_y=0.2)
    plain, smooth = (psnr(Biharmonic(w).reconstruct(obs, (3, 64, 64))) for w in (0.0, 0.1))
    assert (smooth > plain + 1).all()


@pytest.mark.parametrize("operator", [GaussianBlur(1.0), Downsample(2)])
def test_what_is_no_mask_is_refused(operator, silent):
    reason = Biharmonic().check(setup(silent, operator))
    assert type(operator).__name__ in reason and "controller=tv" in reason


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="controller.denoise"):
        Biharmonic(-0.1)
