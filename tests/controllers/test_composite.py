"""What was observed is put back from the measurement, never from the truth, and the table says so."""

import pytest
import torch
from controllers.cases import LATENT
from controllers.latents import gaussian_prior, latent_run, network_prior
from worlds import setup

import rbctrl
from rbctrl.controllers import DPS, PSLD, Composite, Doob, Particles, Window
from rbctrl.grids import LogSNR
from rbctrl.operators import Downsample, HalfMask
from rbctrl.process import ddim
from rbctrl.sampling import sample

OPERATOR, SIGMA_Y = HalfMask(), 0.3


def steps(prior, shape):
    return ddim(prior, shape, 3, LogSNR(-4.0, 6.0))


def restored(controller, **kwargs):
    y = latent_run(OPERATOR).obs.y[0]
    kwargs = {"prior": gaussian_prior(), "sigma_y": SIGMA_Y, "sampler": steps, "dtype": "float64"} | kwargs
    return y, rbctrl.restore(y, OPERATOR, controller=controller, **kwargs)


def test_observed_pixels_are_those_of_y_and_the_others_those_of_the_method():
    y, plain = restored(PSLD())
    _, filled = restored(Composite(PSLD()))
    seen = OPERATOR.draw(latent_run().rng.take(torch.tensor([0])), (3, 8, 8)).observed[0].bool().expand(3, 8, 8)
    image = filled.samples[0]
    assert torch.equal(image[seen], y[seen]) and torch.equal(image[~seen], plain.samples[0][~seen])
    assert not torch.allclose(plain.samples[0][seen], y[seen], atol=0.05)
    assert filled.rows[0]["composited"] == 0.5 and "composited" not in plain.rows[0]
    assert filled.rows[0]["control_energy"] == plain.rows[0]["control_energy"]


def test_inside_a_window_and_around_one_it_is_the_same():
    _, outer = restored(Composite(Window(DPS(0.3), 0.0, 0.5)))
    _, inner = restored(Window(Composite(DPS(0.3)), 0.0, 0.5))
    assert torch.equal(outer.samples, inner.samples)


def test_it_is_for_masks_and_for_single_paths():
    assert "inpainting" in Composite(DPS()).check(setup(network_prior(), Downsample(2)))
    assert "closed form" in Composite(Doob()).check(setup(network_prior(), HalfMask()))
    assert Composite(PSLD()).check(setup(network_prior(), HalfMask())) is None
    assert Composite(DPS()).uses_cost and not Composite(Doob()).uses_cost
    with pytest.raises(ValueError, match="population"):
        Composite(Particles(DPS(), 4))


@pytest.mark.parametrize("name", LATENT)
def test_every_controller_restores_through_the_same_code_path(name):
    """`restore` is the loop of `sample`, decoded; whatever the batch."""
    controller = LATENT[name]
    prior = network_prior()
    _, at_once = restored(controller, prior=prior, n_samples=3, batch_size=3, item="image")
    _, alone = restored(controller, prior=prior, n_samples=3, batch_size=1, item="image")
    torch.testing.assert_close(at_once.samples, alone.samples, rtol=1e-9, atol=1e-9)
    assert at_once.samples.shape == (3, 3, 8, 8) and at_once.samples.isfinite().all()
    assert sample(latent_run(), controller).alive.all()
