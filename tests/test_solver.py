"""What restore and the command line share: refusals, the rows of a solution, and its measured columns."""

import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from worlds import plane, tiny_prior

import rbctrl
from rbctrl.controllers import DPS, Controller, NoControl, Proximal, Shooting, Window
from rbctrl.costs import GaussianNLL, OutOfRange, PoissonNLL, ResidualNorm, WeightedSum
from rbctrl.data import Item, Memory
from rbctrl.devices import full_fp32
from rbctrl.grids import LogSNR
from rbctrl.noise import GaussianNoise, NoNoise, PoissonNoise
from rbctrl.operators import Downsample, KernelBlur, MotionBlur, PhaseRetrieval, RandomMask, UndersampledFourier
from rbctrl.operators.matrix import Matrix
from rbctrl.process import ddim
from rbctrl.solver import Solver

Y = torch.linspace(-0.9, 0.9, 48).view(3, 4, 4)


@dataclass(frozen=True)
class Reports(NoControl):
    """Adds a column to the table: 0, 1, 2, ..."""

    def finish(self, run, x, state):
        return None, {"place": torch.arange(len(x), dtype=x.dtype)}


def solver(**kwargs):
    settings = {
        "prior": tiny_prior(),
        "operator": Downsample(4),
        "noise": GaussianNoise(0.05),
        "cost": ResidualNorm(),
        "sampler": lambda prior, shape: ddim(prior, shape, 2, LogSNR(-4, 6)),
        "controller": NoControl(),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    return Solver(**(settings | kwargs))


def solve(n=2, **kwargs):
    (batch,) = Memory([Item("a", None, Y)]).batches(n, n)
    return batch, solver(**kwargs).solve(batch, seed=3)


def test_rows_hold_every_column_of_their_sample():
    batch, solution = solve(controller=Reports())
    rows = solution.rows(batch.rows, 3, {"mine": torch.tensor([0.5, math.nan])})
    assert [(r["item"], r["sample"], r["seed"], r["alive"]) for r in rows] == [("a", 0, 3, True), ("a", 1, 3, True)]
    assert [r["place"] for r in rows] == [0.0, 1.0] and rows[0]["mine"] == 0.5 and math.isnan(rows[1]["mine"])
    assert [r["final_cost"] for r in rows] == [float(v) for v in solution.final_cost]
    assert rows[0]["final_cost"] != rows[1]["final_cost"]
    assert rows[0].items() >= solution.spent().items() and rows[0]["batch_size"] == 2


def test_rows_are_copied_to_the_host_column_by_column(monkeypatch):
    """The number of copies does not grow with the batch; reading number by number does."""
    copies = []
    solutions = [solve(n) for n in (2, 5)]
    for name in ("tolist", "__float__", "__bool__", "item"):
        read = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, read=read: (copies.append(1), read(self))[1])

    def count(rows):
        copies.clear()
        rows()
        return len(copies)

    few, many = (count(lambda b=b, s=s: s.rows(b.rows, 0, {"mine": s.final_cost})) for b, s in solutions)
    assert few == many == 4  # mine, final_cost, control_energy, alive
    few, many = (count(lambda s=s: [float(v) for v in s.final_cost]) for _, s in solutions)
    assert few < many


def test_restore_returns_the_rows_of_the_solution():
    sampler = solver().sampler
    rows = rbctrl.restore(Y, Downsample(4), prior=tiny_prior(), sampler=sampler, controller=Reports(), n_samples=2).rows
    batch, solution = solve(controller=Reports())
    assert [list(r) for r in rows] == [list(r) for r in solution.rows(batch.rows, 0, {})]
    assert [r["place"] for r in rows] == [0.0, 1.0]


UNDEFINED = {
    "gaussian": (GaussianNLL(), NoNoise(), "sigma_y, which is 0 here: set cost.sigma_y"),
    "poisson": (PoissonNLL(), GaussianNoise(0.1), "cost.peak, or noise=poisson"),
    "sum": (WeightedSum({"tv": ResidualNorm(), "data": GaussianNLL()}), NoNoise(), "cost.terms.data, cost=gaussian"),
}
DEFINED = {
    "gaussian": (GaussianNLL(0.1), NoNoise()),
    "poisson": (PoissonNLL(), PoissonNoise(50.0)),
    "poisson_peak": (PoissonNLL(50.0), GaussianNoise(0.1)),
    "sum": (WeightedSum({"data": GaussianNLL()}), GaussianNoise(0.1)),
}


