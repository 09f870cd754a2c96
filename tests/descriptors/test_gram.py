"""Gram matrices of VGG's features, Gatys' loss written out; of fixed filters, their statistics written out."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from rbctrl.costs import SquaredDistance
from rbctrl.descriptors import FilterGram, VGGGram
from rbctrl.descriptors.gram import gram
from rbctrl.noise import NoNoise
from rbctrl.observation import observe
from rbctrl.operators import Style
from rbctrl.rng import ImageRNG

WIDTHS = {"vgg16": (2, 3, 4, 5, 6), "vgg19": (2, 3, 4, 5, 6)}
COUNTS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
# Where torchvision's `features` has convolutions.
PLACES = {
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}


def tensors(net):
    """torchvision's table at small widths, the classifier included."""
    generator = torch.Generator().manual_seed(0)
    widths = [w for w, count in zip(WIDTHS[net], COUNTS[net]) for _ in range(count)]
    state = {"classifier.0.weight": torch.zeros(2, 2)}
    for place, inputs, outputs in zip(PLACES[net], [3, *widths], widths):
        state[f"features.{place}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * 0.4
        state[f"features.{place}.bias"] = torch.randn(outputs, generator=generator) * 0.1
    return state


def by_hand(net, state, image, pool):
    """Gatys' style loss between two images: sum of w_l / (4 N^2 M^2) |F F' - P P'|^2, w_l = 1 / 5, after conv*_1."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, place, found = ((image + 1) / 2 - mean) / std, iter(PLACES[net]), []
    for count in COUNTS[net]:
        for k in range(count):
            number = next(place)
            x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1).relu()
            if k == 0:
                found.append(x.flatten(2))
        x = pool(x, 2)
    loss = 0
    for a in found:
        n, m = a.shape[1:]
        difference = a[0] @ a[0].T - a[1] @ a[1].T
        loss = loss + 0.2 * difference.square().sum() / (4 * n**2 * m**2)
    return loss


def images(n=2, side=32, dtype=torch.float32):
    return 2 * torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=dtype) - 1


def loaded(descriptor):
    descriptor.load()
    return descriptor


@pytest.mark.parametrize(("net", "pooling"), [("vgg16", "max"), ("vgg19", "max"), ("vgg19", "average")])
def test_the_squared_distance_is_gatys_loss(net, pooling, tmp_path):
    torch.save(tensors(net), tmp_path / "vgg.pth")
    x, rng = images(), ImageRNG(0, (("a", 0),))
    operator = Style(loaded(VGGGram(str(tmp_path / "vgg.pth"), net, pooling=pooling))).draw(rng, (3, 32, 32))
    found = SquaredDistance()(x[1:], observe(operator, NoNoise(), x[:1], rng))
    pool = F.max_pool2d if pooling == "max" else F.avg_pool2d
    expected = by_hand(net, tensors(net), x, pool)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=0)
    other = by_hand(net, tensors(net), x, F.avg_pool2d if pooling == "max" else F.max_pool2d)
    assert abs(other / expected - 1) > 1e-2


def test_only_the_layers_that_are_asked_for_and_their_weights_strictly(tmp_path):
    torch.save(tensors("vgg19"), tmp_path / "vgg.pth")
    first = loaded(VGGGram(str(tmp_path / "vgg.pth"), layers=["conv1_2"]))(images())
    assert first.shape == (2, 4)
    both = loaded(VGGGram(str(tmp_path / "vgg.pth"), layers=["conv2_1", "conv1_2"]))(images())
    torch.testing.assert_close(both[:, 9:], first / 2**0.5)
    with pytest.raises(ValueError, match=r"vgg19 has no layers \['relu'\]; it has conv1_1"):
        VGGGram("vgg.pth", layers=["relu"])
    with pytest.raises(ValueError, match="net is 'vgg16' or 'vgg19'"):
        VGGGram("vgg.pth", "alexnet")
    with pytest.raises(ValueError, match=r"does not fit VGGConvolutions: of 26 tensors .*features.17"):
        loaded(VGGGram(str(tmp_path / "vgg.pth"), "vgg16"))
    with pytest.raises(FileNotFoundError, match=r"https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"):
        loaded(VGGGram(str(tmp_path / "none.pth")))


def test_a_gram_matrix_forgets_places_but_not_what_occurs_together():
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    shuffled = features.flatten(2)[..., torch.randperm(20, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(gram(shuffled.view(2, 3, 5, 4)), gram(features))
    apart = features.clone()
    apart[:, 0] = apart[:, 0].flip(-1)  # one feature moved against the others
    assert not torch.allclose(gram(apart), gram(features), atol=0.01)


def statistics(image):
    """Mean colour, mean square and covariance at full size, read off the first Gram matrix."""
    first = 2 * 19 * loaded(FilterGram(scales=1)).double()(image).view(-1, 19, 19)
    return first[:, 0, 1:4], first[:, 1:4, 1:4], first[:, 4:, 4:]


def test_the_filters_measure_colours_and_edges():
    """The opponent axes and the derivatives written out, on a picture and on a ramp."""
    x = images(1, 16, torch.float64)
    axes = torch.tensor([[1, 1, 1], [1, -1, 0], [-1, -1, 2]], dtype=torch.float64)
    axes = axes / axes.norm(dim=1, keepdim=True)
    mean, product, _ = statistics(x)
    flat = axes @ x[0].flatten(1)
    torch.testing.assert_close(mean[0], flat.mean(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(product[0], flat @ flat.T / flat.shape[1], rtol=0, atol=1e-6)
    ramp = torch.linspace(-1, 1, 16, dtype=torch.float64).expand(1, 3, 16, 16)  # grey, brighter to the right
    energies = statistics(ramp)[2][0].diagonal().view(3, 5)  # of each colour: d_y, d_x, d_yy, d_xx, d_xy
    slope = 3**0.5 * 2 / 15
    assert energies[0, 1] == pytest.approx((4 * slope) ** 2 * 14 / 16, rel=1e-5)  # reflected at two columns
    assert energies[0, 0] < 1e-12 and energies[1:].abs().max() < 1e-12
    assert statistics(ramp.mT.contiguous())[2][0].diagonal().view(3, 5)[0, 0] == pytest.approx(float(energies[0, 1]))


def test_the_filters_see_texture_and_not_place():
    tile = images(1, 16, torch.float64).repeat(1, 1, 2, 2)
    descriptor = loaded(FilterGram(scales=2)).double()
    moved = tile.roll((5, 7), (2, 3))
    other = images(1, 16, torch.float64).flip(-1).mean(1, keepdim=True).repeat(1, 3, 2, 2)
    near, far = (descriptor(tile) - descriptor(y) for y in (moved, other))
    assert near.norm() < 0.1 * far.norm()


def test_the_gradient_of_the_filters_is_the_derivative_and_small_images_are_refused():
    descriptor = loaded(FilterGram(scales=2)).double()
    assert gradcheck(descriptor, (images(1, 8, torch.float64).requires_grad_(),))
    with pytest.raises(ValueError, match=r"2 scales of filters need images of 8 pixels on a side, got \[8, 7\]"):
        descriptor(torch.zeros(1, 3, 8, 7))
    with pytest.raises(ValueError, match="scales >= 1 and edges > 0"):
        FilterGram(scales=0)
