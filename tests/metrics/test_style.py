"""Likeness to a reference: in the features that are measured, and in others."""

import pytest
import torch
from operators.test_style import Colours, loaded, make_run

from rbctrl.descriptors import VGGGram
from rbctrl.metrics import Similarity
from rbctrl.operators import Style


def test_in_the_operators_own_features_it_is_one_less_the_cost():
    run = make_run(loaded(Style(Colours())))
    x = run.rng.uniform("x", (3, 8, 8))
    torch.testing.assert_close(Similarity()(x, None, run.obs), 1 - run.objective.cost(x, run.obs))


def test_in_other_features_the_reference_is_the_truth_and_images_are_clamped():
    run, other = make_run(loaded(Style(Colours()))), Colours(1)
    x, truth = (3 * run.rng.normal(name, (3, 8, 8)) for name in ("x", "truth"))
    found = Similarity(other)(x, truth, run.obs)
    expected = (other(x.clamp(-1, 1)) * other(truth.clamp(-1, 1))).sum(1)  # unit vectors
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(Similarity(other)(truth, truth, run.obs), torch.ones(2))
    for row in range(2):
        alone = Similarity(other)(x[row : row + 1], truth[row : row + 1], run.obs.take(torch.tensor([row])))
        torch.testing.assert_close(alone, found[row : row + 1])


def test_without_a_truth_it_is_undefined_and_its_weights_are_listed():
    run = make_run(loaded(Style(Colours())))
    assert Similarity(Colours())(run.rng.uniform("x", (3, 8, 8)), None, run.obs).isnan().all()
    (file,) = Similarity(VGGGram("vgg.pth")).files()
    assert file.place == "vgg.pth" and Similarity().files() == ()
    with pytest.raises(FileNotFoundError, match="vgg.pth"):
        Similarity(VGGGram("vgg.pth"))(*[torch.zeros(1, 3, 32, 32)] * 2, run.obs)
