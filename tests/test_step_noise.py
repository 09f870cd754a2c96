import pytest
import torch
from worlds import image_run

import rbctrl.step_noise
from rbctrl.controllers import NoControl
from rbctrl.operators import Identity
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.step_noise import StepNoise


@pytest.fixture
def drawn(monkeypatch):
    """The keys that are drawn, in order."""
    keys, normal = [], ImageRNG.normal

    def recorded(self, key, shape):
        keys.append(key)
        return normal(self, key, shape)

    monkeypatch.setattr(ImageRNG, "normal", recorded)
    return keys


def result_with(ahead, monkeypatch):
    monkeypatch.setattr(rbctrl.step_noise, "AHEAD", ahead)
    return sample(image_run(Identity()), NoControl()).x


def test_a_run_is_the_same_however_much_is_drawn_at_once(monkeypatch, drawn):
    at_once = result_with(2**30, monkeypatch)
    early = [key for key in drawn if key.startswith("step/")]
    drawn.clear()
    assert torch.equal(at_once, result_with(0, monkeypatch))
    assert early == [key for key in drawn if key.startswith("step/")]


def test_as_many_steps_are_drawn_as_fit_and_none_that_has_no_noise(monkeypatch, drawn):
    run = image_run(Identity())
    run.process.coefficients[2] = (*run.process.coefficients[2][:2], 0.0)
    size = len(run.rng) * torch.Size(run.process.shape).numel() * 4
    monkeypatch.setattr(rbctrl.step_noise, "AHEAD", 3 * size)
    noise = StepNoise(run)
    drawn.clear()
    first = noise(0)
    assert drawn == ["step/0", "step/1", "step/3"]
    assert torch.equal(first, run.rng.normal("step/0", run.process.shape))
    drawn.clear()
    noise(3)
    assert drawn == []
    noise(2)  # a controller that gives a free step noise of its own
    assert drawn[0] == "step/2"
