import torch
from worlds import setup

from rbctrl.controllers.classical import Guess, Pinv
from rbctrl.operators import Downsample, GammaBlur, GaussianBlur
from rbctrl.sampling import sample


def test_it_is_the_pseudo_inverse_where_there_is_one(run_of):
    run = run_of(Downsample(4))
    assert torch.equal(sample(run, Guess()).x0_hat, sample(run, Pinv()).x0_hat)


def test_it_is_the_operators_guess_elsewhere(run_of, silent, latent):
    run = run_of(GammaBlur(GaussianBlur(1.0)))
    assert torch.equal(sample(run, Guess()).x0_hat, run.obs.y)
    assert Pinv().check(run.setup) is not None and Guess().check(run.setup) is None
    assert "pixel" in Guess().check(setup(latent, Downsample(2)))
