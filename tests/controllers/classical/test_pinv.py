import torch

from rbctrl.controllers.classical import Pinv
from rbctrl.operators import Downsample, RandomMask


def test_holes_of_a_mask_are_zero_and_the_rest_is_y(measure):
    obs = measure(RandomMask(0.8))
    image = Pinv().reconstruct(obs, (3, 64, 64))
    seen = obs.operator.observed.expand_as(image) > 0
    assert torch.equal(image[seen], obs.y[seen]) and not image[~seen].any()


def test_the_image_fits_y_exactly_where_a_has_full_rank(measure):
    obs = measure(Downsample(4))
    image = Pinv().reconstruct(obs, (3, 64, 64))
    assert obs.residual(image).abs().max() < 1e-10
    assert obs.residual(obs.operator.adjoint(obs.y)).abs().max() > 0.1  # the transpose is not the pseudo-inverse
