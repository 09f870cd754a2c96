import dataclasses
import math

import pytest
import torch
from worlds import MODES, ONE_GAUSSIAN, exact_process, image_run, plane, plane_run, tiny_prior

from rbctrl.controllers import DPS, Doob, NoControl, Particles, PseudoinverseGuidance, RBModulationProx, Shooting
from rbctrl.costs import OutOfRange
from rbctrl.grids import LogSNR
from rbctrl.metrics import ControlError, Excess, Price, Surprise
from rbctrl.metrics.base import PathScores
from rbctrl.operators.inpainting import HalfMask
from rbctrl.process import Step
from rbctrl.sampling import sample

METRICS = {
    "excess": Excess(),
    "price": Price(),
    "surprise": Surprise(),
    "own": ControlError("own"),
    "posterior": ControlError("posterior"),
}


def scores(run, controller, *names):
    watch = PathScores({name: METRICS[name] for name in names or METRICS})
    result = sample(run, controller, watch.hook(run))
    return watch.finish(run, controller, result), result


def mean_and_error(values):
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def fine_run(n=2000, parts=MODES, n_steps=100):
    prior = plane(parts)
    return plane_run(prior, exact_process(prior, n_steps), n)


@dataclasses.dataclass(frozen=True)
class HalfOfDoob(Doob):
    def __call__(self, run, x_t, i, state):
        step, state = super().__call__(run, x_t, i, state)
        return Step(step.est, (step.mean + step.free) / 2, step.std, step.free), state


def test_the_optimal_control_has_no_excess_and_half_of_it_has():
    run = fine_run()
    for controller, bound in ((Doob(), None), (HalfOfDoob(), 0.3), (NoControl(), 1.0)):
        mean, error = mean_and_error(scores(run, controller, "excess")[0]["excess"])
        assert abs(mean) < 5 * error + 0.1 if bound is None else mean - 5 * error > bound


@pytest.mark.parametrize(
    "controller",
    [NoControl(), DPS(0.1), RBModulationProx(), PseudoinverseGuidance(), Doob()],
    ids=lambda c: type(c).__name__,
)
def test_no_controller_undercuts_the_optimal_price(controller):
    mean, error = mean_and_error(scores(fine_run(500), controller, "excess")[0]["excess"])
    assert mean > -5 * error
    assert mean - 6 < -5 * error or mean > 5  # a score lowered by 6 nats would be noticed


def test_the_mean_of_h_over_the_start_is_the_evidence():
    """E[h_T(x_T)] = p(y) for x_T ~ p_T, so surprise and price are on one scale."""
    run = fine_run(4000, n_steps=2)
    prior = run.process.prior
    h = prior.log_likelihood(run.process.init(run.rng), run.process.times[0], run.obs).exp()
    surprise = scores(run, NoControl(), "surprise")[0]["surprise"]
    mean, error = mean_and_error(h)
    assert abs(mean - float((-surprise[0]).exp())) < 5 * error
    assert abs(mean - float((-surprise[0] - 1).exp())) > 5 * error


def test_control_error_along_own_paths_is_the_excess():
    """KL(P^u | P*) by its own sum of squares and by prices: Girsanov and Hopf-Cole, two routes to one number."""
    run = fine_run(1000, n_steps=150)
    for controller in (HalfOfDoob(), PseudoinverseGuidance()):
        found, _ = scores(run, controller, "own", "excess")
        mean, error = mean_and_error(found["own"] - found["excess"])
        assert abs(mean) < 5 * error + 0.1
    assert float(scores(run, Doob(), "own")[0]["own"].max()) == 0.0


def test_the_energy_of_the_optimal_control_is_the_information_in_y():
    """KL(p(x_0|y) | p_0) = KL(p_T(.|y) | p_T) + E[energy] (posterior_samplers.md 6.3), on posterior paths."""
    run = fine_run(2000, n_steps=200)
    prior, process = run.process.prior, run.process
    x_0 = prior.sample_given(run.obs, run.rng, "test")
    left = -run.obs.nll(x_0) - prior.log_evidence(run.obs)
    energy, start = torch.zeros(len(x_0), dtype=torch.float64), None
    for i in range(process.n_steps):
        x_t = process.alpha[i] * x_0 + process.sigma[i] * run.rng.normal(f"test/{i}", (2,))
        if start is None:  # log p_T(x | y) - log p_T(x) = log h_T(x) - log p(y)
            start = prior.log_likelihood(x_t, process.times[0], run.obs) - prior.log_evidence(run.obs)
        step, _ = Doob()(run, x_t, i, {})
        energy += process.kl(step, i)
    gap, error = mean_and_error(left - start - energy)
    assert abs(gap) < 5 * error + 0.1
    assert abs(gap + float(energy.mean()) / 2) > 5 * error + 0.1  # half of the energy would not do


def test_along_the_posterior_the_optimal_control_errs_nowhere_and_no_control_by_the_energy():
    run = fine_run(500)
    assert float(scores(run, Doob(), "posterior")[0]["posterior"].max()) == 0.0
    mean, error = mean_and_error(scores(run, NoControl(), "posterior")[0]["posterior"])
    assert mean > 10 * error > 0


def test_scores_charge_the_method_nothing():
    run = fine_run(8, n_steps=6)
    scores(run, PseudoinverseGuidance())
    assert (run.process.evaluations.nfe, run.process.evaluations.vjp) == (6, 6)


def test_what_is_undefined_is_nan_and_not_zero():
    found, _ = scores(image_run(HalfMask(), prior=tiny_prior()), DPS(0.1))
    assert all(found[name].isnan().all() for name in ("excess", "surprise", "own", "posterior"))
    assert found["price"].isfinite().all()
    run = fine_run(8, n_steps=4)
    found, _ = scores(run, Shooting(inner_steps=1))
    assert found["posterior"].isnan().all() and found["own"].isfinite().all()
    found, _ = scores(run, Particles(NoControl(), 4))
    assert found["own"].isnan().all()


def test_a_running_cost_enters_the_price_and_leaves_no_excess():
    run = fine_run(16, n_steps=5)
    free = scores(run, NoControl(), "price")[0]["price"]
    run = dataclasses.replace(run, objective=dataclasses.replace(run.objective, running=OutOfRange(-0.1, 0.1, 2.0)))
    paid, _ = scores(run, NoControl(), "price", "excess")
    assert paid["excess"].isnan().all()
    expected, x_t = torch.zeros(16, dtype=torch.float64), run.process.init(run.rng)
    for i in range(5):
        x0_hat = run.process.prior.predict(x_t, run.process.times[i]).x0_hat
        passed = float(run.process.times[i] - run.process.times[i + 1])
        expected += passed * 2 * (x0_hat - x0_hat.clamp(-0.1, 0.1)).square().mean(1)
        step, _ = NoControl()(run, x_t, i, {})
        x_t = step.mean + step.std * run.rng.normal(f"step/{i}", (2,))
    assert torch.allclose(paid["price"] - free, expected) and expected.min() > 0


def test_a_controlled_step_without_noise_has_an_infinite_price():
    prior = plane(ONE_GAUSSIAN)
    run = plane_run(prior, exact_process(prior, 4, LogSNR()), 4)
    run.process.coefficients[-1] = (*run.process.coefficients[-1][:2], 0.0)
    assert scores(run, Doob())[0]["price"].tolist() == [math.inf] * 4
    with pytest.raises(ValueError, match="along"):
        ControlError("nowhere")
