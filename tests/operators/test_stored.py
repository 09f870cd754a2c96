"""Masks, kernels and latents in a file: the same measurement bit for bit, in any order, precision and for any seed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from operators.test_nonlinear_blur import random_state

from rbctrl.noise import GaussianNoise
from rbctrl.observation import observe
from rbctrl.operators import (
    BoxMask,
    FreeformMask,
    GammaBlur,
    Hadamard,
    HalfMask,
    MotionBlur,
    NonlinearBlur,
    Operator,
    RandomMask,
    UndersampledFourier,
)
from rbctrl.operators.stored import Draws, draw_item, kind_of, read_draws, save_draws
from rbctrl.rng import ImageRNG
from rbctrl.testing import check_operator

SHAPE, SEED = (3, 16, 16), 5
ITEMS = ("a/1.png", "b", "c d")
DRAWING = {
    "box": lambda file=None: BoxMask(4, file=file),
    "random": lambda file=None: RandomMask(0.7, file=file),
    "freeform": lambda file=None: FreeformMask((0.1, 0.4), file=file),
    "motion": lambda file=None: MotionBlur(5, 0.5, file=file),
    "gamma": lambda file=None: GammaBlur(MotionBlur(5, 0.5, file=file)),
    "hadamard": lambda file=None: Hadamard(0.3, file=file),
    "fourier": lambda file=None: UndersampledFourier(4, 0.1, file=file),
}


def rng(items=ITEMS, seed: int = SEED, dtype: torch.dtype = torch.float32) -> ImageRNG:
    return ImageRNG(seed, tuple((item, sample) for item in items for sample in (0, 1)), dtype)


def saved(operator: Operator, file, shape=SHAPE) -> Draws:
    draws = Draws(kind_of(operator), {item: draw_item(operator, item, shape, SEED) for item in ITEMS}, {"seed": SEED})
    save_draws(file, draws)
    return draws


def measurement(operator: Operator, streams: ImageRNG, seed_of_image: int = 1, shape=SHAPE) -> torch.Tensor:
    image = 2 * ImageRNG(seed_of_image, streams.rows, streams.dtype).of_items().uniform("image", shape) - 1
    drawn = operator.to(streams.dtype).draw(streams, shape)
    return observe(drawn, GaussianNoise(0.05), image, streams).y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DRAWING)
def test_a_file_gives_the_same_measurement_bit_for_bit(name, dtype, tmp_path):
    file = tmp_path / "draws.npz"
    saved(DRAWING[name](), file)
    drawn, read = (measurement(DRAWING[name](f), rng(dtype=dtype)) for f in (None, file))
    assert torch.equal(drawn, read)


def test_latents_too(tmp_path):
    torch.save(random_state(1, 1, 1), tmp_path / "wizard.pth")
    shape = (3, 128, 128)
    operator = NonlinearBlur(tmp_path / "wizard.pth")
    saved(operator, tmp_path / "draws.npz", shape)
    stored = NonlinearBlur(tmp_path / "wizard.pth", file=tmp_path / "draws.npz")
    one = rng(("b",))
    assert torch.equal(operator.draw(one, shape).latent, stored.draw(one, shape).latent)


@pytest.mark.parametrize("name", DRAWING)
def test_neither_seed_nor_order_nor_the_other_items_matter(name, tmp_path):
    file = tmp_path / "draws.npz"
    saved(DRAWING[name](), file)
    operator = DRAWING[name](file)
    buffer = operator.draw(rng(), SHAPE).get_buffer(operator.drawn)
    other = operator.draw(rng(("c d", "b"), seed=77), SHAPE).get_buffer(operator.drawn)
    assert torch.equal(other, buffer[[4, 5, 2, 3]])
    fresh = DRAWING[name]()
    changed = fresh.draw(rng(("c d", "b"), seed=77), SHAPE).get_buffer(fresh.drawn)
    assert not torch.equal(changed, other)


def test_it_keeps_the_contract_of_operators(tmp_path):
    file = tmp_path / "masks.npz"
    values = {item: draw_item(RandomMask(0.7), item, SHAPE, 0) for item in ("a", "b", "c")}
    save_draws(file, Draws("mask", values, {}))
    check_operator(RandomMask(0.7, file=file), SHAPE)


def test_the_file_is_plain_and_says_where_it_is_from(tmp_path):
    saved(RandomMask(0.7), tmp_path / "masks.npz")
    with np.load(tmp_path / "masks.npz", allow_pickle=False) as content:
        assert content["items"].tolist() == list(ITEMS)
        assert content["value_1"].dtype == bool and content["value_1"].shape == (1, 16, 16)
        assert json.loads(str(content["provenance"])) == {"seed": SEED}
    assert read_draws(tmp_path / "masks.npz", RandomMask(0.7)).provenance == {"seed": SEED}
    assert [path.name for path in tmp_path.iterdir()] == ["masks.npz"]


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    file = tmp_path / "masks.npz"
    saved(RandomMask(0.7), file)
    with pytest.raises(ValueError, match="no mask of item 'z', only of a/1.png, b, c d"):
        RandomMask(0.7, file=file).draw(rng(("z",)), SHAPE)
    with pytest.raises(ValueError, match=r"shape \(1, 16, 16\), and \(1, 8, 8\) is needed"):
        RandomMask(0.7, file=file).draw(rng(), (3, 8, 8))
    with pytest.raises(ValueError, match="draws a kernel per image, and .* holds one mask per image"):
        MotionBlur(5, 0.5, file=file)
    with pytest.raises(FileNotFoundError, match=r"rbctrl draw .* --out="):
        RandomMask(0.7, file=tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(ValueError, match="not a file that rbctrl draw wrote"):
            RandomMask(0.7, file=tmp_path / name)


def test_a_half_mask_is_stored_like_any_mask_and_an_operator_without_draws_is_refused():
    assert draw_item(HalfMask(), "a", SHAPE, 0).shape == (1, 16, 16)
    with pytest.raises(ValueError, match="draws nothing per image"):
        from rbctrl.operators import Identity

        draw_item(Identity(), "a", SHAPE, 0)
