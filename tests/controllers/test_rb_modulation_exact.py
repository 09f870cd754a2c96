"""RB-Modulation, Algorithm 1, against the paper's loop, written out."""

import pytest
import torch
from worlds import ONE_GAUSSIAN, exact_process, image_run, plane, plane_run

from rbctrl.controllers import NoControl, RBModulationExact
from rbctrl.costs import GaussianNLL
from rbctrl.operators.base import Operator
from rbctrl.sampling import sample

N_STEPS, M, LR = 5, 3, 0.2


class LeftHalf(Operator):
    def forward(self, image):
        return image[..., :4]


def published(run, rule, reuse_controlled_state=True):
    """Algorithm 1, one image: x* = x_t + v, x0* = Tweedie(x*), x_{t-1} = DDIM(x0*, x*)."""
    process, y, rng = run.process, run.obs.y, run.rng
    x = process.sigma[0] * rng.normal("init", (3, 8, 8))
    for i in range(N_STEPS):
        a, b, a_next, b_next = process.alpha[i], process.sigma[i], process.alpha[i + 1], process.sigma[i + 1]
        v = torch.zeros_like(x).requires_grad_()
        optimizer = {
            "paper": torch.optim.SGD([v], lr=LR),
            "released": torch.optim.Adam([v], lr=LR * (1 - i / N_STEPS)),
        }[rule]
        for _ in range(M):
            optimizer.zero_grad()
            x0_hat = process.prior.predict(x + v, process.times[i]).x0_hat
            (y - x0_hat[..., :4]).square().sum().sqrt().backward()
            optimizer.step()
        x_star = x + v.detach()
        x0_star = process.prior.predict(x_star, process.times[i]).x0_hat
        eps = ((x_star if reuse_controlled_state else x) - a * x0_star) / b
        s = b_next * (1 - (a * b_next / (a_next * b)) ** 2) ** 0.5  # eta = 1
        x = a_next * x0_star + (b_next**2 - s**2) ** 0.5 * eps + s * rng.normal(f"step/{i}", (3, 8, 8))
    return x, x0_star


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_update_is_the_published_loop_of_each_image_alone(rule):
    run = image_run(LeftHalf(), n=2, n_steps=N_STEPS)
    ours = sample(run, RBModulationExact(M, LR, rule))
    for row in range(2):
        one = run.take(torch.tensor([row]))
        x, x0_star = published(one, rule)
        torch.testing.assert_close(ours.x[row : row + 1], x, rtol=0, atol=1e-11)
        torch.testing.assert_close(ours.x0_hat[row : row + 1], x0_star, rtol=0, atol=1e-11)
        other = published(one, "released" if rule == "paper" else "paper")[0]
        from_x_t = published(one, rule, reuse_controlled_state=False)[0]
        assert not torch.allclose(x, other, atol=1e-3) and not torch.allclose(x, from_x_t, atol=1e-3)


def test_energy_is_that_of_the_shift_between_the_two_means():
    run = image_run(LeftHalf(), n=2)
    x_t = run.process.init(run.rng)
    step, _ = RBModulationExact()(run, x_t, 1, {})
    free = run.process.mean(run.process.estimate(x_t, 1), 1)
    assert torch.equal(step.free, free)
    energy = (step.mean - free).flatten(1).square().sum(1) / (2 * run.process.noise(1) ** 2)
    torch.testing.assert_close(run.process.kl(step, 1), energy)
    assert (energy > 1e-3).all()


def test_more_inner_steps_come_nearer_to_the_measurement():
    """On one Gaussian with the quadratic cost; without control it stays far."""
    prior = plane(ONE_GAUSSIAN)
    costs = []
    for controller in (NoControl(), RBModulationExact(1, 0.01), RBModulationExact(4, 0.01)):
        run = plane_run(prior, exact_process(prior, 10), 64, GaussianNLL())
        costs.append(float(run.objective(sample(run, controller).x0_hat).mean()))
    assert costs[2] < 0.8 * costs[1] < 0.8 * 0.8 * costs[0]


@pytest.mark.parametrize(
    ("settings", "word"), [({"inner_steps": 0}, "inner_steps"), ({"lr": 0.0}, "lr"), ({"rule": "code"}, "rule")]
)
def test_wrong_settings_are_refused(settings, word):
    with pytest.raises(ValueError, match=word):
        RBModulationExact(**settings)
