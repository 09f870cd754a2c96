"""STSL's step against its loss, differentiated as it is written."""

import pytest
import torch
from controllers.latents import latent_run, network_prior
from worlds import setup

from rbctrl.controllers import DPS, STSL
from rbctrl.controllers.starts import encoded_measurement
from rbctrl.costs import GaussianNLL
from rbctrl.operators import Downsample, HalfMask
from rbctrl.operators.base import Operator
from rbctrl.sampling import sample


def score(run, z, i):
    est = run.process.prior.predict(z, run.process.times[i])
    return est, -est.eps_hat / run.process.sigma[i]


def written(run, x_t, i, weight, curvature, inner_steps, sign=1.0):
    """K times z <- z - grad [weight cost + (eta / d) e^T (s(z + e) - s(z))], then the step of DDIM (spec 1.10)."""
    z = x_t
    for k in range(inner_steps):
        e = run.rng.normal(f"stsl/{i}/{k}", run.process.shape)
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            est, here = score(run, z, i)
            _, there = score(run, z + e, i)
            trace = (e * (there - here)).flatten(1).sum(1)
            loss = weight * run.objective(est.x0_hat) + sign * curvature / e[0].numel() * trace
            (grad,) = torch.autograd.grad(loss.sum(), z)
        z = z.detach() - grad
    return run.process.mean(score(run, z, i)[0], i)


@pytest.mark.parametrize("cost", [None, GaussianNLL(0.5)])
def test_step_is_the_written_one(cost):
    run = latent_run(Downsample(2), cost=cost)
    x_t = run.process.init(run.rng)
    for i in (0, 2):
        step, _ = STSL(0.3, 5.0, 3)(run, x_t, i, {})
        torch.testing.assert_close(step.mean, written(run, x_t, i, 0.3, 5.0, 3), rtol=0, atol=1e-11)
        assert not torch.allclose(step.mean, written(run, x_t, i, 0.3, 5.0, 2), atol=1e-3)
    assert not torch.allclose(step.mean, written(run, x_t, 2, 0.3, 5.0, 3, sign=-1.0), atol=1e-3)
    torch.testing.assert_close(step.free, run.process.mean(run.process.estimate(x_t, 2), 2))


def test_the_second_term_is_the_gradient_of_a_trace():
    """Averaged over e for a small network curvature it tends to grad tr(grad s): here s is known to be cubic."""

    class Cubic(torch.nn.Module):
        def forward(self, x, time):
            return 0.5 * x - 0.02 * x**3

    run = latent_run(prior=network_prior(network=Cubic()), n=1)
    process, i = run.process, 2
    alpha, sigma = process.alpha[i], process.sigma[i]
    z = 0.5 * run.rng.normal("z", process.shape)
    n, d = 3000, z.numel()
    rows = z.expand(n, -1, -1, -1)
    e = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.enable_grad():
        leaf = rows.clone().requires_grad_()
        trace = (e * (score(run, leaf + e, i)[1] - score(run, leaf, i)[1])).flatten(1).sum(1)
        (found,) = torch.autograd.grad(trace.sum(), leaf)
    exact = alpha * -0.12 * z / sigma**2  # d/dz of the diagonal alpha (0.5 - 0.06 z^2) / sigma^2 + const
    error = 5 * found.std(0) / n**0.5
    assert ((found.mean(0) - exact[0]).abs() < error).all()
    assert not ((found.mean(0) + exact[0]).abs() < error).all()
    assert d == 64


def test_it_starts_from_the_measurement():
    run = latent_run(Downsample(2))
    process, codec = run.process, run.process.prior.codec
    y, rho = run.obs.y, (0.05 / 0.5) ** 2
    z0 = codec.encode(run.obs.operator.adjoint(run.obs.operator.gram_solve(y, rho)))
    forward = process.alpha[0] * z0 + process.sigma[0] * run.rng.normal("init", process.shape)
    torch.testing.assert_close(STSL().start(run)[0], forward)
    torch.testing.assert_close(STSL(init="noise").start(run)[0], process.init(run.rng))
    inverted = STSL(init="inversion").start(run)[0]
    z = process.alpha[-1] * z0
    for i in (3, 2, 1, 0):
        eps = process.prior.predict(z, process.times[i]).eps_hat
        clean = (z - process.sigma[i + 1] * eps) / process.alpha[i + 1]
        z = process.alpha[i] * clean + process.sigma[i] * eps
    torch.testing.assert_close(inverted, z)
    assert not torch.allclose(inverted, forward, atol=0.1)


def test_inversion_is_undone_by_ddim():
    """With many steps the way back leads to where it began; from noise it leads elsewhere."""
    run = latent_run(Downsample(2), eta=0.0, n_steps=200)
    z0 = encoded_measurement(run)

    class Back(STSL):
        def __call__(self, run, x_t, i, state):
            return run.push(run.process.estimate(x_t, i), i), state

    back, elsewhere = (sample(run, Back(init=init)).x / run.process.alpha[-1] for init in ("inversion", "noise"))
    assert (back - z0).norm() < 0.15 * (elsewhere - z0).norm()


def test_one_inner_step_without_curvature_differs_from_dps_by_where_it_acts():
    run = latent_run()
    x_t = run.process.init(run.rng)
    step, _ = STSL(0.3, 0.0, 1, init="noise")(run, x_t, 1, {})
    dps, _ = DPS(0.3)(run, x_t, 1, {})
    shifted = x_t + (dps.mean - dps.free)
    torch.testing.assert_close(step.mean, run.process.mean(run.process.estimate(shifted, 1), 1))


@pytest.mark.parametrize(("steps", "start"), [(1, 0), (5, 4)])
def test_it_costs_what_it_says(steps, start):
    run = latent_run()
    sample(run, STSL(inner_steps=steps, init="inversion" if start else "forward"))
    spent = run.process.evaluations
    assert (spent.nfe, spent.vjp, spent.decoder_vjp) == (4 * (2 * steps + 1) + start, 8 * steps, 4 * steps)


class Bent(Operator):
    def forward(self, image):
        return image.square()


def test_what_cannot_work_is_refused():
    assert "linear" in STSL().check(setup(network_prior(), Bent()))
    assert STSL(init="noise").check(setup(network_prior(), Bent())) is None
    assert STSL().check(setup(network_prior(), HalfMask())) is None
    for wrong in ({"inner_steps": 0}, {"init": "zeros"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            STSL(**wrong)
