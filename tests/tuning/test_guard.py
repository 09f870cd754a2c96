"""An image that is held out is recognised whatever it is called."""

import numpy as np
import pytest
from PIL import Image

from rbctrl.data import Folder, Leaves, Photos
from rbctrl.data.photos import photo_path
from rbctrl.tuning.guard import check_disjoint


def test_held_out_photograph_is_refused_at_any_size():
    with pytest.raises(ValueError, match=r"'coffee'.*held out"):
        check_disjoint(Photos(["china", "coffee"], size=64), Photos("held_out", size=128))


def test_copy_under_another_name_is_refused(tmp_path):
    (tmp_path / "harmless.png").write_bytes(photo_path("coffee").read_bytes())
    with pytest.raises(ValueError, match=r"harmless\.png"):
        check_disjoint(Folder(tmp_path, size=32), Photos("held_out", size=32))


def test_same_name_with_another_content_passes(tmp_path):
    for k in (0, 1):
        (tmp_path / str(k)).mkdir()
        Image.fromarray(np.full((16, 16), 50 * k, np.uint8)).save(tmp_path / str(k) / "00001.png")
    check_disjoint(Folder(tmp_path / "0"), Folder(tmp_path / "1"))
    check_disjoint(Photos("training", size=32), Photos("held_out", size=32))


def test_procedural_images_are_compared_by_their_pixels():
    check_disjoint(Leaves(2, 16, seed=0), Leaves(2, 16, seed=1))
    with pytest.raises(ValueError, match="and 1 more"):
        check_disjoint(Leaves(2, 16), Leaves(3, 16))
