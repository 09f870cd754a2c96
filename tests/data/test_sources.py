import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from rbctrl.data import Item, Leaves, Memory, Photos
from rbctrl.data.photos import HELD_OUT, TRAINING, photo_path


def levels(name):
    return torch.from_numpy(np.array(Image.open(photo_path(name)))).permute(2, 0, 1).float()


def contents(data):
    return {item.name: item.image for item in data.items()}


def test_the_default_is_the_held_out_photographs():
    assert Photos().names == tuple(HELD_OUT) == ("astronaut", "coffee", "chelsea", "flower")
    assert Photos("held_out").names == tuple(HELD_OUT)
    assert Photos("training").names == tuple(TRAINING)
    assert Photos("coffee").names == ("coffee",)


@pytest.mark.parametrize(
    ("name", "top", "left", "side"), [("astronaut", 0, 60, 400), ("coffee", 0, 100, 400), ("chelsea", 0, 75, 300)]
)
def test_photographs_are_the_reported_crops(name, top, left, side):
    cut = levels(name)[:, top : top + side, left : left + side]
    expected = F.interpolate(cut[None], (64, 64), mode="bicubic", antialias=True, align_corners=False)[0]
    (image,) = contents(Photos([name], 64)).values()
    torch.testing.assert_close(image, expected.clamp(0, 255) / 127.5 - 1, atol=1e-4, rtol=0)
    off = F.interpolate(levels(name)[:, top : top + side, left + 9 : left + 9 + side][None], (64, 64), mode="bicubic")
    assert (image - (off[0] / 127.5 - 1)).abs().max() > 0.1  # another crop would be noticed


def test_photographs_are_in_range_and_gray_ones_have_three_channels():
    for image in contents(Photos(["camera", "flower"], 32)).values():
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32
        assert -1 <= image.min() < -0.5 and 0.5 < image.max() <= 1
    assert image.std() > 0.1


def test_wrong_names_and_sizes_are_refused_at_once():
    with pytest.raises(ValueError, match="'mona_lisa'"):
        Photos(["astronaut", "mona_lisa"])
    with pytest.raises(ValueError, match="two photographs are named 'coffee'"):
        Photos(["coffee", "coffee"])
    with pytest.raises(ValueError, match="'astronaut' has 400 usable pixels, fewer than size=401"):
        Photos(["astronaut"], 401)
    with pytest.raises(ValueError, match="size is 0"):
        Photos(size=0)
    with pytest.raises(ValueError, match="no photograph is given"):
        Photos([])


def test_a_leaf_image_depends_on_its_number_and_the_seed_alone():
    three, two, other = contents(Leaves(3, 16)), contents(Leaves(2, 16)), contents(Leaves(1, 16, seed=1))
    assert list(three) == ["leaves/0000", "leaves/0001", "leaves/0002"]
    assert all(three[name].equal(image) for name, image in two.items())
    assert not three["leaves/0000"].equal(three["leaves/0001"])
    assert not other["leaves/0000"].equal(two["leaves/0000"])
    assert all(image.shape == (3, 16, 16) and image.abs().max() <= 1 for image in three.values())
    assert len(Leaves(3, 16)) == 3


def test_memory_refuses_items_that_would_share_their_noise():
    item = Item("a", torch.zeros(3, 8, 8))
    assert len(Memory([item])) == 1
    with pytest.raises(ValueError, match="two items are named 'a'"):
        Memory([item, Item("a", torch.ones(3, 8, 8))])
    with pytest.raises(ValueError, match="no item"):
        Memory([])
