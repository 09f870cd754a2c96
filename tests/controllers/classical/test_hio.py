"""Hybrid input-output: the update written out, and a phase problem that it solves."""

import numpy as np
import pytest
import torch
from worlds import setup

from rbctrl.controllers.classical import HIO
from rbctrl.noise import NoNoise
from rbctrl.observation import observe
from rbctrl.operators import Identity, PhaseRetrieval
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample


def by_hand(y, steps, beta, n, margin, low):
    """One channel, phases 0 at first; u is 0 in the margin and in [low, 1] inside."""
    modulus = np.fft.ifftshift(y)
    inside = np.zeros_like(y, bool)
    inside[margin : margin + n, margin : margin + n] = True
    u = np.fft.ifft2(modulus, norm="ortho").real
    for k in range(steps + steps // 10):
        spectrum = np.fft.fft2(u, norm="ortho")
        out = np.fft.ifft2(modulus * np.exp(1j * np.angle(spectrum)), norm="ortho").real
        if k >= steps:
            u = np.where(inside, out.clip(low, 1), 0)
        else:
            u = np.where(inside & (out >= low) & (out <= 1), out, u - beta * out)
    return u[margin : margin + n, margin : margin + n]


@pytest.mark.parametrize(("value_range", "low"), [("unit", 0.0), ("signed", -1.0)])
def test_update_is_fienups(value_range, low):
    rng = ImageRNG(0, (("a", 0), ("b", 0)), torch.float64)
    x = 2 * rng.uniform("x", (2, 8, 8)) - 1
    obs = observe(PhaseRetrieval(2.0, value_range), NoNoise(), x, rng)
    image = HIO(10, 0.8).reconstruct(obs, (2, 8, 8))
    u = (image + 1) / 2 if low == 0 else image
    expected = by_hand(obs.y[1, 0].numpy(), 10, 0.8, 8, 2, low)
    np.testing.assert_allclose(u[1, 0], expected, atol=1e-5)
    assert np.abs(u[1, 0].numpy() - by_hand(obs.y[1, 0].numpy(), 10, 0.9, 8, 2, low)).max() > 1e-2


def test_restarts_differ_and_fit_the_measurement(run_of):
    run = run_of(PhaseRetrieval(), n_steps=1)
    few, many = (run.obs.residual(sample(run, HIO(steps)).x0_hat).norm() for steps in (10, 200))
    assert many < 0.8 * few
    other = ImageRNG(0, tuple((item, 1) for item, _ in run.rng.rows), torch.float64)
    again = type(run)(run.process, run.objective, other)
    assert (sample(run, HIO(10)).x0_hat - sample(again, HIO(10)).x0_hat).abs().max() > 0.1


def test_other_operators_and_wrong_settings_are_refused(silent):
    assert "measures no modulus" in HIO().check(setup(silent, Identity()))
    assert HIO().check(setup(silent, PhaseRetrieval())) is None
    for settings in ({"steps": 0}, {"beta": 0.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            HIO(**settings)
