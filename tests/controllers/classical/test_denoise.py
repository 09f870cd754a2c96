import torch

from rbctrl.controllers.classical.denoise import denoise_tv


def test_two_flat_halves_move_together_by_weight_over_area():
    """The minimiser of 1/2 |u - f|^2 + w TV(u) for a step of two halves: each moves by w (edge length) / (pixels)."""
    image = torch.full((1, 1, 6, 8), -0.5, dtype=torch.float64)
    image[..., 4:] = 0.5
    expected = image - 0.2 / 4 * image.sign()
    torch.testing.assert_close(denoise_tv(image, 0.2, 5000), expected, rtol=0, atol=1e-4)
    assert (denoise_tv(image, 0.1, 5000) - expected).abs().max() > 0.02  # half of the weight is told apart


def test_weight_0_returns_the_image_and_more_steps_change_less():
    image = torch.sin(torch.arange(96, dtype=torch.float64)).view(1, 2, 6, 8)
    assert torch.equal(denoise_tv(image, 0.0), image)
    last = denoise_tv(image, 0.3, 4000)
    errors = [(denoise_tv(image, 0.3, n) - last).abs().max() for n in (2, 20, 200)]
    assert errors[0] > errors[1] > errors[2]


def test_channels_and_rows_do_not_see_each_other():
    image = torch.sin(torch.arange(240, dtype=torch.float64)).view(2, 3, 5, 8)
    whole = denoise_tv(image, 0.2)
    torch.testing.assert_close(denoise_tv(image[1:, 2:], 0.2), whole[1:, 2:], rtol=0, atol=0)
