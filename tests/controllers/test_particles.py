import dataclasses
import math

import pytest
import torch
from worlds import ONE_GAUSSIAN, exact_process, plane, plane_run, rows, setup, tiny_prior

from rbctrl.controllers import (
    DDRM,
    DenseMomentMatching,
    Doob,
    NoControl,
    Particles,
    PseudoinverseGuidance,
    RBModulation,
    REDdiff,
    Shooting,
    Window,
)
from rbctrl.controllers.classical import Pinv
from rbctrl.controllers.resampling import LOG_PSI, effective_number, resample
from rbctrl.grids import LogSNR, PolyRho
from rbctrl.noise import NoNoise
from rbctrl.operators.matrix import Matrix
from rbctrl.process import Step, ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.testing import check_controller


def run_with(n, n_steps=40, prior=None):
    prior = prior or plane()
    return plane_run(prior, exact_process(prior, n_steps, LogSNR(-4, 8)), n)


def distance(run, controller):
    """Largest of |z| of mean and of second moment of x_0 against the posterior, with clouds as independent units."""
    result = sample(run, controller)
    x_0 = (result.x / run.process.alpha[-1]).view(-1, controller.population, 2)
    mean, variance = run.process.prior.moments_given(run.obs.take(torch.tensor([0])))
    moments = torch.stack([x_0.mean(1), x_0.square().mean(1)], 1)  # [clouds, 2, 2]
    exact = torch.stack([mean[0], variance[0] + mean[0].square()])
    return ((moments.mean(0) - exact).abs() / (moments.std(0) / len(moments) ** 0.5)).max()


@pytest.mark.parametrize(
    "controller",
    [
        Particles(DenseMomentMatching(), 16),
        Particles(PseudoinverseGuidance(), 16, threshold=1.0),
    ],
    ids=["moments", "tds"],
)
def test_weights_turn_a_biased_control_into_posterior_samples(controller):
    run = run_with(6144, 200)
    assert distance(run, controller) < 4.5
    assert distance(run, controller.controller) > 8  # no weights
    assert distance(run, Particles(Biased(controller.controller), 16)) > 6  # its weights are those of another step


@dataclasses.dataclass(frozen=True)
class Biased(NoControl):
    """Hides half of its control by calling it free."""

    inner: object = None

    def __call__(self, run, x_t, i, state):
        step, state = self.inner(run, x_t, i, state)
        return Step(step.est, step.mean, step.std, (step.mean + step.free) / 2), state


@dataclasses.dataclass(frozen=True)
class DoobWithBelief(Doob):
    """The exact control and log h_t(x_t)."""

    def __call__(self, run, x_t, i, state):
        step, _ = super().__call__(run, x_t, i, state)
        return step, {LOG_PSI: run.process.prior.log_likelihood(x_t, run.process.times[i], run.obs)}


def test_the_exact_control_with_the_exact_belief_makes_weights_equal():
    run = run_with(320, 200)
    exact, control_only = (
        sample(run, Particles(c, 16, threshold=0.0)).columns["ess"].mean() for c in (DoobWithBelief(), NoControl())
    )
    assert exact > 14.5
    assert control_only < 8


def test_weights_of_one_step_are_girsanovs():
    prior = plane(ONE_GAUSSIAN)
    process = ddim(prior, prior.shape, 1, LogSNR(-1, 3), eta=1.0)
    run = plane_run(prior, process, 8)
    controller = Particles(Doob(), 8)
    x_t, state = controller.start(run)
    step, state = controller(run, x_t, 0, state)
    x_s = step.mean + step.std * run.rng.normal("step/0", (2,))
    c_z = process.noise(0)
    free, moved = (torch.distributions.Normal(m, c_z).log_prob(x_s).sum(1) for m in (step.free, step.mean))
    weight = free - moved - run.obs.nll(x_s / process.alpha[1])
    _, columns = controller.finish(run, x_s, state)
    w = weight.softmax(0)
    assert torch.allclose(columns["ess"], (1 / w.square().sum()).expand(8), rtol=1e-9)
    assert not torch.allclose(columns["ess"], 1 / (-run.obs.nll(x_s)).softmax(0).square().sum(), rtol=1e-3)


def test_clouds_do_not_see_each_other():
    for inner in (PseudoinverseGuidance(), RBModulation()):
        check_controller(Particles(inner, 4))
    with pytest.raises(AssertionError, match="differ"):
        check_controller(Mixing(PseudoinverseGuidance(), 4))


@dataclasses.dataclass(frozen=True)
class Mixing(Particles):
    """Resamples across clouds."""

    def finish(self, run, x, state):
        return torch.zeros(len(x), dtype=torch.long), {}


def test_a_path_that_died_has_no_descendants():
    run = run_with(64)
    result = sample(run, Dying(DenseMomentMatching(), 16))
    assert result.alive.all() and result.x.isfinite().all()
    assert (
        not sample(run, Dying(NoControl(), 16, kill=16)).alive[:16].any()
    )  # a whole cloud died: nobody to descend from


@dataclasses.dataclass(frozen=True)
class Dying(Particles):
    """The first rows become non-finite at step 3."""

    kill: int = 5

    def __call__(self, run, x_t, i, state):
        step, state = super().__call__(run, x_t, i, state)
        if i == 3:
            mean = step.mean.clone()
            mean[: self.kill] = math.nan
            step = Step(step.est, mean, step.std, step.free, step.rows)
        return step, state


