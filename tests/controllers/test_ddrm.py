"""DDRM against its published loop, written out with a dense SVD."""

import pytest
import torch
from controllers.spectra import ETA, OPERATORS, dense_svd, keeps_the_law, published_run, rotated_noise, setup_with
from worlds import exact_process, image_run, plane, plane_run, setup, tiny_prior

from rbctrl.codecs import Codec
from rbctrl.controllers import DDRM, Proximal
from rbctrl.grids import LogSNR, Uniform
from rbctrl.operators import Downsample, HalfMask, Identity, MotionBlur
from rbctrl.operators.base import Operator
from rbctrl.operators.svd import diagonal
from rbctrl.process import Rotated, euler_maruyama, renoise
from rbctrl.sampling import sample
from rbctrl.schedules import VE, RectifiedFlow


def published(run, row, eta_b, factor=1.0, level=1):
    """One row of the published loop in VE form; the cases it met. `factor` and `level` make it wrong."""
    u, s_y, v = dense_svd(run, row)
    s = torch.zeros(len(v), dtype=torch.float64)
    s[: len(s_y)] = s_y
    sigma_0, seen, met = factor * run.obs.sigma_y, s > 0, set()
    uty = torch.zeros_like(s)
    uty[: len(s_y)] = (u.T @ run.obs.y[row].flatten())[: len(s_y)]
    ybar = torch.where(seen, uty / s.where(seen, torch.ones_like(s)), 0.0)
    process = run.process
    sig = [sigma / alpha for alpha, sigma in zip(process.alpha, process.sigma)]

    known = s * sig[0] > sigma_0
    spread = torch.where(known, sigma_0 / s.where(known, torch.ones_like(s)), 0.0)
    xbar = known * ybar + (sig[0] ** 2 - spread**2).sqrt() * (v.T @ rotated_noise(run, "init", row))
    x = process.alpha[0] * v @ xbar
    for i in range(process.n_steps):
        est = process.prior.predict(x.view(1, *process.shape), process.times[i])
        x0, eps = v.T @ est.x0_hat.flatten(), v.T @ est.eps_hat.flatten()
        z, next_sig = v.T @ rotated_noise(run, f"step/{i}", row), sig[i + 1]
        xbar = x0 + (1 - ETA**2) ** 0.5 * next_sig * eps + ETA * next_sig * z
        for j in torch.where(seen)[0].tolist():
            if sig[i + level] * s[j] < sigma_0:
                met.add("after")
                xbar[j] = x0[j] + (1 - ETA**2) ** 0.5 * next_sig * (uty[j] - s[j] * x0[j]) / sigma_0
                xbar[j] += ETA * next_sig * z[j]
            else:
                met.add("before")
                std = (next_sig**2 - eta_b**2 * sigma_0**2 / s[j] ** 2).clamp(min=0) ** 0.5
                xbar[j] = (1 - eta_b) * x0[j] + eta_b * ybar[j] + std * z[j]
        x = process.alpha[i + 1] * v @ xbar
    return x, met


@pytest.mark.parametrize("eta_b", [1.0, 0.7])
@pytest.mark.parametrize("name", OPERATORS)
def test_ddrm_is_the_published_loop(name, eta_b):
    run = published_run(OPERATORS[name]())
    x = sample(run, DDRM(eta_b)).x.flatten(1)
    for row in range(3):
        expected, met = published(run, row, eta_b)
        torch.testing.assert_close(x[row], expected, rtol=0, atol=1e-10)
        assert met == {"before", "after"}  # so that both are compared


@pytest.mark.parametrize("wrong", [{"factor": 2.0}, {"factor": 0.5}, {"level": 0}])
def test_another_noise_level_or_another_switch_is_another_method(wrong):
    """sigma_y on the wrong range, or compared with the level before the step."""
    run = published_run(Downsample(2))
    x = sample(run, DDRM()).x.flatten(1)
    assert all((x[row] - published(run, row, 1.0, **wrong)[0]).abs().max() > 1e-3 for row in range(3))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("eta_b", [1.0, 0.7])
def test_with_the_true_x0_every_step_has_the_law_of_the_diffusion(name, eta_b):
    assert keeps_the_law(DDRM(eta_b), OPERATORS[name]())


def test_with_half_the_noise_level_it_has_not():
    """What a sigma_y meant for [0, 1] would do."""
    assert not keeps_the_law(DDRM(), Downsample(2), believed=0.15)


