import numpy as np
import pytest
import torch
from skimage.restoration import uft, wiener

from rbctrl.controllers.classical import Wiener
from rbctrl.noise import NoNoise
from rbctrl.observation import given
from rbctrl.operators import RandomMask, Separable
from rbctrl.operators.separable import filter_matrix

TAPS = np.array([0.05, 0.25, 0.4, 0.25, 0.05])


class MirrorBlur(Separable):
    """A symmetric blur of an image mirrored with its edge repeated: circular on the doubled image."""

    def matrix(self, n):
        return filter_matrix(TAPS, n, "symmetric", -2)


def doubled(image):
    image = np.concatenate([image, image[::-1]], 0)
    return np.concatenate([image, image[:, ::-1]], 1)


def by_fft(y, balance, order=1):
    """skimage's Wiener filter on the doubled image, with |D^order x|^2 as the regulariser; the first quarter of it."""
    y = doubled(y)
    laplacian, _ = uft.laplacian(2, y.shape)
    regulariser = np.abs(laplacian.real) ** (order / 2) + 0j
    image = wiener(y, np.outer(TAPS, TAPS), balance, reg=regulariser, clip=False)
    return image[: len(image) // 2, : len(image) // 2]


@pytest.mark.parametrize("balance", [0.003, 0.1])
def test_it_equals_the_wiener_filter_of_scikit_image_where_that_applies(balance, measure):
    obs = measure(MirrorBlur())
    image = Wiener(balance).reconstruct(obs, (3, 64, 64)).numpy()
    for k, channel in ((0, 0), (2, 1)):
        y = obs.y[k, channel].numpy()
        np.testing.assert_allclose(image[k, channel], by_fft(y, balance), rtol=0, atol=1e-8)
        assert np.abs(image[k, channel] - by_fft(y, 1.1 * balance)).max() > 1e-3
        assert np.abs(image[k, channel] - by_fft(y, balance, order=2)).max() > 1e-2


def test_skimage_takes_its_own_laplacian_as_order_2():
    y = np.sin(np.arange(64.0)).reshape(8, 8)
    ours = by_fft(y, 0.1, order=2)
    default = wiener(doubled(y), np.outer(TAPS, TAPS), 0.1, clip=False)[:8, :8]
    np.testing.assert_allclose(ours, default, rtol=0, atol=1e-12)


def test_the_normal_equations_hold_on_a_mask(measure, photos):
    obs = measure(RandomMask(0.5))
    balance, image = 0.05, Wiener(0.05).reconstruct(obs, (3, 64, 64)).requires_grad_()
    slopes = image.diff(dim=-1).square().sum() + image.diff(dim=-2).square().sum()
    (grad,) = torch.autograd.grad(obs.residual(image).square().sum() + balance * slopes, image)
    assert grad.abs().max() < 1e-8
    (control,) = torch.autograd.grad(obs.residual(image).square().sum() + 0, image)
    assert control.abs().max() > 1e-2


def test_a_flat_image_comes_back_and_more_balance_is_smoother(measure):
    flat = torch.full((1, 3, 64, 64), 0.4, dtype=torch.float64)
    found = Wiener(0.1).reconstruct(given(MirrorBlur(), NoNoise(), flat), (3, 64, 64))
    torch.testing.assert_close(found, flat, rtol=0, atol=1e-9)
    obs = measure(MirrorBlur())
    rough = [Wiener(b).reconstruct(obs, (3, 64, 64)).diff(dim=-1).square().sum() for b in (0.001, 0.01, 0.1)]
    assert rough[0] > rough[1] > rough[2]


def test_a_balance_of_0_is_refused():
    with pytest.raises(ValueError, match="controller.balance"):
        Wiener(0.0)
