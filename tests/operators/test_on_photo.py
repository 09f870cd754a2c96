"""Each non-linear option on the shipped prior at 64 px for 3 steps, by every controller that takes any operator."""

import pytest
import torch

import rbctrl
from rbctrl.config import build
from rbctrl.controllers import DAPS, DPS, RBModulation, REDdiff
from rbctrl.data import Photos
from rbctrl.rng import ImageRNG

OPTIONS = ("phase_retrieval", "phase_retrieval_signed", "hdr", "jpeg", "quantize", "gamma_blur")
CONTROLLERS = {
    "dps": DPS(3.0),
    "rb_modulation": RBModulation(),
    "daps": DAPS(1, langevin_steps=3, tau=0.1),
    "red_diff": REDdiff(),
}


@pytest.fixture(scope="module")
def prior():
    return build("prior", "photo")


@pytest.mark.parametrize("option", [OPTIONS[0], *(pytest.param(o, marks=pytest.mark.slow) for o in OPTIONS[1:])])
def test_controllers_run_and_leave_a_finite_image(option, prior):
    (item,) = Photos(["china"], 64).items()
    operator, sampler = build("operator", option), build("sampler", "ddpm", ["sampler.n_steps=3"])
    y = operator.to(torch.float32).draw(ImageRNG(0, (("image", 0),)), (3, 64, 64))(item.image[None])[0]
    images = {}
    for name, controller in CONTROLLERS.items():
        result = rbctrl.restore(y, operator, prior=prior, controller=controller, sampler=sampler, sigma_y=0.05)
        assert result.rows[0]["alive"] and result.mean.shape == (3, 64, 64) and result.mean.isfinite().all()
        images[name] = result.mean
    for name in ("rb_modulation", "daps", "red_diff"):
        assert (images[name] - images["dps"]).abs().max() > 0.01
