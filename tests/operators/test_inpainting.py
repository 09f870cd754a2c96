from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rbctrl.operators import BoxMask, FreeformMask, HalfMask, MaskFile, RandomMask


def masks(operator, rng, side: int = 32) -> np.ndarray:
    return operator.draw(rng, (3, side, side)).observed[:, 0].numpy()


def test_random_box_is_a_square_hole_within_the_margin(make_rng) -> None:
    corners = []
    for mask in masks(BoxMask(8, margin=4), make_rng(300)):
        rows, columns = np.nonzero(mask == 0)
        assert len(rows) == 64
        assert rows.max() - rows.min() == columns.max() - columns.min() == 7
        corners.append((rows.min(), columns.min()))
    assert {row for row, _ in corners} == {column for _, column in corners} == set(range(4, 21))


def test_centre_box_is_in_the_centre(make_rng) -> None:
    mask = masks(BoxMask(8, "centre"), make_rng(1))[0]
    assert (mask[12:20, 12:20] == 0).all()
    assert mask.sum() == 32 * 32 - 64


def test_random_mask_drops_the_exact_number_in_all_channels(make_rng) -> None:
    drawn = RandomMask(0.77).draw(make_rng(5), (3, 32, 32))
    y = drawn(torch.ones(5, 3, 32, 32, dtype=torch.float64))
    assert ((y == 0).flatten(2).sum(2) == int(0.77 * 32 * 32)).all()
    assert (y == y[:, :1]).all()


def test_random_mask_is_uniform_over_pixels(make_rng) -> None:
    share = 1 - masks(RandomMask(0.5), make_rng(4000), side=4).mean(0)
    assert np.abs(share - 0.5).max() < 5 * np.sqrt(0.25 / 4000)


def test_freeform_coverage_lies_in_its_range_and_fills_it(make_rng) -> None:
    covered = 1 - masks(FreeformMask((0.1, 0.3)), make_rng(60), side=48).mean((1, 2))
    assert covered.min() >= 0.1
    assert covered.max() <= 0.3
    assert covered.min() < 0.14
    assert covered.max() > 0.26


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_half_mask_hides_the_named_side(side: str, make_rng) -> None:
    mask = masks(HalfMask(side), make_rng(1))[0]
    corner = {"left": mask[:, :16], "right": mask[:, 16:], "top": mask[:16], "bottom": mask[16:]}[side]
    assert (corner == 0).all()
    assert mask.mean() == 0.5


def test_half_of_an_odd_side_is_the_smaller_half(make_rng) -> None:
    assert HalfMask("right").draw(make_rng(1), (1, 4, 5)).observed.sum() == 4 * 3


def test_mask_file_observes_white_and_is_oriented_as_the_image(tmp_path, make_rng) -> None:
    white = np.zeros((4, 6), np.uint8)
    white[0, 5] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    observed = MaskFile(tmp_path / "mask.png").draw(make_rng(2), (3, 4, 6)).observed
    assert observed.shape == (2, 1, 4, 6)
    assert torch.equal(observed[1, 0], torch.from_numpy(white / 255))


def test_mask_file_errors_name_the_file(tmp_path, make_rng) -> None:
    Image.fromarray(np.full((4, 6), 255, np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png.*4 x 6 .*images are 6 x 4.*resize"):
        MaskFile(tmp_path / "mask.png").draw(make_rng(1), (3, 6, 4))
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        MaskFile(tmp_path / "gone.png")
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match=r"black\.png' observes nothing: white is observed"):
        MaskFile(tmp_path / "black.png").draw(make_rng(1), (3, 6, 4))


def test_an_item_keeps_its_mask_in_any_batch(make_rng) -> None:
    rng = make_rng(4)
    together = masks(FreeformMask((0.1, 0.3)), rng)
    for k in range(4):
        assert np.array_equal(masks(FreeformMask((0.1, 0.3)), rng.take(torch.tensor([k])))[0], together[k])


def test_an_undrawn_mask_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"BoxMask has no mask yet.*draw"):
        BoxMask(4)(torch.zeros(1, 3, 8, 8))


def test_masks_follow_dtype_and_rng(make_rng) -> None:
    drawn = RandomMask(0.5).draw(make_rng(2, dtype=torch.float32), (3, 8, 8))
    assert drawn.observed.dtype == torch.float32
    assert drawn.double().observed.dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BoxMask(0), "size"),
        (lambda: BoxMask(4, margin=-1), "margin"),
        (lambda: BoxMask(4, "corner"), "corner"),
        (lambda: RandomMask(1.0), "fraction"),
        (lambda: FreeformMask((0.3, 0.2)), "coverage"),
        (lambda: FreeformMask((0.3,)), "coverage"),
        (lambda: HalfMask("up"), "up"),
    ],
)
def test_bad_arguments_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_box_or_coverage_that_cannot_fit_is_refused(make_rng) -> None:
    with pytest.raises(ValueError, match="8 with margin 4 does not fit an image of 15 x 32"):
        BoxMask(8, margin=4).draw(make_rng(1), (3, 15, 32))
    with pytest.raises(ValueError, match="widen"):
        FreeformMask((0.1, 0.11)).draw(make_rng(1), (3, 4, 4))
