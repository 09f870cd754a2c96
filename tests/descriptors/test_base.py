"""What every descriptor keeps by its base class: frozen, in evaluation mode, differentiable, each row on its own."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.autograd import gradcheck

from rbctrl.descriptors import Descriptor, Preprocess


class Tiny(Descriptor):
    """A random network with everything that could go wrong: dropout, batch statistics, trainable weights."""

    def __init__(self, preprocess=None):
        super().__init__(preprocess or Preprocess(8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)))
        self.network, self.reads = None, 0

    def read(self):
        self.reads += 1
        layers = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Tanh(), nn.Dropout(0.5), nn.Conv2d(5, 4, 3)
        self.network = nn.Sequential(*layers)
        generator = torch.Generator().manual_seed(0)
        for weight in self.network.parameters():
            nn.init.normal_(weight, 0.0, 0.5, generator)

    def encode(self, x):
        return self.network(x).mean((2, 3))


def images(n=3, height=12, width=16):
    return 2 * torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1


@pytest.fixture
def tiny():
    descriptor = Tiny()
    descriptor.load()
    return descriptor


def test_weights_are_read_once_and_only_by_load():
    descriptor = Tiny()
    with pytest.raises(RuntimeError, match=r"Tiny are not there yet: call load\(\)"):
        descriptor(images().float())
    descriptor.load()
    descriptor.load()
    assert descriptor.reads == 1


def test_weights_are_frozen_and_the_gradient_is_that_of_the_image_through_resize_and_normalisation(tiny):
    tiny.double()
    x = 0.5 * images(1, 4, 5)
    assert gradcheck(tiny, (x.requires_grad_(),))
    assert not any(weight.requires_grad for weight in tiny.parameters())
    tiny(x).sum().backward()
    assert all(weight.grad is None for weight in tiny.parameters()) and (x.grad != 0).any()


def test_it_stays_in_evaluation_mode(tiny):
    x = images().float()
    before = tiny(x)
    tiny.train()
    statistics = tiny.network[1].running_mean.clone()
    assert torch.equal(tiny(x), before) and torch.equal(tiny.network[1].running_mean, statistics)
    tiny.network.train()  # the negative control: what `train` would have done
    assert not torch.allclose(tiny(x), before)


def test_rows_do_not_see_each_other(tiny):
    x = images().float()
    whole = tiny(x)
    for k in range(3):
        torch.testing.assert_close(tiny(x[k : k + 1]), whole[k : k + 1], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(whole[0], whole[1], atol=1e-3)


def test_it_computes_in_the_precision_of_its_weights_and_answers_in_that_of_the_image(tiny):
    single = tiny(images().float())
    as_double = tiny(images())
    assert as_double.dtype == torch.float64 and torch.equal(as_double.float(), single)
    assert tiny.features(images()).dtype == torch.float32
    exact = tiny.double()(images())
    assert 0 < (exact - as_double).abs().max() < 1e-5


def test_images_that_are_not_rgb_are_refused(tiny):
    with pytest.raises(ValueError, match=r"describes images \[B, 3, H, W\], got \[2, 1, 8, 8\]"):
        tiny(torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize(("width", "height", "size"), [(64, 48, 24), (48, 65, 24), (33, 21, 14)])
def test_resize_and_crop_are_those_of_clip_up_to_rounding_to_bytes(width, height, size):
    """Pillow's bicubic, short side to the size, the middle square cut out by hand; on a smooth picture."""
    y, x = np.mgrid[:height, :width] / 3
    levels = np.stack([np.sin(x + k) * np.cos(y - k) for k in range(3)], -1) * 90 + 128
    picture = Image.fromarray(levels.round().astype(np.uint8))
    short = min(picture.size)
    small = picture.resize(tuple(int(side * size / short) for side in picture.size), Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in small.size)
    expected = np.array(small)[top : top + size, left : left + size].transpose(2, 0, 1) / 255
    image = torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy())[None].double() / 127.5 - 1
    shown = Preprocess(size).double()(image)[0].numpy()
    assert np.abs(shown - expected).max() < 1.5 / 255
    nearest = picture.resize(small.size, Image.Resampling.NEAREST)  # the negative control: another filter
    other = np.array(nearest)[top : top + size, left : left + size].transpose(2, 0, 1) / 255
    assert np.abs(other - expected).max() > 5 / 255


def test_without_a_crop_nothing_is_lost_and_the_normalisation_is_of_the_zero_to_one_range():
    image = torch.full((1, 3, 6, 10), -1.0)
    image[..., 7:] = 1.0
    whole = Preprocess(4, "none", mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))(image)
    assert whole.shape == (1, 3, 4, 4)
    torch.testing.assert_close(whole[0, :, 0, 3], torch.tensor([2.0, 1.0, 0.5]), rtol=0, atol=0.2)
    assert Preprocess(4)(image)[0, 0].max() < 1.2 and Preprocess()(image).shape == image.shape
    assert Preprocess(6)(image[..., :6]).shape == (1, 3, 6, 6)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="crop is 'center' or 'none', got 'left'"):
        Preprocess(8, "left")
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        Preprocess(0)
    with pytest.raises(TypeError):
        Descriptor()
