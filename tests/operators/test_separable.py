from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from rbctrl.operators import Downsample, DownsampleBicubic, GaussianBlur

SCIPY_MODES = {"reflect": "mirror", "circular": "wrap", "zero": "constant"}


@pytest.fixture
def image(make_rng) -> torch.Tensor:
    return make_rng(2).normal("image", (3, 16, 24))


def test_downsample_is_the_block_mean(image: torch.Tensor) -> None:
    torch.testing.assert_close(Downsample(4)(image), image.unflatten(3, (6, 4)).unflatten(2, (4, 4)).mean((3, 5)))


def test_pinv_of_block_mean_is_nearest_upsampling(image: torch.Tensor) -> None:
    y = Downsample(4)(image)
    torch.testing.assert_close(Downsample(4).pinv(y), y.repeat_interleave(4, 2).repeat_interleave(4, 3))


@pytest.mark.parametrize("factor", [2, 4])
def test_bicubic_agrees_with_torch_away_from_the_border(factor: int, make_rng) -> None:
    image = make_rng(1).normal("image", (1, 64, 64))
    expected = torch.nn.functional.interpolate(image, scale_factor=1 / factor, mode="bicubic", antialias=True)
    ours = DownsampleBicubic(factor)(image)
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(ours[inner], expected[inner], rtol=1e-5, atol=1e-6)
    assert (ours - expected).abs().max() > 1e-3  # torch renormalises at the border instead of mirroring


def test_bicubic_mirrors_with_the_edge_repeated(image: torch.Tensor) -> None:
    from rbctrl.operators.filters import bicubic_taps

    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (6, 6), (6, 6)), "symmetric")
    taps = bicubic_taps(4)
    expected = np.zeros((2, 3, 4, 6))
    for i in range(4):
        for j in range(6):
            patch = padded[..., 4 * i : 4 * i + 16, 4 * j : 4 * j + 16]
            expected[..., i, j] = np.einsum("bcij,i,j->bc", patch, taps, taps)
    torch.testing.assert_close(DownsampleBicubic(4)(image), torch.from_numpy(expected))


@pytest.mark.parametrize(("factor", "low", "high"), [(4, 0.349, 0.500), (8, 0.247, 0.354)])
def test_bicubic_singular_values_are_the_known_ones(factor: int, low: float, high: float) -> None:
    values = np.linalg.svd(DownsampleBicubic(factor).matrix(256), compute_uv=False)
    assert abs(values.min() - low) < 6e-4
    assert abs(values.max() - high) < 6e-4


@pytest.mark.parametrize("boundary", SCIPY_MODES)
@pytest.mark.parametrize("sigma", [0.8, 3.0])
def test_gaussian_blur_is_scipys(boundary: str, sigma: float, image: torch.Tensor) -> None:
    expected = scipy.ndimage.gaussian_filter(image.numpy(), (0, 0, sigma, sigma), mode=SCIPY_MODES[boundary])
    torch.testing.assert_close(GaussianBlur(sigma, boundary)(image), torch.from_numpy(expected))


def test_benchmark_kernel_has_its_peak_and_support() -> None:
    delta = torch.zeros(1, 1, 61, 61, dtype=torch.float64)
    delta[..., 30, 30] = 1
    kernel = GaussianBlur(3.0)(delta)[0, 0]
    assert abs(kernel.max().item() - 0.01768) < 5e-6
    assert (kernel > 0).sum() == 25 * 25
    assert (kernel[18:43, 18:43] > 0).all()


def test_gaussian_truncate_sets_the_radius() -> None:
    assert np.count_nonzero(GaussianBlur(2.0, "zero", truncate=2.0).matrix(31)[15]) == 9


@pytest.mark.parametrize("operator", [Downsample(4), DownsampleBicubic(4)])
def test_image_shape_is_the_inverse_of_the_measurement_shape(operator, image: torch.Tensor) -> None:
    y = operator(image)
    assert y.shape == (2, 3, 4, 6)
    assert operator.image_shape((3, 4, 6)) == (3, 16, 24)


@pytest.mark.parametrize("operator", [Downsample(4), DownsampleBicubic(4)])
def test_a_side_that_is_no_multiple_is_refused(operator, make_rng) -> None:
    with pytest.raises(ValueError, match="18 is no multiple of the factor 4"):
        operator.draw(make_rng(1), (3, 16, 18))
    with pytest.raises(ValueError, match="18 is no multiple of the factor 4"):
        operator(torch.zeros(1, 3, 18, 16))


@pytest.mark.parametrize("make", [lambda: Downsample(1), lambda: DownsampleBicubic(0), lambda: Downsample(2.5)])
def test_a_bad_factor_is_named(make) -> None:
    with pytest.raises(ValueError, match="integer factor"):
        make()


def test_bad_gaussians_are_named() -> None:
    with pytest.raises(ValueError, match="sigma=0"):
        GaussianBlur(0)
    with pytest.raises(ValueError, match="mirror"):
        GaussianBlur(1.0, "mirror")


@pytest.mark.parametrize("rho", [1e-3, 0.1])
def test_fp32_solve_is_accurate_at_128_pixels(rho: float, make_rng) -> None:
    blur = GaussianBlur(3.0)
    v = make_rng(1).normal("v", (3, 128, 128))
    exact = blur.gram_solve(v, rho)
    assert (blur(blur.adjoint(exact)) + rho * exact - v).norm() < 1e-11 * v.norm()
    single = blur.gram_solve(v.float(), rho)
    assert single.dtype == torch.float32
    assert (single - exact).norm() < 1e-5 * exact.norm()


def test_pseudo_inverse_of_an_ill_conditioned_blur_is_the_cut_off_one(make_rng) -> None:
    blur, y = GaussianBlur(3.0, "zero"), make_rng(1).normal("y", (1, 12, 12))
    matrix = blur.matrix(12)
    dense = np.kron(matrix, matrix)
    values = np.linalg.svd(dense, compute_uv=False)
    assert values.min() < 1e-6 * values.max()  # so that the cut-off decides
    expected = torch.from_numpy(np.linalg.pinv(dense, rcond=1e-4) @ y.flatten().numpy()).view_as(y)
    uncut = torch.from_numpy(np.linalg.pinv(dense, rcond=1e-7) @ y.flatten().numpy()).view_as(y)
    assert (blur.pinv(y) - expected).norm() < 1e-8 * expected.norm()
    assert (uncut - expected).norm() > expected.norm()


def test_a_small_rho_approaches_the_cut_off_inverse_without_a_jump(make_rng) -> None:
    blur, y = GaussianBlur(3.0, "zero"), make_rng(1).normal("y", (1, 12, 12))
    zero = blur.prox(torch.zeros_like(y), y, 0.0)
    assert (blur.prox(torch.zeros_like(y), y, 1e-14) - zero).norm() < 1e-3 * zero.norm()


def test_matrices_are_built_once_per_shape_and_dtype(image: torch.Tensor) -> None:
    blur = GaussianBlur(1.0)
    blur(image)
    kept = next(iter(blur._kept.values()))
    blur.prox(image, blur(image), 0.1)
    assert list(blur._kept.values()) == [kept]
    blur(image.float())
    assert len(blur._kept) == 2
