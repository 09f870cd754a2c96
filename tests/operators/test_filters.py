from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from rbctrl.operators.filters import bicubic_taps, filter_matrix, gaussian_taps

# half of the x4 taps, from the outermost on, as read off the released resizer
HALF_TAPS = [-0.00171, -0.01099, -0.01831, -0.01196, 0.02271, 0.09741, 0.18188, 0.24097]
NUMPY_MODES = {"reflect": "reflect", "symmetric": "symmetric", "circular": "wrap", "zero": "constant"}


def test_bicubic_taps_are_the_published_ones() -> None:
    taps = bicubic_taps(4)
    assert np.abs(taps[:8] - HALF_TAPS).max() < 5.1e-6
    assert np.array_equal(taps, taps[::-1])
    assert abs(taps.sum() - 1) < 1e-15


def test_gaussian_taps_are_scipys() -> None:
    delta = np.zeros(61)
    delta[30] = 1
    expected = scipy.ndimage.gaussian_filter1d(delta, 3.0)
    assert np.abs(np.pad(gaussian_taps(3.0, 4.0), 18) - expected).max() < 1e-16
    assert np.count_nonzero(expected) == 25


@pytest.mark.parametrize("boundary", NUMPY_MODES)
@pytest.mark.parametrize(("first", "stride"), [(-2, 1), (-1, 1), (-3, 2)])
def test_matrix_is_the_filter_on_the_padded_signal(boundary: str, first: int, stride: int) -> None:
    taps, signal = np.array([0.1, 0.7, -0.2, 0.3, 0.05]), np.random.default_rng(0).random(8)
    padded = np.pad(signal, 4, NUMPY_MODES[boundary])
    expected = [taps @ padded[4 + first + i : 9 + first + i] for i in range(0, 8, stride)]
    assert np.abs(filter_matrix(taps, 8, boundary, first, stride) @ signal - expected).max() < 1e-15


@pytest.mark.parametrize("boundary", NUMPY_MODES)
def test_a_filter_longer_than_the_signal_goes_on_mirroring(boundary: str) -> None:
    taps, signal = np.random.default_rng(1).random(25), np.random.default_rng(0).random(5)
    padded = np.pad(signal, 12, NUMPY_MODES[boundary])
    expected = [taps @ padded[i : i + 25] for i in range(5)]
    assert np.abs(filter_matrix(taps, 5, boundary, -12) @ signal - expected).max() < 1e-14
