"""The benchmark shares noise and exact draws between its rows; a row scores what its cell scores all the same."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from rbctrl.commands.run import compose
from rbctrl.metrics import Draws
from rbctrl.rng import ImageRNG

FOLDER = Path(__file__).parents[2] / "experiments/gmm_mcgdiff"
PROBLEM = 100  # one of tuning: fewer samples


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The modules of the folder can be imported, for one test."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield
    for name in ("rows", "study", "world"):
        if name not in before:
            sys.modules.pop(name, None)


def of_the_cell(words, n_slices):
    """What the command itself scores: its own solver, its own noise."""
    size = ["n_samples=500", "batch_size=500", f"metrics.sliced_wasserstein.n_slices={n_slices}"]
    experiment = instantiate(compose([*words, f"data.index={PROBLEM}", *size]), _convert_="all")
    experiment.solver.load()
    (batch,) = experiment.data.batches(500, 500)
    solution = experiment.solver.solve(batch, 0)
    rng, first = ImageRNG(0, batch.rows[:1]), solution.obs.take(torch.tensor([0]))
    draws = Draws(solution.image, batch.image[0], first, experiment.prior, rng)
    return {name: experiment.metrics[name](draws) for name in ("sliced_wasserstein", "mode_weight_tv")}


def test_a_row_scores_what_its_cell_scores():
    from rows import Task
    from world import World

    world, found = World(Task(8, 1, 20, PROBLEM, ()), 50), {}
    for row, setting in (("doob", ""), ("red_diff", "controller.lr=3 controller.weight=1"), ("doob_marginal", "")):
        words = Task(8, 1, 20, PROBLEM, ()).words(row, setting)
        found[row] = {name: value for name, value in world.scores(words).items() if name.startswith(("sliced", "mode"))}
        assert found[row] == of_the_cell(words, 50)
    assert len({scores["sliced_wasserstein"] for scores in found.values()}) == len(found)
    assert 0 < world.floor()["sliced_wasserstein"] < found["doob"]["sliced_wasserstein"]


def test_the_study_goes_on_where_it_was_stopped(tmp_path):
    from rows import COLUMNS
    from study import Study

    given = argparse.Namespace(
        out=tmp_path, rows=["doob", "particles", "daps"], problems=2, times=(100, 20), d_y=(1, 2, 4)
    )
    study = Study(given)
    (first, *_), run = study.left_to_tune(800), study.left_to_run(800)
    assert {row for row, _ in first.rows} == {"particles"} and len(first.rows) == 3 and first.tunes
    assert len(study.left_to_tune(800)) == 4 * 6 and {task.rows for task in run} == {(("doob", ""),)}
    assert run[0].n_times == 100  # what takes longest begins

    scores = dict.fromkeys(COLUMNS, 1.0)
    for task in study.left_to_tune(800)[:4]:
        for row, setting in task.rows:
            loss = 2.0 if setting.endswith("0.85") else 3.0
            study.tuning.add([scores | task.key(row) | {"setting": setting, "sliced_wasserstein": loss}])
    study.store.add([scores | run[0].key("doob") | {"setting": ""}])
    study = Study(given)
    assert len(study.left_to_tune(800)) == 4 * 5
    left = {(task.n_times, task.d_y, task.problem): task.rows for task in study.left_to_run(800)}
    assert left[100, 1, 0] == (("particles", "sampler.eta=0.85"),)
    assert left[100, 1, 1] == (("doob", ""), ("particles", "sampler.eta=0.85"))
    assert left[20, 4, 0] == (("doob", ""),)  # nothing is tuned there
    assert "0.0 minutes" in study.cost()
