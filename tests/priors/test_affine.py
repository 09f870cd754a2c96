"""Latent Gaussians through an affine codec, against the same Gaussian written in pixels."""

import pytest
import torch

from rbctrl.codecs import Codec
from rbctrl.codecs.block_pca import dct
from rbctrl.data.sources import Leaves
from rbctrl.noise import GaussianNoise, PoissonNoise
from rbctrl.observation import observe
from rbctrl.operators import RandomMask
from rbctrl.operators.base import Operator
from rbctrl.priors import GaussianMixture
from rbctrl.priors.affine import AffineLatent, pca_gaussian
from rbctrl.schedules import VP

SIGMA_Y = 0.2


def latents(k=4, side=2, seed=0):
    """N(m, C) of a random C over [k, side, side]."""
    d = k * side**2
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    mean = 0.5 * torch.randn(1, d, generator=generator, dtype=torch.float64)
    return GaussianMixture(VP(), [1.0], mean, (root @ root.T + 0.1 * torch.eye(d))[None], (k, side, side))


def world(make_rng, n=3):
    prior = AffineLatent(latents(), dct(2, 1, 4))
    rng = make_rng(n)
    operator = RandomMask(0.5).draw(rng, (1, 4, 4))
    obs = observe(operator, GaussianNoise(SIGMA_Y), prior.codec.decode(prior.sample(rng, "x")), rng)
    return prior, obs, rng


def in_pixels(prior):
    """The Gaussian of the images: here the codec loses nothing, so it has a density."""
    z = torch.eye(16, dtype=torch.float64).view(16, 4, 2, 2)
    origin = prior.codec.decode(0 * z[:1])
    matrix = (prior.codec.decode(z) - origin).flatten(1).T
    mean = prior.codec.decode(prior.latents.means.view(1, 4, 2, 2)).flatten(1)
    return matrix, GaussianMixture(
        VP(), [1.0], mean, (matrix @ prior.latents.covariances[0] @ matrix.T)[None], (1, 4, 4)
    )


def test_the_posterior_is_that_of_the_images(make_rng):
    prior, obs, _ = world(make_rng)
    matrix, pixels = in_pixels(prior)
    mean, variance = prior.moments_given(obs)
    torch.testing.assert_close(prior.codec.decode(mean), pixels.moments_given(obs)[0])
    torch.testing.assert_close(prior.log_evidence(obs), pixels.log_evidence(obs))
    covariance = matrix.T @ pixels.posterior(obs)[2][:, 0] @ matrix  # the codec is orthonormal
    torch.testing.assert_close(variance.flatten(1), covariance.diagonal(dim1=1, dim2=2).expand(len(variance), -1))
    assert not torch.allclose(mean, prior.latents.means.view(1, 4, 2, 2), atol=0.05)


def test_the_optimal_control_is_that_of_the_images(make_rng):
    """An orthonormal codec turns white noise into white noise, so the two processes are one."""
    prior, obs, rng = world(make_rng)
    _, pixels = in_pixels(prior)
    t = torch.tensor(0.4, dtype=torch.float64)
    z_t = rng.normal("z", (4, 2, 2))
    x_t = prior.codec.decode(z_t)
    given = prior.predict_given(z_t, t, obs)
    torch.testing.assert_close(prior.codec.decode(given.x0_hat), pixels.predict_given(x_t, t, obs).x0_hat)
    torch.testing.assert_close(prior.log_likelihood(z_t, t, obs), pixels.log_likelihood(x_t, t, obs))
    assert not torch.allclose(given.x0_hat, prior.predict(z_t, t).x0_hat, atol=0.05)


def test_samples_of_the_posterior_have_its_moments(make_rng):
    prior, obs, _ = world(make_rng, 1)
    n = 2000
    obs = obs.take(torch.zeros(n, dtype=torch.long))
    z = prior.sample_given(obs, make_rng(1, n), "x")
    mean, variance = (v[0] for v in prior.moments_given(obs))
    assert ((z.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    assert ((z.var(0) / variance - 1).abs() < 5 * (2 / n) ** 0.5).all()


def test_the_measured_operator_has_its_exact_transpose(make_rng):
    prior, obs, rng = world(make_rng)
    operator = prior._of_latent(obs).operator
    z, v = rng.normal("z", (4, 2, 2)), rng.normal("v", (1, 4, 4))
    torch.testing.assert_close((operator(z) * v).sum(), (z * operator.adjoint(v)).sum())


def test_what_is_not_linear_gaussian_or_affine_is_refused(make_rng):
    class Bent(Codec):
        def encode(self, image):
            return image

        def decode(self, x0):
            return x0.tanh()

    class Square(Operator):
        def forward(self, image):
            return image.square()

    prior, _, _ = world(make_rng)
    assert "linear" in prior.check(Square(), GaussianNoise(0.1))
    assert "Gaussian noise" in prior.check(RandomMask(0.5), PoissonNoise())
    assert prior.check(RandomMask(0.5), GaussianNoise(0.1)) is None
    with pytest.raises(ValueError, match="not affine"):
        AffineLatent(latents(), Bent())
    with pytest.raises(ValueError, match="multiples of 2 px"):
        prior.state_shape((1, 5, 4))


def test_moments_of_photographs_are_those_of_their_windows():
    prior = pca_gaussian(VP(), Leaves(n=2, size=32), size=8, block=4, n_components=3)
    assert prior.shape == (3, 2, 2) and prior.state_shape((3, 8, 8)) == (3, 2, 2)
    z = torch.cat([prior.codec.encode(item.image[None].double()) for item in Leaves(n=2, size=32).items()])
    windows = torch.stack([w[:, i : i + 2, j : j + 2].flatten() for w in z for i in range(7) for j in range(7)])
    torch.testing.assert_close(prior.latents.means[0], windows.mean(0))
    found = prior.latents.covariances[0] - windows.T.cov()
    torch.testing.assert_close(found, 1e-3 * windows.var(0).mean() * torch.eye(12, dtype=torch.float64))
    with pytest.raises(ValueError, match="block=4"):
        pca_gaussian(VP(), Leaves(n=2, size=32), size=10, block=4, n_components=3)
    with pytest.raises(ValueError, match="too few"):
        pca_gaussian(VP(), Leaves(n=1, size=16), size=8, block=4, n_components=3, jitter=0.0)
