"""Shooting: the plan written out, and the optimal control of a linear chain, from the Riccati recursion."""

import math
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from worlds import ONE_GAUSSIAN, SIGMA_Y, Y, exact_process, image_run, plane, plane_run, setup, tiny_prior

from rbctrl.controllers import DPS, Controller, NoControl, Shooting, Window
from rbctrl.controllers.base import Run
from rbctrl.costs import GaussianNLL, OutOfRange, ResidualNorm
from rbctrl.grids import LogSNR, Uniform
from rbctrl.observation import Objective
from rbctrl.operators.base import Operator
from rbctrl.operators.matrix import Matrix
from rbctrl.process import ddim
from rbctrl.sampling import sample

EYE = torch.eye(2, dtype=torch.float64)


class LeftHalf(Operator):
    def forward(self, image):
        return image[..., :4]


def written_out(run, horizon, inner, lr, weight, warm=True):
    """One image: torch's Adam on the plan, the first control applied, the rest kept."""
    process, y, rng, n = run.process, run.obs.y, run.rng, run.process.n_steps

    def step(x, j):
        est = process.prior.predict(x, process.times[j])
        c_x0, c_eps, _ = process.coefficients[j]
        return c_x0 * est.x0_hat + c_eps * est.eps_hat

    x = process.sigma[0] * rng.normal("init", (3, 8, 8))
    plan = [torch.zeros_like(x) for _ in range(horizon)]
    for i in range(n):
        stop = min(i + horizon, n)
        shifts = [v.clone().requires_grad_() for v in plan[: stop - i]]
        optimizer = torch.optim.Adam(shifts, lr=lr)
        for _ in range(inner):
            optimizer.zero_grad()
            end = x
            for j, v in zip(range(i, stop), shifts):
                end = step(end, j) + process.noise(j) * v
            x0 = end / process.alpha[n] if stop == n else process.prior.predict(end, process.times[stop]).x0_hat
            cost = (y - x0[..., :4]).square().sum().sqrt()
            (cost + weight * sum(v.square().sum() for v in shifts) / 2).backward()
            optimizer.step()
        x = step(x, i) + process.noise(i) * (shifts[0].detach() + rng.normal(f"step/{i}", (3, 8, 8)))
        plan = [v.detach() for v in shifts[1:]] + [torch.zeros_like(x)] * (horizon - len(shifts) + 1)
        plan = plan if warm else [torch.zeros_like(x)] * horizon
    return x


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_update_is_the_plan_written_out_of_each_image_alone(horizon):
    run = image_run(LeftHalf(), n=2, n_steps=5)
    ours = sample(run, Shooting(None if horizon == 5 else horizon, 3, 0.1, 0.01)).x
    for row in range(2):
        one = run.take(torch.tensor([row]))
        theirs = written_out(one, horizon, 3, 0.1, 0.01)
        torch.testing.assert_close(ours[row : row + 1], theirs, rtol=0, atol=1e-9)
        if horizon > 1:
            assert not torch.allclose(theirs, written_out(one, horizon, 3, 0.1, 0.01, warm=False), atol=1e-3)


def gaussian_run(n=128, cost=None, n_steps=8, grid=None):
    prior = plane(ONE_GAUSSIAN)
    return plane_run(prior, exact_process(prior, n_steps, grid or LogSNR(-4.0, 8.0)), n, cost or GaussianNLL())


def riccati(process):
    """V_i(x) = x^T P x / 2 + q^T x + r, the least mean price from x at step i of this affine Gaussian chain."""
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64) / process.alpha[-1]
    p, q = a.T @ a / SIGMA_Y**2, -a[0] * Y / SIGMA_Y**2
    r = Y**2 / (2 * SIGMA_Y**2) + math.log(SIGMA_Y * math.sqrt(2 * math.pi))
    values = [(p, q, r)]
    for i in reversed(range(process.n_steps)):
        points = torch.cat([torch.zeros(1, 2).double(), EYE])
        means = process.mean(process.prior.predict(points, process.times[i]), i)
        b, f, c = means[0], (means[1:] - means[0]).T, process.noise(i)
        damped = torch.linalg.inv(EYE + c**2 * p)
        r = r + c**2 * p.trace() / 2 - c**2 * q @ damped @ q / 2
        p, q = p @ damped, damped.T @ q
        r, q, p = r + b @ p @ b / 2 + q @ b, f.T @ (p @ b + q), f.T @ p @ f
        values.append((p, q, r))
    return values[::-1]


@dataclass(frozen=True)
class Feedback(Controller):
    """The optimal control of this chain: v = -c (I + c^2 P)^-1 (P mean + q), P and q of the next step."""

    def __call__(self, run, x_t, i, state):
        p, q, _ = riccati(run.process)[i + 1]
        est, c = run.process.estimate(x_t, i), run.process.noise(i)
        damped = torch.linalg.inv(EYE + c**2 * p)
        return run.push(est, i, -(c**2) * (run.process.mean(est, i) @ p + q) @ damped), state


