import pytest
import torch

from rbctrl.grids import LogSNR, PolyRho, Quadratic, Uniform, check_times
from rbctrl.schedules import VE, VP, DiscreteVP, RectifiedFlow


@pytest.mark.parametrize("grid", [Uniform(), Quadratic(), PolyRho(), LogSNR(), Uniform(shift=3.0)])
@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()])
def test_grids_descend_and_have_n_plus_one_times(grid, schedule):
    times = check_times(grid.times(schedule, 10))
    assert len(times) == 11 and (times.diff() < 0).all() and times.dtype == torch.float64


def test_poly_rho_is_uniform_in_the_time_of_its_own_schedule():
    sigma = VE(sigma_max=80.0).levels(PolyRho(80.0, 0.02).times(VE(80.0), 10))[1]
    i = torch.arange(10, dtype=torch.float64) / 9
    karras = (80 ** (1 / 7) + i * (0.02 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigma[:-1], karras)
    assert sigma[-1] == 0


def test_log_snr_grid_has_equal_steps_in_every_schedule():
    for schedule in (VP(), VE(), RectifiedFlow()):
        steps = schedule.log_snr(LogSNR(-4, 12).times(schedule, 8)).diff()
        torch.testing.assert_close(steps, torch.full((8,), 2.0, dtype=torch.float64))


def test_shift_one_changes_nothing_and_shift_spends_steps_on_noise():
    plain, shifted = Uniform().times(VP(), 10), Uniform(shift=3.0).times(VP(), 10)
    torch.testing.assert_close(plain, torch.linspace(1, 0, 11, dtype=torch.float64))
    assert (shifted[1:-1] > plain[1:-1]).all()


def test_grids_no_sampler_can_run_are_refused():
    with pytest.raises(ValueError, match="n_steps"):
        check_times(Uniform().times(VP(), 0))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        check_times(PolyRho(sigma_max=1e5).times(VE(80.0), 10))
    with pytest.raises(ValueError, match="leaves the range"):
        check_times(PolyRho(sigma_max=80.0).times(DiscreteVP.sqrt_linear(), 10))
    with pytest.raises(ValueError, match="equal"):
        check_times(torch.tensor([1.0, 0.5, 0.5, 0.0]))
