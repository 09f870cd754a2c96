"""DDNM+ against its published loops, written out."""

import pytest
import torch
from controllers.spectra import (
    ETA,
    OPERATORS,
    TimeTravel,
    dense_svd,
    keeps_the_law,
    published_run,
    rotated_noise,
    setup_with,
)
from worlds import setup, tiny_prior

from rbctrl.controllers import DDRM, DDNMPlus, Proximal
from rbctrl.grids import LogSNR
from rbctrl.operators import Downsample, Identity, MotionBlur
from rbctrl.operators.base import Operator
from rbctrl.process import euler_maruyama
from rbctrl.sampling import sample


def loop(run, row, update, noise):
    """x_T and one row's steps; update(x0_hat, eps_hat, z, a, sg) with a = sqrt(ab_s) and sg = sqrt(1 - ab_s)."""
    process = run.process
    x = process.init(run.rng)[row].flatten()
    for i in range(process.n_steps):
        est = process.prior.predict(x.view(1, *process.shape), process.times[i])
        z = noise(run, f"step/{i}", row)
        x = update(est.x0_hat.flatten(), est.eps_hat.flatten(), z, process.alpha[i + 1], process.sigma[i + 1])
    return x


def spectral(run, row, v_t_on_eps=True):
    """x0' = x0 - V Lam V^T A^+(A x0 - y);  x_s = a x0' + V (D1 V^T z + D2 V^T eps). False: the released slip."""
    u, s_y, v = dense_svd(run, row)
    s = torch.zeros(len(v), dtype=torch.float64)
    s[: len(s_y)] = s_y
    a_dense = u[:, : len(s_y)] * s_y @ v[:, : len(s_y)].T
    pinv, y, sigma_y = torch.linalg.pinv(a_dense), run.obs.y[row].flatten(), run.obs.sigma_y

    def update(x0, eps, z, a, sg):
        lam, d1, d2 = torch.ones_like(s), torch.full_like(s, sg * ETA), torch.full_like(s, sg * (1 - ETA**2) ** 0.5)
        for j in torch.where(s > 0)[0].tolist():
            d2[j] = 0
            if sg < a * sigma_y / s[j]:
                lam[j] = s[j] * sg * (1 - ETA**2) ** 0.5 / (a * sigma_y)
            else:
                d1[j] = (sg**2 - a**2 * sigma_y**2 / s[j] ** 2) ** 0.5
        x0 = x0 - v @ (lam * (v.T @ (pinv @ (a_dense @ x0 - y))))
        return a * x0 + v @ (d1 * (v.T @ z)) + v @ (d2 * (v.T @ eps if v_t_on_eps else eps))

    return loop(run, row, update, rotated_noise)


def scalar(run, row, power=1, times=0):
    """lam = min(1, sg / (a sigma_y)), gam^2 = sg^2 - a^2 sigma_y^2; power = 2, times = 1 is the released script."""
    u, s_y, v = dense_svd(run, row)
    a_dense = u[:, : len(s_y)] * s_y @ v[:, : len(s_y)].T
    pinv, y, sigma_y = torch.linalg.pinv(a_dense), run.obs.y[row].flatten(), run.obs.sigma_y

    def update(x0, eps, z, a, sg):
        level, noise = (1 - a ** (2 * power)) ** 0.5, a**power * sigma_y
        lam = 1.0 if level >= noise else level / noise
        gam = (level**2 - noise**2) ** 0.5 if level >= noise else 0.0
        x0 = x0 - lam * pinv @ (a_dense @ x0 - y)
        return a * x0 + gam * sg**times * (ETA * z + (1 - ETA**2) ** 0.5 * eps)

    return loop(run, row, update, lambda run, key, row: run.rng.normal(key, run.process.shape)[row].flatten())


@pytest.mark.parametrize("name", OPERATORS)
def test_the_spectral_form_is_the_published_loop(name):
    run = published_run(OPERATORS[name]())
    x = sample(run, DDNMPlus()).x.flatten(1)
    for row in range(3):
        torch.testing.assert_close(x[row], spectral(run, row), rtol=0, atol=1e-10)


