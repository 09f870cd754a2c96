"""Training photographs at 64 px, and runs on a prior that must not be asked."""

import numpy as np
import pytest
import torch
from PIL import Image

from rbctrl.codecs import Codec
from rbctrl.controllers.base import Run
from rbctrl.costs import ResidualNorm
from rbctrl.data.photos import TRAINING, photo_path
from rbctrl.grids import Uniform
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, observe
from rbctrl.priors.base import Prior
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.schedules import VP

NAMES = ("china", "grace_hopper", "motorcycle_left")
SIZE = 64


class Silent(Prior):
    def __init__(self, codec=None):
        super().__init__(VP(), codec)

    def predict(self, x_t, t):
        raise AssertionError("a classical baseline asked the prior")


class Halves(Codec):
    """A latent space that is not the pixels."""

    def encode(self, image):
        return image / 2

    def decode(self, x0):
        return 2 * x0


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def photos():
    assert set(NAMES) <= set(TRAINING)
    return torch.stack([_photo(name) for name in NAMES])


def _photo(name):
    image = Image.open(photo_path(name)).convert("RGB")
    side = min(image.size)
    left, top = (n - side for n in image.size)
    box = (left // 2, top // 2, left // 2 + side, top // 2 + side)
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.BICUBIC, box), np.float64)
    return torch.from_numpy(pixels.transpose(2, 0, 1) / 127.5 - 1)


@pytest.fixture(scope="session")
def measure(photos):
    def measured(operator, sigma_y=0.05):
        rng = ImageRNG(0, tuple((name, 0) for name in NAMES), torch.float64)
        return observe(operator.double().draw(rng, photos.shape[1:]), GaussianNoise(sigma_y), photos, rng)

    return measured


@pytest.fixture(scope="session")
def run_of(measure):
    def run(operator, n_steps=3, prior=None):
        prior = prior or Silent()
        process = ddim(prior, (3, SIZE, SIZE), n_steps, Uniform())
        rng = ImageRNG(0, tuple((name, 0) for name in NAMES), torch.float64)
        return Run(process, Objective(ResidualNorm(), measure(operator), evaluations=process.evaluations), rng)

    return run


@pytest.fixture(scope="session")
def psnr(photos):
    def of(image):
        return -10 * ((image.clamp(-1, 1) - photos) / 2).square().flatten(1).mean(1).log10()

    return of


@pytest.fixture
def silent():
    return Silent()


@pytest.fixture
def latent():
    return Silent(Halves())
