import pytest
import torch

from rbctrl.grids import EqualAlpha, LogSNR, PolyRho, Quadratic, SquareRoot, Uniform, check_times
from rbctrl.schedules import VE, VP, DiscreteVP, RectifiedFlow


@pytest.mark.parametrize("grid", [Uniform(), Quadratic(), SquareRoot(), PolyRho(), LogSNR(), Uniform(shift=3.0)])
@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()])
def test_grids_descend_and_have_n_plus_one_times(grid, schedule):
    times = check_times(grid.times(schedule, 10))
    assert len(times) == 11 and (times.diff() < 0).all() and times.dtype == torch.float64


@pytest.mark.parametrize("schedule", [VP(), RectifiedFlow(), DiscreteVP.linear()])
def test_equal_alpha_grid_descends_in_every_schedule_whose_alpha_falls(schedule):
    times = check_times(EqualAlpha().times(schedule, 10))
    assert len(times) == 11 and (times.diff() < 0).all() and times[0] == 1 and times[-1] == 0
    with pytest.raises(ValueError, match="alpha falls"):
        EqualAlpha().times(VE(), 10)


def test_poly_rho_is_uniform_in_the_time_of_its_own_schedule():
    sigma = VE(sigma_max=80.0).levels(PolyRho(80.0, 0.02).times(VE(80.0), 10))[1]
    i = torch.arange(10, dtype=torch.float64) / 9
    karras = (80 ** (1 / 7) + i * (0.02 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigma[:-1], karras)
    assert sigma[-1] == 0


def test_square_root_grid_has_the_levels_of_diffpirs_steps():
    """Its table of T levels begins with the noise, and is read at sqrt(linspace(0, T^2, n))."""
    table = torch.arange(1000, 0, -1) / 1000
    read = table[torch.linspace(0, 1000**2, 11).sqrt().long().clamp(max=999)]
    ours, quadratic = (grid.times(VP(), 10) for grid in (SquareRoot(), Quadratic()))
    assert (ours - read).abs().max() < 0.002 < (quadratic - read).abs().max()


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


FALLING = DiscreteVP.linear(999, 0.02, 1e-4)


def published(taus, n_times):
    """The released grid of MCGDiff's mixtures, with the matched times that it means: table indices, ascending."""
    root = FALLING.alpha_bar(torch.arange(1000, dtype=torch.float64) / 999).sqrt()
    end = int((root < 1e-2).nonzero()[0])
    target = (root[0] - root[end]) / (n_times - 1 - len(taus))
    chosen, last = [0], root[0]
    for k in range(1, end):
        if last - root[k] >= target or k in taus:
            chosen.append(k)
            last = root[k]
    tail = torch.linspace(chosen[-1], 999, n_times - len(chosen) + 1, dtype=torch.float64).ceil().long()
    return chosen + tail[1:].tolist()


@pytest.mark.parametrize("n_times", [20, 100])
@pytest.mark.parametrize("taus", [(), (37,), (5, 120, 121, 300)])
def test_equal_alpha_grid_is_the_published_one(taus, n_times):
    log_snr = FALLING.log_snr(torch.tensor(taus, dtype=torch.float64) / 999)
    times = check_times(EqualAlpha(matched=tuple(log_snr.tolist())).times(FALLING, n_times - 1)) * 999
    torch.testing.assert_close(times.flip(0), torch.tensor(published(taus, n_times), dtype=torch.float64))
    assert set(taus) <= set(times.round().int().tolist())
    assert not taus or published((), n_times) != published(taus, n_times)


def test_matched_times_beyond_the_tail_or_on_the_image_are_left_out():
    plain, beyond = EqualAlpha(), EqualAlpha(matched=(-9.3, 30.0))
    torch.testing.assert_close(beyond.times(FALLING, 19), plain.times(FALLING, 19))
    assert len(EqualAlpha(matched=(0.0,)).times(FALLING, 19).unique()) == 20
    assert not torch.equal(EqualAlpha(matched=(0.0,)).times(FALLING, 19), plain.times(FALLING, 19))


def test_impossible_equal_alpha_grids_are_refused():
    with pytest.raises(ValueError, match="matched"):
        EqualAlpha(matched=(0.0, 1.0)).times(FALLING, 2)
    with pytest.raises(ValueError, match="tail"):
        EqualAlpha(tail=1.5)


def test_more_steps_than_anybody_waits_for_are_refused():
    with pytest.raises(ValueError, match="n_steps is 200000, and each step evaluates the prior: take 100000 at most"):
        check_times(torch.linspace(1, 0, 200_001, dtype=torch.float64))
