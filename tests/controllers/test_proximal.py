"""DDNM and DiffPIR against their published steps, written out."""

import pytest
import torch
from worlds import plane, plane_run

from rbctrl.controllers import Proximal
from rbctrl.grids import LogSNR
from rbctrl.process import renoise
from rbctrl.sampling import sample


def run_of(eta, n_steps=5, n=4):
    prior = plane()
    return plane_run(prior, renoise(prior, (2,), n_steps, LogSNR(-4, 6), eta), n)


def loop(run, update):
    process = run.process
    x = process.init(run.rng)
    for i in range(process.n_steps):
        est = process.prior.predict(x, process.times[i])
        ab, ab_next = process.alpha[i] ** 2, process.alpha[i + 1] ** 2
        x = update(x, est, ab, ab_next, run.rng.normal(f"step/{i}", (2,)))
    return x


def test_ddnm_is_the_published_loop():
    """x0' = x0 - A^+(A x0 - y); x_s = sqrt(ab_s) x0' + sqrt(1 - ab_s) (eta z + sqrt(1 - eta^2) eps)."""
    run, eta = run_of(0.85), 0.85

    def update(x, est, ab, ab_next, z):
        x0 = est.x0_hat.clone()
        x0[:, 0] = run.obs.y[:, 0]  # A keeps the first coordinate
        return ab_next**0.5 * x0 + (1 - ab_next) ** 0.5 * (eta * z + (1 - eta**2) ** 0.5 * est.eps_hat)

    torch.testing.assert_close(sample(run, Proximal(0.0, "frozen")).x, loop(run, update), rtol=0, atol=1e-12)


def test_diffpir_is_the_published_loop():
    """rho = lambda s^2 / sig^2; x_s = sqrt(ab_s) x0' + sqrt(1-ab_s)(sqrt(1-zeta) eps' + sqrt(zeta) z)."""
    lam, zeta = 2.0, 0.3
    run = run_of(zeta**0.5)

    def update(x, est, ab, ab_next, z):
        rho = lam * run.obs.sigma_y**2 / ((1 - ab) / ab)
        x0 = est.x0_hat.clone()
        x0[:, 0] = (run.obs.y[:, 0] + rho * x0[:, 0]) / (1 + rho)
        eps = (x - ab**0.5 * x0) / (1 - ab) ** 0.5
        return ab_next**0.5 * x0 + (1 - ab_next) ** 0.5 * ((1 - zeta) ** 0.5 * eps + zeta**0.5 * z)

    torch.testing.assert_close(sample(run, Proximal(lam, "recomputed")).x, loop(run, update), rtol=0, atol=1e-12)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="weight"):
        Proximal(weight=-1.0)
    with pytest.raises(ValueError, match="eps"):
        Proximal(eps="held")
