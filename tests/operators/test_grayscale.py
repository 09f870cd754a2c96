import pytest
import torch

from rbctrl.operators import Grayscale


def test_weights_are_the_mean_and_the_luma():
    red = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert Grayscale()(red).item() == pytest.approx(1 / 3)
    assert Grayscale("luma")(red).item() == pytest.approx(0.299)


def test_pinv_of_the_mean_is_the_gray_image_itself():
    gray = torch.tensor([[[[0.4]]]], dtype=torch.float64)
    assert Grayscale().pinv(gray).flatten().tolist() == pytest.approx([0.4] * 3)
    shortest = Grayscale("luma").pinv(gray).flatten()
    norm = 0.299**2 + 0.587**2 + 0.114**2
    assert shortest.tolist() == pytest.approx([0.4 * w / norm for w in (0.299, 0.587, 0.114)])


def test_what_it_cannot_do_is_one_sentence():
    with pytest.raises(ValueError, match="3 channels, got 1"):
        Grayscale().draw(None, (1, 4, 4))
    with pytest.raises(ValueError, match="'mean' or 'luma'"):
        Grayscale("red")
