"""JPEG against Pillow's encoder and decoder, the standard's tables, and its pseudo-inverse."""

import io

import numpy as np
import pytest
import scipy.fft
import torch
from PIL import Image

from rbctrl.data import Photos
from rbctrl.operators import JPEG
from rbctrl.operators.jpeg import quantisation_tables

PILLOW = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def photograph(size: int = 64) -> np.ndarray:
    """8 bits, [H, W, 3]."""
    (item,) = Photos(["china"], size).items()
    return ((item.image.permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)


def pillow(levels: np.ndarray, quality: int, subsampling: str) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling=PILLOW[subsampling])
    return np.asarray(Image.open(file).convert("RGB")).astype(float)


def ours(levels: np.ndarray, operator: JPEG) -> np.ndarray:
    x = torch.from_numpy(levels).permute(2, 0, 1)[None] / 127.5 - 1
    return (127.5 * (operator(x.double())[0].permute(1, 2, 0).numpy() + 1)).clip(0, 255)


@pytest.mark.parametrize("subsampling", PILLOW)
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_it_is_pillows_codec_up_to_its_rounding(quality, subsampling):
    """Pillow rounds to 8 bits on the way; where that moves a coefficient to the next step, a block differs."""
    levels = photograph()
    theirs = pillow(levels, quality, subsampling)
    gap = np.abs(ours(levels, JPEG(quality, subsampling)) - theirs)
    loss = np.abs(levels - theirs)
    assert np.median(gap) < 1.0 and gap.mean() < 0.1 * loss.mean() + 1.0
    other = np.abs(ours(levels, JPEG(quality + 5, subsampling)) - theirs)
    assert other.mean() > 2 * gap.mean()


def test_luma_is_scipys_cosine_transform_in_steps_of_the_table():
    levels = photograph()[..., :1].repeat(3, -1).astype(float)
    expected = np.empty((64, 64))
    table = quantisation_tables(30)[0]
    for i in range(0, 64, 8):
        for j in range(0, 64, 8):
            c = scipy.fft.dctn(levels[i : i + 8, j : j + 8, 0] - 128, norm="ortho") / table
            c = np.sign(c) * np.floor(np.abs(c) + 0.5001)  # ties go away from 0
            expected[i : i + 8, j : j + 8] = scipy.fft.idctn(c * table, norm="ortho") + 128
    for subsampling in PILLOW:
        found = ours(levels, JPEG(30, subsampling))
        np.testing.assert_allclose(found, expected[..., None].clip(0, 255).repeat(3, -1), atol=1e-9)
    assert np.abs(ours(levels, JPEG(31)) - found).max() > 0.1


def test_another_subsampling_or_upsampling_is_not_pillows():
    levels = photograph()
    theirs = pillow(levels, 90, "4:2:0")
    right, *wrong = (
        np.abs(ours(levels, operator) - theirs).mean()
        for operator in (JPEG(90), JPEG(90, "4:2:2"), JPEG(90, "4:4:4"), JPEG(90, "4:2:0", "replicate"))
    )
    assert min(wrong) > 1.5 * right


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 95, 100])
def test_tables_are_those_pillow_writes(quality):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    written = Image.open(file).quantization
    for table, steps in zip(quantisation_tables(quality), (written[0], written[1]), strict=True):
        assert table.flatten().tolist() == list(steps)


def test_a_gray_block_is_rounded_to_the_step_of_its_mean():
    """Quality 50: the first step is 16, so 8 (level - 128) / 16 is rounded, i.e. the level in steps of 2 from 128."""
    for level, expected in ((128, 128), (130, 130), (131, 132), (133, 134), (125, 124)):  # ties go away from 128
        x = torch.full((1, 3, 8, 8), level / 127.5 - 1, dtype=torch.float32)
        y = JPEG(50, "4:4:4")(x)
        torch.testing.assert_close(127.5 * (y + 1), torch.full_like(y, expected), rtol=0, atol=1e-3)


def test_ties_fall_alike_in_both_precisions_and_any_batch():
    """Gray 8-bit pictures have many: the mean of 64 whole levels, 16 steps apart."""
    levels = torch.from_numpy(photograph()[..., :1].repeat(3, -1)).permute(2, 0, 1)[None] / 127.5 - 1
    operator = JPEG(50)
    double, single = operator(levels.double()), operator(levels.float())
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-4)
    torch.testing.assert_close(operator(levels.float().repeat(3, 1, 1, 1))[2:], single, rtol=0, atol=1e-5)


@pytest.mark.parametrize("upsampling", ["triangle", "replicate"])
def test_pinv_keeps_luma_and_gives_back_the_averaged_chroma(upsampling):
    operator = JPEG(90, "4:2:0", upsampling)
    y = operator(torch.from_numpy(photograph()).permute(2, 0, 1)[None].double() / 127.5 - 1)
    back = operator.pinv(y)
    torch.testing.assert_close(operator(back), y, rtol=0, atol=1e-10)
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close((luma * back).sum(1), (luma * y).sum(1), rtol=0, atol=1e-6)
    assert ((operator(y) - y).abs().max() < 1e-9) == (upsampling == "replicate")  # there y is its own inverse


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: JPEG(0), "quality"),
        (lambda: JPEG(50, "4:1:1"), "subsampling"),
        (lambda: JPEG(50, "4:2:0", "cubic"), "upsampling"),
        (lambda: JPEG(50).draw(None, (3, 24, 16)), "24 is no multiple of 16"),
        (lambda: JPEG(50).draw(None, (1, 16, 16)), "3 channels"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(make, word):
    with pytest.raises(ValueError, match=word):
        make()
