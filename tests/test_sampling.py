import math

import torch
from worlds import exact_process, image_run, plane, plane_run

from rbctrl.controllers import Doob, NoControl
from rbctrl.controllers.base import Controller, adam, adam_step, gradient, linearize
from rbctrl.operators.base import Operator
from rbctrl.process import Step
from rbctrl.sampling import sample


class LeftHalf(Operator):
    def forward(self, image):
        return image[..., :4]


def test_energy_is_the_kl_of_the_whole_chain():
    """E_u[log dP_u / dP_free] along the controlled paths, from the densities of every step, is the summed energy."""
    prior = plane()
    run = plane_run(prior, exact_process(prior, 10), 400)
    steps, states = [], []

    class Recording(Controller):
        def __call__(self, run, x_t, i, state):
            states.append(x_t)
            return Doob()(run, x_t, i, state)

    result = sample(run, Recording(), on_step=lambda i, x_t, s: steps.append(s))
    states.append(result.x)
    log_ratio = 0.0
    for i, step in enumerate(steps):
        c_z = run.process.noise(i)
        x_s = states[i + 1]
        log_ratio = log_ratio + ((x_s - step.free).square() - (x_s - step.mean).square()).sum(1) / (2 * c_z**2)
    difference = log_ratio - result.control_energy
    assert abs(difference.mean()) < 5 * difference.std() / 400**0.5
    assert result.control_energy.mean() > 20 * difference.std() / 400**0.5  # the bound could have failed


def test_callback_sees_every_step_and_the_last_estimate_is_the_image():
    run, seen = image_run(LeftHalf()), []
    result = sample(run, NoControl(), on_step=lambda i, x_t, s: seen.append((i, s.est.x0_hat)))
    assert [i for i, _ in seen] == list(range(run.process.n_steps))
    assert torch.equal(seen[-1][1], result.x0_hat)


def test_the_step_that_lands_on_sigma_zero_gives_the_image_that_was_moved():
    from rbctrl.controllers import DPS
    from rbctrl.grids import Uniform

    run = image_run(LeftHalf(), grid=Uniform(t_start=0.9))
    result = sample(run, DPS(0.2))
    assert run.process.sigma[-1] == 0 and torch.equal(result.x, result.x0_hat)


def test_state_of_a_dead_row_stays():
    class Counting(Controller):
        def start(self, run):
            x, _ = super().start(run)
            return x, {"count": torch.zeros(len(x))}

        def __call__(self, run, x_t, i, state):
            est = run.process.estimate(x_t, i)
            step = run.push(est, i)
            mean = step.mean.clone()
            if i == 2:
                mean[1] = math.inf
            return Step(est, mean, step.std, step.free), {"count": state["count"] + 1}

    run = image_run(LeftHalf())
    seen = []

    class Watching(Counting):
        def __call__(self, run, x_t, i, state):
            seen.append(state["count"])
            return super().__call__(run, x_t, i, state)

    sample(run, Watching())
    assert seen[-1].tolist() == [3, 2, 3, 3]


def test_linearize_is_the_transposed_jacobian_and_counts():
    run = image_run(LeftHalf(), n=2)
    x_t = run.process.init(run.rng)
    est, pull = linearize(run.process, x_t, 1)
    v = run.rng.normal("v", (3, 8, 8))
    dx = run.rng.normal("dx", (3, 8, 8)) * 1e-6
    moved = run.process.prior.predict(x_t + dx, run.process.times[1]).x0_hat - est.x0_hat
    torch.testing.assert_close((moved * v).sum(), (dx * pull(v, keep=True)).sum(), rtol=1e-5, atol=1e-14)
    pull(v)
    assert (run.process.evaluations.nfe, run.process.evaluations.vjp) == (1, 2)


def test_adam_is_torchs_adam_row_by_row():
    target = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)

    def value(x):
        return (x - target).square().flatten(1).sum(1)

    ours = adam(value, torch.zeros_like(target), 5, 0.1)
    theirs = torch.zeros_like(target).requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        value(theirs).sum().backward()
        optimizer.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-14)
    one, _, _ = adam_step(
        torch.zeros_like(target), gradient(value, torch.zeros_like(target)), *[torch.zeros_like(target)] * 2, 1, 0.1
    )
    torch.testing.assert_close(one, 0.1 * target.sign(), rtol=1e-6, atol=1e-6)
