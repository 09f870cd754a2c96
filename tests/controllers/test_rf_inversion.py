"""RF-Inversion's controller, written out, falls out of the proximal one with A = I on a rectified flow."""

import torch
from worlds import TinyNet, rows

from rbctrl.controllers import Proximal
from rbctrl.controllers.base import Run
from rbctrl.costs import ResidualNorm
from rbctrl.grids import Uniform
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, given
from rbctrl.operators import Identity
from rbctrl.priors import NetworkPrior
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.schedules import RectifiedFlow

N, GRID, SIGMA_Y, SHAPE = 7, Uniform(0.95), 0.3, (3, 8, 8)


def make_run():
    prior = NetworkPrior(
        TinyNet(3),
        parameterization="flow",
        time_input="t",
        network_schedule=RectifiedFlow(),
        value_range=(-1, 1),
    )
    rng = ImageRNG(0, rows(2), torch.float64)
    obs = given(Identity(), GaussianNoise(SIGMA_Y), rng.normal("y", SHAPE))
    process = ddim(prior, SHAPE, N, GRID, eta=0.0)
    return Run(process, Objective(ResidualNorm(), obs, prior.codec, process.evaluations), rng)


def rf_inversion(run, weight):
    """Rout et al., RF-Inversion, ICLR 2025, with its eta; t = 1 - sigma and v_t = -v."""
    sigma = GRID.times(RectifiedFlow(), N).tolist()
    x, y0, network = run.process.init(run.rng), run.obs.y, run.process.prior.network
    for i in range(N):
        t = 1 - sigma[i]
        rho = weight * (SIGMA_Y * t / sigma[i]) ** 2
        eta = 1 / (1 + rho)  # gamma / (1 + gamma), gamma = 1 / rho
        v_t = -network(x, torch.full((len(x),), sigma[i], dtype=x.dtype))
        v_cond = (y0 - x) / (1 - t)
        v_hat = v_t + eta * (v_cond - v_t)
        x = x + v_hat * (sigma[i] - sigma[i + 1])
    return x


def test_its_steps_are_proximal_ones():
    run = make_run()
    ours = sample(run, Proximal(weight=40.0)).x
    torch.testing.assert_close(ours, rf_inversion(run, 40.0), rtol=1e-9, atol=1e-9)
    assert (ours - rf_inversion(run, 44.0)).abs().max() > 1e-3
    assert (sample(run, Proximal(weight=40.0, eps="frozen")).x - ours).abs().max() > 1e-3
