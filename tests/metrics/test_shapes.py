"""What the shipped classifier reads in drawings whose factors are known."""

import math

import pytest
import torch

from rbctrl.data.shapes import Compositions, Descriptions, References
from rbctrl.metrics.shapes import Leakage, OutlineError, PaletteError, Roughness, Said, SameAsReference
from rbctrl.noise import NoNoise
from rbctrl.observation import Observation
from rbctrl.operators import Identity

N = 48


@pytest.fixture(scope="module")
def pairs():
    data = References(N)
    items = list(data.items())
    truth = torch.stack([item.image for item in items])
    obs = Observation(truth, Identity(), NoNoise(), tuple(item.prompt for item in items))
    return torch.stack([data.drawn(k) for k in range(N)]), truth, obs


def test_a_perfect_drawing_is_read_as_such_and_the_reference_as_a_leak(pairs):
    drawn, truth, obs = pairs
    assert Said()(drawn, truth, obs).mean() > 0.9 and Said()(truth, truth, obs).mean() == 0
    assert Leakage()(drawn, truth, obs).mean() < 0.03 and Leakage()(truth, truth, obs).mean() == 1
    for factor in ("texture", "background"):
        assert SameAsReference(factor)(drawn, truth, obs).mean() > 0.85
    error = PaletteError()
    assert error(drawn, truth, obs).mean() < 0.12 < 0.25 < error(drawn.flip(0), truth, obs).mean()
    assert error(truth, truth, obs).max() == 0


@pytest.mark.parametrize("split", ["seen", "held_out"])
def test_descriptions_are_read_back(split):
    items = list(Descriptions(N, split=split).items())
    image = torch.stack([item.image for item in items])
    obs = Observation(image, Identity(), NoNoise(), tuple(item.prompt for item in items))
    for factor in ("count", "shape", "position", "palette", "texture", "background"):
        assert Said(factor)(image, None, obs).mean() > 0.85, factor


def test_noise_is_rough(pairs):
    _, truth, obs = pairs
    noisy = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    assert (Roughness()(truth, truth, obs) - 1).abs().max() < 1e-6 and (Roughness()(noisy, truth, obs) > 1.2).all()


def test_outlines_tell_one_blob_from_another():
    items = list(Compositions(N).items())
    content = torch.stack([item.references["content"] for item in items])
    obs = Observation(content, Identity(), NoNoise(), None, {"content": content})
    assert OutlineError()(content, None, obs).max() == 0
    assert OutlineError()(content.flip(0), None, obs).mean() > 0.08


def test_without_a_prompt_or_a_reference_there_is_no_number(pairs):
    drawn, truth, obs = pairs
    silent = Observation(truth, Identity(), NoNoise())
    assert Said("shape")(drawn, truth, silent).isnan().all() and Leakage()(drawn, truth, silent).isnan().all()
    assert PaletteError()(drawn, None, obs).isnan().all() and math.isnan(OutlineError()(drawn, truth, obs)[0])
    with pytest.raises(ValueError, match="factor is one of"):
        Said("size")
