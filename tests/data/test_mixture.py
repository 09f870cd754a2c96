"""Truths drawn from the prior: they need a prior that can be drawn from."""

import pytest
import torch
from worlds import plane, tiny_prior

from rbctrl.data.mcgdiff import prior, schedule
from rbctrl.data.mixture import MixtureSamples


def test_items_depend_on_their_name_and_the_seed_alone():
    few, many = (list(MixtureSamples(plane(), n, seed=1).items()) for n in (2, 5))
    assert all(torch.equal(a.image, b.image) for a, b in zip(few, many))
    assert not torch.equal(few[0].image, next(MixtureSamples(plane(), 1, seed=2).items()).image)
    assert next(MixtureSamples(prior(schedule(), 8), 1).items()).image.shape == (8,)


def test_a_prior_that_is_no_mixture_is_refused_by_name():
    with pytest.raises(ValueError, match="NetworkPrior is none: use prior=gmm2d"):
        MixtureSamples(tiny_prior(), 4)
    with pytest.raises(ValueError, match="data.n"):
        MixtureSamples(plane(), 0)
