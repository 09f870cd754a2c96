from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image

from rbctrl.operators import GaussianBlur, KernelBlur, MotionBlur
from rbctrl.operators.torus import smooth

SCIPY_MODES = {"reflect": "mirror", "circular": "wrap", "zero": "constant"}
KERNEL = np.random.default_rng(0).standard_normal((5, 7))
boundaries = pytest.mark.parametrize("boundary", SCIPY_MODES)


@pytest.fixture
def image(make_rng) -> torch.Tensor:
    return make_rng(3).normal("image", (2, 9, 14))


@boundaries
def test_blur_is_scipys_correlation(boundary: str, image: torch.Tensor) -> None:
    y = KernelBlur(KERNEL, boundary, "as_is")(image)
    expected = scipy.ndimage.correlate(image.numpy(), KERNEL[None, None], mode=SCIPY_MODES[boundary])
    flipped = scipy.ndimage.convolve(image.numpy(), KERNEL[None, None], mode=SCIPY_MODES[boundary])
    torch.testing.assert_close(y, torch.from_numpy(expected))
    assert np.abs(y.numpy() - flipped).max() > 0.1


@boundaries
def test_every_image_has_its_own_motion_kernel(boundary: str, image: torch.Tensor, make_rng) -> None:
    drawn = MotionBlur(7, 0.5, boundary).draw(make_rng(3), (2, 9, 14))
    assert drawn.kernel.shape == (3, 1, 7, 7)
    for k in range(3):
        expected = scipy.ndimage.correlate(image[k].numpy(), drawn.kernel[k].numpy(), mode=SCIPY_MODES[boundary])
        torch.testing.assert_close(drawn(image)[k], torch.from_numpy(expected))


@pytest.mark.parametrize("boundary", ["circular", "zero"])
def test_a_kernel_larger_than_the_image_is_exact(boundary: str, make_rng) -> None:
    image, kernel = make_rng(1).normal("image", (1, 4, 5)), np.random.default_rng(1).random((11, 13))
    blur = KernelBlur(kernel, boundary, "as_is")
    padded = np.pad(image[0, 0].numpy(), ((5, 5), (6, 6)), {"circular": "wrap", "zero": "constant"}[boundary])
    expected = [[(kernel * padded[i : i + 11, j : j + 13]).sum() for j in range(5)] for i in range(4)]
    torch.testing.assert_close(blur(image)[0, 0], torch.tensor(expected, dtype=torch.float64))
    v = make_rng(1).normal("v", (1, 4, 5))
    torch.testing.assert_close((blur(image) * v).sum(), (image * blur.adjoint(v)).sum())


@boundaries
def test_a_gaussian_kernel_agrees_with_the_separable_operator(boundary: str, make_rng) -> None:
    image = make_rng(1).normal("image", (3, 32, 32))
    delta = torch.zeros(1, 1, 25, 25, dtype=torch.float64)
    delta[..., 12, 12] = 1
    kernel = GaussianBlur(3.0, "zero")(delta)[0, 0].numpy()
    blur, separable = KernelBlur(kernel, boundary), GaussianBlur(3.0, boundary)
    torch.testing.assert_close(blur(image), separable(image))
    torch.testing.assert_close(blur.adjoint(image), separable.adjoint(image))
    torch.testing.assert_close(blur.gram_solve(image, 0.1), separable.gram_solve(image, 0.1), rtol=1e-8, atol=1e-9)


def test_the_benchmark_kernel_size_runs_at_128_pixels_in_fp32(make_rng) -> None:
    rng = make_rng(1, dtype=torch.float32)
    drawn, image = MotionBlur(61, 0.5).draw(rng, (3, 128, 128)), rng.normal("image", (3, 128, 128))
    y, v = drawn(image), rng.normal("v", (3, 128, 128))
    assert y.dtype == drawn.adjoint(v).dtype == torch.float32
    gap = (y * v).sum() - (image * drawn.adjoint(v)).sum()
    assert gap.abs() < 1e-5 * y.norm() * v.norm()
    solved = drawn.gram_solve(v, 0.1)
    assert (drawn(drawn.adjoint(solved)) + 0.1 * solved - v).norm() < 1e-5 * v.norm()


def test_the_circular_solve_of_a_row_ignores_the_other_rows(make_rng) -> None:
    drawn, v = MotionBlur(7, 0.5, "circular").draw(make_rng(2), (1, 16, 16)), make_rng(2).normal("v", (1, 16, 16))
    loud = drawn._with_kernel(drawn.kernel * torch.tensor([1.0, 1e6], dtype=torch.float64).view(2, 1, 1, 1))
    torch.testing.assert_close(loud.pinv(v)[0], drawn.pinv(v)[0])


def test_unit_sum_keeps_brightness_and_as_is_does_not() -> None:
    grey = torch.full((1, 3, 9, 9), 0.3, dtype=torch.float64)
    kernel = np.ones((3, 3))
    torch.testing.assert_close(KernelBlur(kernel)(grey), grey)
    torch.testing.assert_close(KernelBlur(kernel, scale="as_is")(grey), 9 * grey)


def test_kernels_are_read_from_npy_and_image_files(tmp_path) -> None:
    grey = np.random.default_rng(0).integers(1, 255, (5, 3), dtype=np.uint8)
    np.save(tmp_path / "k.npy", grey)
    Image.fromarray(grey).save(tmp_path / "k.png")
    expected = torch.from_numpy(grey / grey.sum())[None, None]
    torch.testing.assert_close(KernelBlur(tmp_path / "k.npy").kernel, expected)
    torch.testing.assert_close(KernelBlur(str(tmp_path / "k.png")).kernel, expected)


def test_bad_kernels_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        KernelBlur(tmp_path / "gone.npy")
    for kernel, message in [
        (np.ones(3), r"\(3,\)"),
        (np.ones((4, 3)), r"\(4, 3\)"),
        (np.full((3, 3), np.nan), "finite"),
        (-np.ones((3, 3)), "-9"),
    ]:
        with pytest.raises(ValueError, match=message):
            KernelBlur(kernel)
    with pytest.raises(ValueError, match="max"):
        KernelBlur(np.ones((3, 3)), scale="max")
    with pytest.raises(ValueError, match="mirror"):
        KernelBlur(np.ones((3, 3)), "mirror")


@pytest.mark.parametrize(("size", "intensity"), [(4, 0.5), (1, 0.5), (5, 1.5), (5, -0.1)])
def test_bad_motion_is_named(size: int, intensity: float) -> None:
    with pytest.raises(ValueError, match=f"got {size} and {intensity}"):
        MotionBlur(size, intensity)


def test_an_image_too_small_to_mirror_is_refused(make_rng) -> None:
    with pytest.raises(ValueError, match="61 x 61 .*image of 30 x 64"):
        MotionBlur(61, 0.5).draw(make_rng(1), (3, 30, 64))
    MotionBlur(61, 0.5).draw(make_rng(1), (3, 31, 64))
    with pytest.raises(ValueError, match="11 x 3 .*image of 5 x 8"):
        KernelBlur(np.ones((11, 3)))(torch.zeros(1, 1, 5, 8))


def test_an_undrawn_motion_blur_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"MotionBlur has no kernel yet.*draw"):
        MotionBlur(5, 0.5)(torch.zeros(1, 3, 8, 8))


def test_transform_sizes_have_small_factors() -> None:
    assert [smooth(n) for n in (1, 7, 158, 188, 256, 316)] == [1, 8, 160, 192, 256, 320]