@cache
def price(controller, cost):
    """J and V_0(x_T) of each row."""
    run = gaussian_run(cost=cost)
    result = sample(run, controller)
    p, q, r = riccati(run.process)[0]
    x, _ = controller.start(run)
    paid = result.control_energy + run.obs.nll(result.x / run.process.alpha[-1])
    return paid, (x @ p * x).sum(1) / 2 + x @ q + r


NLL, NORM = GaussianNLL(), ResidualNorm()
ZETAS = [(0.001, NLL), (0.003, NLL), (0.01, NLL), (0.03, NLL), (0.003, NORM), (0.01, NORM), (0.03, NORM), (0.1, NORM)]
PLAN = Shooting(None, 60, 0.05)


def test_full_horizon_pays_the_optimal_price_of_one_gaussian_and_a_poor_plan_does_not():
    """Certainty equivalence: the plan of the noise-free chain is the optimal control of the noisy one."""
    optimal, best = price(Feedback(), NLL)
    assert abs((optimal - best).mean()) < 4 * (optimal - best).std() / 128**0.5
    assert abs((price(PLAN, NLL)[0] - optimal).mean()) < 0.02  # paired: the same noise
    for poor in (Shooting(None, 5, 0.05), Shooting(2, 60, 0.05), Shooting(1, 60, 0.05)):
        assert (price(poor, NLL)[0] - optimal).mean() > 0.1


def test_full_horizon_pays_nats_less_than_dps_at_any_step_size():
    planned = price(PLAN, NLL)[0]
    for zeta, cost in ZETAS:
        assert (price(DPS(zeta), cost)[0] - planned).mean() > 3
    assert (price(Shooting(1, 60, 0.05), NLL)[0] - planned).mean() < 3  # negative control


def test_control_is_the_feedback_of_the_riccati_recursion():
    """At a single state; few inner steps are far from it."""
    run = gaussian_run(n=8)
    x_t, state = Shooting().start(run)
    optimal, _ = Feedback()(run, x_t, 0, {})
    size = (optimal.mean - optimal.free).abs().max()
    few, many = (Shooting(None, k, 0.02)(run, x_t, 0, state)[0].mean for k in (5, 150))
    assert (many - optimal.mean).abs().max() < 0.02 * size < 0.2 * size < (few - optimal.mean).abs().max()


def test_constant_cost_is_no_control():
    class Constant(ResidualNorm):
        def forward(self, image, obs):
            return 0 * image.flatten(1).sum(1)

    run = image_run(LeftHalf(), cost=Constant())
    assert torch.equal(sample(run, Shooting(2)).x, sample(run, NoControl()).x)
    steered = image_run(LeftHalf())
    assert not torch.equal(sample(steered, Shooting(2)).x, sample(steered, NoControl()).x)


def test_energy_is_finite_where_the_grid_ends_on_the_image_and_that_of_dps_is_not():
    run = image_run(LeftHalf(), grid=Uniform())
    assert sample(run, Shooting(2)).control_energy.isfinite().all()
    assert sample(run, DPS(0.3)).control_energy.isinf().all()


@pytest.mark.parametrize(("horizon", "length"), [(None, 4), (2, 2), (9, 4)])
def test_the_plan_keeps_its_shape(horizon, length):
    run, shapes = image_run(LeftHalf(), n=2), []
    controller = Shooting(horizon, 1)
    x, state = controller.start(run)
    for i in range(4):
        shapes.append(state["plan"].shape)
        step, state = controller(run, x, i, state)
        x = step.mean
    assert shapes == [(2, length, 3, 8, 8)] * 4
    assert not state["plan"].any()  # nothing is planned beyond the end


def test_it_pays_attention_to_the_running_cost():
    """A path that may leave [-.5, .5] for free does; one that pays for it does so less."""
    totals = []
    for planned in (None, OutOfRange(-0.5, 0.5, weight=300.0)):
        run = gaussian_run(n=16)
        objective = run.objective
        priced = Objective(objective.cost, run.obs, objective.codec, objective.evaluations, planned)
        scored = Objective(objective.cost, run.obs, running=OutOfRange(-0.5, 0.5, weight=300.0))
        score, total = Run(run.process, scored, run.rng), []
        sample(
            Run(run.process, priced, run.rng),
            Shooting(),
            lambda i, x, _, r=score, t=total: t.append(r.running_cost(i, x)),
        )
        totals.append(sum(total))
    assert totals[1].mean() < 0.7 * totals[0].mean()


def test_a_sampler_without_noise_is_refused():
    deterministic = ddim(tiny_prior(), (3, 8, 8), 4, LogSNR(-4.0, 6.0), eta=0.0)
    dead = setup(tiny_prior(), Matrix([[1.0]]))
    dead = type(dead)(deterministic, dead.operator, dead.noise, dead.cost)
    assert "sampler.eta=1" in Shooting().check(dead)
    assert "sampler.eta=1" in Window(Shooting()).check(dead)
    assert Shooting().check(setup(tiny_prior(), Matrix([[1.0]]))) is None


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"horizon": 0}, "horizon"),
        ({"inner_steps": 0}, "inner_steps"),
        ({"lr": 0.0}, "lr"),
        ({"weight": -1.0}, "weight"),
    ],
)
def test_wrong_settings_are_refused(settings, word):
    with pytest.raises(ValueError, match=word):
        Shooting(**settings)
