"""ReSample against its loop, written out with torch's own AdamW, one image at a time."""

import math

import pytest
import torch
from controllers.latents import latent_run, network_prior
from worlds import setup

from rbctrl.controllers import DPS, ReSample
from rbctrl.controllers.resample import adamw
from rbctrl.operators import Downsample, HalfMask
from rbctrl.operators.base import Operator
from rbctrl.sampling import sample

N, EVERY, AHEAD, GAMMA, PIXEL, LATENT = 9, 2, 3, 40.0, 4, 3


def fit(value, x, lr, n_steps):
    x = x.detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([x], lr=lr)
    for _ in range(n_steps):
        optimizer.zero_grad()
        value(x).backward()
        optimizer.step()
    return x.detach()


def written(run, row, pixel_fit="released", gamma=GAMMA):
    """Spec 1.11 in terms of alpha_bar, for one image."""
    run = run.take(torch.tensor([row]))
    process, prior, obs, codec = run.process, run.process.prior, run.obs, run.process.prior.codec
    ab = [alpha**2 for alpha in process.alpha]
    third = N // 3

    def pixel_error(x):
        return (obs.y - obs.operator(x)).square().mean()

    def ddim(z, i):
        est = prior.predict(z, process.times[i])
        return est, math.sqrt(ab[i + 1]) * est.x0_hat + math.sqrt(1 - ab[i + 1]) * est.eps_hat

    z = process.init(run.rng)
    for i in range(N):
        index = N - 1 - i
        z = z.detach().requires_grad_()
        est, mean = ddim(z, i)
        norm = obs.residual(codec.decode(est.x0_hat)).square().sum().sqrt()
        (grad,) = torch.autograd.grad(norm, z)
        z = (mean - ab[i] / 2 * grad).detach()
        if 0 < index <= N - third and index % EVERY == 0:
            ahead = z
            for k in range(i + 1, min(i + 1 + AHEAD, N)):
                est, ahead = ddim(ahead, k)
            if index >= third and pixel_fit == "released":
                z0 = codec.encode(fit(pixel_error, codec.decode(est.x0_hat), 1e-2, PIXEL))
            elif index >= third:
                image = codec.decode(est.x0_hat)
                z0 = codec.encode(image + obs.operator.pinv(obs.residual(image)))
            else:
                z0 = fit(lambda v: pixel_error(codec.decode(v)), est.x0_hat, 5e-3, LATENT)
            a_t, a_prev = ab[i], ab[i + 1]
            v = gamma * (1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev)
            noise = run.rng.normal(f"step/{i}", process.shape)
            z = (v * math.sqrt(a_prev) * z0 + (1 - a_prev) * z) / (v + 1 - a_prev)
            z = (z + noise * math.sqrt(1 / (1 / v + 1 / (1 - a_prev)))).detach()
    return fit(lambda v: pixel_error(codec.decode(v)), z / process.alpha[-1], 5e-3, LATENT)


def controller(**kwargs):
    return ReSample(every=EVERY, ahead=AHEAD, pixel_steps=PIXEL, latent_steps=LATENT, tol=0.0, **kwargs)


@pytest.mark.parametrize("pixel_fit", ["released", "pinv"])
def test_it_is_the_written_loop(pixel_fit):
    run = latent_run(Downsample(2), n=2, n_steps=N, eta=0.0)
    ours = sample(run, controller(pixel_fit=pixel_fit)).x0_hat
    theirs = torch.cat([written(run, row, pixel_fit) for row in range(len(ours))])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    other = torch.cat([written(run, row, pixel_fit, gamma=10.0) for row in range(len(ours))])
    assert not torch.allclose(ours, other, atol=1e-3)


def test_before_and_between_the_fits_it_is_latent_dps_with_the_scale_of_alpha_bar():
    run = latent_run(n_steps=N, eta=0.0)
    x_t = run.process.init(run.rng)
    for i in (0, 1, 3):
        step, _ = controller()(run, x_t, i, {})
        dps, _ = DPS(run.process.alpha[i] ** 2 / 2)(run, x_t, i, {})
        torch.testing.assert_close(step.mean, dps.mean, rtol=0, atol=1e-12)
        assert step.std == 0.0
    assert controller()(run, x_t, 2, {})[0].std > 0


def test_a_row_stops_at_its_own_tolerance():
    target, scale = torch.tensor([[0.05], [3.0]]), torch.tensor([1.0, 1.0])

    def value(x):
        return scale * (x - target).square().sum(1)

    x = adamw(value, torch.zeros(2, 1), 100, 0.01, tol=1e-4)
    alone = adamw(lambda x: (x - target[:1]).square().sum(1), torch.zeros(1, 1), 100, 0.01, tol=1e-4)
    assert torch.equal(x[:1], alone) and 1e-4 > (x[0] - 0.05).square() and x[1] > 0.5


def test_a_fit_that_gains_nothing_for_long_ends():
    calls = []

    def rising(x):
        calls.append(1)
        return x.sum(1) * 0 + len(calls)

    adamw(rising, torch.zeros(1, 1), 50, 0.01, tol=0.0, patience=10)
    assert len(calls) == 11
    calls.clear()
    adamw(rising, torch.zeros(1, 1), 50, 0.01, tol=0.0)
    assert len(calls) == 50


class Bent(Operator):
    def forward(self, image):
        return image.square()


def test_what_cannot_work_is_refused():
    noisy = setup(network_prior(), HalfMask())
    assert "eta = 0" in ReSample().check(noisy)
    run, bent = latent_run(eta=0.0), latent_run(Bent(), eta=0.0)
    assert ReSample().check(run.setup) is None and ReSample().check(bent.setup) is None
    assert "linear" in ReSample(pixel_fit="pinv").check(bent.setup)
    for wrong in ({"every": 0}, {"gamma": 0.0}, {"pixel_fit": "sgd"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ReSample(**wrong)
