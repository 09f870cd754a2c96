import math

import pytest
import torch

from rbctrl.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow

SCHEDULES = {
    "vp": VP(),
    "linear": DiscreteVP.linear(),
    "sqrt_linear": DiscreteVP.sqrt_linear(),
    "cosine": Cosine(),
    "cosine_shift": Cosine(shift=2.0),
    "ve": VE(),
    "flow": RectifiedFlow(),
}
T = torch.linspace(0.01, 0.95, 37, dtype=torch.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_time_inverts_log_snr(name):
    schedule = SCHEDULES[name]
    torch.testing.assert_close(schedule.time(schedule.log_snr(T)), T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_agree_with_log_snr_and_fall(name):
    schedule = SCHEDULES[name]
    alpha, sigma = schedule.levels(T)
    torch.testing.assert_close(2 * (alpha / sigma).log(), schedule.log_snr(T), rtol=1e-9, atol=1e-9)
    assert (schedule.log_snr(T).diff() < 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_time_zero_is_clean(name):
    alpha, sigma = SCHEDULES[name].levels(torch.tensor([0.0]))
    assert (float(alpha), float(sigma)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("name", "total"),
    [("vp", "squares"), ("linear", "squares"), ("cosine", "squares"), ("flow", "sum"), ("ve", "alpha")],
)
def test_each_family_shares_its_log_snr_in_its_own_way(name, total):
    alpha, sigma = SCHEDULES[name].levels(T)
    value = {"squares": alpha**2 + sigma**2, "sum": alpha + sigma, "alpha": alpha}[total]
    torch.testing.assert_close(value, torch.ones_like(T), rtol=1e-12, atol=1e-12)


def test_flow_runs_from_pure_noise():
    alpha, sigma = RectifiedFlow().levels(torch.tensor([1.0]))
    assert (float(alpha), float(sigma)) == (0.0, 1.0)


# specs: alpha_bar after all steps of the published tables
@pytest.mark.parametrize(
    ("schedule", "alpha_bar"),
    [
        (DiscreteVP.linear(), 4.04e-5),
        (DiscreteVP.sqrt_linear(beta_start=0.0015, beta_end=0.0195), 1.42e-4),
        (DiscreteVP.sqrt_linear(), 4.66e-3),
    ],
)
def test_published_tables_end_where_they_should(schedule, alpha_bar):
    assert float(schedule.alpha_bar(torch.tensor(1.0))) == pytest.approx(alpha_bar, rel=5e-3)


def test_table_is_exact_at_its_own_times():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    table = (1 - betas).cumprod(0)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert torch.equal(DiscreteVP.linear().alpha_bar(t), table)
    assert not torch.equal(DiscreteVP.linear().alpha_bar(t + 1e-4), table)


def test_continuous_vp_is_the_limit_of_the_linear_table():
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    torch.testing.assert_close(VP().log_snr(t), DiscreteVP.linear().log_snr(t), rtol=0.02, atol=0.02)


def test_shift_moves_log_snr():
    moved = Cosine(shift=2.0).log_snr(T) - Cosine().log_snr(T)
    torch.testing.assert_close(moved[:30], torch.full((30,), -2 * math.log(2.0), dtype=torch.float64))


@pytest.mark.parametrize(
    "make",
    [
        lambda: VP(beta_min=0.0),
        lambda: VP(beta_min=3.0, beta_max=1.0),
        lambda: DiscreteVP(()),
        lambda: DiscreteVP((0.1, 1.5)),
        lambda: VE(sigma_max=-1.0),
        lambda: Cosine(shift=0.0),
    ],
)
def test_impossible_schedules_are_refused(make):
    with pytest.raises(ValueError):
        make()
