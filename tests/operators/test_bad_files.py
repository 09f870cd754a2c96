"""Masks, kernels and draws from files that are none end in one sentence when the operator is made."""

import numpy as np
import pytest
import torch
from PIL import Image

from rbctrl.operators import MaskFile, RandomMask
from rbctrl.operators.blur import KernelBlur
from rbctrl.operators.matrix import Matrix
from rbctrl.operators.separable import Downsample
from rbctrl.rng import ImageRNG


@pytest.mark.parametrize(
    ("made", "content", "sentence"),
    [
        (MaskFile, b"no picture", "MaskFile: .*cannot be decoded as an image"),
        (KernelBlur, b"no picture", "KernelBlur: .*cannot be decoded as an image"),
        (MaskFile, np.zeros((4, 4), np.uint8), "observes nothing: white is observed"),
    ],
)
def test_a_picture_that_cannot_serve_is_named(made, content, sentence, tmp_path):
    file = tmp_path / "file.png"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        Image.fromarray(content).save(file)
    with pytest.raises(ValueError, match=sentence):
        made(file)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([[None]]), "is no array of numbers"),
        (np.array([["a"]]), "holds <U1, and a kernel is of real numbers"),
        (np.ones((3, 3)) * 1j, "holds complex128, and a kernel is of real numbers"),
    ],
)
def test_an_array_that_is_no_kernel_is_named(array, sentence, tmp_path):
    np.save(tmp_path / "k.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=sentence):
        KernelBlur(tmp_path / "k.npy")
    np.save(tmp_path / "k.npy", np.ones((3, 3), int))
    assert KernelBlur(tmp_path / "k.npy")._kernel().sum() == pytest.approx(1)


def test_an_array_is_no_file_of_draws(tmp_path):
    np.save(tmp_path / "k.npy", np.ones((3, 3)))
    with pytest.raises(ValueError, match="is not a file that rbctrl draw wrote"):
        RandomMask(0.5, file=tmp_path / "k.npy")


def test_shapes_that_an_operator_cannot_measure_are_refused():
    matrix, rng = Matrix(torch.ones(1, 2)), ImageRNG(0, (("a", 0),))
    with pytest.raises(ValueError, match=r"measures vectors \[2\] and not states of shape \[3, 8, 8\]"):
        matrix.draw(rng, (3, 8, 8))
    assert matrix.draw(rng, (2,)) is matrix
    with pytest.raises(ValueError, match=r"is \[C, h, w\], and this one is \[7\]"):
        Downsample(4).image_shape((7,))
