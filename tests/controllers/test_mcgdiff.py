import dataclasses

import pytest
import torch
from worlds import MODES, exact_process, plane, plane_run, rows, setup, tiny_prior

from rbctrl.controllers import DenseMomentMatching, MCGDiff, Particles
from rbctrl.controllers.resampling import resample
from rbctrl.costs import ResidualNorm
from rbctrl.grids import LogSNR
from rbctrl.noise import GaussianNoise, NoNoise
from rbctrl.observation import Objective, given
from rbctrl.operators import MotionBlur
from rbctrl.operators.matrix import Matrix
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import Run, sample
from rbctrl.testing import check_controller

KAPPA = 1e-2


def diagonal_run(n, n_steps=6, sigma_y=0.2):
    """y = (2 x_1, 0.5 x_2) + noise: two coordinates with matched times of their own."""
    prior = plane()
    process = ddim(prior, prior.shape, n_steps, LogSNR(-4, 8), eta=0.8)
    y = torch.tensor([[0.8, 0.3]], dtype=torch.float64).expand(n, 2)
    obs = given(Matrix([[2.0, 0.0], [0.0, 0.5]]), GaussianNoise(sigma_y), y)
    return Run(process, Objective(ResidualNorm(), obs), ImageRNG(0, rows(n), torch.float64))


def published_step(run, x_t, i, left):
    """One step written out with alpha_bar and the two coordinates one by one; A is diagonal and V = I."""
    process, n = run.process, len(x_t)
    ab_t, ab_s = process.alpha[i] ** 2, process.alpha[i + 1] ** 2
    mean, c_z = process.mean(process.prior.predict(x_t, process.times[i]), i), process.noise(i)
    log_weight, filtered = torch.zeros(n, dtype=torch.float64), {}
    current = torch.zeros(n, dtype=torch.float64)
    for j, s in enumerate((2.0, 0.5)):
        ab_tau = s**2 / (s**2 + 0.2**2)
        ybar = run.obs.y[:, j] / s
        if ab_t <= ab_tau:
            v_t = 1 - (1 - KAPPA) * ab_t / ab_tau
            current += torch.distributions.Normal(ab_t**0.5 * ybar, v_t**0.5).log_prob(x_t[:, j])
        if ab_s <= ab_tau:
            v_s = 1 - (1 - KAPPA) * ab_s / ab_tau
            reach = (c_z**2 + v_s) ** 0.5
            log_weight += torch.distributions.Normal(ab_s**0.5 * ybar, reach).log_prob(mean[:, j])
            filtered[j] = (c_z**2 / (c_z**2 + v_s), ab_s**0.5 * ybar)
    if filtered:
        ancestors = resample(run, log_weight - current, n, f"mcgdiff/resample/{i}")
    else:
        ancestors, left = torch.arange(n), current if left is None else left
    z = run.rng.normal(f"step/{i}", (2,))
    new = mean[ancestors] + c_z * z
    for j, (gain, target) in filtered.items():
        pinned = gain * target + (1 - gain) * mean[ancestors, j]
        new[:, j] = pinned + (1 - gain) ** 0.5 * c_z * z[:, j]
    return new, left


def test_steps_are_the_published_ones():
    run = diagonal_run(8, 12)
    controller = MCGDiff(8, KAPPA)
    x, state = controller.start(run)
    x_pub, left = x, None
    for i in range(run.process.n_steps):
        step, state = controller(run, x, i, state)
        x = step.mean + step.std * run.rng.normal(f"step/{i}", (2,))
        x_pub, left = published_step(run, x_pub, i, left)
        assert torch.allclose(x, x_pub, rtol=1e-10, atol=1e-12)
    assert left is not None  # the grid went below both matched times
    one, other = (c(run, x, 3, state)[0].mean for c in (controller, MCGDiff(8, 0.5)))
    assert not torch.allclose(one, other)  # kappa matters


def test_a_wide_g_gives_the_variance_of_the_posterior_and_a_narrow_one_too_little():
    prior = plane()
    process = exact_process(prior, 80, LogSNR(-4, 8))
    runs = [plane_run(prior, process, 8192, seed=seed) for seed in range(4)]
    _, variance = prior.moments_given(runs[0].obs.take(torch.tensor([0])))

    def ratio(kappa):
        """Of the variance along the measurement, to the exact one; clouds of a narrow g differ much."""
        x_0 = torch.cat([sample(run, MCGDiff(256, kappa)).x for run in runs]) / process.alpha[-1]
        return float(x_0[:, 0].var() / variance[0, 0])

    assert ratio(0.5) == pytest.approx(1, abs=0.05)
    assert ratio(0.01) < 0.92


def test_it_passes_the_suite_of_controllers_and_counts_no_gradient():
    check_controller(MCGDiff(4))
    run = diagonal_run(8)
    result = sample(run, MCGDiff(4))
    assert (run.process.evaluations.nfe, run.process.evaluations.vjp) == (6, 0)
    assert (result.columns["ess"] <= 4).all()


def test_what_is_still_pulled_at_the_end_counts_y_once():
    prior = plane()
    process = exact_process(prior, 40, LogSNR(-4, 2))  # it ends above the matched time, log-SNR 3.2
    run = plane_run(prior, process, 8192)
    pulled, exact = (sample(run, c).x[:, 0].var() for c in (MCGDiff(256, 0.05), Particles(DenseMomentMatching(), 256)))
    assert float(pulled / exact) == pytest.approx(1, abs=0.06)  # 0.78 where the last weights forget the last g


def test_what_cannot_work_is_refused():
    matrix = Matrix([[1.0, 0.0]])
    still = dataclasses.replace(setup(plane(), matrix), process=ddim(plane(), (2,), 4, LogSNR(), eta=0.0))
    assert "eta" in MCGDiff().check(still)
    assert MCGDiff().check(setup(plane(MODES), matrix)) is None
    assert "noise=gaussian" in MCGDiff().check(setup(plane(), matrix, NoNoise()))
    assert "singular" in MCGDiff().check(setup(tiny_prior(), MotionBlur(5, 0.5)))
    with pytest.raises(ValueError, match="at least 2"):
        MCGDiff(1)
    with pytest.raises(ValueError, match="kappa"):
        MCGDiff(4, 0.0)
    with pytest.raises(ValueError, match="multiples of 4"):
        sample(dataclasses.replace(diagonal_run(6)), MCGDiff(4))
