"""FlowDPS and FlowChef, written out, are settings of our controllers on a rectified flow."""

import pytest
import torch
from controllers.latents import latent_run, network_prior
from worlds import TinyNet

from rbctrl.controllers import DPS, RBModulation
from rbctrl.controllers.base import Run
from rbctrl.costs import ResidualNorm
from rbctrl.grids import Uniform
from rbctrl.observation import Objective
from rbctrl.operators import Downsample
from rbctrl.priors import NetworkPrior
from rbctrl.process import ddim, flow_renoise
from rbctrl.sampling import sample
from rbctrl.schedules import VP, RectifiedFlow

LR, STEP, N = 0.7, 0.4, 6
GRID = Uniform(0.95, shift=4.0)


class Velocity(TinyNet):
    """v(z, sigma) = eps - z_0, as Stable Diffusion 3 predicts it."""


def flow_run(process, space="measurement"):
    prior = NetworkPrior(
        Velocity(4),
        parameterization="flow",
        time_input="t",
        network_schedule=RectifiedFlow(),
        value_range=(-1, 1),
        codec=network_prior().codec,
    )
    run = latent_run(Downsample(2), prior)
    process = process(prior, prior.state_shape((3, 8, 8)), N, GRID)
    return Run(
        process, Objective(ResidualNorm(space), run.obs, prior.codec, process.evaluations), run.rng
    ), prior.network


def norm(x):
    return x.flatten(1).square().sum(1).sqrt()


def sigmas():
    return GRID.times(RectifiedFlow(), N).tolist()


def gradient(run, loss, z0):
    with torch.enable_grad():
        z = z0.detach().requires_grad_()
        return torch.autograd.grad(loss(run.objective.codec.decode(z)).sum(), z)[0]


def flowdps(run, network):
    """Spec 1.13: v, z0t, z1t; three descent steps; blend; partly fresh noise; the next state."""
    y, op = run.obs.y, run.obs.operator
    sigma = sigmas()
    z = sigma[0] * run.rng.normal("init", run.process.shape)
    for i in range(N):
        now, after = sigma[i], sigma[i + 1]
        v = network(z, torch.full((len(z),), now, dtype=z.dtype))
        z0t, z1t = z - now * v, z + (1 - now) * v
        z0y = z0t
        for _ in range(3):
            z0y = z0y - LR * gradient(run, lambda x: norm(op.pinv(y) - op.pinv(op(x))), z0y)
        z0y = (1 - now) * z0t + now * z0y
        noise = run.rng.normal(f"step/{i}", run.process.shape)
        z1 = after**0.5 * z1t + (1 - after) ** 0.5 * noise
        z = z0y + after * (z1 - z0y)
    return z


def flowchef(run, network):
    """Spec 1.13: the gradient at z0t, not through the network, applied to the Euler step."""
    sigma = sigmas()
    z = sigma[0] * run.rng.normal("init", run.process.shape)
    for i in range(N):
        now, after = sigma[i], sigma[i + 1]
        v = network(z, torch.full((len(z),), now, dtype=z.dtype))
        z0t, z1t = z - now * v, z + (1 - now) * v
        z = z0t + after * (z1t - z0t) - STEP * gradient(run, lambda x: norm(run.obs.residual(x)), z0t)
    return z


def test_flowdps_is_plain_descent_with_the_share_sigma_of_its_move():
    run, network = flow_run(flow_renoise, "pinv")
    ours = sample(run, RBModulation(3, LR, rule="paper", blend="sigma")).x
    torch.testing.assert_close(ours, flowdps(run, network), rtol=0, atol=1e-11)
    assert run.process.evaluations.vjp == 0
    assert not torch.allclose(ours, sample(run, RBModulation(3, LR, rule="paper")).x, atol=1e-3)
    plain, _ = flow_run(flow_renoise)  # |y - A x| is another cost where A^+ is no isometry
    assert not torch.allclose(ours, sample(plain, RBModulation(3, LR, rule="paper", blend="sigma")).x, atol=1e-3)


def test_flowchef_is_dps_without_the_networks_jacobian():
    run, network = flow_run(lambda *args: ddim(*args, eta=0.0))
    ours = sample(run, DPS(STEP, jacobian="identity")).x
    torch.testing.assert_close(ours, flowchef(run, network), rtol=0, atol=1e-11)
    assert run.process.evaluations.vjp == 0 and run.process.evaluations.decoder_vjp == N
    assert not torch.allclose(ours, sample(run, DPS(STEP)).x, atol=1e-3)


def test_its_noise_keeps_the_level_and_is_refused_off_rectified_flows():
    prior = network_prior(schedule=RectifiedFlow())
    process = flow_renoise(prior, (4, 4, 4), N, GRID)
    for (c_x0, c_eps, c_z), after in zip(process.coefficients, sigmas()[1:]):
        assert c_x0 == pytest.approx(1 - after) and c_eps**2 + c_z**2 == pytest.approx(after**2)
    with pytest.raises(ValueError, match="prior/schedule=flow"):
        flow_renoise(network_prior(schedule=VP()), (4, 4, 4), N, GRID)


def test_unknown_choices_are_refused():
    for wrong in ({"rule": "sgd"}, {"blend": "half"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RBModulation(**wrong)
    with pytest.raises(ValueError, match="jacobian"):
        DPS(jacobian="none")
    with pytest.raises(ValueError, match="space"):
        ResidualNorm("image")