@pytest.mark.parametrize("name", UNDEFINED)
@pytest.mark.parametrize("controller", [DPS(), Window(DPS())])
def test_a_cost_that_is_undefined_for_the_noise_is_refused_before_weights_are_read(name, controller):
    cost, noise, reason = UNDEFINED[name]
    with pytest.raises(ValueError, match=f"this combination cannot work: .*{reason}"):
        solver(cost=cost, noise=noise, controller=controller).check()


@pytest.mark.parametrize("operator", [PhaseRetrieval(), UndersampledFourier(4.0, 0.08)])
def test_noise_that_a_measurement_cannot_have_is_refused_before_weights_are_read(operator):
    with pytest.raises(ValueError, match="this combination cannot work: noise=poisson counts .*use noise=gaussian"):
        solver(operator=operator, noise=PoissonNoise(), controller=DPS()).check()
    with pytest.raises(ValueError, match="this combination cannot work: cost=poisson_nll weighs counts"):
        solver(operator=operator, cost=PoissonNLL(50.0), controller=DPS()).check()
    solver(operator=operator, controller=DPS()).check()


@pytest.mark.parametrize("name", DEFINED)
def test_a_cost_that_is_defined_is_not_refused(name):
    cost, noise = DEFINED[name]
    solver(cost=cost, noise=noise, controller=DPS()).check()
    assert solve(cost=cost, noise=noise)[1].final_cost.isfinite().all()


@pytest.mark.parametrize("name", UNDEFINED)
def test_controllers_that_do_not_descend_the_cost_run_and_leave_it_blank(name):
    cost, noise, _ = UNDEFINED[name]
    settings = {"cost": cost, "noise": noise, "controller": Proximal()}
    solver(**settings).check()
    _, solution = solve(**settings)
    assert solution.final_cost.isnan().all() and solution.result.alive.all() and solution.final_cost.shape == (2,)


def test_a_controller_that_hides_its_cost_is_told_at_its_first_step():
    class Hides(DPS):
        uses_cost: ClassVar[bool] = False

    settings = {"cost": GaussianNLL(), "noise": NoNoise(), "controller": Hides()}
    solver(**settings).check()
    with pytest.raises(ValueError, match="cost.sigma_y"):
        solve(**settings)
    assert not Controller.uses_cost and DPS.uses_cost and not Window(NoControl()).uses_cost


def test_peak_memory_is_undefined_where_the_system_keeps_no_record(monkeypatch):
    assert solver()._peak_memory() > 10  # MiB of this process
    monkeypatch.setitem(sys.modules, "resource", None)  # what Windows gives
    assert math.isnan(solver()._peak_memory())
    assert solve()[1].image.isfinite().all()


def test_a_solution_is_computed_inside_that_context(monkeypatch):
    asked = []
    monkeypatch.setattr("rbctrl.solver.full_fp32", lambda device: (asked.append(device), full_fp32(device))[1])
    solve()
    assert asked == [torch.device("cpu")]


def test_a_running_cost_that_the_controller_ignores_is_said_once(caplog):
    for controller, said in ((DPS(), 1), (Window(Shooting()), 0), (Shooting(), 0)):
        caplog.clear()
        solver(controller=controller, running_cost=OutOfRange()).check()
        assert [r.getMessage().partition(" ignores the running cost")[0] for r in caplog.records] == ["DPS"] * said
    caplog.clear()
    solver(controller=DPS()).check()
    assert not caplog.records


@pytest.mark.parametrize("operator", [MotionBlur(5, 0.5), RandomMask(0.5), Downsample(2), KernelBlur(torch.ones(3, 3))])
def test_states_that_are_no_images_are_refused_by_what_measures_images(operator):
    vector = Item("draw", torch.zeros(2))
    with pytest.raises(ValueError, match=r"measures images \[C, H, W\] and not states of shape \[2\]"):
        solver(operator=operator).check_item(vector, 0)
    with pytest.raises(ValueError, match="mixture lives on"):
        solver(prior=plane(), operator=Matrix([[1.0, 0.0, 0.0]])).check_item(Item("draw", torch.zeros(3)), 0)
    solver(prior=plane(), operator=Matrix([[1.0, 0.0]])).check_item(vector, 0)
