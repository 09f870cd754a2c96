"""Phase retrieval against numpy's transform, its two ranges, what it cannot see, and its guess."""

import numpy as np
import pytest
import torch
from operators.nonlinear import images

from rbctrl.operators import PhaseRetrieval


def by_hand(image: np.ndarray, unit: bool) -> np.ndarray:
    """At oversample 2: a quarter of each side of zeros around, and the modulus of the orthonormal spectrum."""
    u = (image + 1) / 2 if unit else image
    height, width = u.shape[-2:]
    big = np.zeros((*u.shape[:-2], height + height // 4 * 2, width + width // 4 * 2))
    big[..., height // 4 : height // 4 + height, width // 4 : width // 4 + width] = u
    spectrum = np.fft.fft2(np.fft.ifftshift(big, (-2, -1))) / np.sqrt(big.shape[-2] * big.shape[-1])
    return np.abs(np.fft.fftshift(spectrum, (-2, -1)))


@pytest.mark.parametrize(("value_range", "unit"), [("unit", True), ("signed", False)])
def test_it_is_the_modulus_of_numpys_transform(value_range, unit, make_rng):
    x = images(make_rng, (3, 16, 12))
    y = PhaseRetrieval(2.0, value_range)(x)
    assert y.shape == (3, 3, 24, 18)
    np.testing.assert_allclose(y, by_hand(x.numpy(), unit), atol=1e-12)
    assert np.abs(y.numpy() - by_hand(x.numpy(), not unit)).max() > 0.1


def test_the_benchmarks_grid_is_384_for_256():
    assert PhaseRetrieval()(torch.zeros(1, 1, 256, 256)).shape == (1, 1, 384, 384)
    assert PhaseRetrieval().image_shape((3, 384, 384)) == (3, 256, 256)


@pytest.mark.parametrize("oversample", [0.0, 1.0, 2.0, 3.3])
@pytest.mark.parametrize("n", [5, 8, 61, 64])
def test_image_shape_undoes_the_margins(oversample, n):
    operator = PhaseRetrieval(oversample)
    assert operator.image_shape(tuple(operator(torch.zeros(1, 3, n, 8)).shape[1:])) == (3, n, 8)


def test_an_impossible_grid_is_refused():
    with pytest.raises(ValueError, match="grid of 16 at oversample=2.0"):
        PhaseRetrieval().image_shape((3, 16, 16))


def test_a_rotation_by_180_degrees_is_measured_alike_and_a_mirror_image_is_not(make_rng):
    x, operator = images(make_rng, (3, 8, 8)), PhaseRetrieval()
    torch.testing.assert_close(operator(x.flip((-2, -1))), operator(x), rtol=0, atol=1e-12)
    one_channel = torch.cat([x[:, :1].flip((-2, -1)), x[:, 1:]], 1)  # every channel on its own
    torch.testing.assert_close(operator(one_channel), operator(x), rtol=0, atol=1e-12)
    assert (operator(x.flip(-1)) - operator(x)).abs().max() > 0.1


def test_the_sign_is_lost_on_the_signed_range_only(make_rng):
    x = images(make_rng, (3, 8, 8))
    torch.testing.assert_close(*(PhaseRetrieval(2.0, "signed")(z) for z in (x, -x)), rtol=0, atol=1e-12)
    assert (PhaseRetrieval()(x) - PhaseRetrieval()(-x)).abs().max() > 0.1


def test_guess_is_the_image_where_all_phases_are_zero():
    """A point in the middle of the grid has a flat, real spectrum: the guess is the point itself."""
    x = torch.full((1, 1, 8, 8), -1.0, dtype=torch.float64)
    x[..., 4, 4] = 1.0
    operator = PhaseRetrieval()
    torch.testing.assert_close(operator.guess(operator(x)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{"oversample": -1.0}, {"value_range": "all"}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        PhaseRetrieval(**settings)