def test_systematic_resampling_keeps_each_path_about_its_share_of_times():
    run = run_with(16)
    weights = torch.rand(16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = 8 * (weights.view(2, 8) / weights.view(2, 8).sum(1, keepdim=True)).flatten()
    for k in range(20):
        counts = torch.bincount(resample(run, weights.log(), 8, f"k{k}"), minlength=16)
        assert ((counts - share).abs() < 1).all()
    multinomial = torch.bincount(torch.multinomial(weights[:8], 8, True, generator=torch.Generator().manual_seed(1)))
    assert (multinomial - share[: len(multinomial)]).abs().max() >= 1


def test_paths_without_weight_are_never_chosen_and_equal_ones_stay():
    run = run_with(8)
    log_weights = torch.tensor([math.nan, 0.0, -math.inf, 0.0] + [-math.inf] * 4, dtype=torch.float64)
    chosen = resample(run, log_weights, 4, "k")
    assert set(chosen[:4].tolist()) == {1, 3}
    assert chosen[4:].tolist() == [4, 5, 6, 7]
    assert effective_number(log_weights, 4).tolist() == pytest.approx([2.0] * 4 + [0.0] * 4)
    broken = torch.tensor([math.inf, math.nan, -math.inf, math.nan], dtype=torch.float64)
    assert effective_number(broken, 4).tolist() == [0.0] * 4 and resample(run, broken, 4, "k").tolist() == [0, 1, 2, 3]


@dataclasses.dataclass(frozen=True)
class Believes(NoControl):
    """No control, and a belief of its own in y: log psi of each row before each step."""

    beliefs: tuple = ()

    def __call__(self, run, x_t, i, state):
        step, _ = super().__call__(run, x_t, i, state)
        return step, {LOG_PSI: torch.tensor(self.beliefs[i], dtype=torch.float64)}


def test_ess_is_the_smallest_number_of_paths_a_cloud_ever_was_and_0_if_it_has_no_weight():
    zero, nothing = [0.0] * 4, [-math.inf] * 4
    run = run_with(4, 3)

    def columns(*beliefs):
        return sample(run, Particles(Believes(beliefs), 4, threshold=1.0)).columns

    steady, once = columns(zero, zero, zero), columns([0.0, 0.0, -math.inf, -math.inf], zero, zero)
    assert steady["resampled"].tolist() == [0] * 4 and once["resampled"].tolist() == [1] * 4
    assert once["ess"].tolist() == pytest.approx([min(2.0, float(once["ess"][0]))] * 4)
    collapsed = columns([0.0, -math.inf, -math.inf, -math.inf], zero, zero)
    assert collapsed["ess"].tolist() == pytest.approx([1.0] * 4) and steady["ess"][0] > 1.001
    lost = columns(zero, nothing, zero)
    assert lost["ess"].tolist() == [0.0] * 4 and lost["resampled"].tolist() == [0] * 4


def test_a_grid_that_ends_on_the_image_does_not_hide_what_the_cloud_went_through():
    prior = plane()
    process = ddim(prior, (2,), 40, PolyRho(20.0, 0.01))
    ess = sample(plane_run(prior, process, 64), Particles(PseudoinverseGuidance(), 16, threshold=1.0)).columns["ess"]
    assert ess.mean() < 14  # the weights of the last step alone are nearly equal: 15.98


def test_a_population_needs_what_its_controller_needs():
    assert Particles(RBModulation()).uses_cost and not Particles(NoControl()).uses_cost
    assert Particles(Window(Shooting())).uses_running_cost and not Particles(NoControl()).uses_running_cost


def test_what_cannot_work_is_refused():
    matrix = Matrix([[1.0, 0.0]])
    still = setup(plane(), matrix)
    still = dataclasses.replace(still, process=ddim(plane(), (2,), 4, LogSNR(), eta=0.0))
    assert "eta" in Particles(NoControl()).check(still)
    assert "noise=gaussian" in Particles(NoControl()).check(setup(plane(), matrix, NoNoise()))
    assert "closed form" in Particles(Doob()).check(setup(tiny_prior(), matrix))
    assert "REDdiff has a start" in Particles(Window(REDdiff())).check(setup(plane(), matrix))
    with pytest.raises(ValueError, match="at least 2"):
        Particles(NoControl(), 1)
    with pytest.raises(ValueError, match="share"):
        Particles(NoControl(), 4, threshold=2)
    with pytest.raises(ValueError, match="population"):
        Particles(Particles(NoControl(), 4), 4)
    with pytest.raises(ValueError, match="multiples of 4"):
        sample(run_with(6), Particles(NoControl(), 4))
    torn = dataclasses.replace(run_with(4), rng=ImageRNG(0, rows(5)[1:], torch.float64))
    with pytest.raises(ValueError, match="multiples of 4"):
        sample(torn, Particles(NoControl(), 4))
    with pytest.raises(ValueError, match="free step"):
        sample(run_with(4), Particles(Pinv(), 4))
    with pytest.raises(ValueError, match="ddrm"):
        sample(run_with(4), Particles(DDRM(), 4))
