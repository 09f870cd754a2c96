"""Small latent worlds: a bent codec under a random network, and an affine one under Gaussian latents."""

import torch
from torch.nn import functional as F
from worlds import TinyNet

from rbctrl.codecs import Codec
from rbctrl.codecs.block_pca import dct
from rbctrl.controllers import Run
from rbctrl.costs import ResidualNorm
from rbctrl.grids import LogSNR
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators.inpainting import HalfMask
from rbctrl.priors import Estimate, GaussianMixture, NetworkPrior, Prior
from rbctrl.priors.affine import AffineLatent
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.schedules import VP

SHAPE = (3, 8, 8)


class TinyCodec(Codec):
    """Bent both ways, f = 2, 4 channels; no inverse pair, like any autoencoder."""

    def __init__(self, seed=1):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(4, 3, 2, 2, generator=generator, dtype=torch.float64) / 3
        self.register_buffer("weight", weight)

    def encode(self, image):
        return torch.asinh(F.conv2d(image, self.weight.to(image), stride=2))

    def decode(self, x0):
        return torch.tanh(F.conv_transpose2d(x0, self.weight.to(x0), stride=2))

    def state_shape(self, image_shape):
        return (4, image_shape[1] // 2, image_shape[2] // 2)


def network_prior(codec=None, schedule=None, network=None, channels=4):
    """A random network; on latents of `TinyCodec` unless told."""
    return NetworkPrior(
        network or TinyNet(channels),
        parameterization="x0",
        time_input="t",
        network_schedule=schedule or VP(),
        value_range=(-1, 1),
        codec=TinyCodec() if codec is None else codec,
    )


def latent_run(operator=None, prior=None, n=3, n_steps=4, eta=1.0, cost=None, noise=None, grid=None, shape=SHAPE):
    """n random images, of 8 px unless told, measured, in fp64, before sampling."""
    prior = prior or network_prior()
    rng = ImageRNG(0, tuple((f"image{k}", 0) for k in range(n)), torch.float64)
    drawn = (operator or HalfMask()).double().draw(rng, shape)
    obs = observe(drawn, noise or GaussianNoise(0.05), rng.normal("truth", shape).clamp(-1, 1), rng)
    process = ddim(prior, prior.state_shape(shape), n_steps, grid or LogSNR(-4.0, 6.0), eta)
    return Run(process, Objective(cost or ResidualNorm(), obs, prior.codec, process.evaluations), rng)


def gaussian_prior(isotropic=True, seed=3):
    """N(m, I), or N(m, C) with a random C, over the [6, 2, 2] latents of 8 px images in a cosine basis of 4 px."""
    d = 24
    generator = torch.Generator().manual_seed(seed)
    mean = 0.3 * torch.randn(1, d, generator=generator, dtype=torch.float64)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    covariance = torch.eye(d, dtype=torch.float64) if isotropic else root @ root.T + 0.1 * torch.eye(d)
    return AffineLatent(GaussianMixture(VP(), [1.0], mean, covariance[None], (6, 2, 2)), dct(4, 3, 6))


class FakeText(Prior):
    """A `TextPrior` on latents: the estimate moves with the prompt [B, 2, 3] of each row."""

    def __init__(self):
        inner = network_prior()
        super().__init__(inner.schedule, inner.codec)
        self.inner = inner

    def prompt_embedding(self):
        return torch.linspace(-0.5, 0.7, 6, dtype=torch.float64).view(2, 3)

    def predict(self, x_t, t):
        return self.predict_prompted(x_t, t, self.prompt_embedding().expand(len(x_t), 2, 3))

    def predict_prompted(self, x_t, t, prompt):
        alpha, sigma = (float(v) for v in self.schedule.levels(t))
        mixing = torch.arange(24.0, dtype=prompt.dtype).view(2, 3, 4) / 20 - 0.5
        mixed = torch.einsum("bld,ldc->bc", prompt.sin(), mixing)
        x0_hat = self.inner.predict(x_t + mixed[..., None, None], t).x0_hat
        return Estimate(x0_hat, (x_t - alpha * x0_hat) / sigma)
