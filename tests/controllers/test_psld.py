"""PSLD against its published step, written out with autograd through network, decoder and encoder at once."""

import pytest
import torch
import torch.nn.functional as F
from controllers.latents import latent_run, network_prior
from worlds import TinyNet, setup

from rbctrl.codecs import Identity
from rbctrl.controllers import DPS, GMLDPS, PSLD
from rbctrl.controllers.psld import transposed
from rbctrl.costs import GaussianNLL, ResidualNorm, TotalVariation
from rbctrl.noise import GaussianNoise, PoissonNoise
from rbctrl.operators import Downsample, GaussianBlur, HalfMask
from rbctrl.operators.base import Operator
from rbctrl.sampling import sample

OPERATORS = {"mask": HalfMask, "sr": lambda: Downsample(2), "blur": lambda: GaussianBlur(0.6)}


def pixel_run(operator=None):
    return latent_run(operator, network_prior(Identity(), channels=3))


def norm(x):
    return x.flatten(1).square().sum(1).sqrt()


def published(run, x_t, i, omega, gamma, transpose=None, power=1, noise=0.0):
    """x' - grad (omega |y - A D(z0) - noise|^p + gamma |E(A^T y + x - A^T A x) - z0|^p) in one graph."""
    process, codec, obs = run.process, run.process.prior.codec, run.obs
    transpose = transpose or obs.operator.pinv
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        est = process.prior.predict(x, process.times[i])
        image = codec.decode(est.x0_hat)
        glued = transpose(obs.y) + image - transpose(obs.operator(image))
        meas = norm(obs.y - obs.operator(image) - noise) ** power
        loss = omega * meas + gamma * norm(codec.encode(glued) - est.x0_hat) ** power
        (grad,) = torch.autograd.grad(loss.sum(), x)
    return (process.mean(est, i) - grad).detach()


@pytest.mark.parametrize("name", OPERATORS)
def test_step_is_the_published_one(name):
    run = latent_run(OPERATORS[name]())
    x_t = run.process.init(run.rng)
    step, _ = PSLD(omega=0.9, gamma=0.3)(run, x_t, 1, {})
    torch.testing.assert_close(step.mean, published(run, x_t, 1, 0.9, 0.3), rtol=0, atol=1e-12)
    assert not torch.allclose(step.mean, published(run, x_t, 1, 0.9, 0.2), atol=1e-4)
    torch.testing.assert_close(step.free, run.process.mean(run.process.estimate(x_t, 1), 1))


@pytest.mark.parametrize("name", OPERATORS)
def test_released_and_papers_conventions_are_the_written_ones(name):
    run = latent_run(OPERATORS[name]())
    x_t, y = run.process.init(run.rng), run.obs.y
    standins = {
        "mask": lambda v: v,
        "blur": lambda v: v,
        "sr": lambda v: v.repeat_interleave(2, 2).repeat_interleave(2, 3),
    }
    noise = 0.05 * run.rng.normal("psld/noise/2", tuple(y.shape[1:]))
    if name == "mask":
        noise = torch.where(run.obs.operator.observed > 0, noise, 0.0)
    released, _ = PSLD(1.0, 0.1, transpose="released", prediction="noisy")(run, x_t, 2, {})
    written = published(run, x_t, 2, 1.0, 0.1, standins[name], noise=noise)
    torch.testing.assert_close(released.mean, written, rtol=0, atol=1e-12)
    paper, _ = PSLD(1.0, 0.1, transpose="adjoint", norm="squared")(run, x_t, 2, {})
    written = published(run, x_t, 2, 1.0, 0.1, run.obs.operator.adjoint, power=2)
    torch.testing.assert_close(paper.mean, written, rtol=0, atol=1e-12)
    ours, _ = PSLD(1.0, 0.1)(run, x_t, 2, {})
    assert not torch.allclose(ours.mean, released.mean, atol=1e-4)
    assert not torch.allclose(ours.mean, paper.mean, atol=1e-4)


def test_without_gluing_it_is_latent_dps():
    run = latent_run()
    assert torch.equal(sample(run, PSLD(omega=0.7, gamma=0.0)).x, sample(run, DPS(0.7)).x)
    assert not torch.allclose(sample(run, PSLD(omega=0.7, gamma=0.1)).x, sample(run, DPS(0.7)).x, atol=1e-3)


