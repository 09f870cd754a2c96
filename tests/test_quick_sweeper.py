"""Cells of a sweep are composed quickly, and are what Hydra composes."""

import sys

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

import rbctrl
from hydra_plugins.rbctrl_launchers.sweeper import QuickLoader, QuickSweeper
from rbctrl.cli import main
from rbctrl.commands import run
from rbctrl.commands.errors import explain
from rbctrl.config import CONF_DIR

CELLS = {
    "nothing": [],
    "values": ["seed=3", "data.size=32", "sampler.n_steps=5"],
    "options": ["controller=dps", "operator=inpaint_box", "prior/schedule=ve"],
    "both": ["seed=3", "controller=dps", "controller.zeta=2", "study=other"],
    "values before their option": ["controller.zeta=2", "controller=dps"],
    "preset": ["experiment=tuned_dps", "noise.sigma_y=0.1"],
    "added": ["+controller.more=[1,2]", "++seed=4", "cost=custom", "cost._target_=my.Cost", "+cost.layer=3"],
    "removed": ["~running_cost", "~data.size", "running_cost=out_of_range"],
    "packages": ["cost=sum", "+cost@cost.terms.mine=custom", "+cost.weights.mine=0.1"],
    "text": ["study='a b=c'", "data.names=[astronaut,coffee]", "strength=null"],
}
WRONG = {
    "key": ["controller=dps", "controller.zetta=1"],
    "option": ["controller=dsp", "seed=1"],
    "group": ["controler=dps"],
    "interpolation": ["seed=1", "~data.sise"],
    "several": ["seed=1,2"],
}


