"""RB-Modulation in latent space against the closed form, the optimal control and the exact posterior."""

import pytest
import torch
from controllers.latents import SHAPE, gaussian_prior, latent_run, network_prior
from worlds import setup

from rbctrl.codecs import Identity
from rbctrl.codecs.block_pca import dct
from rbctrl.controllers import Doob, NoControl, RBModulationEncode, RBModulationLatent, RBModulationProx
from rbctrl.controllers.base import Run
from rbctrl.controllers.rb_modulation_latent import gauss_newton
from rbctrl.controllers.starts import encoded_measurement
from rbctrl.grids import LogSNR
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators import Downsample, GaussianBlur, HalfMask
from rbctrl.operators.base import Operator
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample

OPERATORS = {"mask": HalfMask, "sr": lambda: Downsample(2), "blur": lambda: GaussianBlur(0.6)}
MANY = 24  # steps of conjugate gradient: as many as the latent has numbers


@pytest.mark.parametrize("name", OPERATORS)
def test_on_unit_gaussian_latents_it_is_the_optimal_control(name):
    run = latent_run(OPERATORS[name](), gaussian_prior(), noise=GaussianNoise(0.1))
    x_t = run.process.init(run.rng)
    for i in range(run.process.n_steps):
        step, _ = RBModulationLatent(inner_steps=MANY)(run, x_t, i, {})
        best, _ = Doob()(run, x_t, i, {})
        torch.testing.assert_close(step.est.x0_hat, best.est.x0_hat, rtol=0, atol=1e-8)
        torch.testing.assert_close(step.mean, best.mean, rtol=0, atol=1e-8)
        assert not torch.allclose(step.mean, step.free, atol=1e-3)
        x_t = best.mean


def test_where_latents_are_correlated_it_is_not():
    run = latent_run(HalfMask(), gaussian_prior(isotropic=False), noise=GaussianNoise(0.1))
    x_t = run.process.init(run.rng)
    step, best = (c(run, x_t, 2, {})[0] for c in (RBModulationLatent(inner_steps=MANY), Doob()))
    assert not torch.allclose(step.mean, best.mean, atol=1e-2)


def posterior_run(n, n_steps):
    """n samples of one image, under latents N(m, I), from the true law of z_T."""
    prior = gaussian_prior()
    rng = ImageRNG(0, tuple(("image", k) for k in range(n)), torch.float64)
    truth = prior.codec.decode(prior.sample(rng.of_items(), "x"))
    obs = observe(HalfMask().double().draw(rng, SHAPE), GaussianNoise(0.2), truth, rng)
    process = ddim(prior, prior.shape, n_steps, LogSNR(-6.0, 10.0), start="marginal")
    return Run(process, Objective(setup(prior, HalfMask()).cost, obs, prior.codec, process.evaluations), rng)


def test_its_samples_and_those_of_the_exact_control_have_the_posterior_mean():
    n, n_steps = 512, 40
    run = posterior_run(n, n_steps)
    mean, variance = (v[0] for v in run.process.prior.moments_given(run.obs))

    def agrees(controller):
        x0 = sample(run, controller).x / run.process.alpha[-1]
        return bool(((x0.mean(0) - mean).abs() < variance.sqrt() * (5 / n**0.5 + 1 / n_steps)).all())

    assert agrees(RBModulationLatent(inner_steps=2))
    assert agrees(Doob())
    assert not agrees(NoControl())
    assert not agrees(RBModulationLatent(strength=0.2))


@pytest.mark.parametrize("name", OPERATORS)
def test_by_way_of_pixels_it_is_the_written_formula(name):
    """z0 + P A^T (A A^T + rho I)^-1 (y - A D(z0))."""
    run, i = latent_run(OPERATORS[name](), gaussian_prior()), 1
    x_t, process, obs = run.process.init(run.rng), run.process, run.obs
    est = process.estimate(x_t, i)
    rho = obs.sigma_y**2 / process.sigma[i] ** 2  # VP
    moved = obs.operator.adjoint(obs.operator.gram_solve(obs.residual(process.prior.codec.decode(est.x0_hat)), rho))
    written = est.x0_hat + dct(4, 3, 6).encode(moved)
    step, _ = RBModulationEncode()(run, x_t, i, {})
    torch.testing.assert_close(step.est.x0_hat, written, rtol=0, atol=1e-10)
    latent, _ = RBModulationLatent(inner_steps=MANY)(run, x_t, i, {})
    same = torch.allclose(step.mean, latent.mean, atol=1e-3)
    assert same == (name == "mask")  # a mask of whole blocks commutes with the projection of the codec


