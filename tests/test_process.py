import math

import pytest
import torch
from worlds import exact_process, plane, plane_run, tiny_prior

from rbctrl.controllers import NoControl
from rbctrl.grids import LogSNR, Uniform
from rbctrl.integrators import DDIM
from rbctrl.process import ReverseProcess, Rotated, Step, ddim, euler_maruyama, renoise
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.schedules import VE, DiscreteVP, RectifiedFlow

N = 3


def estimate(process, i=1):
    x_t = process.init(ImageRNG(0, (("a", 0),) * N, torch.float64))
    return process.estimate(x_t, i)


def test_kl_is_that_of_two_gaussians():
    process = exact_process(plane(), 4)
    est = estimate(process)
    free, c_z = process.mean(est, 1), process.noise(1)
    for std in (c_z, 0.5 * c_z, torch.tensor([0.3, 0.7], dtype=torch.float64)):
        mean = free + 0.1
        step = Step(est, mean, std, free)
        scale = torch.as_tensor(std, dtype=torch.float64).expand_as(mean)
        truth = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, scale), torch.distributions.Normal(free, torch.full_like(free, c_z))
        ).sum(1)
        torch.testing.assert_close(process.kl(step, 1), truth)


def test_energy_is_zero_without_control_and_infinite_where_noise_is_missing():
    deterministic = ddim(plane(), (2,), 4, LogSNR(), eta=0.0)
    est = estimate(deterministic)
    free = deterministic.mean(est, 1)
    assert (deterministic.kl(Step(est, free, 0.0, free), 1) == 0).all()
    assert (deterministic.kl(Step(est, free + 1e-9, 0.0, free), 1) == math.inf).all()
    assert deterministic.kl(Step(est, free, 0.0, None), 1).isnan().all()
    noisy = exact_process(plane(), 4)
    assert (noisy.kl(Step(est, free, 0.0, free), 1) == math.inf).all()  # a point has no density against a Gaussian


def test_importance_weights_average_to_one():
    process = exact_process(plane(), 8)
    rng = ImageRNG(0, tuple((str(k), 0) for k in range(20000)), torch.float64)
    est = process.estimate(process.init(rng), 3)
    free, c_z = process.mean(est, 3), process.noise(3)
    z = rng.normal("z", (2,))
    weight = process.log_ratio(Step(est, free + 0.2 * c_z, 0.9 * c_z, free), 3, z).exp()
    assert abs(weight.mean() - 1) < 5 * weight.std() / len(weight) ** 0.5
    wrong = process.log_ratio(Step(est, free + 0.2 * c_z, 0.9 * c_z, free), 3, 1.1 * z).exp()
    assert abs(wrong.mean() - 1) > 5 * wrong.std() / len(wrong) ** 0.5


def test_noise_in_rotated_coordinates_has_the_energy_and_the_weights_of_its_gaussian():
    process = exact_process(plane(), 8)
    rng = ImageRNG(0, tuple((str(k), 0) for k in range(20000)), torch.float64)
    est = process.estimate(process.init(rng), 3)
    free, c_z, z = process.mean(est, 3), process.noise(3), rng.normal("z", (2,))
    v = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    std = (c_z * torch.tensor([0.5, 0.9], dtype=torch.float64)).expand_as(z)
    mean = free + c_z * torch.tensor([0.3, -0.1], dtype=torch.float64)
    step = Step(est, mean, Rotated(std, lambda c: c @ v.T), free)
    dense = torch.distributions.MultivariateNormal(mean, v @ torch.diag(std[0] ** 2) @ v.T)
    normal = torch.distributions.MultivariateNormal(free, c_z**2 * torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(process.kl(step, 3), torch.distributions.kl_divergence(dense, normal))
    x = mean + step.std * z
    ratio = normal.log_prob(x) - dense.log_prob(x)
    torch.testing.assert_close(process.log_ratio(step, 3, z), ratio)
    assert (process.log_ratio(Step(est, mean, std, free), 3, z) - ratio).abs().mean() > 0.01  # not rotated
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(step.take(rows).std * z[rows], (step.std * z)[rows])


@pytest.mark.parametrize("eps", ["frozen", "recomputed"])
def test_gain_is_the_derivative_of_the_next_state(eps):
    process = exact_process(plane(), 6)
    i, dx = 2, 1e-3
    est = estimate(process, i)
    x_t = process.alpha[i] * est.x0_hat + process.sigma[i] * est.eps_hat
    x0 = est.x0_hat + dx
    eps_hat = est.eps_hat if eps == "frozen" else (x_t - process.alpha[i] * x0) / process.sigma[i]
    moved = process.mean(type(est)(x0, eps_hat), i) - process.mean(est, i)
    torch.testing.assert_close(moved, torch.full_like(moved, dx * process.gain(i, eps)))


def test_schedule_families_are_one_process_after_the_time_change():
    results = []
    for schedule in (None, VE(), RectifiedFlow()):
        prior = plane(schedule=schedule)
        process = exact_process(prior, 20)
        run = plane_run(prior, process, 16)
        results.append(sample(run, NoControl()).x / process.alpha[-1])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-9, atol=1e-9)


def test_euler_maruyama_and_ddpm_share_their_limit():
    """Mean and covariance of the prior, from both integrators, on a fine grid."""
    prior = plane()
    means = (prior.weights[:, None] * prior.means).sum(0)
    for process in (euler_maruyama(prior, (2,), 150, LogSNR(), "marginal"), exact_process(prior, 150)):
        x = sample(plane_run(prior, process, 2000), NoControl()).x
        assert ((x.mean(0) - means).abs() < 5 * x.std(0) / 2000**0.5 + 2 / 150).all()


def test_grids_may_go_up_again():
    """Time travel keeps the marginal: on a point mass, mean and variance are those of the last level."""
    times = torch.tensor([0.9, 0.5, 0.7, 0.4], dtype=torch.float64)
    prior = tiny_prior()
    process = ReverseProcess(prior, DDIM(1.0), times, (3, 8, 8))
    for i, (c_x0, c_eps, c_z) in enumerate(process.coefficients):
        assert c_x0 == pytest.approx(process.alpha[i + 1])
        assert c_eps**2 + c_z**2 == pytest.approx(process.sigma[i + 1] ** 2)


def test_published_ddpm_of_1000_steps_reads_its_table():
    schedule = DiscreteVP.linear()
    process = ddim(tiny_prior(schedule), (3, 8, 8), 1000, Uniform(), eta=1.0)
    table = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    torch.testing.assert_close(
        torch.tensor(process.alpha[:-1][::-1], dtype=torch.float64), table.sqrt(), rtol=0, atol=1e-15
    )


def test_impossible_processes_are_refused():
    with pytest.raises(ValueError, match="exact prior"):
        ddim(tiny_prior(), (3, 8, 8), 4, LogSNR(), start="marginal")
    sampler = tiny_prior()
    sampler.sample_marginal = plane().sample_marginal  # the marginal alone makes no exact prior
    with pytest.raises(ValueError, match="exact prior"):
        ddim(sampler, (3, 8, 8), 4, LogSNR(), start="marginal")
    assert exact_process(plane(), 4).start == "marginal"
    with pytest.raises(ValueError, match="start"):
        ddim(plane(), (2,), 4, LogSNR(), start="clean")
    assert renoise(plane(), (2,), 4, LogSNR(), eta=0.5).n_steps == 4
