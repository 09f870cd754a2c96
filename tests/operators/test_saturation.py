"""High dynamic range and quantisation: their formulas, written out."""

import numpy as np
import pytest
import torch
from operators.nonlinear import images

from rbctrl.operators import HighDynamicRange, Quantize


def test_hdr_is_the_clipped_double():
    x = torch.tensor([[-0.9, -0.5, -0.3, 0.0, 0.2, 0.5, 0.51]])
    assert HighDynamicRange()(x)[0].tolist() == pytest.approx([-1, -1, -0.6, 0, 0.4, 1, 1])


def test_hdr_slope_is_twice_inside_and_none_outside():
    x = torch.tensor([-0.9, -0.3, 0.2, 0.6], requires_grad=True)
    HighDynamicRange()(x).sum().backward()
    assert x.grad.tolist() == [0, 2, 2, 0]


def test_hdr_pseudo_inverse_is_the_shortest_image_with_this_measurement(make_rng):
    operator, x = HighDynamicRange(), images(make_rng, (3, 4, 4))
    back = operator.pinv(operator(x))
    torch.testing.assert_close(operator(back), operator(x), rtol=0, atol=0)
    assert (back.square().flatten(1).sum(1) < x.square().flatten(1).sum(1)).all()


def test_quantize_to_two_bits_has_four_levels():
    x = torch.tensor([-1.5, -1.0, -0.7, -0.6, 0.1, 0.6, 0.7, 1.0, 1.4], dtype=torch.float64)
    third = 1 / 3
    expected = [-1, -1, -1, -third, third, third, 1, 1, 1]
    assert Quantize(2)(x).tolist() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantize_is_the_nearest_of_all_levels(bits, make_rng):
    x = images(make_rng, (3, 4, 4)).numpy()
    levels = np.linspace(-1, 1, 2**bits)
    nearest = levels[np.abs(x[..., None] - levels).argmin(-1)]
    np.testing.assert_allclose(Quantize(bits)(torch.from_numpy(x)), nearest, atol=1e-14)


def test_eight_bits_leave_an_eight_bit_picture_as_it_is():
    x = 2 * torch.arange(256, dtype=torch.float64) / 255 - 1
    torch.testing.assert_close(Quantize(8)(x), x, rtol=0, atol=1e-15)
    assert (Quantize(7)(x) - x).abs().max() > 1e-3


def test_quantize_passes_gradients_straight_through():
    x = torch.tensor([-1.5, 0.1, 0.9], requires_grad=True)
    (Quantize(2)(x) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [1, 2, 3]


@pytest.mark.parametrize("make", [lambda: HighDynamicRange(0.5), lambda: Quantize(0), lambda: Quantize(17)])
def test_wrong_settings_are_refused(make):
    with pytest.raises(ValueError, match="needs"):
        make()
