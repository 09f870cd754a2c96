import math
import sys
from types import SimpleNamespace

import pytest

from rbctrl import loggers
from rbctrl.loggers import TensorBoard, WandB
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

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=dict))
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
        "id": None,
        "resume": None,
        "settings": {"silent": True, "console": "off"},
    }
    assert fake.run.logged == [{"item": "a", "sample": 0, "seed": 3, "psnr": 20.0}]
    assert fake.run.finished


def test_a_cell_that_is_run_again_continues_its_run_in_the_same_group(fake, tmp_path):
    def settings(group, seed):
        store = ResultStore(tmp_path, [WandB("project", group=group)])
        choices = {"operator": "sr4", "controller": "dps"}
        store.save_config({"cell": "abc", "choices": choices, "config": {"seed": seed}}, {})
        return made.settings

    made = fake
    first, again = settings("first", 0), settings("first", 0)
    assert first["id"] == again["id"] and first["resume"] == "allow" and first["name"] == "sr4 dps"
    assert len({first["id"], settings("second", 0)["id"], settings("first", 1)["id"]}) == 3


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


@pytest.mark.slow
def test_wandb_offline_writes_a_run_with_its_group_and_no_network(tmp_path):
    wandb = pytest.importorskip("wandb", reason="pip install 'rbctrl[wandb]'")
    cells = ("dps", "ddnm")  # two cells of one sweep, in one process
    for k, controller in enumerate(cells):
        store = ResultStore(tmp_path / str(k), [WandB("project", mode="offline", group="a_study")])
        choices = {"operator": "sr4", "controller": controller}
        store.save_config({"cell": f"key{k}", "choices": choices, "config": {"seed": 0}}, {})
        store.write([{"item": "a", "sample": 0, "seed": 0, "psnr": 20.0 + k, "alive": True}])
        store.close()
    wandb.teardown()  # waits for its process, which writes the files
    for k, controller in enumerate(cells):
        (file,) = (tmp_path / str(k)).rglob("*.wandb")
        content = file.read_bytes()
        assert all(word in content for word in (b"a_study", b"psnr", f"sr4 {controller}".encode()))


def test_tensorboard_receives_the_finite_numbers_of_each_row(tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'rbctrl[tensorboard]'")
    store = ResultStore(tmp_path, [TensorBoard()])
    store.save_config({"config": {"seed": 3}}, {})
    for k, psnr in enumerate([20.0, math.nan, 22.0]):
        store.write([{"item": f"{k}", "sample": 0, "seed": 3, "psnr": psnr, "alive": True}])
    store.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("psnr")] == [(0, 20.0), (2, 22.0)]
    assert set(events.Tags()["scalars"]) == {"psnr", "alive"}
    assert "config/text_summary" in events.Tags()["tensors"]


def test_tensorboard_needs_its_package_and_to_be_started(monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install \"rbctrl\[tensorboard\]\""):
        TensorBoard()
    monkeypatch.setattr(loggers, "find_spec", lambda name: object())
    with pytest.raises(RuntimeError, match="save_config"):
        TensorBoard().write([{"item": "a"}])
