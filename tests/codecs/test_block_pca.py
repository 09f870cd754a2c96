"""The block codec is affine, and orthonormal where it says so."""

import pytest
import torch

from rbctrl.codecs import BlockPCA
from rbctrl.codecs.block_pca import dct, fitted


def images(n=3, size=8):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


CODECS = {"dct": dct(4, 3, 12), "fitted": fitted(images(20), 4, 12), "two_px": dct(2, 3, 5)}


@pytest.mark.parametrize("name", CODECS)
def test_encoding_inverts_decoding_and_decoding_projects(name):
    codec, x = CODECS[name], images()
    z = codec.encode(x)
    assert tuple(z.shape[1:]) == codec.state_shape((3, 8, 8))
    torch.testing.assert_close(codec.encode(codec.decode(z)), z)
    left = x - codec.decode(z)
    assert left.abs().max() > 0.1  # something is lost,
    torch.testing.assert_close(codec.encode(left + codec.decode(0 * z)), 0 * z)  # and it is orthogonal


@pytest.mark.parametrize("name", CODECS)
def test_decoding_is_affine(name):
    codec = CODECS[name]
    z, w = codec.encode(images()), codec.encode(images().flip(0))
    origin = codec.decode(0 * z)
    mixed = codec.decode(2 * z - 3 * w) - origin
    torch.testing.assert_close(mixed, 2 * (codec.decode(z) - origin) - 3 * (codec.decode(w) - origin))


def test_decoding_without_a_scale_keeps_lengths_and_a_scale_does_not():
    z = torch.randn(2, 12, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(dct(4, 3, 12).decode(z).norm(), z.norm())
    scaled = BlockPCA(dct(4, 3, 12).to_image, scale=torch.full((12,), 2.0))
    torch.testing.assert_close(scaled.decode(z).norm(), 2 * z.norm())


def test_all_cosines_lose_nothing_and_the_first_is_the_mean_of_a_block():
    x = images()
    torch.testing.assert_close(dct(2, 3, 12).decode(dct(2, 3, 12).encode(x)), x)
    means = torch.nn.functional.avg_pool2d(x, 4)
    torch.testing.assert_close(dct(4, 3, 3).encode(x), 4 * means)


def test_fitted_latents_have_unit_mean_square_and_lose_least():
    x = images(20)
    x = x + 2 * x.mean((2, 3), keepdim=True)  # blocks with a direction of their own
    codec = fitted(x, 4, 6)
    torch.testing.assert_close(codec.encode(x).square().mean((0, 2, 3)), torch.ones(6, dtype=torch.float64))
    lost = (codec.decode(codec.encode(x)) - x).square().sum()
    assert lost < (dct(4, 3, 6).decode(dct(4, 3, 6).encode(x)) - x).square().sum()


def test_the_fit_does_not_depend_on_the_order_of_the_images_and_the_fingerprint_names_it():
    one, other = fitted(images(20), 4, 6), fitted(images(20).flip(0), 4, 6)
    torch.testing.assert_close(one.to_image, other.to_image)
    assert one.fingerprint() == fitted(images(20), 4, 6).fingerprint() != dct(4, 3, 6).fingerprint()


def test_single_precision_stays_single_and_the_gradient_is_the_transpose():
    codec = dct(4, 3, 12)
    assert codec.decode(codec.encode(images().float())).dtype == torch.float32
    z = codec.encode(images()).requires_grad_()
    v = images().flip(0)
    (pulled,) = torch.autograd.grad(codec.decode(z), z, v)
    torch.testing.assert_close(pulled, codec.encode(v))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: BlockPCA(torch.ones(2, 3, 4, 4)), "orthonormal"),
        (lambda: BlockPCA(torch.ones(2, 3, 4, 2)), r"\[K, C, f, f\]"),
        (lambda: BlockPCA(dct(4, 3, 6).to_image, scale=torch.zeros(6)), "above 0"),
        (lambda: dct(2, 3, 13), "1 to 12 components"),
        (lambda: fitted(torch.zeros(2, 3, 4, 4), 4, 3), "span fewer"),
        (lambda: fitted([], 4, 3), "none"),
        (lambda: dct(4, 3, 6).state_shape((3, 10, 8)), "multiples of 4 px"),
        (lambda: dct(4, 3, 6).state_shape((1, 8, 8)), "3 channels"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(make, word):
    with pytest.raises(ValueError, match=word):
        make()
