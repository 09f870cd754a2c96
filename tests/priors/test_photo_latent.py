"""The shipped latent prior: its files, its shapes, and that its latents are those it was trained on."""

import pytest
import torch

from rbctrl.data import Photos
from rbctrl.priors import photo_latent


@pytest.fixture(scope="module")
def prior():
    prior = photo_latent()
    prior.load()
    return prior


def held_out(size=64):
    return next(iter(Photos(names="held_out", size=size).batches(4, 1))).image.float()


def test_states_are_a_quarter_of_the_image(prior):
    assert prior.state_shape((3, 64, 40)) == (8, 16, 10)
    for shape, word in (
        ((1, 64, 64), "RGB"),
        ((3, 62, 64), "multiples of 4 px"),
        ((3, 60, 64), "multiples of 8 px, got 60x64"),
    ):
        with pytest.raises(ValueError, match=word):
            prior.state_shape(shape)


def test_the_codec_keeps_photographs_and_latents(prior):
    image = held_out()
    with torch.no_grad():
        z = prior.codec.encode(image)
        decoded = prior.codec.decode(z)
        again = prior.codec.encode(decoded)
    psnr = -10 * ((image - decoded.clamp(-1, 1)) / 2).square().mean().log10()
    assert psnr > 29
    assert (again - z).square().mean().sqrt() < 0.1 * z.std()
    shuffled = prior.codec.decode(z.flip(1))  # a codec of any other order of channels
    assert -10 * ((image - shuffled.clamp(-1, 1)) / 2).square().mean().log10() < 20


@pytest.mark.parametrize("t", [0.05, 0.2, 0.5])
def test_the_denoiser_knows_the_latents_of_the_codec(prior, t):
    """It denoises them better than they are, and than the best scaling of each does."""
    t = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = (float(v) for v in prior.schedule.levels(t))
    with torch.no_grad():
        z = prior.codec.encode(held_out(128))
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        error = (prior.predict(alpha * z + sigma * noise, t).x0_hat - z).square().mean()
    ratio, variance = (sigma / alpha) ** 2, z.var()
    scaled = ratio * variance / (ratio + variance)  # the error of the best linear denoiser of each number by itself
    assert error < 0.8 * scaled < 0.8 * ratio


def test_the_fingerprint_names_both_files(prior):
    own, codec = prior.fingerprint().split("+")
    assert len(own) == len(codec) == 16 and own != codec
