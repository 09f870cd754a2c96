import math
import sys
from types import SimpleNamespace

import pytest

from rbctrl import loggers
from rbctrl.loggers import WandB
from rbctrl.results import ResultStore


class FakeRun:
    def __init__(self):
        self.logged, self.finished = [], False

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished = True


@pytest.fixture
def fake(monkeypatch):
    made = SimpleNamespace(run=FakeRun(), settings=None)

    def init(**settings):
        made.settings = settings
        return made.run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.setattr(loggers, "find_spec", lambda name: object())
    return made


def test_wandb_receives_config_and_finite_values(fake, tmp_path):
    store = ResultStore(tmp_path, [WandB("project", mode="offline", group="study")])
    store.save_config({"seed": 3}, {})
    store.write([{"item": "a", "sample": 0, "seed": 3, "psnr": 20.0, "ssim": math.nan, "control_energy": math.inf}])
    store.close()
    assert fake.settings == {
        "project": "project",
        "mode": "offline",
        "name": None,
        "group": "study",
        "dir": str(tmp_path),
        "config": {"seed": 3},
    }
    assert fake.run.logged == [{"item": "a", "sample": 0, "seed": 3, "psnr": 20.0}]
    assert fake.run.finished


def test_wandb_needs_to_be_started(fake):
    with pytest.raises(RuntimeError, match="save_config"):
        WandB("project").write([{"item": "a"}])


def test_a_missing_wandb_is_named_with_the_fix(monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install \"rbctrl\[wandb\]\""):
        WandB("project")


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode='off'"):
        WandB("project", mode="off")
