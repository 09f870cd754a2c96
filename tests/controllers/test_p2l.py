"""P2L against its three steps, written out with torch's own optimiser, one image at a time."""

import pytest
import text_models
import torch
from controllers.latents import FakeText, latent_run, network_prior
from worlds import setup

from rbctrl.controllers import DPS, P2L
from rbctrl.grids import Uniform
from rbctrl.operators import Downsample, GaussianBlur, HalfMask
from rbctrl.operators.base import Operator
from rbctrl.priors.stable_diffusion import stable_diffusion
from rbctrl.sampling import sample


def text_run(**kwargs):
    return latent_run(Downsample(2), FakeText(), **kwargs)


def written(run, row, inner_steps, lr, rho, every, prox_weight, tuned=True):
    """Spec 1.9 for one image: C-step by torch.optim.Adam kept over all steps, x-step solved, z-step by autograd."""
    run = run.take(torch.tensor([row]))
    process, prior, obs, codec = run.process, run.process.prior, run.obs, run.process.prior.codec
    prompt = prior.prompt_embedding()[None].clone().requires_grad_()
    optimizer = torch.optim.Adam([prompt], lr=lr)
    z = process.init(run.rng)
    for i, t in enumerate(process.times[:-1]):
        for _ in range(inner_steps):
            optimizer.zero_grad()
            error = obs.residual(codec.decode(prior.predict_prompted(z, t, prompt).x0_hat)).square().mean()
            error.backward()
            if tuned:
                optimizer.step()
        z = z.detach().requires_grad_()
        est = prior.predict_prompted(z, t, prompt.detach())
        image = codec.decode(est.x0_hat)
        norm = obs.residual(image).square().sum().sqrt()
        (grad,) = torch.autograd.grad(norm, z)
        x0 = est.x0_hat
        if every is not None and (i + 1) % every == 0:
            x0 = codec.encode(obs.operator.prox(image, obs.y, prox_weight))
        c_x0, c_eps, c_z = process.coefficients[i]
        noise = c_z * run.rng.normal(f"step/{i}", process.shape)
        z = (c_x0 * x0 + c_eps * est.eps_hat + noise - rho * grad).detach()
    return z


@pytest.mark.parametrize("every", [None, 2])
def test_it_is_the_written_loop(every):
    run = text_run()
    ours = sample(run, P2L(2, 0.05, 0.6, every, 0.3, cg_steps=None)).x
    theirs = torch.cat([written(run, row, 2, 0.05, 0.6, every, 0.3) for row in range(len(ours))])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    untuned = torch.cat([written(run, row, 2, 0.05, 0.6, every, 0.3, tuned=False) for row in range(len(ours))])
    assert not torch.allclose(ours, untuned, atol=1e-3)


def test_without_tuning_and_projection_it_is_latent_dps():
    for run in (latent_run(), text_run(), latent_run(eta=0.0)):
        ours, dps = sample(run, P2L(inner_steps=0, rho=0.4, project_every=None)), sample(run, DPS(0.4))
        assert torch.equal(ours.x, dps.x) and torch.equal(ours.control_energy, dps.control_energy)
        projected = sample(run, P2L(inner_steps=0, rho=0.4, project_every=2))
        assert not torch.allclose(projected.x, dps.x, atol=1e-3)


def test_tuning_lowers_the_error_and_leaves_no_free_step():
    run = text_run(n_steps=2)
    x_t, state = P2L(40, 0.05).start(run)

    def error(prompt):
        x0_hat = run.process.prior.predict_prompted(x_t, run.process.times[0], prompt).x0_hat
        return run.obs.residual(run.objective.codec.decode(x0_hat)).square().flatten(1).sum(1)

    step, after = P2L(40, 0.05)(run, x_t, 0, state)
    assert (error(after["prompt"]) < 0.97 * error(state["prompt"])).all()
    assert step.free is None and sample(run, P2L(1, 0.05)).control_energy.isnan().all()
    assert len({tuple(row) for row in after["prompt"].flatten(1).tolist()}) == len(x_t)  # each row its own


@pytest.mark.parametrize("operator", [HalfMask(), Downsample(2), GaussianBlur(0.6)])
def test_conjugate_gradient_tends_to_the_exact_projection(operator):
    run = latent_run(operator)
    z0 = run.process.estimate(run.process.init(run.rng), 1).x0_hat
    exact = P2L(0, prox_weight=0.1, cg_steps=None)._project(run, z0)
    few, many = (P2L(0, prox_weight=0.1, cg_steps=k)._project(run, z0) for k in (1, 60))
    assert (many - exact).norm() < 1e-3 * (z0 - exact).norm()
    if isinstance(operator, GaussianBlur):  # elsewhere A A^T is a multiple of the identity, and one step is enough
        assert (few - exact).norm() > 1e-2 * (z0 - exact).norm()


def test_it_costs_what_it_says():
    run = text_run()
    sample(run, P2L(3, 0.05, project_every=2))
    spent = run.process.evaluations
    assert (spent.nfe, spent.vjp, spent.decoder_vjp) == (16, 16, 16)


def test_it_tunes_the_prompt_of_stable_diffusion(tmp_path):
    text_models.save_sd(tmp_path / "sd")
    prior = stable_diffusion(str(tmp_path / "sd"))
    prior.load()
    run = latent_run(Downsample(4), prior, n=2, n_steps=2, eta=0.0, grid=Uniform(), shape=(3, 16, 16))
    x_t, state = P2L(1, 0.01).start(run)
    _, after = P2L(1, 0.01)(run, x_t, 0, state)
    moved = (after["prompt"] - prior.prompt_embedding()).abs()
    assert moved.shape == (2, *prior.prompt_embedding().shape)
    assert 0.009 < moved.max() < 0.011  # Adam's first step moves by its learning rate
    assert sample(run, P2L(1, 0.01, project_every=1)).alive.all()


class OneEach(FakeText):
    """Each row has a prompt of its own, 0 for row 0, 1 for row 1."""

    def prompt_embedding(self):
        one = super().prompt_embedding()
        return torch.stack([one, one + 1])


def test_rows_with_prompts_of_their_own_start_from_them():
    both = latent_run(Downsample(2), OneEach(), n=2)
    other = latent_run(Downsample(2), FakeText(), n=2)
    _, state = P2L(1, 0.05).start(both)
    assert torch.equal(state["prompt"], both.process.prior.prompt_embedding())
    ours, theirs = sample(both, P2L(1, 0.05, project_every=2)).x, sample(other, P2L(1, 0.05, project_every=2)).x
    torch.testing.assert_close(ours[0], theirs[0])
    assert not torch.allclose(ours[1], theirs[1], atol=1e-3)


class Bent(Operator):
    def forward(self, image):
        return image.square()


def test_without_a_prompt_it_says_that_there_is_nothing_to_tune():
    reason = P2L().check(setup(network_prior(), HalfMask()))
    assert "nothing to tune" in reason and "inner_steps=0" in reason
    assert P2L(inner_steps=0).check(setup(network_prior(), HalfMask())) is None
    assert P2L().check(setup(FakeText(), HalfMask())) is None
    assert "linear" in P2L(inner_steps=0).check(setup(network_prior(), Bent()))
    assert P2L(inner_steps=0, project_every=None).check(setup(network_prior(), Bent())) is None


@pytest.mark.parametrize(
    "wrong", [{"inner_steps": -1}, {"project_every": 0}, {"cg_steps": 0}, {"lr": 0.0}, {"prox_weight": -1.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        P2L(**wrong)