@pytest.mark.parametrize("name", ["mask", "sr"])
@pytest.mark.parametrize("form", [RBModulationLatent(), RBModulationEncode()])
def test_in_pixels_both_are_the_closed_form(name, form):
    """A A^T is a multiple of the identity on what is measured, so one step of conjugate gradient is all of them."""
    run = latent_run(OPERATORS[name](), network_prior(Identity(), channels=3))
    x_t = run.process.init(run.rng)
    step, closed = (c(run, x_t, 1, {})[0] for c in (form, RBModulationProx(eps="recomputed")))
    torch.testing.assert_close(step.mean, closed.mean, rtol=0, atol=1e-10)


def test_through_a_bent_decoder_it_is_the_linearised_solution():
    run = latent_run()
    z0 = run.process.estimate(run.process.init(run.rng), 1).x0_hat
    codec, operator, rho = run.objective.codec, run.obs.operator, 0.5
    jacobian = torch.autograd.functional.jacobian(lambda z: operator(codec.decode(z)).sum(0), z0)
    jacobian = jacobian.permute(3, 0, 1, 2, 4, 5, 6).reshape(3, 192, 64)
    residual = run.obs.residual(codec.decode(z0)).flatten(1)[..., None]
    normal = jacobian.mT @ jacobian + rho * torch.eye(64, dtype=torch.float64)
    written = torch.linalg.solve(normal, jacobian.mT @ residual).view_as(z0)
    size = written.norm()
    assert (gauss_newton(run, z0, rho, 30) - written).norm() < 0.01 * size  # of a finite difference
    assert (gauss_newton(run, z0, rho, 1) - written).norm() > 0.02 * size
    shorter = gauss_newton(run, z0, rho, 30)
    before, after = (
        (z - z0).square().sum() + run.obs.residual(codec.decode(z)).square().sum() / rho for z in (z0, z0 + shorter)
    )
    assert after < before


@pytest.mark.parametrize("steps", [1, 3])
def test_it_costs_decoder_vjps_only_and_by_way_of_pixels_none(steps):
    run = latent_run()
    sample(run, RBModulationLatent(inner_steps=steps))
    spent = run.process.evaluations
    assert (spent.nfe, spent.vjp, spent.decoder_vjp) == (4, 0, 4 * steps)
    run = latent_run()
    sample(run, RBModulationEncode())
    spent = run.process.evaluations
    assert (spent.nfe, spent.vjp, spent.decoder_vjp) == (4, 0, 0)


@pytest.mark.parametrize("form", [RBModulationLatent, RBModulationEncode])
def test_it_may_start_from_the_encoded_measurement(form):
    run = latent_run(Downsample(2))
    process, z0 = run.process, encoded_measurement(run)
    x_T, _ = form(init="forward").start(run)
    torch.testing.assert_close(x_T, process.alpha[0] * z0 + process.sigma[0] * run.rng.normal("init", process.shape))
    assert torch.equal(form().start(run)[0], process.init(run.rng))
    exact = setup(gaussian_prior(), HalfMask())
    exact.process.start = "marginal"
    assert "init=noise" in form(init="forward").check(exact)
    assert "linear" in RBModulationLatent(init="forward").check(setup(network_prior(), Bent()))


class Bent(Operator):
    def forward(self, image):
        return image.square()


def test_a_bent_operator_is_solved_through_the_decoder_and_refused_by_way_of_pixels():
    run = latent_run(Bent())
    free, controlled = (sample(run, c).x0_hat for c in (NoControl(), RBModulationLatent(inner_steps=2)))
    decode = run.objective.codec.decode
    assert run.obs.residual(decode(controlled)).norm() < 0.98 * run.obs.residual(decode(free)).norm()
    assert "linear" in RBModulationEncode().check(setup(network_prior(), Bent()))
    assert "rb_modulation_latent" in RBModulationProx().check(setup(network_prior(), HalfMask()))


@pytest.mark.parametrize("wrong", [{"strength": 0.0}, {"sigma_floor": -1.0}, {"eps": "cold"}, {"init": "zeros"}])
def test_settings_out_of_range_are_refused(wrong):
    for form in (RBModulationLatent, RBModulationEncode):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            form(**wrong)
    with pytest.raises(ValueError, match="inner_steps"):
        RBModulationLatent(inner_steps=0)