@pytest.fixture
def loaders():
    """A way to compose a cell by each of the two, as a sweep does that fixes one word of Hydra's."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        plain = GlobalHydra.instance().config_loader()
        master = plain.load_configuration("config", ["hydra.verbose=true", "seed=1"], RunMode.MULTIRUN)
        quick = QuickLoader(plain.get_search_path())
        yield lambda words: plain.load_sweep_config(master, words), lambda words: quick.load_sweep_config(master, words)


def container(config):
    return OmegaConf.to_container(config, resolve=False)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_what_hydra_composes(name, loaders):
    plain, quick = loaders
    quick(["seed=77", "controller.weight=3"])  # another cell before it leaves nothing behind
    assert container(quick(CELLS[name])) == container(plain(CELLS[name]))
    assert container(quick(CELLS[name])) != container(plain(["seed=78"]))
    again = quick(CELLS[name])
    assert again._metadata.flags == plain(CELLS[name])._metadata.flags and again.hydra.verbose is True


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_composed_is_said_in_the_same_sentence(name, loaders):
    sentences = []
    for compose in loaders:
        with pytest.raises(Exception) as caught:
            compose(WRONG[name])
        sentences.append(explain(caught.value))
    assert sentences[0] is not None and sentences[0] == sentences[1]


def test_files_are_read_once_for_cells_that_differ_in_values(loaders, monkeypatch):
    read, load = [], ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", lambda *a, **k: (read.append(1), load(*a, **k))[1])
    _, quick = loaders
    for seed in range(5):
        for controller in ("dps", "none"):
            quick([f"seed={seed}", f"controller={controller}", f"data.size={8 * seed + 8}"])
    assert len(read) == 2
    quick(["seed=1", "controller=proximal"])
    assert len(read) == 3


def test_one_cell_of_each_kind_is_composed_before_a_sweep(monkeypatch):
    checked, check = [], Sweeper.validate_batch_is_legal
    monkeypatch.setattr(Sweeper, "validate_batch_is_legal", lambda *a: (checked.extend(a[1]), check(*a)))
    cells = [[f"seed={seed}", f"controller={name}"] for seed in (1, 2, 3) for name in ("dps", "none")]
    cells += [["seed=1", f"data.names=[{name}]"] for name in "ab"] + [["+more=1"], ["+more=2"], ["~seed"]]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        plain = GlobalHydra.instance().config_loader()
        master = plain.load_configuration("config", [], RunMode.MULTIRUN)
        sweeper = QuickSweeper()
        context = HydraContext(config_loader=plain, callbacks=Callbacks())
        sweeper.setup(hydra_context=context, task_function=print, config=master)
        sweeper.validate_batch_is_legal(cells)
        assert len(checked) == 2 + 2 + 2 + 1 and len({word for words in checked for word in words}) == 9
        with pytest.raises(HydraException, match="zetta"):
            sweeper.validate_batch_is_legal([*cells, ["seed=9", "controller.zetta=1"]])


def test_groups_of_another_search_path_are_groups(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "big.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        plain = GlobalHydra.instance().config_loader()
        hydra = [f"hydra.searchpath=[file://{tmp_path}]"]
        master = plain.load_configuration("config", [*hydra, "+mine=big"], RunMode.MULTIRUN)
        found = QuickLoader(plain.get_search_path()).load_sweep_config(master, ["+mine=big", "seed=1"])
    assert found.mine.a == 1


def test_a_loader_that_was_sent_to_another_process_composes_alike():
    cloudpickle = pytest.importorskip("cloudpickle")  # what launchers use
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        plain = GlobalHydra.instance().config_loader()
        master = plain.load_configuration("config", [], RunMode.MULTIRUN)
        loader = QuickLoader(plain.get_search_path())
        loader.load_sweep_config(master, ["seed=2"])
        sent = cloudpickle.loads(cloudpickle.dumps(loader))
        words = ["controller=dps", "seed=5"]
        assert container(sent.load_sweep_config(master, words)) == container(plain.load_sweep_config(master, words))


def test_sweeps_use_it_and_hydras_own_writes_the_same_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    launched = []
    sweep = QuickSweeper.sweep
    monkeypatch.setattr(QuickSweeper, "sweep", lambda self, words: (launched.append(words), sweep(self, words))[1])
    world = "prior=gmm2d operator=matrix data=gmm metrics=likelihood sampler=exact sampler.n_steps=3 data.n=1".split()
    cells = ["controller=dps,none", "seed=0,1"]
    assert (
        main(["-m", "study=quick", *world, *cells])
        == main(["-m", "hydra/sweeper=basic", "study=basic", *world, *cells])
        == 0
    )
    names = [sorted(p.name for p in (tmp_path / "outputs" / study).glob("*-*")) for study in ("quick", "basic")]
    assert names[0] == names[1] and len(names[0]) == 4
    for name in names[0]:
        quick, basic = ((tmp_path / "outputs" / study / name / "rows.csv").read_text() for study in ("quick", "basic"))
        assert without_measured(quick) == without_measured(basic)


def without_measured(table):
    lines = [line.split(",") for line in table.splitlines()]
    measured = [lines[0].index(name) for name in ("seconds_per_image", "peak_memory")]
    return [[cell for k, cell in enumerate(line) if k not in measured] for line in lines]


LAUNCHERS = {  # the package that each needs, and words of its own
    "basic": ("hydra",),
    "joblib": ("hydra_plugins.hydra_joblib_launcher",),
    "submitit_local": ("submitit",),
    "slurm_local": ("submitit",),
    "ray": ("hydra_plugins.hydra_ray_launcher", "+hydra.launcher.ray.init.num_cpus=2"),
}


def end_joblib():
    if "joblib" in sys.modules:
        sys.modules["joblib"].externals.loky.get_reusable_executor().shutdown(wait=True)


@pytest.fixture
def processes_of_its_own():
    """joblib keeps its workers for the next call, in the folder where they began; Ray keeps its cluster."""
    end_joblib()
    yield
    end_joblib()
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("processes_of_its_own")
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_diverged_rows_and_cells_that_cannot_work_set_the_exit_status_under_any_launcher(
    launcher, tmp_path, monkeypatch, capfd
):
    package, *more = LAUNCHERS[launcher]
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    world = "prior=gmm2d operator=matrix data=gmm metrics=likelihood sampler=exact sampler.n_steps=3 data.n=1".split()
    sweep = ["-m", *world, f"hydra/launcher={launcher}", *more]
    assert main([*sweep, "study=a", "controller=dps", "controller.zeta=1,2"]) == 0
    capfd.readouterr()
    assert main([*sweep, "study=b", "controller=dps", "controller.zeta=1,1e39"]) == 1
    said = capfd.readouterr().err
    assert said.count("rbctrl: cell 1 (") == 1 and "became non-finite: lower the controller's step size" in said
    assert main([*sweep, "study=c", "controller=biharmonic,none,wiener"]) == 1
    said = capfd.readouterr().err
    assert "cell 0 (controller=biharmonic" in said and "biharmonic fills the holes of a mask" in said
    assert "cell 1 (" not in said and "Error executing job" not in said
    frame = rbctrl.load_study(tmp_path / "outputs" / "c")
    assert sorted(zip(frame["controller"], frame["status"])) == [
        ("biharmonic", "failed"),
        ("none", "ok"),
        ("wiener", "failed"),
    ]


def test_what_another_process_reports_is_said_and_counts(monkeypatch, capsys):
    monkeypatch.setattr(run, "_failures", [])
    run.take_in([0.5, run.Outcome(1.0), run.Outcome(float("nan"), ("cell 3: too bright",))])
    assert run._failures == ["cell 3: too bright"] and capsys.readouterr().err == "rbctrl: cell 3: too bright\n"


def test_a_cell_in_a_process_of_a_launcher_reports_instead_of_raising(tmp_path, monkeypatch):
    """There, nobody has begun to collect failures."""
    monkeypatch.chdir(tmp_path)
    returned = []
    monkeypatch.setattr(run, "take_in", returned.extend)
    world = ["prior=gmm2d", "operator=matrix", "data=gmm", "metrics=likelihood", "data.n=1", "sampler=exact"]
    run.run_hydra(run.run_cell, "config", ["-m", *world, "controller=biharmonic"])
    ((outcome,),) = [returned]
    assert "cell 0 (" in outcome.problems[0] and "holes of a mask" in outcome.problems[0]