def test_energy_is_the_kl_of_the_two_gaussians_in_the_image():
    run = published_run(Downsample(2))
    x_t, _ = DDRM().start(run)
    step, _ = DDRM()(run, x_t, 3, {})
    assert isinstance(step.std, Rotated)
    z = torch.eye(108, dtype=torch.float64).view(108, 1, 3, 6, 6)
    factor = torch.stack([(step.std * one.expand_as(x_t)).flatten(1) for one in z], dim=2)  # [3, 108, 108]
    covariance = factor @ factor.mT
    free = torch.eye(108, dtype=torch.float64).expand(3, 108, 108) * run.process.noise(3) ** 2

    def kl(scale):
        return torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(step.mean.flatten(1), scale * covariance),
            torch.distributions.MultivariateNormal(step.free.flatten(1), free),
        )

    torch.testing.assert_close(run.process.kl(step, 3), kl(1.0), rtol=1e-10, atol=1e-9)
    assert ((kl(1.1) / kl(1.0) - 1).abs() > 1e-4).all()


def test_a_mask_needs_no_rotation():
    run = published_run(HalfMask())
    step, _ = DDRM()(run, run.process.init(run.rng), 3, {})
    assert isinstance(step.std, torch.Tensor) and step.std.shape == step.mean.shape
    assert (step.std[..., 3:] == run.process.noise(3)).all()


def test_the_last_step_onto_the_image_is_free():
    run = published_run(Downsample(2), grid=Uniform())
    assert sample(run, DDRM()).control_energy.isfinite().all()
    assert sample(run, Proximal(0.0, "frozen")).control_energy.isinf().all()


def test_without_noise_the_image_agrees_with_y():
    run = published_run(Downsample(2), sigma_y=0.0, grid=Uniform())
    assert run.obs.residual(sample(run, DDRM()).x0_hat).abs().max() < 1e-12
    assert run.obs.residual(sample(run, DDRM(eta_b=0.9)).x0_hat).abs().max() > 1e-3


def test_where_nothing_is_seen_it_is_no_control():
    run = published_run(Identity())
    run.obs.operator.svd = lambda like: diagonal(torch.zeros_like(like))
    assert (sample(run, DDRM()).control_energy == 0).all()


class Halved(Codec):
    """Not pixels."""

    def encode(self, image):
        return image / 2

    def decode(self, x0):
        return 2 * x0


class Square(Operator):
    """Not linear."""

    def forward(self, image):
        return image.square()


def test_an_operator_without_an_svd_is_refused_with_those_that_have_one():
    reason = DDRM().check(setup(tiny_prior(), MotionBlur(5, 0.5)))
    assert "MotionBlur" in reason and "identity, masks, downsampling, Gaussian blur and matrices" in reason
    assert "Square is not one" in DDRM().check(setup(tiny_prior(), Square()))


def test_a_latent_prior_and_a_sampler_of_another_level_are_refused():
    prior = tiny_prior()
    prior.codec = Halved()
    assert "pixel-space" in DDRM().check(setup(prior, Identity()))
    process = euler_maruyama(tiny_prior(), (3, 8, 8), 5, LogSNR(-4.0, 5.0))
    assert "sampler=renoise" in DDRM().check(setup_with(process, Identity()))


@pytest.mark.parametrize("schedule", [VE(), RectifiedFlow()])
@pytest.mark.parametrize("operator", [Identity(), HalfMask(), Downsample(2)])
def test_other_schedules_and_samplers_that_keep_the_level_are_not_refused(schedule, operator):
    assert DDRM().check(setup(tiny_prior(schedule), operator)) is None
    process = renoise(tiny_prior(schedule), (3, 8, 8), 5, LogSNR(-4.0, 5.0), ETA)
    assert DDRM().check(setup_with(process, operator)) is None


def test_an_operator_that_offers_no_svd_for_this_image_is_named():
    run = image_run(Identity())
    run.obs.operator.svd = lambda like: None
    with pytest.raises(ValueError, match="Identity does not offer"):
        sample(run, DDRM())


def test_a_share_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"eta_b is a share in \[0, 1\], got 1.5"):
        DDRM(1.5)


def test_a_start_from_the_true_marginal_is_respected():
    prior = plane()
    run = plane_run(prior, exact_process(prior, 4), 3)
    assert torch.equal(DDRM().start(run)[0], run.process.init(run.rng))
