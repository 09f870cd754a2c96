import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from rbctrl.metrics import FID, KID, Features


class Pixels(nn.Module):
    def forward(self, x):
        return x.flatten(2)[:, :, :2].flatten(1)


@pytest.fixture
def sets():
    generator = np.random.default_rng(0)
    draw = lambda shift: torch.from_numpy(np.clip(generator.normal(shift, 0.3, (40, 3, 4, 4)), -1, 1)).float()  # noqa: E731
    return draw(0.0), draw(0.2)


def features_of(images):
    return Pixels()((images.double() + 1) / 2).numpy()


def test_fid_is_its_formula(sets):
    a, b = map(features_of, sets)
    covariances = np.cov(a.T), np.cov(b.T)
    cross = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * cross)
    found = FID(Features(Pixels(), [0, 1]))([sets[0]], [sets[1]])
    assert found == pytest.approx(expected, rel=1e-6)
    assert found > 5 * FID(Features(Pixels(), [0, 1]))([sets[0]], [sets[0].flip(0)])


def test_kid_is_its_formula_and_does_not_depend_on_chance(sets):
    a, b = map(features_of, sets)
    kernel = lambda u, v: (u @ v.T / 6 + 1) ** 3  # noqa: E731
    off = 1 - np.eye(40)
    within = [(kernel(u, u) * off).sum() / (40 * 39) for u in (a, b)]
    expected = sum(within) - 2 * kernel(a, b).mean()
    metric = KID(Features(Pixels(), [0, 1]))
    assert metric([sets[0]], [sets[1]]) == pytest.approx(expected, rel=1e-6)
    assert metric(sets[0].split(7), sets[1].split(9)) == pytest.approx(expected, rel=1e-6)


def test_one_image_is_no_set(sets):
    for metric in (FID, KID):
        assert math.isnan(metric(Features(Pixels(), [0, 1]))([sets[0][:1]], [sets[1]]))
        assert math.isnan(metric(Features(Pixels(), [0, 1]))([], []))


def test_gray_images_are_repeated_and_resized():
    found = Features(nn.Flatten(2), [0, 1], size=4)
    with pytest.raises(ValueError, match=r"returned \[2, 3, 16\] for 2 images: \[B, D\] is needed"):
        found(torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize("arguments", [(3, [0, 1]), (nn.Identity(), [0, 1, 2])])
def test_what_is_no_extractor_is_refused(arguments):
    with pytest.raises((TypeError, ValueError), match="features.network is|value_range is"):
        Features(*arguments)