def test_with_an_identity_codec_it_is_dps():
    """Exactly without gluing; with it, |A^+ r| = |r| for a mask, so gluing is a larger step of DPS."""
    run = pixel_run()
    assert torch.equal(sample(run, PSLD(omega=0.7, gamma=0.0)).x, sample(run, DPS(0.7)).x)
    glued, larger = sample(run, PSLD(omega=0.5, gamma=0.2)).x, sample(run, DPS(0.7)).x
    torch.testing.assert_close(glued, larger, rtol=0, atol=1e-11)
    assert not torch.allclose(glued, sample(run, DPS(0.5)).x, atol=1e-3)


def test_gml_dps_is_the_written_step_latent_dps_without_its_pull_and_dps_in_pixels():
    run, codec = latent_run(), network_prior().codec
    x_t = run.process.init(run.rng)
    with torch.enable_grad():
        x = x_t.clone().requires_grad_()
        est = run.process.prior.predict(x, run.process.times[1])
        image = codec.decode(est.x0_hat)
        loss = 0.9 * norm(run.obs.residual(image)) + 0.3 * norm(codec.encode(image) - est.x0_hat)
        (grad,) = torch.autograd.grad(loss.sum(), x)
    step, _ = GMLDPS(0.9, 0.3)(run, x_t, 1, {})
    torch.testing.assert_close(step.mean, (run.process.mean(est, 1) - grad).detach(), rtol=0, atol=1e-12)
    assert torch.equal(sample(run, GMLDPS(0.7, 0.0)).x, sample(run, DPS(0.7)).x)
    assert not torch.allclose(sample(run, GMLDPS(0.7, 0.3)).x, sample(run, DPS(0.7)).x, atol=1e-3)
    assert torch.equal(sample(pixel_run(), GMLDPS(0.7, 0.3)).x, sample(pixel_run(), DPS(0.7)).x)


def test_a_step_costs_one_vjp_of_network_and_decoder_and_with_gluing_of_the_encoder():
    for controller, encoder in ((DPS(0.3), 0), (PSLD(gamma=0.0), 0), (PSLD(), 4), (GMLDPS(), 4)):
        run = latent_run()
        sample(run, controller)
        spent = run.process.evaluations
        assert (spent.nfe, spent.vjp, spent.decoder_vjp, spent.encoder_vjp) == (4, 4, 4, encoder)


def test_the_decoder_is_differentiated_at_a_detached_latent():
    """No graph reaches from the cost through the decoder into the network: each is pulled back on its own."""

    class Watched(TinyNet):
        def forward(self, x, time):
            out = super().forward(x, time)
            if out.requires_grad:
                out.register_hook(lambda grad: order.append("network"))
            return out

    order = []
    run = latent_run(prior=network_prior(network=Watched(4)), n_steps=1)
    decode = run.objective.codec.decode

    def watched(x0):
        assert x0.grad_fn is None or "View" in type(x0.grad_fn).__name__  # the counting view of a leaf
        x0.register_hook(lambda grad: order.append("decoder"))
        return decode(x0)

    run.objective.codec.decode = watched
    PSLD()(run, run.process.init(run.rng), 0, {})
    assert order == ["decoder", "network"]


class Bent(Operator):
    def forward(self, image):
        return image.square()


def test_what_it_cannot_do_is_refused_and_says_why():
    prior = network_prior()
    assert PSLD().check(setup(prior, HalfMask())) is None
    assert "linear" in PSLD().check(setup(prior, Bent()))
    squared = PSLD(norm="squared")
    assert squared.check(setup(prior, HalfMask(), cost=ResidualNorm())) is None
    assert "residual_norm" in squared.check(setup(prior, HalfMask(), cost=GaussianNLL()))
    assert PSLD().check(setup(prior, HalfMask(), cost=TotalVariation())) is None
    noisy = PSLD(prediction="noisy")
    assert "Gaussian" in noisy.check(setup(prior, HalfMask(), PoissonNoise()))
    assert noisy.check(setup(prior, HalfMask(), GaussianNoise(0.1))) is None
    for wrong in ({"omega": 0.0}, {"gamma": -0.1}, {"transpose": "nearest"}, {"norm": "l1"}, {"prediction": "no"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PSLD(**wrong)
    with pytest.raises(ValueError, match="omega"):
        GMLDPS(omega=0.0)


def test_a_measurement_that_is_no_image_has_no_released_transpose():
    run = latent_run(Downsample(2))
    flat = F.avg_pool2d(run.obs.y, 2)[:, :1]
    with pytest.raises(ValueError, match="transpose=pinv"):
        transposed("released", run.obs, flat, torch.zeros(3, 3, 8, 8))
