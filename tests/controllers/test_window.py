import pytest
import torch
from worlds import exact_process, plane, plane_run, setup

from rbctrl.controllers import Doob, NoControl, Window
from rbctrl.sampling import sample


def test_control_acts_inside_the_window_only():
    prior = plane()
    run = plane_run(prior, exact_process(prior, 8), 4)
    moved = []
    sample(run, Window(Doob(), 0.25, 0.75), on_step=lambda i, x_t, s: moved.append(bool((s.mean != s.free).any())))
    assert moved == [False, False, True, True, True, True, False, False]


def test_full_window_is_the_controller_and_check_is_passed_on():
    prior = plane()
    run = plane_run(prior, exact_process(prior, 5), 4)
    assert torch.equal(sample(run, Window(Doob())).x, sample(run, Doob()).x)
    assert not torch.equal(sample(run, Window(NoControl())).x, sample(run, Doob()).x)
    from worlds import tiny_prior

    assert "closed form" in Window(Doob()).check(setup(tiny_prior(), run.obs.operator))
    assert Window(Doob()).check(setup(prior, run.obs.operator)) is None


def test_empty_windows_are_refused():
    with pytest.raises(ValueError, match="begin < end"):
        Window(NoControl(), 0.5, 0.5)
