import math

import pytest

from rbctrl.integrators import DDIM, EulerMaruyama, Renoise, ScaledDDPM, forward_kernel


def level(alpha_bar):
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def test_eta_one_is_the_ddpm_posterior():
    """Ho et al. (2020), eq. 6 and 7, in terms of x_t and x0_hat."""
    ab_t, ab_s = 0.3, 0.5
    c_x0, c_eps, c_z = DDIM(1.0).coefficients(*level(ab_t), *level(ab_s))
    ratio = ab_t / ab_s
    from_x0 = math.sqrt(ab_s) * (1 - ratio) / (1 - ab_t)
    from_x_t = math.sqrt(ratio) * (1 - ab_s) / (1 - ab_t)
    # x_t = sqrt(ab_t) x0 + sqrt(1 - ab_t) eps
    assert c_x0 == pytest.approx(from_x0 + from_x_t * math.sqrt(ab_t), abs=1e-14)
    assert c_eps == pytest.approx(from_x_t * math.sqrt(1 - ab_t), abs=1e-14)
    assert c_z**2 == pytest.approx((1 - ab_s) / (1 - ab_t) * (1 - ratio), abs=1e-14)


def test_scaled_ddpm_is_the_posterior_mean_with_less_noise_and_narrows_the_marginals():
    ab_t, ab_s, eta = 0.3, 0.5, 0.6
    c_x0, c_eps, c_z = ScaledDDPM(eta).coefficients(*level(ab_t), *level(ab_s))
    full = DDIM(1.0).coefficients(*level(ab_t), *level(ab_s))
    assert ScaledDDPM(1.0).coefficients(*level(ab_t), *level(ab_s)) == full
    assert (c_x0, c_eps) == full[:2] and c_z == pytest.approx(eta * full[2], abs=1e-14)
    assert c_eps**2 + c_z**2 < 1 - ab_s - 0.01  # DDIM(eta) would give 1 - ab_s


@pytest.mark.parametrize("integrator", [DDIM(0.0), DDIM(0.4), DDIM(1.0), Renoise(0.0), Renoise(1.0)])
def test_marginals_are_exact_on_a_point_mass(integrator):
    """With x0_hat = x_0 and eps_hat ~ N(0, I), x_s ~ N(alpha_s x_0, sigma_s^2): needs c_eps^2 + c_z^2 = sigma_s^2."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = level(0.2), level(0.6)
    c_x0, c_eps, c_z = integrator.coefficients(alpha_t, sigma_t, alpha_s, sigma_s)
    assert c_x0 == alpha_s
    assert c_eps**2 + c_z**2 == pytest.approx(sigma_s**2, abs=1e-14)


def test_up_move_keeps_the_marginal_and_down_formula_would_not_exist():
    (alpha_t, sigma_t), (alpha_s, sigma_s) = level(0.6), level(0.2)
    c_x0, c_eps, c_z = forward_kernel(alpha_t, sigma_t, alpha_s, sigma_s)
    assert c_x0 == pytest.approx(alpha_s) and c_eps**2 + c_z**2 == pytest.approx(sigma_s**2)
    with pytest.raises(ValueError):
        DDIM(1.0).coefficients(alpha_t, sigma_t, alpha_s, sigma_s)


def test_euler_maruyama_agrees_with_ddpm_on_fine_steps():
    ab = 0.5
    for step, bound in ((1e-3, 4e-3), (1e-4, 4e-4)):
        ours = EulerMaruyama().coefficients(*level(ab), *level(ab + step))
        ddpm = DDIM(1.0).coefficients(*level(ab), *level(ab + step))
        noise = ours[2]
        assert max(abs(a - b) for a, b in zip(ours, ddpm)) < bound * noise  # a vanishing share of the step's own noise


def test_out_of_range_settings_are_refused():
    for integrator in (DDIM, Renoise, ScaledDDPM):
        with pytest.raises(ValueError, match="eta"):
            integrator(1.1)
    with pytest.raises(ValueError, match="log_snr"):
        EulerMaruyama().coefficients(*level(0.5), 1.0, 0.0)
