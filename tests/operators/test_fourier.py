"""Undersampled Fourier measurements against numpy, and their masks."""

import numpy as np
import pytest
import torch
from operators.nonlinear import images

from rbctrl.operators import UndersampledFourier


@pytest.mark.parametrize("shape", [(2, 6, 8), (1, 5, 7)])
def test_it_is_numpys_centred_transform_on_the_measured_columns(shape, make_rng):
    x = images(make_rng, shape)
    operator = UndersampledFourier(2, 0.25).draw(make_rng(3), shape)
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x.numpy(), (-2, -1)), norm="ortho"), (-2, -1))
    expected = np.stack([spectrum.real, spectrum.imag], 2).reshape(3, 2 * shape[0], *shape[1:])
    np.testing.assert_allclose(operator(x), expected * operator.observed.numpy(), atol=1e-12)


def test_the_mean_of_the_image_is_in_the_middle(make_rng):
    operator = UndersampledFourier(4, 0.25).draw(make_rng(1), (1, 8, 8))
    y = operator(torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64))
    assert y[0, 0, 4, 4].item() == pytest.approx(0.5 * 8) and y.abs().sum().item() == pytest.approx(4)


@pytest.mark.parametrize(("acceleration", "centre", "total", "middle"), [(4, 0.08, 32, 10), (8, 0.04, 16, 5)])
def test_masks_have_the_stated_number_of_columns_and_all_of_the_centre(acceleration, centre, total, middle, make_rng):
    observed = UndersampledFourier(acceleration, centre).draw(make_rng(20), (1, 4, 128)).observed
    columns = observed[:, 0, 0]
    assert columns.sum(1).tolist() == [total] * 20
    first = (128 - middle + 1) // 2
    assert columns[:, first : first + middle].all() and 59 <= first < 64 < first + middle
    assert 0 < columns.mean(0).min() or (columns.mean(0) > 0).sum() > 80  # the others are spread over all columns


def test_everything_measured_is_the_identity(make_rng):
    x = images(make_rng, (2, 6, 8))
    operator = UndersampledFourier(1, 1).draw(make_rng(3), (2, 6, 8))
    torch.testing.assert_close(operator.pinv(operator(x)), x, rtol=0, atol=1e-12)


def test_a_line_is_worth_its_mirror_image(make_rng):
    """s^2 is 1 where a line and its mirror are measured, 1/2 where one of them is."""
    operator = UndersampledFourier(2, 0.1).draw(make_rng(3), (1, 4, 16))
    squares = operator.svd(torch.zeros(3, 1, 4, 16, dtype=torch.float64)).s.square()
    assert {0.0, 0.5, 1.0} == set(squares.round(decimals=12).flatten().tolist())


@pytest.mark.parametrize("settings", [(0.5, 0.1), (4, 0.3), (4, -0.1)])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match="acceleration"):
        UndersampledFourier(*settings)


def test_a_mask_has_to_be_drawn_first():
    with pytest.raises(ValueError, match="no mask yet"):
        UndersampledFourier(4, 0.1)(torch.zeros(1, 1, 4, 4))
