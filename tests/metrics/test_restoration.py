import math

import pytest
import torch
from skimage.metrics import structural_similarity

from rbctrl.metrics import PSNR, SSIM
from rbctrl.noise import GaussianNoise
from rbctrl.observation import given
from rbctrl.operators import Operator

METRICS = {"psnr": PSNR(), "ssim": SSIM()}


class Whole(Operator):
    def forward(self, image):
        return image


def pair(n=4, size=24, channels=3, noise=0.2):
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(n, channels, size, size, generator=generator) * 1.6 - 0.8
    return truth + noise * torch.randn(truth.shape, generator=generator), truth


def score(metric, image, truth):
    return metric(image, truth, given(Whole(), GaussianNoise(0.1), image))


def test_psnr_equals_the_formula():
    image, truth = pair()
    error = (image.double().clamp(-1, 1) - truth.double()).square().flatten(1).mean(1)
    torch.testing.assert_close(score(PSNR(), image, truth), (10 * (4 / error).log10()).float(), rtol=1e-6, atol=0)


def test_psnr_of_a_known_error():
    truth = torch.zeros(1, 3, 8, 8)
    assert score(PSNR(), truth + 0.2, truth).item() == pytest.approx(20.0, abs=1e-4)
    assert score(PSNR(), truth, truth).item() == math.inf


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_scikit_image_with_a_gaussian_window(channels):
    image, truth = pair(channels=channels)
    clamped = image.clamp(-1, 1)
    settings = dict(channel_axis=0, data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    pairs = list(zip(clamped.double().numpy(), truth.double().numpy(), strict=True))
    expected = [structural_similarity(a, b, **settings) for a, b in pairs]
    assert score(SSIM(), image, truth).tolist() == pytest.approx(expected, abs=1e-6)
    uniform = [structural_similarity(a, b, channel_axis=0, data_range=2.0) for a, b in pairs]
    assert max(abs(a - b) for a, b in zip(expected, uniform, strict=True)) > 1e-3  # scikit-image's default is another


def test_ssim_of_equal_images_is_one_and_of_tiny_ones_undefined():
    image, truth = pair()
    assert score(SSIM(), truth, truth).tolist() == pytest.approx([1.0] * 4)
    assert score(SSIM(), image[..., :10], truth[..., :10]).isnan().all()
    assert score(SSIM(), image[..., :11], truth[..., :11]).isfinite().all()


@pytest.mark.parametrize("name", METRICS)
def test_a_score_does_not_depend_on_the_batch(name):
    image, truth = pair()
    together = score(METRICS[name], image, truth)
    alone = torch.cat([score(METRICS[name], image[k : k + 1], truth[k : k + 1]) for k in range(4)])
    assert together.equal(alone)
    image[2] = math.nan
    broken = score(METRICS[name], image, truth)
    assert broken.isnan().tolist() == [False, False, True, False]
    assert broken[[0, 1, 3]].equal(together[[0, 1, 3]])


@pytest.mark.parametrize("name", METRICS)
def test_values_beyond_the_range_are_clamped(name):
    image, truth = pair(noise=1.0)
    assert image.abs().max() > 1.5
    assert score(METRICS[name], image, truth).equal(score(METRICS[name], image.clamp(-1, 1), truth))


@pytest.mark.parametrize("name", METRICS)
def test_infinite_pixels_are_not_clamped_into_a_finite_score(name):
    image, truth = pair()
    image[1, 0, 0, 0] = math.inf
    assert score(METRICS[name], image, truth).isnan().tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", METRICS)
def test_without_truth_the_score_is_undefined(name):
    assert score(METRICS[name], pair()[0], None).isnan().tolist() == [True] * 4


@pytest.mark.parametrize("name", METRICS)
def test_shapes_that_differ_are_refused(name):
    image, truth = pair()
    with pytest.raises(ValueError, match=r"\[4, 3, 24, 24\].*\[4, 3, 24, 23\]"):
        score(METRICS[name], image, truth[..., :-1])
