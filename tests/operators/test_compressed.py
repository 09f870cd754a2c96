"""Compressed sensing against scipy's Hadamard matrices and against its own definition, block by block."""

import numpy as np
import pytest
import scipy.linalg
import torch
from operators.nonlinear import images

from rbctrl.operators import BlockSensing, Hadamard


def test_hadamard_is_scipys_matrix_of_the_whole_image(make_rng):
    x = images(make_rng, (2, 4, 8))
    operator = Hadamard(0.5, "none").draw(make_rng(3), (2, 4, 8))
    matrix = scipy.linalg.hadamard(32) / np.sqrt(32)
    expected = (x.flatten(2).numpy() @ matrix).reshape(3, 2, 4, 8) * operator.observed.numpy()
    np.testing.assert_allclose(operator(x), expected, atol=1e-12)


def test_random_signs_flip_pixels_first_and_are_the_same_for_all(make_rng):
    plain, signed = (Hadamard(0.5, signs).draw(make_rng(2), (1, 4, 8)) for signs in ("none", "random"))
    e = torch.eye(32, dtype=torch.float64).view(32, 1, 4, 8)
    flips = (signed.transform(e) / plain.transform(e)).flatten(1)
    assert (flips.std(1) < 1e-12).all() and set(flips[:, 0].round().tolist()) == {-1.0, 1.0}


def test_exactly_the_ratio_is_measured_and_items_differ(make_rng):
    observed = Hadamard(0.3).draw(make_rng(3), (3, 8, 8)).observed
    assert observed.flatten(1).sum(1).tolist() == [round(0.3 * 64)] * 3
    assert not torch.equal(observed[0], observed[1])


def test_blocks_are_measured_one_by_one_by_one_orthonormal_matrix(make_rng):
    x = images(make_rng, (2, 6, 8))
    operator = BlockSensing(0.5, 2, seed=3).draw(make_rng(3), (2, 6, 8))
    matrix = operator.basis[:2]  # half of 4 rows
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-12)
    block = x[1, 1, 2:4, 4:6].flatten()
    y = operator(x)[1, 1, 2:4, 4:6].flatten()
    torch.testing.assert_close(y, torch.cat([matrix @ block, torch.zeros(2, dtype=torch.float64)]), rtol=0, atol=1e-12)
    assert not torch.equal(BlockSensing(0.5, 2, seed=4).basis, operator.basis)
    assert torch.equal(BlockSensing(0.5, 2, seed=3).basis, operator.basis)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda rng: Hadamard(1.0), "ratio"),
        (lambda rng: Hadamard(0.5, "all"), "signs"),
        (lambda rng: Hadamard(0.5).draw(rng, (3, 12, 16)), "12 is no power of 2"),
        (lambda rng: Hadamard(0.5)(torch.zeros(1, 1, 4, 4)), "no mask yet"),
        (lambda rng: BlockSensing(0.5, 1), "size"),
        (lambda rng: BlockSensing(0.5, 4).draw(rng, (3, 8, 6)), "6 is no multiple of the block 4"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(make, word, make_rng):
    with pytest.raises(ValueError, match=word):
        make(make_rng(1))
