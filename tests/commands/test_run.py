"""Cells that another process computes: left to it, and waited for in the end."""

import threading

import pytest

import rbctrl
from rbctrl.claims import claim
from rbctrl.cli import main
from rbctrl.commands import run
from rbctrl.experiment import Experiment

WORLD = "prior=gmm2d operator=matrix data=gmm metrics=likelihood sampler=exact sampler.n_steps=3 data.n=1".split()
SWEEP = ["-m", *WORLD, "seed=0,1,2"]


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """The folders of three cells, none of which is computed."""
    monkeypatch.chdir(tmp_path)
    folders = []
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "run", lambda self, *a, **k: folders.append(self.folder(*a)) or 0.0)
        assert main(SWEEP) == 0
    return folders


@pytest.fixture
def passes(monkeypatch, cells):
    """Another command holds the second cell until the first pass is over, and dies."""
    held, over, made, run_hydra = threading.Event(), threading.Event(), [], run.run_hydra

    def hold():
        with claim(cells[1]):
            held.set()
            over.wait()

    def counted(*args):
        made.append(args)
        if len(made) == 2:
            over.set()
            thread.join()
        return run_hydra(*args)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    monkeypatch.setattr(run, "run_hydra", counted)
    yield made
    over.set()


def check(cells, passes, words, capfd):
    assert main([*SWEEP, *words]) == 0
    said = capfd.readouterr().out
    assert len(passes) == 2 and "seed=1): " in said and said.count("is computing it") == 1
    assert said.index("is computing it") < said.rindex("seed=1): ")
    assert said.count("seed=0): ") == said.count("seed=2): ") == 1  # not in the second pass
    frame = rbctrl.load_study(cells[0].parent)
    assert sorted(frame["seed"]) == [0, 1, 2] and set(frame["status"]) == {"ok"}
    assert not frame["overrides"].str.contains("RBCTRL").any()


def test_a_sweep_ends_with_the_cells_that_others_left(cells, passes, capfd):
    check(cells, passes, [], capfd)


@pytest.mark.slow
def test_so_does_one_in_processes_of_a_launcher(cells, passes, capfd):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    check(cells, passes, ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], capfd)
