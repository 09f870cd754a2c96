import pytest
import torch

from rbctrl.controllers.classical import Pinv
from rbctrl.controllers.classical.base import non_negative, positive
from rbctrl.operators import Downsample
from rbctrl.sampling import sample


@pytest.mark.parametrize("n_steps", [1, 4])
def test_the_result_is_the_reconstruction_and_the_prior_is_never_asked(n_steps, run_of, measure, photos):
    operator = Downsample(4)
    run = run_of(operator, n_steps)
    result = sample(run, Pinv())
    image = Pinv().reconstruct(measure(operator), photos.shape[1:])
    assert torch.equal(result.x0_hat, image) and torch.equal(result.x, image)
    spent = run.process.evaluations
    assert (spent.nfe, spent.vjp, spent.decoder_vjp) == (0, 0, 0)


def test_the_energy_is_undefined_and_the_rows_are_alive(run_of):
    result = sample(run_of(Downsample(4)), Pinv())
    assert result.control_energy.shape == (3,) and result.control_energy.isnan().all()
    assert result.alive.all()


def test_one_call_reconstructs_and_the_steps_repeat_it(run_of):
    calls = []

    class Counted(Pinv):
        def reconstruct(self, obs, shape):
            calls.append(shape)
            return super().reconstruct(obs, shape)

    steps = []
    sample(run_of(Downsample(4), n_steps=5), Counted(), on_step=lambda i, x_t, step: steps.append(step))
    assert calls == [(3, 64, 64)] and len(steps) == 5
    assert all(step.free is None and step.std == 0 and not step.est.eps_hat.any() for step in steps)


def test_settings_out_of_range_are_named():
    positive("weight", 1e-9), non_negative("denoise", 0)
    with pytest.raises(ValueError, match="weight must be above 0, got 0"):
        positive("weight", 0)
    with pytest.raises(ValueError, match="denoise must be 0 or more, got -1"):
        non_negative("denoise", -1)
    with pytest.raises(ValueError, match="got nan"):
        positive("weight", float("nan"))