def test_eps_hat_without_v_t_is_another_method():
    """What the released super-resolution does, in the V of this package: no two V agree on it."""
    run = published_run(Downsample(2))
    x = sample(run, DDNMPlus()).x.flatten(1)
    assert all((x[row] - spectral(run, row, v_t_on_eps=False)).abs().max() > 1e-3 for row in range(3))


@pytest.mark.parametrize("name", OPERATORS)
def test_the_scalar_form_is_the_published_loop_and_not_the_released_script(name):
    run = published_run(OPERATORS[name]())
    x = sample(run, DDNMPlus("scalar")).x.flatten(1)
    for row in range(3):
        torch.testing.assert_close(x[row], scalar(run, row), rtol=0, atol=1e-10)
        assert (x[row] - scalar(run, row, power=2, times=1)).abs().max() > 1e-3


@pytest.mark.parametrize("name", OPERATORS)
def test_with_noise_the_spectral_step_is_that_of_ddrm(name):
    run = published_run(OPERATORS[name]())
    x_t = run.process.init(run.rng)
    for i in range(run.process.n_steps):
        ours, theirs = (controller(run, x_t, i, {})[0] for controller in (DDNMPlus(), DDRM()))
        other = DDRM(eta_b=0.9)(run, x_t, i, {})[0]
        assert torch.equal(ours.mean, theirs.mean)
        assert i > 3 or not torch.equal(ours.mean, other.mean)


@pytest.mark.parametrize("form", ["spectral", "scalar"])
@pytest.mark.parametrize("name", OPERATORS)
def test_without_noise_it_is_ddnm(name, form):
    run = published_run(OPERATORS[name](), sigma_y=0.0)
    ddnm = sample(run, Proximal(0.0, "frozen"))
    plus = sample(run, DDNMPlus(form))
    torch.testing.assert_close(plus.x, ddnm.x, rtol=0, atol=1e-12)
    assert (sample(run, DDRM()).x - ddnm.x).abs().max() > 1e-3


@pytest.mark.parametrize("name", OPERATORS)
def test_with_the_true_x0_the_spectral_form_has_the_law_of_the_diffusion(name):
    assert keeps_the_law(DDNMPlus(), OPERATORS[name]())


@pytest.mark.parametrize("name", OPERATORS)
def test_it_has_it_on_a_grid_that_goes_up_too(name):
    assert keeps_the_law(DDNMPlus(), OPERATORS[name](), grid=TimeTravel())
    assert not keeps_the_law(DDNMPlus(), OPERATORS[name](), grid=TimeTravel(), believed=0.15)


def test_the_scalar_form_has_it_only_with_unit_singular_values_and_fresh_noise():
    assert keeps_the_law(DDNMPlus("scalar"), Identity(), eta=1.0)
    assert not keeps_the_law(DDNMPlus("scalar"), Identity(), eta=ETA)
    assert not keeps_the_law(DDNMPlus("scalar"), Downsample(2), eta=1.0)


def test_the_energy_of_the_scalar_form_is_infinite_once_it_adds_no_noise():
    run = published_run(Downsample(2))
    assert sample(run, DDNMPlus("scalar")).control_energy.isinf().all()
    assert sample(run, DDNMPlus()).control_energy.isfinite().all()


class Square(Operator):
    """Not linear."""

    def forward(self, image):
        return image.square()


def test_the_spectral_form_needs_an_svd_and_the_scalar_one_a_pseudo_inverse():
    blur = setup(tiny_prior(), MotionBlur(5, 0.5))
    assert "MotionBlur does not offer" in DDNMPlus().check(blur)
    assert DDNMPlus("scalar").check(blur) is None
    assert "linear operator" in DDNMPlus("scalar").check(setup(tiny_prior(), Square()))
    process = euler_maruyama(tiny_prior(), (3, 8, 8), 5, LogSNR(-4.0, 5.0))
    for form in ("spectral", "scalar"):
        assert "sampler=renoise" in DDNMPlus(form).check(setup_with(process, Identity()))


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="form is 'spectral' or 'scalar', got 'simple'"):
        DDNMPlus("simple")
